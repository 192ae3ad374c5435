"""Threads that share a pass: each runs some of its sequences.

A pass of a small layer takes some tenths of a millisecond, and to wake a thread takes a tenth of that. So whoever waits
here, for work or for the others, first looks for it for a moment without giving up its core.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import SimpleQueue
from threading import Lock, Thread

import numpy as np

from glasscell.core.compiled.loops import waiting

PATIENCE = 4_000  # looks: a tenth of a millisecond
LINE = 8  # numbers of a line of the cache

Work = Callable[[], object]


class Helper:
    """A thread that does one piece of work after the other."""

    def __init__(self) -> None:
        self.given: SimpleQueue[Work] = SimpleQueue()
        self.done: SimpleQueue[BaseException | None] = SimpleQueue()
        self.counts = np.zeros(2 * LINE, np.int64)
        self.wait = waiting()
        self.thread = Thread(target=self._serve, name="glasscell helper", daemon=True)
        self.thread.start()
        self.avoided = -1

    def begin(self, work: Work) -> None:
        """Give it work; it has none."""
        self._leave(current_core())
        self.given.put(work)
        self.counts[0] += 1

    def end(self) -> BaseException | None:
        """Wait until it is done; returns what it raised."""
        self.wait(self.counts[LINE:], int(self.counts[0]) - 1, PATIENCE)
        return self.done.get()

    def _leave(self, core: int) -> None:
        """Work on any other core than this one: the caller's, where it would take turns with him."""
        if core == self.avoided:
            return
        others = os.sched_getaffinity(0) - {core}
        if others and self.thread.native_id is not None:
            os.sched_setaffinity(self.thread.native_id, others)
        self.avoided = core

    def _serve(self) -> None:
        served = 0
        while True:
            self.wait(self.counts, served, PATIENCE)
            work = self.given.get()
            served += 1
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - raised where the work was given
                self.done.put(error)
            else:
                self.done.put(None)
            del work  # and the arrays that it holds
            self.counts[LINE] += 1


def _current_core() -> Callable[[], int]:
    """What tells the core that a thread runs on; -1 where the system does not say."""
    if hasattr(os, "sched_setaffinity"):
        with suppress(AttributeError, OSError):
            tell: Callable[[], int] = ctypes.CDLL(None).sched_getcpu
            return tell
    return lambda: -1


current_core = _current_core()
_one_at_a_time = Lock()
_helpers: list[Helper] = []


def together(work: Sequence[Work]) -> None:
    """Do all of it: the first piece here, each other one in a thread of its own.

    Where these threads are at work for somebody else, all is done here, one after the other.
    """
    if len(work) < 2 or not _one_at_a_time.acquire(blocking=False):
        for piece in work:
            piece()
        return
    try:
        own, *others = work
        while len(_helpers) < len(others):
            _helpers.append(Helper())
        busy = _helpers[: len(others)]
        for helper, piece in zip(busy, others, strict=True):
            helper.begin(piece)
        try:
            own()
        finally:
            errors = [helper.end() for helper in busy]  # of all, also if one failed
        for error in errors:
            if error is not None:
                raise error
    finally:
        _one_at_a_time.release()


def _forget() -> None:
    """A process that was forked has none of the threads."""
    global _one_at_a_time  # noqa: PLW0603
    _one_at_a_time = Lock()
    _helpers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
