"""Products of large matrices, and other work in blocks, with the threads of a training.

In a training whose recurrent layers are run by the compiled engine, its threads also run the work of the other layers,
in pieces, and BLAS has one thread: its waiting threads would occupy the cores of the engine's. The pieces depend on the
sizes only, and so do the bits of the results. Elsewhere the caller does all work, with the threads of BLAS.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar, copy_context
from functools import partial
from typing import TypeVar

import numpy as np

from glasscell.core.blas_threads import max_threads
from glasscell.core.blocking import MAX_PARTS, parts, split
from glasscell.core.types import Array

T = TypeVar("T")
Block = TypeVar("Block")

PIECE_FLOPS = 1 << 22  # multiplications of a piece, at least: some times what it takes to wake a thread
PIECE_SIZE = 128  # rows or columns of a piece, at least: BLAS copies the whole other factor for each piece

_shares_threads: ContextVar[bool] = ContextVar("shares_threads", default=False)


def shares_threads() -> bool:
    """Return whether the caller runs within :func:`with_shared_threads`."""
    return _shares_threads.get()


def with_shared_threads(function: Callable[[], T]) -> T:
    """Call a function whose products and blocks run on the threads of the compiled engine, which requires Numba."""

    def run() -> T:
        _shares_threads.set(True)
        return function()

    return copy_context().run(run)  # the caller's context is unchanged, whatever is raised


def matmul(a: Array, b: Array, out: Array, bias: Array | None = None) -> Array:
    """Write a b to `out`, plus the bias in each row.

    Parameters
    ----------
    a : array (M, K)
    b : array (K, N)
    out : array (M, N)
    bias : array (N,), optional

    Returns
    -------
    array (M, N)
        `out`.
    """
    (M, K), N = a.shape, b.shape[1]

    def multiply(piece: tuple[slice, slice]) -> None:
        rows, columns = piece
        result = np.matmul(a[rows], b[:, columns], out=out[piece])
        if bias is not None:
            result += bias[columns]

    for_each(multiply, _pieces(M, K, N) if shares_threads() else [(slice(M), slice(N))])
    return out


def _pieces(M: int, K: int, N: int) -> list[tuple[slice, slice]]:
    """Return the rows and columns of each piece of a product (M, N): it is divided along the longer side."""
    size = max(M, N)
    limit = max(1, min(MAX_PARTS, M * K * N // PIECE_FLOPS, size // PIECE_SIZE))
    count = 1 << (limit.bit_length() - 1)  # so that two or four threads have equal shares
    parts = split(size, count)
    return [(part, slice(N)) for part in parts] if M >= N else [(slice(M), part) for part in parts]


def for_each(function: Callable[[Block], object], blocks: Sequence[Block]) -> None:
    """Call the function with each block: within :func:`with_shared_threads` on all threads, else in order.

    Calls must not write to the same memory. They run in copies of the caller's context, such as NumPy's settings for
    floating-point errors.
    """
    if len(blocks) == 1:
        function(blocks[0])
        return
    count = min(max_threads(), len(blocks)) if shares_threads() else 1
    if count <= 1:
        _call_with(function, blocks)
        return
    from glasscell.core.numba_engine.thread_pool import run_in_parallel  # noqa: PLC0415 - requires Numba

    parts = [blocks[part] for part in split(len(blocks), count)]
    run_in_parallel([partial(copy_context().run, _call_with, function, part) for part in parts])


def copy_vector(vector: Array, out: Array) -> None:
    """Copy a vector in parts, see :func:`for_each`."""
    for_each(lambda part: np.copyto(out[part], vector[part]), parts(len(vector)))


def _call_with(function: Callable[[Block], object], blocks: Sequence[Block]) -> None:
    for block in blocks:
        function(block)
