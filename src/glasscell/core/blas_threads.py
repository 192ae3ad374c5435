"""How many threads may work on one pass.

The number is BLAS's: a limit on NumPy's products, with threadpoolctl or with OPENBLAS_NUM_THREADS and its like,
limits all of Glasscell. And small products are better off with one: on a busy machine each of them waits until all
threads of BLAS have had their turn, which takes ten to a hundred times as long as the product.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")

THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")  # the first that is set counts


def max_threads() -> int:
    """Return how many threads NumPy's BLAS may use now, as far as can be known; at most one for each core."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, _blas_threads() or cores))


def _blas_threads() -> int | None:
    """Return the smallest number of threads of the BLAS libraries in this process; None if unknown."""
    if _limit.active:
        return _limit.before
    numbers = [library.num_threads for library in _libraries()]
    if numbers:
        least: int = min(numbers)
        return least
    given = (os.environ.get(name, "") for name in THREAD_VARIABLES)
    return next((int(number) for number in given if number.isdecimal() and int(number) > 0), None)


@cache  # to look for them takes milliseconds
def _libraries() -> list[Any]:
    if find_spec("threadpoolctl") is None:
        return []
    from threadpoolctl import ThreadpoolController  # noqa: PLC0415 - optional

    libraries: list[Any] = ThreadpoolController().select(user_api="blas").lib_controllers
    return libraries


class _Limit:
    """What :func:`with_one_blas_thread` does now.

    Attributes
    ----------
    calls : set of object
        Calls that are not yet over, of any thread.
    active : bool
        Whether one thread is our wish and not the user's.
    before : int
        The user's.
    """

    def __init__(self) -> None:
        self.calls: set[object] = set()
        self.active = False
        self.before = 1


_limit = _Limit()


def with_one_blas_thread(function: Callable[[], T]) -> T:
    """Call a function while NumPy's BLAS uses one thread; then it uses as many as before.

    The number is the whole process's. Several threads may call this at once: the last that leaves puts the number back,
    unless the function has set another one. It is put back whatever is raised, and whenever: between the calls of C
    code in the ``finally`` blocks CPython runs no handler of a signal. Where the library cannot be found, the function
    runs with as many threads as it does.
    """
    blas, limit, call = _blas(), _limit, object()
    if blas is None:
        return function()
    get, put = blas
    try:
        limit.calls.add(call)
        now = get()
        if now != 1:
            limit.before, limit.active = now, True
            put(1)
        return function()
    finally:
        now = 1
        try:
            limit.calls.discard(call)
            now = get()
        finally:
            if limit.active and not limit.calls:
                limit.active = False
                if now == 1:
                    put(limit.before)


class _Blas(NamedTuple):
    """Functions of the library that NumPy multiplies with: its number of threads."""

    get: Callable[[], int]
    put: Callable[[int], object]


NAMES = (  # of these functions, in the wheels of NumPy and elsewhere
    ("scipy_openblas_get_num_threads64_", "scipy_openblas_set_num_threads64_"),
    ("scipy_openblas_get_num_threads", "scipy_openblas_set_num_threads"),
    ("openblas_get_num_threads64_", "openblas_set_num_threads64_"),
    ("openblas_get_num_threads", "openblas_set_num_threads"),
    ("MKL_Get_Max_Threads", "MKL_Set_Num_Threads"),
)


@cache
def _blas() -> _Blas | None:
    """Return the functions; None if NumPy's BLAS has none that are known."""
    import ctypes  # noqa: PLC0415 - only where it is used

    module = import_module("numpy._core._multiarray_umath").__file__ or ""
    # Where the system looks a name up in what a library depends on, too, NumPy's own is enough.
    for path in (module, *map(str, Path(module).parents[2].glob("numpy.libs/*openblas*"))):
        with suppress(OSError):
            library = ctypes.CDLL(path)
            for get, put in NAMES:
                if hasattr(library, get) and hasattr(library, put):
                    return _Blas(getattr(library, get), getattr(library, put))
    return None


def _after_fork() -> None:
    """Restore the number in a forked child, where no other thread is left that could."""
    blas = _blas() if _limit.active else None
    _limit.calls.clear()
    _limit.active = False
    if blas is not None:
        blas.put(_limit.before)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
