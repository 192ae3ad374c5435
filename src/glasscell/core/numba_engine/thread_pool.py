"""Threads that run the tasks of one pass in parallel.

A pass of a small layer takes some tenths of a millisecond, and waking a thread takes a tenth of that. Waiting threads
therefore spin briefly before blocking.

An exception may interrupt the caller between any two bytecodes: signal handlers raise, for example on Ctrl-C. When
:func:`run_in_parallel` returns, for whatever reason, no worker may still be writing. Two rules ensure that:

- A worker takes tasks only while its flag is set, and the flag belongs to one call: no tasks remain for later calls.
- Before returning, two C calls run in two nested ``finally`` blocks: one removes the pending tasks, the other waits for
  the flags. CPython runs signal handlers after such a call, never between a ``finally`` and its first call, and never
  during compiled code that waits.
"""

from __future__ import annotations

import ctypes
import os
from _thread import get_native_id, start_new_thread
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import SimpleQueue

import numpy as np

from glasscell.core.numba_engine.waits import compile_wait

SPIN_COUNT = 4_000  # polls before a thread blocks: 0.1 ms

Task = Callable[[], object]


class SharedTasks:
    """Tasks of one pass, which the caller and the workers take in turn.

    Attributes
    ----------
    pending : deque of callable
        Tasks that no thread has taken: the caller takes from the front, workers from the back.
    busy : array (workers,) of int64
        Flags: 1 while this worker may take or run a task.
    errors : list of BaseException
        Exceptions of tasks that workers ran.
    """

    def __init__(self, tasks: Sequence[Task], workers: int) -> None:
        self.pending = deque(tasks)
        self.busy = np.zeros(workers, np.int64)
        self.errors: list[BaseException] = []

    def run_in_worker(self, k: int) -> None:
        """Run tasks as worker k until none is pending; an error discards the others. The flag stays set."""
        self.busy[k] = 1
        try:
            self._run(self.pending.pop)
        except BaseException as error:  # noqa: BLE001 - raised by run_in_parallel
            self.errors.append(error)
            self.pending.clear()

    def run(self) -> None:
        """Run tasks in the calling thread until none is pending."""
        self._run(self.pending.popleft)

    def _run(self, take: Callable[[], Task]) -> None:
        while self.pending:
            try:
                task = take()
            except IndexError:  # another thread took the last one
                return
            task()


class Worker:
    """Thread that runs submitted tasks until the process ends."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[tuple[SharedTasks, int]] = SimpleQueue()
        self._submit_count = np.zeros(1, np.int64)
        self._spin = compile_wait().spin_until_changed
        self._started = False
        self._native_id: int | None = None
        self._avoided = -1

    def start(self) -> bool:
        """Start the thread unless it runs; return False if that is impossible, for example at interpreter exit."""
        if not self._started:
            try:
                # threading.Thread.start() would wait for the thread: forever during interpreter shutdown.
                # If an exception prevents `_started` from being set, a second thread serves the same queue.
                start_new_thread(self._loop, ())
            except RuntimeError:
                return False
            self._started = True
        return True

    def submit(self, tasks: SharedTasks, k: int) -> None:
        """Submit tasks to the thread as worker k, on another core than the caller's, which they would share."""
        self._avoid_core(current_core())
        self._queue.put((tasks, k))
        self._submit_count[0] += 1

    def _avoid_core(self, core: int) -> None:
        if core == self._avoided or self._native_id is None:
            return
        others = os.sched_getaffinity(0) - {core}
        if others:
            os.sched_setaffinity(self._native_id, others)
        self._avoided = core

    def _loop(self) -> None:
        self._native_id = get_native_id()
        spin, submit_count, last_count, flag = self._spin, self._submit_count, 0, np.zeros(1, np.int64)
        while True:
            spin(flag, submit_count, last_count, SPIN_COUNT)
            last_count = int(submit_count[0])
            tasks, k = self._queue.get()
            tasks.run_in_worker(k)
            flag = tasks.busy[k : k + 1]
            del tasks  # and the arrays that it references


def _current_core() -> Callable[[], int]:
    """Return a function that returns the core of the calling thread; -1 if the system does not provide it."""
    if hasattr(os, "sched_setaffinity"):
        with suppress(AttributeError, OSError):
            sched_getcpu: Callable[[], int] = ctypes.CDLL(None).sched_getcpu
            return sched_getcpu
    return lambda: -1


current_core = _current_core()
_workers: list[Worker] = []


def run_in_parallel(tasks: Sequence[Task]) -> None:
    """Run all tasks: the first in this thread, the others in worker threads, or in this thread after the first.

    Raises
    ------
    BaseException
        Raised by a task, or by a signal handler; no task is running afterwards.
    """
    count = len(tasks) - 1
    if count < 1:
        for task in tasks:
            task()
        return
    shared = SharedTasks(tasks, count)
    wait = compile_wait().spin_until_zero
    try:
        for k in range(count):
            if k == len(_workers):
                _workers.append(Worker())
            if not _workers[k].start():
                break
            _workers[k].submit(shared, k)
        shared.run()
    finally:
        try:
            shared.pending.clear()
        finally:
            wait(shared.busy, SPIN_COUNT)
    for error in shared.errors:
        raise error


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_workers.clear)  # a forked child has none of the threads
