"""Glasscell: an LSTM you can see through, from scratch in NumPy."""

from glasscell import core, schedules, tasks
from glasscell.core.optimizers import SGD, Adam, AdamW, RMSProp
from glasscell.layers import LSTM, Linear, LSTMState
from glasscell.models import CopyLSTM
from glasscell.training import History, Moment, fit

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
    "Moment",
    "RMSProp",
    "core",
    "fit",
    "schedules",
    "tasks",
]
