"""Long vectors, piece by piece; sums of squares and norms in float64."""

from collections.abc import Iterator
from math import inf, isnan

import numpy as np
from numpy.typing import NDArray

from glasscell.core.types import Array

# Numbers of a piece: some of them stay in a core's second cache, and one of them can be multiplied by another on one
# core. Of more than 10,000 numbers OpenBLAS makes work for all its threads, which then, for a hundred times as long as
# that took, keep cores from other work.
BLOCK_SIZE = 1 << 13


def blocks(length: int) -> Iterator[slice]:
    """Yield slices of a vector that fit into the cache."""
    for start in range(0, length, BLOCK_SIZE):
        yield slice(start, start + BLOCK_SIZE)


def sum_of_squares(vector: Array) -> float:
    """Return Σ v², in float64.

    Each piece is summed in its own dtype, by BLAS, which adds up many sums side by side; where squares have left the
    range of float32, once more in float64.
    """
    total = _sum_of_squares(vector)
    limits = np.finfo(vector.dtype)
    if vector.dtype == np.float64 or isnan(total) or limits.tiny / limits.eps < total < inf:
        return total
    return sum(_sum_of_squares(vector[piece].astype(np.float64)) for piece in blocks(len(vector)))


@np.errstate(over="ignore", under="ignore")
def _sum_of_squares(vector: Array) -> float:
    return sum(float(np.dot(vector[piece], vector[piece])) for piece in blocks(len(vector)))


@np.errstate(under="ignore", over="ignore", invalid="ignore")
def norms(array: Array) -> NDArray[np.float64]:
    """Return Euclidean norms along the last axis, in float64, also where squares leave its range; NaN where a value is.

    Parameters
    ----------
    array : array (..., n)

    Returns
    -------
    array (...) of float64
    """
    values = np.abs(array.astype(np.float64))
    largest = values.max(axis=-1, initial=0)
    scale = np.where((largest > 0) & (largest < inf), largest, 1.0)
    found: NDArray[np.float64] = scale * np.sqrt(np.square(values / scale[..., None]).sum(axis=-1))
    return found
