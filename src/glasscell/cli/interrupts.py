"""Ctrl-C: one line and exit status 130, at any moment, without a traceback."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Self

STATUS = 130  # 128 + SIGINT, as shells report it


class Interrupted(KeyboardInterrupt):
    """An interrupt, with a sentence that says what was kept."""


class Interrupts:
    """What Ctrl-C (SIGINT) does while a command runs.

    While modules are imported, and after the command has ended, it ends the process at once: an exception there could
    be lost in other code. During the command the first one raises KeyboardInterrupt, and a second one ends the process
    at once. Inside :meth:`finishing` the first one only sets :attr:`finish`.

    Parameters
    ----------
    process : bool
        Whether the process is the command's alone; if not, the handler of before is restored at the end.
    """

    def __init__(self, *, process: bool) -> None:
        self._process = process
        self._at_once = True
        self._finishing = False
        self._before: Any = None
        self.finish = False
        self.raised = False

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            before = signal.getsignal(signal.SIGINT)
            if before is not signal.SIG_IGN:  # as in background jobs, which Ctrl-C is not meant for
                self._before = before
                signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        self._at_once = True
        if self._before is not None and not self._process:
            signal.signal(signal.SIGINT, self._before)

    def begin(self) -> None:
        """Raise KeyboardInterrupt from now on: the command begins."""
        self._at_once = False

    @contextmanager
    def finishing(self) -> Iterator[Self]:
        """Let the first interrupt set :attr:`finish` instead of raising."""
        self._finishing = True
        try:
            yield self
        finally:
            self._finishing = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self._at_once or self.raised:
            _write("\nglasscell: interrupted\n")
            os._exit(STATUS)
        if self._finishing and not self.finish:
            self.finish = True
            _write("\nglasscell: ending after this update; press Ctrl-C again to end at once\n")
            return
        self.raised = True
        raise KeyboardInterrupt


@contextmanager
def deferred() -> Iterator[None]:
    """Hold interrupts back until the block ends: for renames that belong together."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _write(text: str) -> None:
    """Write to standard error without Python's streams, which may be in use."""
    with suppress(OSError):  # closed
        os.write(2, text.encode())
