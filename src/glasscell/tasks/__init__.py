"""Synthetic tasks: generators of batches with a loss and metrics. Imports no model."""

from glasscell.data.batch import Batch
from glasscell.tasks.binary import decode, encode
from glasscell.tasks.copy import Copy

__all__ = ["Batch", "Copy", "decode", "encode"]
