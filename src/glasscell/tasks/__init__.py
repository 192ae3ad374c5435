"""Where examples come from. Needs NumPy only, and knows nothing of models."""

from glasscell.tasks.batch import Batch
from glasscell.tasks.copy import Copy, decode, encode

__all__ = ["Batch", "Copy", "decode", "encode"]
