"""Arrays (T, rows, B) that lie in memory as (T, B, rows): the numbers of a step of a sequence are adjacent."""

import numpy as np

from glasscell.core import lstm_tape
from glasscell.core.buffers import CACHE_LINE_BYTES, BufferPool
from glasscell.core.types import Array


class Tape(lstm_tape.Tape):
    """Tape whose arrays have this layout; either engine computes gradients from it."""

    @staticmethod
    def _array(buffers: BufferPool, name: str, shape: tuple[int, int, int], dtype: np.dtype[np.floating]) -> Array:
        T, rows, B = shape
        array = buffers.get(f"{name} of rows", (T, B, odd_lines(rows, dtype)), dtype)
        return array[..., :rows].transpose(0, 2, 1)


def is_rows(array: Array) -> bool:
    """Return whether the numbers of a step of a sequence are adjacent in an array (T, rows, B)."""
    return array.shape[1] <= 1 or array.strides[1] == array.itemsize


def rows_of(array: Array) -> Array:
    """Return an array (T, rows, B) as (T, B, rows): a view, or a copy in which the numbers of a step are adjacent."""
    rows = array.transpose(0, 2, 1)
    return rows if is_rows(array) else np.ascontiguousarray(rows)


def odd_lines(count: int, dtype: np.dtype[np.floating]) -> int:
    """Return at least this count of numbers, which fill an odd number of cache lines.

    Lines at the same place in many rows of this length do not compete for the same few places in a cache.
    """
    per_line = CACHE_LINE_BYTES // dtype.itemsize
    return (-(-count // per_line) | 1) * per_line
