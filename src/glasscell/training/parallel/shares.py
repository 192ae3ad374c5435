"""Shares of the ranks: the sequences of a batch that each computes, and the states that belong to them."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glasscell.core.types import Array
from glasscell.data.batch import AnyArray, Batch

Owners = NDArray[np.intp]
"""Number of the rank that computes each sequence of a batch, (B,)."""


def divide(num_sequences: int, size: int, lengths: AnyArray | None = None) -> Owners:
    """Divide sequences among ranks: in order or, if their lengths differ, by length.

    Sequences of different lengths are taken from the longest to the shortest, each by the rank that has the fewest
    steps so far (Graham 1969): no rank has more than 4/3 of the steps of the best division.

    Parameters
    ----------
    num_sequences : int
        B.
    size : int
        Number of ranks.
    lengths : array (B,) of int, optional
    """
    owners = np.empty(num_sequences, np.intp)
    if lengths is None or len(lengths) == 0 or (lengths == lengths[0]).all():
        for rank in range(size):
            owners[in_order(num_sequences, size, rank)] = rank
        return owners
    loads = [(0, 0, rank) for rank in range(size)]  # steps, sequences
    for sequence in np.argsort(-lengths.astype(np.int64), kind="stable").tolist():
        steps, sequences, rank = loads[0]
        heapq.heapreplace(loads, (steps + int(lengths[sequence]), sequences + 1, rank))
        owners[sequence] = rank
    return owners


def in_order(num_sequences: int, size: int, rank: int) -> slice:
    """Return the consecutive sequences of a rank; the numbers of two ranks differ by at most one."""
    return slice(rank * num_sequences // size, (rank + 1) * num_sequences // size)


def rows_of(owners: Owners, rank: int) -> slice | NDArray[np.intp]:
    """Return the sequences of a rank; as a slice if they are consecutive, so that no array is copied."""
    rows = np.flatnonzero(owners == rank)
    if len(rows) and rows[-1] - rows[0] == len(rows) - 1:
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return rows


def take_rows(batch: Batch, rows: slice | NDArray[np.intp]) -> Batch:
    """Return some sequences of a batch."""
    weights, B = batch.weights, len(batch.inputs)
    if weights is not None and weights.ndim >= max(1, batch.targets.ndim) and len(weights) == B:
        weights = weights[rows]  # other weights broadcast to all sequences
    lengths, indices = (
        None if values is None else np.asarray(values)[rows] for values in (batch.lengths, batch.indices)
    )
    return Batch(batch.inputs[rows], batch.targets[rows], weights, lengths, batch.continues, indices)


def take_states(states: Any, rows: slice | NDArray[np.intp]) -> Any:
    """Return the states of some sequences: B is the last axis of each array."""
    if states is None:
        return None
    if isinstance(states, np.ndarray):
        return states[..., rows]
    items = [take_states(item, rows) for item in states]
    return type(states)(*items) if hasattr(states, "_fields") else tuple(items)


def join_states(parts: Sequence[Any], owners: Owners) -> Any:
    """Return the states of all sequences from those of each rank, of which one without sequences may have none."""
    ranks = [rank for rank in range(len(parts)) if (owners == rank).any()]
    if any(parts[rank] is None for rank in ranks):
        return None
    rows = np.concatenate([np.flatnonzero(owners == rank) for rank in ranks])
    return _join([parts[rank] for rank in ranks], np.argsort(rows))


def _join(parts: Sequence[Any], order: NDArray[np.intp]) -> Any:
    first = parts[0]
    if first is None:
        return None
    if isinstance(first, np.ndarray):
        joined: Array = np.concatenate(parts, axis=-1)[..., order]
        return joined
    items = [_join(items, order) for items in zip(*parts, strict=True)]
    return type(first)(*items) if hasattr(first, "_fields") else tuple(items)
