"""How many threads may work on one pass.

The number is BLAS's: whoever limits NumPy's products, with threadpoolctl or with OPENBLAS_NUM_THREADS and its like,
limits all of Glasscell.
"""

import os
from functools import cache
from importlib.util import find_spec
from typing import Any

VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")  # the first that is set counts


def allowed() -> int:
    """How many threads NumPy's BLAS may use now, as far as can be known; at most one for each core."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, _of_blas() or cores))


def _of_blas() -> int | None:
    """Of the BLAS libraries in this process, the number of the one with the fewest; None if nobody says so."""
    numbers = [library.num_threads for library in _libraries()]
    if numbers:
        least: int = min(numbers)
        return least
    given = (os.environ.get(name, "") for name in VARIABLES)
    return next((int(number) for number in given if number.isdecimal() and int(number) > 0), None)


@cache  # to look for them takes milliseconds
def _libraries() -> list[Any]:
    if find_spec("threadpoolctl") is None:
        return []
    from threadpoolctl import ThreadpoolController  # noqa: PLC0415 - optional

    libraries: list[Any] = ThreadpoolController().select(user_api="blas").lib_controllers
    return libraries
