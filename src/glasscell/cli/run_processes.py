"""Processes of commands that run several trainings at a time: they end with the command, however it ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
SECONDS_TO_END = 5.0  # of a process that was terminated


@contextmanager
def run_processes(number: int) -> Iterator[ProcessPoolExecutor]:
    """Provide an executor with processes of one thread each; they are terminated at the end, also during a run."""
    executor = ProcessPoolExecutor(number, multiprocessing.get_context("spawn"), _begin)
    try:
        with _one_thread():
            yield executor
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
        children = multiprocessing.active_children()
        for process in children:
            process.terminate()
        for process in children:
            process.join(SECONDS_TO_END)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Give each new process one thread, so that results do not depend on the number of processes."""
    chosen = [name for name in THREADS if name not in os.environ]
    os.environ.update(dict.fromkeys(chosen, "1"))
    try:
        yield
    finally:
        for name in chosen:
            del os.environ[name]


def _begin() -> None:
    """Prepare a process: no signals of the terminal, no pictures, and an end with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.modules["matplotlib"] = None  # type: ignore[assignment] # as if not installed: each run would draw a picture
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End the process when its parent does, however that ends."""
    from multiprocessing import parent_process  # noqa: PLC0415
    from multiprocessing.connection import wait  # noqa: PLC0415

    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
