"""Threads that share a pass: each runs some of its sequences.

A pass of a small layer takes some tenths of a millisecond, and waking a thread takes a tenth of that. So a worker that
waits for tasks, or a caller that waits for its workers, first polls for a moment without giving up its core.

An exception may interrupt the caller between any two bytecodes: a signal's handler raises it, as Ctrl-C does. Whatever
is raised, no worker may still be writing when :func:`together` returns. Two rules see to that:

- A worker takes work only while its flag is up, and the flag belongs to this one call: nothing is left for later calls.
- On the way out there are two calls, both of C code, in two nested ``finally``: one takes the remaining work away, the
  other waits for the flags. CPython runs handlers of signals after such a call, never between a ``finally`` and its
  first call, and compiled code that waits runs none.
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

SPIN_COUNT = 4_000  # polls: a tenth of a millisecond

Task = Callable[[], object]


class SharedTasks:
    """Pieces of one pass, which the caller and its workers take as they get to them.

    Attributes
    ----------
    pending : deque of callable
        Not yet taken: the caller takes the first, workers take the last.
    busy : array (workers,) of int64
        1 while this worker may take or run a task.
    errors : list of BaseException
        What pieces raised in workers.
    """

    def __init__(self, tasks: Sequence[Task], workers: int) -> None:
        self.pending = deque(tasks)
        self.busy = np.zeros(workers, np.int64)
        self.errors: list[BaseException] = []

    def run_in_worker(self, k: int) -> None:
        """Run pieces as worker k until none is left; after an error the rest is of no use. The flag stays up."""
        self.busy[k] = 1
        try:
            self._run(self.pending.pop)
        except BaseException as error:  # noqa: BLE001 - raised where the work was given
            self.errors.append(error)
            self.pending.clear()

    def run(self) -> None:
        """Run pieces in the calling thread until none is left."""
        self._run(self.pending.popleft)

    def _run(self, take: Callable[[], Task]) -> None:
        while self.pending:
            try:
                task = take()
            except IndexError:  # another thread was quicker
                return
            task()


class Worker:
    """A thread that is invited to shared work; it lasts as long as the process."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[tuple[SharedTasks, int]] = SimpleQueue()
        self._submit_count = np.zeros(1, np.int64)
        self._spin = compile_wait().spin_until_changed
        self._started = False
        self._native_id: int | None = None
        self._avoided = -1

    def start(self) -> bool:
        """Start the thread, unless it runs; False if that cannot be, as at the end of the process."""
        if not self._started:
            try:
                # Not threading.Thread, whose start() waits for the thread: for ever while the interpreter shuts down.
                # Should an exception keep this from being noted, a second thread will serve the same invitations.
                start_new_thread(self._loop, ())
            except RuntimeError:
                return False
            self._started = True
        return True

    def submit(self, tasks: SharedTasks, k: int) -> None:
        """Invite the thread as worker k, on another core than the caller's, where they would take turns."""
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
            del tasks  # and the arrays that it holds


def _current_core() -> Callable[[], int]:
    """Make a function that returns the core that a thread runs on; -1 where the system does not say."""
    if hasattr(os, "sched_setaffinity"):
        with suppress(AttributeError, OSError):
            sched_getcpu: Callable[[], int] = ctypes.CDLL(None).sched_getcpu
            return sched_getcpu
    return lambda: -1


current_core = _current_core()
_workers: list[Worker] = []


def run_in_parallel(tasks: Sequence[Task]) -> None:
    """Run all pieces: the first in this thread, the others in free worker threads, or here after the first.

    Raises
    ------
    BaseException
        What a task raised, or a signal's handler meanwhile; no task runs any more then.
    """
    count = len(tasks) - 1
    if count < 1:
        for task in tasks:
            task()
        return
    tasks = SharedTasks(tasks, count)
    wait = compile_wait().spin_until_zero
    try:
        for k in range(count):
            if k == len(_workers):
                _workers.append(Worker())
            if not _workers[k].start():
                break
            _workers[k].submit(tasks, k)
        tasks.run()
    finally:
        try:
            tasks.pending.clear()
        finally:
            wait(tasks.busy, SPIN_COUNT)
    for error in tasks.errors:
        raise error


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_workers.clear)  # a process that was forked has none of the threads
