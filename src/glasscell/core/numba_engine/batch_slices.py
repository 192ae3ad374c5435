"""The slices of a batch that the threads of :mod:`glasscell.core.numba_engine` run."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from glasscell.core.buffers import BufferPool


class BatchSlice(NamedTuple):
    """Consecutive sequences, which one thread runs: whole groups, whose gradients are summed together.

    Attributes
    ----------
    sequences, groups : slice
    edges : array (groups + 1,) of int
        Where the groups begin in the slice, and its number of sequences.
    size : int
        The number of sequences, b.
    """

    sequences: slice
    groups: slice
    edges: NDArray[np.intp]
    size: int


def make_slices(buffers: BufferPool, edges: list[int], count: int) -> list[BatchSlice]:
    """Return slices of nearly equal numbers of groups, which begin at `edges`; for :meth:`BufferPool.cached`."""
    del buffers
    groups = len(edges) - 1
    firsts = [groups * k // count for k in range(count + 1)]
    return [_slice(first, edges[first : last + 1]) for first, last in pairwise(firsts)]


def _slice(group: int, edges: list[int]) -> BatchSlice:
    """Return the slice of the groups with these edges, of which `group` is the first."""
    start, end = edges[0], edges[-1]
    relative = np.array([edge - start for edge in edges], np.intp)
    return BatchSlice(slice(start, end), slice(group, group + len(edges) - 1), relative, end - start)


SINGLE = [_slice(0, [0, 1])]  # the slice of a batch of one sequence
