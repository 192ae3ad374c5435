"""Glasscell: an LSTM you can see through, from scratch in NumPy.

Every name is imported when it is first used: a program that asks a saved model pays for no training.
"""

from glasscell.lazy import lazily

TYPE_CHECKING = (
    False  # as typing's, which takes 20 times as long to import as this package: Ctrl-C would be a traceback
)
if TYPE_CHECKING:
    from glasscell import convert, core, layers, schedules, tasks, trace
    from glasscell.core.optimizers import SGD, Adam, AdamW, RMSProp
    from glasscell.layers import LSTM, Embedding, Linear, LSTMState
    from glasscell.models import CopyLSTM, Sequential
    from glasscell.models.files import load
    from glasscell.trace import Trace
    from glasscell.training import History, Moment, fit

__version__ = "0.1.0"

__all__ = [
    "LSTM",
    "SGD",
    "Adam",
    "AdamW",
    "CopyLSTM",
    "Embedding",
    "History",
    "LSTMState",
    "Linear",
    "Moment",
    "RMSProp",
    "Sequential",
    "Trace",
    "convert",
    "core",
    "fit",
    "layers",
    "load",
    "schedules",
    "tasks",
    "trace",
]

_ROOMS = ("convert", "core", "layers", "schedules", "tasks", "trace")
__getattr__, __dir__ = lazily(
    __name__,
    {name: name for name in _ROOMS}
    | dict.fromkeys(("LSTM", "Embedding", "LSTMState", "Linear"), "layers")
    | dict.fromkeys(("CopyLSTM", "Sequential"), "models")
    | dict.fromkeys(("History", "Moment", "fit"), "training")
    | {"Trace": "trace.record", "load": "models.files"}
    | dict.fromkeys(("SGD", "Adam", "AdamW", "RMSProp"), "core.optimizers"),
)
