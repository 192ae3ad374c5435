"""Where examples come from. Needs NumPy only, and knows nothing of models."""

from glasscell.data.batch import Batch
from glasscell.tasks.binary import decode, encode
from glasscell.tasks.copy import Copy

__all__ = ["Batch", "Copy", "decode", "encode"]
