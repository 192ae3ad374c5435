"""Import and compile without interruption.

An exception raised by a signal handler (Ctrl-C) during ``import numba`` leaves a package that is unusable in this
process; during a compilation it can leave an incomplete registry. Handlers run in the main thread only: here a second
thread completes the work, while the waiting caller can be interrupted.

A process that is forked during such a call has neither that thread nor the locks that it held: an import or a
compilation in the child would raise an error or wait forever. Therefore ``os.fork`` waits until no call is running.
"""

from __future__ import annotations

import os
from _thread import get_ident, start_new_thread
from collections.abc import Callable
from functools import cache, wraps
from threading import Condition, Event
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class _Call(Generic[T]):
    """Function call in a separate thread."""

    def __init__(self, function: Callable[..., T], arguments: tuple[Any, ...]) -> None:
        self._function, self._arguments = function, arguments
        self._done = Event()
        self._results: list[T] = []
        self._error: BaseException | None = None

    def start(self) -> None:
        try:
            start_new_thread(self._run, ())
        except RuntimeError:  # no thread can be started, for example at interpreter exit
            self._run()

    def _run(self) -> None:
        _running.begin()
        try:
            self._results.append(self._function(*self._arguments))
        except BaseException as error:  # noqa: BLE001 - raised by result()
            self._error = error
        _running.end()
        self._done.set()

    def failed(self) -> bool:
        return self._error is not None

    def result(self) -> T:
        self._done.wait()
        if self._error is not None:
            raise self._error
        return self._results[0]


class _Running:
    """Threads that run a call, for which a fork waits."""

    def __init__(self) -> None:
        self._threads: list[int] = []
        self._changed = Condition()

    def begin(self) -> None:
        """Add the calling thread; during a fork, wait for its end."""
        with self._changed:
            self._threads.append(get_ident())

    def end(self) -> None:
        """Remove the calling thread."""
        with self._changed:
            self._threads.remove(get_ident())
            self._changed.notify_all()

    def before_fork(self) -> None:
        """Wait until no other thread runs a call, and let none begin."""
        self._changed.acquire()
        while set(self._threads) - {get_ident()}:
            self._changed.wait()

    def after_fork(self) -> None:
        """Let calls begin."""
        self._changed.release()


_calls: dict[tuple[Any, ...], _Call[Any]] = {}
_running = _Running()


def once_uninterrupted(function: Callable[..., T]) -> Callable[..., T]:
    """Decorate a function to run once per arguments, to completion, even if the caller is interrupted.

    An interrupted caller that calls again waits for the same run. After an error the next call runs it again.
    """

    @cache
    @wraps(function)
    def call(*arguments: Any) -> T:
        key = function, *arguments
        running = _calls.get(key)
        if running is None or running.failed():
            running = _Call(function, arguments)
            running.start()  # after an exception between these lines, a second thread repeats the work
            _calls[key] = running
        result: T = running.result()
        return result

    return call


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_calls.clear)  # a forked child has none of the threads
    os.register_at_fork(
        before=_running.before_fork, after_in_parent=_running.after_fork, after_in_child=_running.after_fork
    )
