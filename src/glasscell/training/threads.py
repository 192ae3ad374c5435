"""Threads of a training: one owner of the cores."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from glasscell.core.blas_threads import with_one_blas_thread
from glasscell.core.products import shares_threads, with_shared_threads

T = TypeVar("T")

SMALL_STEP = 1 << 21  # multiplications: up to here one core is about as fast as two, and far faster on a busy machine


def with_training_threads(function: Callable[[], T], model: Any, batch_size: int) -> T:
    """Call a function of a training with the threads that suit the model.

    If the compiled engine runs a layer, it runs on all threads, and so do the products of the other layers; BLAS has
    one thread. If not, small models have one thread of BLAS, and large ones all.
    """
    if shares_threads():
        return function()
    uses_numba = getattr(model, "uses_numba", None)
    if uses_numba is not None and uses_numba(batch_size):
        return with_one_blas_thread(partial(with_shared_threads, function))
    if model.parameters.vector.size * batch_size <= SMALL_STEP:
        return with_one_blas_thread(function)
    return function()
