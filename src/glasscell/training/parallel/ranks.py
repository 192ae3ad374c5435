"""The ranks that train together: messages of any size outside updates, and the end of all when one fails.

A rank that fails never leaves the others waiting: each joins every message, and sends its error in it. All raise an
error then. Where that is impossible, because a message itself has failed, the rank prints its error and ends all
processes with ``comm.Abort``.
"""

from __future__ import annotations

import os
import platform
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from glasscell.core.blas_threads import max_threads
from glasscell.training.parallel.errors import error_of_ranks, text_of

T = TypeVar("T")

_thread = threading.local()  # `is_alone`: whether this thread makes calls that no other rank makes

METHODS = ("Get_rank", "Get_size", "Alltoall", "Allgather", "allgather", "bcast", "Abort")  # those that are called


def check_communicator(comm: Any) -> None:
    """Raise an error unless messages can be sent with an object.

    Raises
    ------
    TypeError
        If a method of a communicator is missing.
    ValueError
        If it is a communicator without processes, of MPI that is not started or has ended, or of two groups.
    """
    rule = "comm must be a communicator of mpi4py such as MPI.COMM_WORLD"
    missing = [name for name in METHODS if not callable(getattr(comm, name, None))]
    if missing or isinstance(comm, type):
        without = f" without {', '.join(missing)}" if missing else ""
        raise TypeError(f"{rule}, got {'the class ' * isinstance(comm, type)}{_name_of(comm)}{without}")
    mpi = sys.modules.get("mpi4py.MPI")
    if mpi is None or not isinstance(comm, mpi.Comm):
        return
    if not mpi.Is_initialized() or mpi.Is_finalized():
        state = "has ended (MPI.Finalize)" if mpi.Is_initialized() else "is not started (MPI.Init)"
        raise ValueError(f"{rule}, got one of MPI that {state}")
    if comm == mpi.COMM_NULL:
        raise ValueError(
            f"{rule}, got MPI.COMM_NULL: a process that Split leaves out has no communicator, and must not call fit"
        )
    if comm.Is_inter():
        raise ValueError(f"{rule}, got one between two groups of processes: pass comm.Merge()")


@contextmanager
def alone() -> Iterator[None]:
    """Mark calls of the user's code that one rank alone makes."""
    _thread.is_alone = True
    try:
        yield
    finally:
        _thread.is_alone = False


def is_alone() -> bool:
    """Return whether no other rank makes the current call."""
    return getattr(_thread, "is_alone", False)


def check_all_call(name: str) -> None:
    """Raise RuntimeError if a call that needs all ranks is made by one alone: it would wait for ever."""
    if is_alone():
        raise RuntimeError(f"{name} needs all ranks, got a call from a callback, which rank 0 alone makes")


def _name_of(comm: Any) -> str:
    return (comm if isinstance(comm, type) else type(comm)).__name__


class Ranks:
    """A communicator, and the place of this process in it.

    Parameters
    ----------
    comm : communicator of mpi4py, such as MPI.COMM_WORLD
        Or an object with the methods of `METHODS`.

    Attributes
    ----------
    rank, size : int
        Number of this process, from 0, and number of processes.
    has_agreed : bool
        Whether all ranks know that the training ends with an error.
    in_message : bool
        Whether a message is on its way: a rank that fails meanwhile cannot join another one.
    """

    def __init__(self, comm: Any) -> None:
        check_communicator(comm)
        self.comm = comm
        self.rank, self.size = int(comm.Get_rank()), int(comm.Get_size())
        self.has_agreed = self.in_message = False

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which writes files, shows progress and calls the callbacks."""
        return self.rank == 0

    @contextmanager
    def message(self) -> Iterator[None]:
        """Mark the time of messages that follow each other; if one fails, it stays marked, unless all ranks know."""
        before, self.in_message = self.in_message, True
        try:
            yield
        except BaseException:
            self.in_message = not self.has_agreed
            raise
        self.in_message = before

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all ranks, in their order."""
        with self.message():
            values: list[Any] = self.comm.allgather(value)
        return values

    def from_first(self, value: T | None) -> Any:
        """Return the value of rank 0."""
        with self.message():
            return self.comm.bcast(value, root=0)

    def raise_together(self, error: BaseException | None) -> None:
        """Raise an error on all ranks, if there is one on any.

        Raises
        ------
        BaseException
            That of this rank; otherwise a RankError that names the first rank with one.
        """
        shared = self.share(error)
        if shared is not None:
            raise shared

    def share(self, error: BaseException | None) -> BaseException | None:
        """Return the error that this rank is to raise, if there is one on any; all ranks call it."""
        with self.message():
            texts = self.gather("" if error is None else text_of(error))
            return self.error_to_raise(texts, error)

    def error_to_raise(self, texts: list[str], error: BaseException | None) -> BaseException | None:
        """Return the error that this rank is to raise, by the errors of all: "" for none."""
        self.has_agreed = any(texts)
        return error_of_ranks(texts, self.rank, error) if self.has_agreed else None

    def together(self, function: Callable[[], T]) -> T:
        """Call a function without messages on this rank, and raise an error if it raises one on any rank."""
        with self.message():  # which also marks the lines outside the try
            error: BaseException | None = None
            try:
                result = function()
            except BaseException as caught:  # noqa: BLE001 - raised by all ranks
                error = caught
            self.raise_together(error)
        return result

    @contextmanager
    def or_abort(self) -> Iterator[None]:
        """End all processes after an error in a message, which the other ranks cannot learn otherwise."""
        try:
            yield
        except BaseException as error:
            if self.in_message:
                self.abort(error)
            raise

    def abort(self, error: BaseException) -> None:
        """Print an error that this rank cannot share, and end all processes."""
        traceback.print_exception(error)
        print(f"rank {self.rank} ends all {self.size} processes", file=sys.stderr, flush=True)  # noqa: T201
        sys.stdout.flush()
        self.comm.Abort(1)

    def cores(self) -> list[int]:
        """Return the cores on which this process may run."""
        return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [*range(os.cpu_count() or 1)]

    def threads(self) -> int:
        """Return the number of threads of this rank: its cores, divided among the ranks that run on them."""
        places = self.gather((platform.node(), self.cores()))
        node, own = places[self.rank]
        sharing: int = sum(other == node and not set(own).isdisjoint(others) for other, others in places)
        return max(1, min(max_threads(), len(own) // sharing))
