"""The message of an update: gradients, losses and status of all ranks, in one buffer.

Each rank divides its gradient into as many segments as there are ranks, and sends segment k, with its status, to rank k
(``Alltoall``). Rank k adds the segments that it receives in the order of the ranks, and sends the sum to all
(``Allgather``). That is what an Allreduce does, with the same number of bytes; but MPI does not guarantee that
Allreduce returns the same bits on every rank, nor in which order it adds. Here each sum is computed on one rank, in a
fixed order, so all ranks have the same bits, with every MPI library and network. Status travels in the first half:
after an error no rank waits for the second.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from glasscell.core.types import Array
from glasscell.training.parallel.ranks import Ranks

UPDATE, EVALUATION, CHECKPOINT, END = range(4)  # actions
ACTIONS = ("an update", "an evaluation", "a checkpoint", "the end of the training")
DONE, FAILURE, ERROR = range(3)  # results: a failure is one that `on_failure` may mend
INTERRUPTED, AFFORDABLE, OVERDUE = 1, 2, 4  # flags
STATUS = np.dtype(
    [
        *(("action", "u1"), ("result", "u1"), ("flags", "u1"), ("unused", "u1")),
        *(("weights", "u4"), ("batch", "u4"), ("also_unused", "u4")),
        *(("loss", "f8"), ("count", "f8"), ("zero_loss", "f8"), ("zero_count", "f8")),
    ]
)
"""Status of a rank, which it sends with its gradient.

``action``, ``result``, ``flags``: see above. ``weights``, ``batch``: checksums; 0: not compared. ``loss``: sum over
the elements of its share; ``count``: their weight. ``zero_loss``, ``zero_count``: the same of outputs that are all 0.
"""


class UpdateMessage:
    """The buffers of an update's message.

    Parameters
    ----------
    ranks : Ranks
    size : int
        Number of weights.
    dtype : dtype
        Of the gradient.

    Attributes
    ----------
    status : array () of STATUS
        What this rank sends with its gradient.
    """

    def __init__(self, ranks: Ranks, size: int, dtype: Any) -> None:
        self._ranks, n, itemsize = ranks, ranks.size, np.dtype(dtype).itemsize
        length = -(-max(1, size) // n)
        length += -length * itemsize % 8 // itemsize  # the status that follows is aligned
        row = length * itemsize
        sent, received = (np.zeros((n, row + STATUS.itemsize), np.uint8) for _ in range(2))
        self._sent, self._received = sent, received
        self._shares, self._to_add = sent[:, :row].view(dtype), received[:, :row].view(dtype)
        self._own_status, self._statuses = sent[:, row:].view(STATUS)[:, 0], received[:, row:].view(STATUS)[:, 0]
        self._sum, self._gathered = np.empty(length, dtype), np.empty(length * n, dtype)
        self.status, self._is_clear = np.zeros((), STATUS), True
        self._segments = [
            (share, slice(start, min(start + length, size)))
            for share, start in zip(self._shares, range(0, length * n, length), strict=True)
        ]

    def clear(self) -> None:
        """Set the gradient to 0."""
        self._is_clear = True

    def add(self, gradient: Array, count: float) -> None:
        """Add the gradient of a mean over `count` elements."""
        factor = gradient.dtype.type(count)
        for share, section in self._segments:
            part = gradient[section]
            if self._is_clear:
                np.multiply(part, factor, out=share[: len(part)])
            else:
                share[: len(part)] += part * factor
        self._is_clear = False

    def exchange(self) -> NDArray[Any]:
        """Send this rank's gradient and status, and return the status of each rank, (n,)."""
        self._own_status[:] = self.status
        if self._is_clear:
            self._shares[...] = 0
        with self._ranks.message():
            self._ranks.comm.Alltoall(self._sent, self._received)
        return self._statuses.copy()

    def finish(self, count: float, gradient: Array) -> None:
        """Write the sum of the gradients of all ranks, divided by `count`, in the same bits on all."""
        total = self._sum
        np.copyto(total, self._to_add[0])
        for share in self._to_add[1:]:
            total += share
        total /= total.dtype.type(count)
        with self._ranks.message():
            self._ranks.comm.Allgather(total.view(np.uint8), self._gathered.view(np.uint8))
        gradient[:] = self._gathered[: len(gradient)]
