"""Number of threads of one pass.

It is the number of BLAS threads: a limit on NumPy's products, set with threadpoolctl or OPENBLAS_NUM_THREADS and the
like, limits all of Glasscell. Small products run best with one thread: on a busy machine each product waits until all
BLAS threads have been scheduled, which takes 10 to 100 times as long as the product.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple, TypeVar

from glasscell.core.packages import is_installed

T = TypeVar("T")

THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")  # the first one that is set applies


def max_threads() -> int:
    """Return the number of threads that NumPy's BLAS may use, at most one per core; one per core if unknown."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, _blas_threads() or cores, *_limit.maxima))


def _blas_threads() -> int | None:
    """Return the smallest number of threads of the BLAS libraries in this process; None if unknown."""
    if _limit.active:
        return _limit.user_threads
    numbers = [library.num_threads for library in _libraries()]
    if numbers:
        smallest: int = min(numbers)
        return smallest
    values = (os.environ.get(name, "") for name in THREAD_VARIABLES)
    return next((int(number) for number in values if number.isdecimal() and int(number) > 0), None)


@cache  # the search takes milliseconds
def _libraries() -> list[Any]:
    if not is_installed("threadpoolctl"):
        return []
    from threadpoolctl import ThreadpoolController  # noqa: PLC0415 - optional

    libraries: list[Any] = ThreadpoolController().select(user_api="blas").lib_controllers
    return libraries


class _Limit:
    """State of :func:`with_one_blas_thread`.

    Attributes
    ----------
    calls : set of object
        Running calls, of all threads.
    active : bool
        Whether the number of threads is limited to one by these calls.
    user_threads : int
        Number of threads before the limit.
    maxima : list of int
        Those of running calls of :func:`with_max_threads`.
    """

    def __init__(self) -> None:
        self.calls: set[object] = set()
        self.active = False
        self.user_threads = 1
        self.maxima: list[int] = []


_limit = _Limit()


def with_one_blas_thread(function: Callable[[], T]) -> T:
    """Call a function while NumPy's BLAS uses one thread, then restore the number of threads.

    The number applies to the whole process. Several threads may call this at once: the last one that returns restores
    the number, unless the function has set another one. It is restored after every exception, at any point: between the
    C calls in the ``finally`` blocks CPython runs no signal handlers. If the library is not found, the function runs
    with the current number of threads.
    """
    blas, limit, call = _blas(), _limit, object()
    if blas is None:
        return function()
    get_threads, set_threads = blas
    try:
        limit.calls.add(call)
        current = get_threads()
        if current != 1:
            limit.user_threads, limit.active = current, True
            set_threads(1)
        return function()
    finally:
        current = 1
        try:
            limit.calls.discard(call)
            current = get_threads()
        finally:
            if limit.active and not limit.calls:
                limit.active = False
                if current == 1:
                    set_threads(limit.user_threads)


def with_max_threads(function: Callable[[], T], num_threads: int) -> T:
    """Call a function while NumPy's BLAS, and :func:`max_threads`, have at most this many threads; then restore them.

    The number applies to the whole process.
    """
    blas = _blas()
    before = 0 if blas is None else blas.get_threads()
    try:
        _limit.maxima.append(num_threads)
        if blas is not None and before > num_threads:
            blas.set_threads(num_threads)
        return function()
    finally:
        _limit.maxima.remove(num_threads)
        if blas is not None and before > num_threads:
            blas.set_threads(before)


class _Blas(NamedTuple):
    """Functions of NumPy's BLAS that get and set its number of threads."""

    get_threads: Callable[[], int]
    set_threads: Callable[[int], object]


FUNCTION_NAMES = (  # get and set, in NumPy's wheels and elsewhere
    ("scipy_openblas_get_num_threads64_", "scipy_openblas_set_num_threads64_"),
    ("scipy_openblas_get_num_threads", "scipy_openblas_set_num_threads"),
    ("openblas_get_num_threads64_", "openblas_set_num_threads64_"),
    ("openblas_get_num_threads", "openblas_set_num_threads"),
    ("MKL_Get_Max_Threads", "MKL_Set_Num_Threads"),
)


@cache
def _blas() -> _Blas | None:
    """Return the functions of NumPy's BLAS; None if it has none of these names."""
    import ctypes  # noqa: PLC0415 - only where it is used

    module = import_module("numpy._core._multiarray_umath").__file__ or ""
    # NumPy's module is enough if the system also searches the libraries that it depends on.
    from pathlib import Path  # noqa: PLC0415 - takes as long to import as ten of our modules

    for path in (module, *map(str, Path(module).parents[2].glob("numpy.libs/*openblas*"))):
        with suppress(OSError):
            library = ctypes.CDLL(path)
            for get_threads, set_threads in FUNCTION_NAMES:
                if hasattr(library, get_threads) and hasattr(library, set_threads):
                    return _Blas(getattr(library, get_threads), getattr(library, set_threads))
    return None


def _after_fork() -> None:
    """Restore the number of threads in a forked child, which has no other threads."""
    blas = _blas() if _limit.active else None
    _limit.calls.clear()
    _limit.active = False
    if blas is not None:
        blas.set_threads(_limit.user_threads)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
