"""Glasscell: an LSTM you can see through, from scratch in NumPy.

Names are imported on first use: a program that only runs a saved model does not import the code for training.
"""

from glasscell.lazy import attach

TYPE_CHECKING = (
    False  # as typing's, which takes 20 times as long to import as this package: Ctrl-C would be a traceback
)
if TYPE_CHECKING:
    from glasscell import convert, core, data, estimators, explain, layers, online, sweeps, tasks, trace, training
    from glasscell.core.adaptive_optimizers import Adadelta, Adagrad, AMSGrad, NAdam
    from glasscell.core.optimizers import SGD, Adam, AdamW, RMSProp
    from glasscell.layers import GRU, LSTM, RNN, Embedding, Linear, LSTMState, RNNState
    from glasscell.models import (
        CopyLSTM,
        Ensemble,
        Forecaster,
        ForecasterEnsemble,
        LanguageModel,
        SequenceClassifier,
        SequenceRegressor,
        Sequential,
    )
    from glasscell.models.files import load
    from glasscell.sweeps.running import sweep
    from glasscell.trace import Trace
    from glasscell.training import schedules
    from glasscell.training.callbacks import TrainingState
    from glasscell.training.fitting import fit
    from glasscell.training.history import History
    from glasscell.training.trace_recorder.recorder import TraceRecorder

__version__ = "0.1.0"

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "SGD",
    "AMSGrad",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "CopyLSTM",
    "Embedding",
    "Ensemble",
    "Forecaster",
    "ForecasterEnsemble",
    "History",
    "LSTMState",
    "LanguageModel",
    "Linear",
    "NAdam",
    "RMSProp",
    "RNNState",
    "SequenceClassifier",
    "SequenceRegressor",
    "Sequential",
    "Trace",
    "TraceRecorder",
    "TrainingState",
    "convert",
    "core",
    "data",
    "estimators",
    "explain",
    "fit",
    "layers",
    "load",
    "online",
    "schedules",
    "sweep",
    "sweeps",
    "tasks",
    "trace",
    "training",
]

_SUBPACKAGES = (
    "convert",
    "core",
    "data",
    "estimators",
    "explain",
    "layers",
    "online",
    "sweeps",
    "tasks",
    "trace",
    "training",
)
__getattr__, __dir__ = attach(
    __name__,
    {name: name for name in _SUBPACKAGES}
    | dict.fromkeys(("GRU", "LSTM", "RNN", "Embedding", "LSTMState", "Linear", "RNNState"), "layers")
    | dict.fromkeys(("CopyLSTM", "Ensemble", "Forecaster", "ForecasterEnsemble", "LanguageModel"), "models")
    | dict.fromkeys(("SequenceClassifier", "SequenceRegressor", "Sequential"), "models")
    | dict.fromkeys(("History", "TraceRecorder", "TrainingState", "fit", "schedules"), "training")
    | {"Trace": "trace.trace", "sweep": "sweeps.running", "load": "models.files"}
    | dict.fromkeys(("SGD", "Adam", "AdamW", "RMSProp"), "core.optimizers")
    | dict.fromkeys(("AMSGrad", "Adadelta", "Adagrad", "NAdam"), "core.adaptive_optimizers"),
)
