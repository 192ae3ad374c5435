"""Handle Ctrl-C, SIGTERM and SIGHUP: one line and an exit status at any moment, without a traceback."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Self

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Interrupted(KeyboardInterrupt):
    """An interrupt with a message that names the files that were kept."""


class Interrupts:
    """Signal handlers for SIGINT (Ctrl-C), SIGTERM and SIGHUP while a command runs.

    While modules are imported, and after the command has ended, a signal ends the process at once: an exception there
    could be lost in other code. During the command the first signal raises KeyboardInterrupt, and a second one ends the
    process at once. Inside :meth:`finishing` the first signal only sets :attr:`finish`; afterwards SIGTERM and SIGHUP
    are ignored, because ``timeout``, shells and terminals send them twice.

    Parameters
    ----------
    process : bool
        Whether the process belongs to the command alone. If not, the previous handlers are restored at the end.

    Attributes
    ----------
    finish : bool
        Whether the work ends after the current update.
    raised : bool
        Whether KeyboardInterrupt was raised.
    before_exit : callable, optional
        Called before a second signal ends the process.
    status : int
        Exit status of an interrupted command, 128 + the signal's number: 130 for Ctrl-C.
    """

    def __init__(self, *, process: bool) -> None:
        self._process = process
        self._at_once = True
        self._finishing = False
        self._previous: dict[int, Any] = {}
        self.finish = False
        self.raised = False
        self.before_exit: Callable[[], None] | None = None
        self.status = 128 + signal.SIGINT

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                handler = signal.getsignal(number)
                if handler is not signal.SIG_IGN:  # ignored in background jobs (SIGINT) and under nohup (SIGHUP)
                    self._previous[number] = handler
                    signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        if not self._process:
            for number, handler in self._previous.items():
                signal.signal(number, handler)

    def begin(self) -> None:
        """Raise KeyboardInterrupt on signals from now on."""
        self._at_once = False

    def end(self) -> None:
        """End the process at once on signals from now on."""
        self._at_once = True

    def check(self) -> None:
        """Raise KeyboardInterrupt if one was raised before, and other code has replaced it or dropped it.

        Modules whose import it breaks raise an ImportError instead, for example.
        """
        if self.raised:
            raise KeyboardInterrupt

    @contextmanager
    def finishing(self) -> Iterator[Self]:
        """Let the first signal in the block set :attr:`finish` instead of raising."""
        self._finishing = True
        try:
            yield self
        finally:
            self._finishing = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.finish and number != signal.SIGINT:
            return
        self.status = 128 + number
        if self._at_once or self.raised:
            _write("\nglasscell: interrupted\n")
            if self.before_exit is not None:
                self.before_exit()
            os._exit(self.status)
        if self._finishing and not self.finish:
            self.finish = True
            for other in self._previous.keys() - {signal.SIGINT}:  # also while Python ends, without its handlers
                signal.signal(other, signal.SIG_IGN)
            again = "; press Ctrl-C again to end at once" if number == signal.SIGINT else ""
            _write(f"\nglasscell: ending after this update{again}\n")
            return
        self.raised = True
        raise KeyboardInterrupt


@contextmanager
def deferred() -> Iterator[None]:
    """Defer signals until the block ends, for renames that must not be separated.

    The handlers are replaced: a mask would not hold signals back that other threads receive.
    """
    previous: dict[int, Any] = {}
    pending: list[int] = []
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            if callable(signal.getsignal(number)):
                previous[number] = signal.signal(number, lambda number, _: pending.append(number))
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        for number in pending:
            signal.raise_signal(number)


def _write(text: str) -> None:
    """Write to standard error without Python's streams, which may be in use."""
    with suppress(OSError):  # closed
        os.write(2, text.encode())
