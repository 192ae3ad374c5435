"""Long vectors, piece by piece."""

from collections.abc import Iterator

import numpy as np

from glasscell.core.typing import Array

# Numbers of a piece: some of them stay in a core's second cache, and one of them can be multiplied by another on one
# core. Of more than 10,000 numbers OpenBLAS makes work for all its threads, which then, for a hundred times as long as
# that took, keep cores from other work.
PIECE = 1 << 13


def pieces(length: int) -> Iterator[slice]:
    """Of a vector, so that what is done to one of them finds it in the cache."""
    for start in range(0, length, PIECE):
        yield slice(start, start + PIECE)


def sum_of_squares(vector: Array) -> float:
    """Of each piece in its own dtype, by BLAS, which adds up many sums side by side; of the pieces in float64."""
    return sum(float(np.dot(vector[piece], vector[piece])) for piece in pieces(len(vector)))
