"""Blocks of long vectors."""

from itertools import pairwise

# Numbers of a piece: some of them stay in a core's second cache, and one of them can be multiplied by another on one
# core. Of more than 10,000 numbers OpenBLAS makes work for all its threads, which then, for a hundred times as long as
# that took, keep cores from other work.
BLOCK_SIZE = 1 << 13

# For elementwise calls, which have no threads: fewer calls, while half a dozen such pieces stay in the second cache.
ELEMENTWISE_BLOCK_SIZE = 1 << 15

MAX_PARTS, MIN_PART_SIZE = 8, 1 << 17  # of work for threads: parts, and numbers of a part of a vector
SHORT_VECTOR = 2 * MIN_PART_SIZE  # a vector of fewer numbers is one part


def parts(length: int, limit: int | None = None) -> list[slice]:
    """Return slices of a length for several threads: one if there is little work.

    Parameters
    ----------
    length : int
    limit : int, optional
        Number of threads for which there is enough work. Default: that of a vector of this length.
    """
    count = min(MAX_PARTS, length, length // MIN_PART_SIZE if limit is None else limit)
    return split(length, count) if count > 1 else [slice(0, length)]


def split(length: int, count: int) -> list[slice]:
    """Divide a length into consecutive slices of nearly equal length."""
    return [slice(start, end) for start, end in pairwise(length * k // count for k in range(count + 1))]
