"""The stage of a layer that replaces ids among the features by vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from glasscell.core.types import Array
from glasscell.stream.arena import Call
from glasscell.stream.building import Stage, StreamBuilder

Segment = tuple["int | None", slice, slice]


class FeatureEmbeddingStage(Stage):
    """A copy of numeric features, and rows of tables for ids.

    Parameters
    ----------
    segments : sequence of (int or None, slice, slice)
        The id column, or None for numeric features; their place in the inputs; in the outputs.
    tables : mapping of int to array
        For each id column (V, E).
    input_size, output_size : int
    """

    state_writes = 1  # ids are checked after stages before it have written their states

    def __init__(
        self, segments: Sequence[Segment], tables: Mapping[int, Array], input_size: int, output_size: int
    ) -> None:
        self.segments, self.tables = segments, tables
        self.input_size, self.output_size = input_size, output_size

    def block_rows(self, width: int) -> list[int]:
        """Return the rows of the outputs."""
        del width
        return [self.output_size]

    def build(self, builder: StreamBuilder) -> None:
        """Append the calls: all ids are checked first."""
        x, y = builder.x, builder.memory.next_block(self.output_size)
        lookups: list[Call] = []
        for column, source, target in self.segments:
            if column is None:
                lookups.append(_copy(y[target], x[source]))
                continue
            ids = np.zeros(x[column].shape or (1,), np.int64)
            builder.calls.append(_check(x[source], ids, column, len(self.tables[column])))
            lookups.append(_lookup(y[target], self.tables[column], ids))
        builder.calls += lookups
        builder.x = y


def _copy(target: Array, source: Array) -> Call:
    return lambda: np.copyto(target, source)


def _check(values: Array, ids: NDArray[np.int64], column: int, V: int) -> Call:
    """Return a call that writes ids, and raises ValueError unless they are integers from 0 to V - 1."""
    flat = values.reshape(-1)

    def check() -> None:
        np.copyto(ids, flat, casting="unsafe")
        for value, number in zip(flat.tolist(), ids.tolist(), strict=True):
            if value != number or not 0 <= number < V:
                raise ValueError(f"column {column} of x must hold ids from 0 to {V - 1}, got {value}")

    return check


def _lookup(target: Array, table: Array, ids: NDArray[np.int64]) -> Call:
    """Return a call that copies the rows of ids to the columns of `target`."""
    if target.ndim == 1:
        return lambda: np.copyto(target, table[ids[0]])
    return lambda: table.T.take(ids, axis=1, out=target, mode="clip")
