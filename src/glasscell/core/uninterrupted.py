"""Import and compile without interruption.

An exception of a signal's handler, as of Ctrl-C, in the middle of ``import numba`` leaves a package that works no more
in this process, and in the middle of a compilation perhaps half a registry. Handlers run in the main thread alone: here
another one does the work to its end, while the caller, who waits for it, can be interrupted.
"""

from __future__ import annotations

import os
from _thread import start_new_thread
from collections.abc import Callable
from functools import cache, wraps
from threading import Event
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class _Call(Generic[T]):
    """A call in a separate thread."""

    def __init__(self, function: Callable[..., T], given: tuple[Any, ...]) -> None:
        self._function, self._given = function, given
        self._done = Event()
        self._results: list[T] = []
        self._error: BaseException | None = None

    def start(self) -> None:
        try:
            start_new_thread(self._run, ())
        except RuntimeError:  # no thread can be started, as at the end of the process
            self._run()

    def _run(self) -> None:
        try:
            self._results.append(self._function(*self._given))
        except BaseException as error:  # noqa: BLE001 - raised where the result is waited for
            self._error = error
        self._done.set()

    def failed(self) -> bool:
        return self._error is not None

    def result(self) -> T:
        self._done.wait()
        if self._error is not None:
            raise self._error
        return self._results[0]


_calls: dict[tuple[Any, ...], _Call[Any]] = {}


def once_uninterrupted(function: Callable[..., T]) -> Callable[..., T]:
    """Decorate a function: for each of its arguments it runs once, to its end, whatever interrupts the caller.

    Who is interrupted and calls again, waits for the same run. After an error the next call runs it again.
    """

    @cache
    @wraps(function)
    def call(*given: Any) -> T:
        key = function, *given
        known = _calls.get(key)
        if known is None or known.failed():
            known = _Call(function, given)
            known.start()  # should an exception come before the next line, another thread will do the same once more
            _calls[key] = known
        result: T = known.result()
        return result

    return call


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_calls.clear)  # a process that was forked has none of the threads
