"""Runs on an executor, or in this process, in the order in which they end."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from glasscell.sweeps.job import Job, run
from glasscell.sweeps.rows import Row
from glasscell.validation import type_name


class Runs(Protocol):
    """Rows of runs, as they end."""

    def __iter__(self) -> Iterator[Row]:
        """Yield the row of each run."""
        ...

    def finished(self) -> Iterator[Row]:
        """Yield the last row again, and the rows of the runs that have ended meanwhile, without waiting."""
        ...

    def cancel(self) -> None:
        """Cancel the runs that are not in progress."""
        ...


class RunsInProcess:
    """Runs in this process, one after another."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._jobs = jobs
        self._last: list[Row] = []

    def __iter__(self) -> Iterator[Row]:
        for job in self._jobs:
            self._last = [run(job)]
            yield from self._last

    def finished(self) -> Iterator[Row]:
        """Yield the last row again."""
        return iter(self._last)

    def cancel(self) -> None:
        """Do nothing."""


class ExecutorError(RuntimeError):
    """An executor did not return the result of a run."""


class RunsOnExecutor:
    """Runs on an executor.

    Parameters
    ----------
    executor
        With ``submit(function, *arguments)``, which returns futures with ``add_done_callback``, ``exception``,
        ``result`` and ``cancel``: those of concurrent.futures, loky, mpi4py.futures and Dask.
    jobs : sequence of Job

    Raises
    ------
    TypeError
        If it is no executor.
    RuntimeError
        If it does not accept functions, such as one that is shut down.
    """

    def __init__(self, executor: Any, jobs: Sequence[Job]) -> None:
        self._ended: SimpleQueue[Any] = SimpleQueue()
        self._futures: list[Any] = []  # Dask cancels a run whose future is not referred to
        self._number = len(jobs)
        self._last: list[Any] = []
        try:
            for job in jobs:
                self._futures.append(_submit(executor, job))
        except BaseException:
            self.cancel()
            raise
        for future in self._futures:
            future.add_done_callback(self._ended.put)

    def __iter__(self) -> Iterator[Row]:
        for _ in range(self._number):
            self._last = [self._ended.get()]
            yield self._row(self._last[0])

    def finished(self) -> Iterator[Row]:
        """Yield the last row again, and the rows of the runs that have ended meanwhile, without waiting."""
        ended = [*self._last]
        with suppress(Empty):
            while True:
                ended.append(self._ended.get_nowait())
        for future in ended:
            try:
                row = future.result()
            except BaseException:  # noqa: BLE001, S112 - of a cancelled run, or a broken executor
                continue
            yield row

    def cancel(self) -> None:
        """Cancel the runs that are not in progress."""
        for future in self._futures:
            with suppress(Exception):
                if not getattr(future, "done", bool)():  # Dask drops the results of those that are done
                    future.cancel()

    def _row(self, future: Any) -> Row:
        """Return the result of a future; the errors of a training function are in its row."""
        try:
            row: Row = future.result()
        except KeyboardInterrupt:  # of the process of the run
            raise
        except BaseException as error:
            if _is_of_pickling(error):
                raise _not_picklable(error) from error
            first_line = str(error).partition("\n")[0]
            raise ExecutorError(f"{type(error).__name__}: {first_line}".removesuffix(": ")) from error
        if not isinstance(row, dict):
            raise TypeError(f"executor must return the results of functions, got {type_name(row)}")
        return row


def _submit(executor: Any, job: Job) -> Any:
    """Return the future of a run."""
    try:
        future = executor.submit(run, job)
    except Exception as error:
        if _is_of_pickling(error):
            raise _not_picklable(error) from error
        reason = f"got {type_name(executor)} that does not: {error}"
        raise RuntimeError(f"executor must accept functions, {reason}") from error
    if not callable(getattr(future, "add_done_callback", None)):
        raise TypeError(f"executor must return futures of concurrent.futures, got {type_name(future)}")
    return future


def check_executor(executor: Any) -> None:
    """Raise TypeError unless an object can be an executor."""
    if isinstance(executor, type) or not callable(getattr(executor, "submit", None)):
        raise TypeError(f"executor must be None or an executor of concurrent.futures, got {executor!r:.100}")
    if getattr(executor, "asynchronous", False) is True:
        raise TypeError("executor must not be asynchronous, got a Client(asynchronous=True)")


def _is_of_pickling(error: BaseException) -> bool:
    """Return whether an object could not be sent to another process."""
    text = str(error).lower()
    is_other = isinstance(error, AttributeError | TypeError) and ("pickle" in text or "serialize" in text)
    return isinstance(error, pickle.PicklingError) or is_other


def _not_picklable(error: BaseException) -> TypeError:
    return TypeError(
        f"train must be a function at the top level of a module, which the executor can send to its processes: {error}"
    )
