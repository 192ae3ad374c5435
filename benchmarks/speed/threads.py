"""Numbers of threads: of this machine, and of NumPy's BLAS during a run."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

from glasscell.verify.checks import missing_dependency

Context = Callable[[], AbstractContextManager[Any]]


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def counts() -> list[int]:
    """Return the numbers of threads to measure: all on small machines, powers of two on large ones."""
    most = cores()
    return [n for n in range(1, most + 1) if most <= 8 or n == most or n & (n - 1) == 0]


def describe(count: int) -> str:
    """Format a number of threads: 1 thread, 2 threads."""
    return f"{count} thread{'s' * (count > 1)}"


def blas_settings() -> list[tuple[str, Context]]:
    """Return one and all BLAS threads, or the current setting if threadpoolctl is not installed."""
    if missing_dependency(["threadpoolctl"], "threadpoolctl"):
        return [("threads as they are", nullcontext)]
    import threadpoolctl

    controller = threadpoolctl.ThreadpoolController()
    return [
        (describe(count), partial(controller.limit, limits=count, user_api="blas")) for count in sorted({1, cores()})
    ]
