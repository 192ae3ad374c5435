"""Blocks of long vectors."""

from collections.abc import Iterator
from itertools import pairwise

# Numbers of a piece: some of them stay in a core's second cache, and one of them can be multiplied by another on one
# core. Of more than 10,000 numbers OpenBLAS makes work for all its threads, which then, for a hundred times as long as
# that took, keep cores from other work.
BLOCK_SIZE = 1 << 13

# For elementwise calls, which have no threads: fewer calls, while half a dozen such pieces stay in the second cache.
ELEMENTWISE_BLOCK_SIZE = 1 << 15


MAX_PARTS, MIN_PART_SIZE = 8, 1 << 17  # of a vector, for threads: parts, and numbers of a part


def parts(length: int) -> list[slice]:
    """Return slices of a vector for several threads: one if the vector is short."""
    if length < 2 * MIN_PART_SIZE:
        return [slice(0, length)]
    return split(length, min(MAX_PARTS, length // MIN_PART_SIZE))


def split(length: int, count: int) -> list[slice]:
    """Divide a length into consecutive slices of nearly equal length."""
    return [slice(start, end) for start, end in pairwise(length * k // count for k in range(count + 1))]


def blocks(length: int) -> Iterator[slice]:
    """Yield slices of a vector for elementwise calls: some of them fit into the cache."""
    for start in range(0, length, ELEMENTWISE_BLOCK_SIZE):
        yield slice(start, start + ELEMENTWISE_BLOCK_SIZE)
