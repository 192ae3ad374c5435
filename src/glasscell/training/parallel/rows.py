"""Data of which each rank reads its own sequences alone."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from glasscell.data.batch import Batch, check_batch
from glasscell.training.parallel import shares
from glasscell.training.parallel.ranks import Ranks


class RowsOfRank:
    """The sequences of one rank, from data that can read them alone."""

    def __init__(self, data: Any, ranks: Ranks) -> None:
        self.data, self._ranks = data, ranks

    def batches(self, size: int, rng: np.random.Generator, dtype: DTypeLike) -> Iterator[Batch]:
        """Yield the rank's sequences of each batch of one epoch."""
        rows = shares.in_order(size, self._ranks.size, self._ranks.rank)
        for batch in self.data.batches_of_rows(rows, size, rng, dtype):
            check_batch(batch)
            if batch.weights is not None or not batch.targets.size:
                raise ValueError(
                    "batches_of_rows must yield batches with targets and without weights, since a rank cannot know "
                    "whether the sequences of others count; without this method every rank reads whole batches"
                )
            yield batch

    def validation(self, size: int, dtype: DTypeLike) -> Any:
        """Return the validation batches, whole."""
        return self.data.validation(size, dtype)

    @property
    def endless(self) -> bool:
        """Whether the data have no epochs."""
        return bool(getattr(self.data, "endless", False))


def reads_rows(data: Any) -> bool:
    """Return whether data can read some sequences of a batch alone: by the class that defines its batches."""
    names = ("batches", "batches_of_rows")
    classes = [next((kind for kind in type(data).__mro__ if name in vars(kind)), None) for name in names]
    return classes[1] is not None and classes[0] is classes[1]
