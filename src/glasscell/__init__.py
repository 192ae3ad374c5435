"""Glasscell: an LSTM you can see through, from scratch in NumPy."""

from glasscell import convert, core, layers, schedules, tasks
from glasscell.core.optimizers import SGD, Adam, AdamW, RMSProp
from glasscell.layers import LSTM, Embedding, Linear, LSTMState
from glasscell.models import CopyLSTM, Sequential
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
    "convert",
    "core",
    "fit",
    "layers",
    "schedules",
    "tasks",
]
