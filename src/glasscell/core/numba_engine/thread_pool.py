"""Threads that share a pass: each runs some of its sequences.

A pass of a small layer takes some tenths of a millisecond, and waking a thread takes a tenth of that. So a helper that
waits for work, or a caller that waits for its helpers, first polls for a moment without giving up its core.

An exception may interrupt the caller between any two bytecodes: a signal's handler raises it, as Ctrl-C does. Whatever
is raised, no helper may still be writing when :func:`together` returns. Two rules see to that:

- A helper takes work only while its flag is up, and the flag belongs to this one call: nothing is left for later calls.
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

Work = Callable[[], object]


class SharedWork:
    """Pieces of one pass, which the caller and its helpers take as they get to them.

    Attributes
    ----------
    pieces : deque of callable
        Not yet taken: the caller takes the first, helpers take the last.
    busy : array (helpers,) of int64
        1 while this helper may take or run a piece.
    errors : list of BaseException
        What pieces raised in helpers.
    """

    def __init__(self, work: Sequence[Work], helpers: int) -> None:
        self.pieces = deque(work)
        self.busy = np.zeros(helpers, np.int64)
        self.errors: list[BaseException] = []

    def help(self, k: int) -> None:
        """Run pieces as helper k until none is left; after an error the rest is of no use. The flag stays up."""
        self.busy[k] = 1
        try:
            self._run(self.pieces.pop)
        except BaseException as error:  # noqa: BLE001 - raised where the work was given
            self.errors.append(error)
            self.pieces.clear()

    def run(self) -> None:
        """Run pieces in the calling thread until none is left."""
        self._run(self.pieces.popleft)

    def _run(self, take: Callable[[], Work]) -> None:
        while self.pieces:
            try:
                piece = take()
            except IndexError:  # another thread was quicker
                return
            piece()


class Worker:
    """A thread that is invited to shared work; it lasts as long as the process."""

    def __init__(self) -> None:
        self._invitations: SimpleQueue[tuple[SharedWork, int]] = SimpleQueue()
        self._invited = np.zeros(1, np.int64)
        self._poll = compile_wait().for_change
        self._started = False
        self._native_id: int | None = None
        self._avoided = -1

    def start(self) -> bool:
        """Start the thread, unless it runs; False if that cannot be, as at the end of the process."""
        if not self._started:
            try:
                # Not threading.Thread, whose start() waits for the thread: for ever while the interpreter shuts down.
                # Should an exception keep this from being noted, a second thread will serve the same invitations.
                start_new_thread(self._serve, ())
            except RuntimeError:
                return False
            self._started = True
        return True

    def invite(self, shared: SharedWork, k: int) -> None:
        """Invite the thread as helper k, on another core than the caller's, where they would take turns."""
        self._leave(current_core())
        self._invitations.put((shared, k))
        self._invited[0] += 1

    def _leave(self, core: int) -> None:
        if core == self._avoided or self._native_id is None:
            return
        others = os.sched_getaffinity(0) - {core}
        if others:
            os.sched_setaffinity(self._native_id, others)
        self._avoided = core

    def _serve(self) -> None:
        self._native_id = get_native_id()
        poll, invited, known, flag = self._poll, self._invited, 0, np.zeros(1, np.int64)
        while True:
            poll(flag, invited, known, SPIN_COUNT)
            known = int(invited[0])
            shared, k = self._invitations.get()
            shared.help(k)
            flag = shared.busy[k : k + 1]
            del shared  # and the arrays that it holds


def _current_core() -> Callable[[], int]:
    """Make a function that returns the core that a thread runs on; -1 where the system does not say."""
    if hasattr(os, "sched_setaffinity"):
        with suppress(AttributeError, OSError):
            tell: Callable[[], int] = ctypes.CDLL(None).sched_getcpu
            return tell
    return lambda: -1


current_core = _current_core()
_helpers: list[Worker] = []


def run_in_parallel(work: Sequence[Work]) -> None:
    """Run all pieces: the first in this thread, the others in free helper threads, or here after the first.

    Raises
    ------
    BaseException
        What a piece raised, or a signal's handler meanwhile; no piece runs any more then.
    """
    count = len(work) - 1
    if count < 1:
        for piece in work:
            piece()
        return
    shared = SharedWork(work, count)
    wait_for = compile_wait().for_zeros
    try:
        for k in range(count):
            if k == len(_helpers):
                _helpers.append(Worker())
            if not _helpers[k].start():
                break
            _helpers[k].invite(shared, k)
        shared.run()
    finally:
        try:
            shared.pieces.clear()
        finally:
            wait_for(shared.busy, SPIN_COUNT)
    for error in shared.errors:
        raise error


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_helpers.clear)  # a process that was forked has none of the threads
