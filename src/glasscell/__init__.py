"""Glasscell: an LSTM you can see through, from scratch in NumPy."""

from glasscell import core, tasks
from glasscell.core.optimizers import SGD, Adam, AdamW, RMSProp
from glasscell.layers import LSTM, Linear, LSTMState
from glasscell.models import CopyLSTM
from glasscell.training import History, constant, cosine, exponential, fit, linear, warmup

__version__ = "0.1.0"

__all__ = [
    "LSTM",
    "SGD",
    "Adam",
    "AdamW",
    "CopyLSTM",
    "History",
    "LSTMState",
    "Linear",
    "RMSProp",
    "constant",
    "core",
    "cosine",
    "exponential",
    "fit",
    "linear",
    "tasks",
    "warmup",
]
