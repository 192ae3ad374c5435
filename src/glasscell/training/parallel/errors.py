"""Errors of a training with several ranks: each ends all of them, and is printed once."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from types import TracebackType
from typing import Any

REPORTED = "__glasscell_reported__"
SECONDS_TO_PRINT = 0.5


class RankError(RuntimeError):
    """A training that ends because another rank failed, or because the ranks differ."""


def text_of(error: BaseException) -> str:
    """Return an error as one line: its type and message, if it has one."""
    message = ""
    with suppress(Exception):  # a class of the user may fail in __str__
        message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def error_of_ranks(texts: list[str], rank: int, own: BaseException | None) -> BaseException:
    """Return the error that a rank raises after at least one rank has failed.

    Parameters
    ----------
    texts : list of str
        The error of each rank; "" for a rank without one.
    rank : int
    own : exception or None
        That of this rank.

    Returns
    -------
    exception
        The rank's; otherwise a RankError, or KeyboardInterrupt if the other rank was interrupted. It is marked as
        reported, and not printed, if another rank prints it: the first one that raises it, or for SystemExit, which is
        not printed, the first one that does not.
    """
    first = next(number for number, text in enumerate(texts) if text)
    if own is None:
        text = f"rank {first} failed: {texts[first]}"
        error = (KeyboardInterrupt if texts[first].startswith(KeyboardInterrupt.__name__) else RankError)(text)
        prints = texts[first].startswith(SystemExit.__name__) and rank == texts.index("")
        return error if prints else mark_reported(error)
    if texts.index(texts[rank]) < rank:
        mark_reported(own)
    return own


def mark_reported(error: BaseException) -> BaseException:
    """Mark an error that another rank prints: it ends this process without a traceback."""
    _install_hook()
    setattr(error, REPORTED, True)
    return error


def is_reported(error: BaseException | None) -> bool:
    """Return whether another rank prints this error."""
    return bool(getattr(error, REPORTED, False))


def _install_hook() -> None:
    """Let uncaught errors that are marked as reported end the process without a traceback."""
    if isinstance(sys.excepthook, _Hook):
        return
    sys.excepthook = _Hook(sys.excepthook)


class _Hook:
    """Print uncaught errors as before, unless they are marked as reported."""

    def __init__(self, before: Any) -> None:
        self._before = before

    def __call__(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not is_reported(error):
            self._before(kind, error, trace)
        else:  # `python -m mpi4py` aborts all processes at the end of this one: the other one prints its error before
            time.sleep(SECONDS_TO_PRINT)
