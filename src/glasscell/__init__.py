"""Glasscell: an LSTM you can see through, from scratch in NumPy."""

from typing import TYPE_CHECKING

from glasscell import convert, core, layers, schedules, tasks
from glasscell.core.optimizers import SGD, Adam, AdamW, RMSProp
from glasscell.layers import LSTM, Linear, LSTMState
from glasscell.lazy import lazily
from glasscell.models import CopyLSTM
from glasscell.training import History, Moment, fit

if TYPE_CHECKING:
    from glasscell.layers import Embedding
    from glasscell.models import Sequential

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
    "convert",
    "core",
    "fit",
    "layers",
    "schedules",
    "tasks",
]

__getattr__, __dir__ = lazily(__name__, {"Embedding": "layers.embedding", "Sequential": "models.sequential"})
