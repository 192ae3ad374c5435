"""Batches, and where they come from: arrays, one long sequence, or any iterable. Imports no model."""

from typing import TYPE_CHECKING

from glasscell.lazy import attach

if TYPE_CHECKING:
    from glasscell.data.arrays import ArrayData
    from glasscell.data.batch import Batch, Data
    from glasscell.data.continuous import ContinuousData
    from glasscell.data.iterables import IterableData
    from glasscell.data.text import TextData
    from glasscell.data.vocabulary import Vocabulary

__all__ = ["ArrayData", "Batch", "ContinuousData", "Data", "IterableData", "TextData", "Vocabulary"]

__getattr__, __dir__ = attach(
    __name__,
    {"ArrayData": "arrays", "Batch": "batch", "Data": "batch"}
    | {"ContinuousData": "continuous", "IterableData": "iterables", "TextData": "text", "Vocabulary": "vocabulary"},
)
