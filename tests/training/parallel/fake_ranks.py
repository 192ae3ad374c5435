"""Ranks in one process: a communicator whose processes are threads, with the methods that a training calls."""

import threading
from collections import defaultdict

import numpy as np

from glasscell.training import RankError

TIMEOUT = 60.0  # seconds that a message may take until the test fails


class Aborted(BaseException):
    """Raised in all threads after `Abort`, which would end their processes."""


class _Shared:
    def __init__(self, size):
        self.size, self.values = size, [None] * size
        self.barrier = threading.Barrier(size, timeout=TIMEOUT)
        self.sent = defaultdict(list)  # by `send`: source, destination, tag
        self.aborted, self.mismatch = False, None


class FakeComm:
    """The communicator of one thread.

    Attributes
    ----------
    messages : list of str
        Names of the methods called.
    """

    def __init__(self, shared, rank):
        self._shared, self._rank, self.messages = shared, rank, []

    def Get_rank(self):
        return self._rank

    def Get_size(self):
        return self._shared.size

    def _exchange(self, name, value):
        """Return the values of all ranks, each copied by `value` before anyone goes on."""
        shared = self._shared
        self.messages.append(name)
        try:
            shared.values[self._rank] = (name, value)
            shared.barrier.wait()
            values = list(shared.values)
            shared.barrier.wait()
        except threading.BrokenBarrierError:
            if not shared.aborted:
                shared.mismatch = [name, "nothing"]
            raise Aborted("another rank has aborted, or does not come") from None
        if {other for other, _ in values} != {name}:
            shared.mismatch = [other for other, _ in values]
            raise Aborted(f"ranks call {shared.mismatch}")
        return [value for _, value in values]

    def allgather(self, value):
        return self._exchange("allgather", value)

    def bcast(self, value, root=0):
        return self._exchange("bcast", value)[root]

    def send(self, value, dest, tag):
        self._shared.sent[self._rank, dest, tag].append(value)

    def Iprobe(self, source, tag):
        if self._shared.barrier.broken:
            raise Aborted("another rank has aborted, or does not come")
        return bool(self._shared.sent[source, self._rank, tag])

    def recv(self, source, tag):
        return self._shared.sent[source, self._rank, tag].pop(0)

    def Alltoall(self, sent, received):
        parts = self._exchange("Alltoall", np.array(sent))
        for part, row in zip(parts, received, strict=True):
            row[...] = part[self._rank]

    def Allgather(self, sent, received):
        parts = self._exchange("Allgather", np.array(sent))
        received[...] = np.concatenate(parts)

    def Abort(self, code=1):
        self._shared.aborted = True
        self._shared.barrier.abort()
        raise Aborted(f"Abort({code})")


def run_ranks(size, function, *, catch=False):
    """Call ``function(comm)`` in a thread for each rank.

    Returns
    -------
    list
        The result of each rank; with `catch`, exceptions are results.
    """
    shared, results = _Shared(size), [None] * size

    def run(rank):
        try:
            results[rank] = function(FakeComm(shared, rank))
        except BaseException as error:  # noqa: BLE001 - raised by the caller
            results[rank] = error

    threads = [threading.Thread(target=run, args=(rank,), daemon=True) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * TIMEOUT)
        assert not thread.is_alive(), "a rank waits for ever"
    assert shared.mismatch is None, f"ranks call {shared.mismatch}"
    errors = [result for result in results if isinstance(result, BaseException)]
    if errors and not catch:
        raise min(errors, key=lambda error: (isinstance(error, Aborted), isinstance(error, RankError)))
    return results
