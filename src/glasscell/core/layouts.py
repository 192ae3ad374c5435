"""Views between batch-first arrays (B, ...) and core's layout (..., B)."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from glasscell.core.types import Array

Item = TypeVar("Item", bound=np.generic)

# Orders of axes by their number, up to NumPy's 64: made once, because a small step has several transpositions.
LAST_AXIS_FIRST = [(-1, *range(n - 1)) for n in range(65)]
FIRST_AXIS_LAST = [(*range(1, n), 0) for n in range(65)]


def last_axis_first(array: NDArray[Item]) -> NDArray[Item]:
    """Return a view (B, ...) of an array (..., B); `np.moveaxis` takes 3 µs."""
    return array.transpose(LAST_AXIS_FIRST[array.ndim])


def first_axis_last(array: NDArray[Item]) -> NDArray[Item]:
    """Return a view (..., B) of an array (B, ...)."""
    return array.transpose(FIRST_AXIS_LAST[array.ndim])


def feature_major_zeros(shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """Return zeros (B, T, F), stored as (T, F, B), so that :func:`first_axis_last` is contiguous; or (T, F)."""
    if len(shape) != 3:
        return np.zeros(shape, dtype)
    B, T, F = shape
    return last_axis_first(np.zeros((T, F, B), dtype))
