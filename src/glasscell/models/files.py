"""Files of our own: what opens any of them."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

from glasscell import checkpoint
from glasscell.atomic_files import StrPath
from glasscell.layers.registry import WITH_PARAMETERS, is_registered, layer_class

if TYPE_CHECKING:
    from glasscell.layers import LSTM, Embedding, Linear
    from glasscell.layers.batch_first import ParameterLayer
    from glasscell.models.ensemble import Ensemble
    from glasscell.models.forecaster_ensemble import ForecasterEnsemble
    from glasscell.models.sequential import Sequential
    from glasscell.trace.trace import Trace

Saved: TypeAlias = "LSTM | Linear | Embedding | ParameterLayer | Sequential | Ensemble | ForecasterEnsemble | Trace"
OURS = (".safetensors",)
MODELS = {  # classes of models in files, and their modules
    "Sequential": "sequential",
    "CopyLSTM": "copy_lstm",
    "LanguageModel": "language_model",
    "SequenceClassifier": "sequence_classifier",
    "SequenceRegressor": "sequence_regressor",
    "Forecaster": "forecaster",
}


def model_class(kind: str) -> type[Sequential]:
    """Import the module of a model class, and return the class."""
    result: type[Sequential] = getattr(import_module(f"glasscell.models.{MODELS[kind]}"), kind)
    return result


def load(path: StrPath) -> Saved:
    """Open a file that this library saved, whatever it holds.

    Parameters
    ----------
    path : path
        A ``.safetensors`` file that the ``save`` of a layer with parameters, a Sequential or another model, or a Trace
        wrote, or a folder with a ``model.safetensors``, such as one of ``glasscell copy``.

    Returns
    -------
    LSTM, Linear or another layer with parameters, Sequential or another model, or Trace
        Of the kind and dtype that was saved.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If the file is damaged, is not one of ours (``glasscell.convert.load`` reads those of others), or holds the
        state of a stream, which needs its model: ``model.stream().load(path)``, or the state of a training.

    Examples
    --------
    >>> import glasscell as gc
    >>> gc.LSTM(3, 16).save("lstm.safetensors")  # doctest: +SKIP
    >>> model = gc.load("lstm.safetensors")  # doctest: +SKIP
    """
    suffix = os.path.splitext(os.fspath(path))[1].lower()  # noqa: PTH122 - pathlib takes longer to import
    if not os.path.exists(path):  # noqa: PTH110
        raise checkpoint.not_found(path)
    if suffix not in OURS and not os.path.isdir(path):  # noqa: PTH112
        raise ValueError(f"load opens {', '.join(OURS)} files and folders; glasscell.convert.load reads others: {path}")
    kind = checkpoint.kind(path)
    if kind == "Trace":
        from glasscell.trace.trace import Trace  # noqa: PLC0415 - only where it is used

        return Trace.load(path)
    if kind == "Stream":
        raise ValueError(f"{path} holds the state of a stream: give it to a stream of its model, model.stream().load()")
    if kind == "Training":
        raise ValueError(
            f"{path} holds the state of a training: go on with it, fit(..., resume=), see docs/checkpoints.md"
        )
    if kind == "ForecasterEnsemble":
        from glasscell.models.forecaster_ensemble import ForecasterEnsemble  # noqa: PLC0415 - only where it is used

        return ForecasterEnsemble.load(path)
    if kind == "Ensemble":
        from glasscell.models.ensemble import Ensemble  # noqa: PLC0415 - only where it is used

        return Ensemble.load(path)
    known = [*WITH_PARAMETERS, *MODELS]
    if kind not in known and not is_registered(kind):
        raise ValueError(
            f"{path} holds a {kind!r}; known are {', '.join([*known, 'Ensemble', 'ForecasterEnsemble', 'Trace'])}"
        )
    saved_class: Any = model_class(kind) if kind in MODELS else layer_class(kind)
    model: Saved = saved_class.load(path)
    return model
