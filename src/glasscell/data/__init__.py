"""Batches of training data."""

from glasscell.data.batch import Batch

__all__ = ["Batch"]
