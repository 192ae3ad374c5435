"""Batches of training data, and the protocol of their sources."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

AnyArray: TypeAlias = NDArray[Any]


class Batch(NamedTuple):
    """Sequences with targets.

    Attributes
    ----------
    inputs : array (B, T, I), or ids (B, T)
    targets : array (B, T, O), (B, T), (B, O) or (B,)
        Values that the loss compares with the model's outputs.
    weights : array, optional
        Broadcasts to the loss of each element; 0 excludes an element. Default: all elements count 1.
    lengths : array (B,) of int, optional
        Length of each sequence. Default: T.
    continues : bool
        Whether its first step follows the last step of the batch before: the state is then carried over.
    indices : array (B,) of int, optional
        Number of each sequence in the data, for messages. Default: unknown.
    """

    inputs: AnyArray
    targets: AnyArray
    weights: AnyArray | None = None
    lengths: NDArray[np.integer[Any]] | None = None
    continues: bool = False
    indices: NDArray[np.integer[Any]] | None = None

    def window(self, start: int, stop: int) -> Batch:
        """Return steps `start` to `stop` of a batch whose targets have one entry per step."""
        steps = slice(start, stop)
        T = self.inputs.shape[1]
        weights = self.weights
        if weights is not None and weights.ndim > 1 and weights.shape[1] == T:
            weights = weights[:, steps]
        lengths = None if self.lengths is None else np.clip(self.lengths - start, 0, stop - start)
        continues = self.continues or start > 0
        return Batch(self.inputs[:, steps], self.targets[:, steps], weights, lengths, continues, self.indices)


def check_batch(batch: object) -> None:
    """Raise a TypeError unless a task has yielded a :class:`Batch`."""
    if not isinstance(batch, Batch):
        raise TypeError(f"batches of a task must be glasscell.data.Batch, got a {type(batch).__name__}")


class Data(Protocol):
    """Source of batches.

    An epoch draws all its random numbers from `rng` before its first batch, unless the data are endless. A training can
    then continue from a copy of its state within an epoch.

    Optional attributes: ``loss`` (str or function), ``metrics`` (sequence of str or functions), ``endless`` (bool:
    batches never end, so there are no epochs), ``batch_size`` (int: the only one that fits) and ``num_batches`` (int:
    batches of an epoch). :mod:`glasscell.training.arguments` reads them. Data whose batches continue, and which reads
    files, may have the method ``batches_of_rows(rows, size, rng, dtype)``: the same batches, with the sequences of the
    slice `rows` alone, all with targets, and without weights. :mod:`glasscell.training.parallel` calls it.
    """

    def batches(self, size: int, rng: np.random.Generator, dtype: DTypeLike) -> Iterator[Batch]:
        """Yield the batches of one epoch; endlessly for a generated task."""

    def validation(self, size: int, dtype: DTypeLike) -> Iterable[Batch] | None:
        """Return the validation batches, always the same ones; None if there are none."""
