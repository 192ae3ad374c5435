"""Models: layers in sequence, and the model of the copy task."""

from typing import TYPE_CHECKING

from glasscell.lazy import attach

if TYPE_CHECKING:
    from glasscell.models.copy_lstm import CopyLSTM, CopyLSTMTape
    from glasscell.models.ensemble import Ensemble
    from glasscell.models.ensemble_stream import EnsembleStream
    from glasscell.models.forecast import Forecast
    from glasscell.models.forecast_stream import ForecastStream
    from glasscell.models.forecaster import Forecaster
    from glasscell.models.forecaster_ensemble import ForecasterEnsemble
    from glasscell.models.language_model import LanguageModel
    from glasscell.models.loss_and_gradients import LossAndGradients, TrainingBuffers
    from glasscell.models.sequence_classifier import SequenceClassifier
    from glasscell.models.sequence_regressor import SequenceRegressor
    from glasscell.models.sequential import Sequential, SequentialTape

__all__ = [
    "CopyLSTM",
    "CopyLSTMTape",
    "Ensemble",
    "EnsembleStream",
    "Forecast",
    "ForecastStream",
    "Forecaster",
    "ForecasterEnsemble",
    "LanguageModel",
    "LossAndGradients",
    "SequenceClassifier",
    "SequenceRegressor",
    "Sequential",
    "SequentialTape",
    "TrainingBuffers",
]

__getattr__, __dir__ = attach(
    __name__,
    dict.fromkeys(("Sequential", "SequentialTape"), "sequential")
    | dict.fromkeys(("CopyLSTM", "CopyLSTMTape"), "copy_lstm")
    | {"Ensemble": "ensemble", "EnsembleStream": "ensemble_stream", "LanguageModel": "language_model"}
    | dict.fromkeys(("LossAndGradients", "TrainingBuffers"), "loss_and_gradients")
    | {"SequenceClassifier": "sequence_classifier", "SequenceRegressor": "sequence_regressor"}
    | {"Forecast": "forecast", "ForecastStream": "forecast_stream", "Forecaster": "forecaster"}
    | {"ForecasterEnsemble": "forecaster_ensemble"},
)
