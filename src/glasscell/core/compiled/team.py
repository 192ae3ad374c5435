"""Threads that share a pass: each runs some of its sequences.

A pass of a small layer takes some tenths of a millisecond, and to wake a thread takes a tenth of that. So whoever waits
here, for work or for the others, first looks for it for a moment without giving up its core.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from threading import Lock, Thread

import numpy as np

from glasscell.core.compiled.loops import waiting

PATIENCE = 40_000  # looks: about a millisecond
LINE = 8  # numbers of a line of the cache

Work = Callable[[], object]


class Helper:
    """A thread that does one piece of work after the other."""

    def __init__(self) -> None:
        self.given: SimpleQueue[Work] = SimpleQueue()
        self.done: SimpleQueue[BaseException | None] = SimpleQueue()
        self.counts = np.zeros(2 * LINE, np.int64)
        self.wait = waiting()
        Thread(target=self._serve, name="glasscell helper", daemon=True).start()

    def begin(self, work: Work) -> None:
        """Give it work; it has none."""
        self.given.put(work)
        self.counts[0] += 1

    def end(self) -> BaseException | None:
        """Wait until it is done; returns what it raised."""
        self.wait(self.counts[LINE:], int(self.counts[0]) - 1, PATIENCE)
        return self.done.get()

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
