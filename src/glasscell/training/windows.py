"""Batches of a training, cut into windows, and the position in the data."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias, cast
from warnings import warn

import numpy as np
from numpy.typing import DTypeLike

from glasscell.data.batch import Batch, Data, check_batch
from glasscell.data.iterables import IterableData
from glasscell.data.not_finite import NotFiniteError
from glasscell.training.arguments import is_endless
from glasscell.training.checkpoint_errors import CheckpointWarning
from glasscell.training.sources import training_part

Carry: TypeAlias = Callable[[Batch], object]

STATE_ATTRIBUTES = ("epoch", "batches_done", "_replay_rng", "_window")


class Windows:
    """Windows of the batches of a training, in order.

    Parameters
    ----------
    data : Data
    batch_size : int
    dtype : dtype
    rng : numpy.random.Generator
        Batches are drawn from it.
    tbptt_steps : int or None
        Steps of a window; None: a batch is one window.

    Attributes
    ----------
    epoch, batches_done : int
        Epochs begun, and batches taken of this one.
    """

    def __init__(
        self,
        data: Data,
        batch_size: int,
        dtype: DTypeLike,
        rng: np.random.Generator,
        tbptt_steps: int | None,
    ) -> None:
        self.data, self.batch_size, self.dtype, self.rng = data, batch_size, dtype, rng
        self.tbptt_steps, self.endless = tbptt_steps, is_endless(data)
        self.epoch = self.batches_done = 0
        self._batches: Iterator[Batch] = iter(())
        self._replay_rng: Any = None  # state of the generator before this epoch; endless data: before this batch
        self._batch, self._window = cast("Batch | None", None), slice(0, 0)  # with windows left; its last window
        self._read_ahead: Batch | NotFiniteError | None = None  # an error is raised when its batch is taken
        self._last: Batch | NotFiniteError | None = None  # what was taken from the data

    @property
    def batch(self) -> Batch | None:
        """The whole batch of the current window; None before the first one."""
        return self._last if isinstance(self._last, Batch) else None

    @property
    def first_step(self) -> int:
        """First step of the current window in its batch."""
        return self._window.start

    def next(self, carry: Carry) -> Batch:
        """Return the next window with targets, of this epoch or the next one.

        Parameters
        ----------
        carry : callable
            Called with each window without targets, which only carries the state of the model.
        """
        window, self._read_ahead = self._read_ahead or self._next_of_epoch(carry), None
        if isinstance(window, NotFiniteError):
            raise window
        if window is None:
            self.epoch, self.batches_done = self.epoch + 1, 0
            self._replay_rng = self.rng.bit_generator.state
            self._batches = self.data.batches(self.batch_size, self.rng, self.dtype)
            window = self._next_of_epoch(carry)
        if window is None:
            raise ValueError("the data must have at least one batch with targets, got none")
        return window

    def _next_of_epoch(self, carry: Carry) -> Batch | None:
        """Return the next window with targets of this epoch; None at its end."""
        while True:
            if self._batch is None:
                if self.endless and self.tbptt_steps is not None:
                    self._replay_rng = self.rng.bit_generator.state
                try:
                    self._batch = next(self._batches, None)
                except NotFiniteError as error:
                    self._last = error
                    self._window, self.batches_done = slice(0, 0), self.batches_done + 1
                    raise
                if self._batch is None:
                    return None
                if type(self._batch) is not Batch:
                    check_batch(self._batch)
                self._last = self._batch
                self._window, self.batches_done = slice(0, 0), self.batches_done + 1
            window = self._cut(self._batch)
            if window.targets.size and (window.weights is None or window.weights.any()):
                return window
            carry(window)

    def _cut(self, batch: Batch) -> Batch:
        """Return the next `tbptt_steps` steps of a batch; the batch if it is no longer."""
        T, start = batch.inputs.shape[1], self._window.stop
        stop = T if self.tbptt_steps is None else min(start + self.tbptt_steps, T)
        self._window, self._batch = slice(start, stop), None if stop == T else batch
        if stop - start == T:
            return batch
        if batch.targets.ndim < 2 or batch.targets.shape[1] != T:
            raise ValueError(
                f"tbptt_steps must be None for targets without one entry per step, got {batch.targets.shape}"
            )
        return batch.window(start, stop)

    def epoch_ended(self, carry: Carry) -> bool:
        """Return whether the next window is of another epoch; takes the next batch from the data for that."""
        if self._read_ahead is None and not self.endless:
            try:
                self._read_ahead = self._next_of_epoch(carry)
            except NotFiniteError as error:
                self._read_ahead = error
        return self._read_ahead is None and not self.endless

    def state(self) -> dict[str, Any]:
        """Return the position in the data, without the state of the generator, for :meth:`restore`."""
        state: dict[str, Any] = {"has_batch": self._batch is not None, "has_upcoming": self._read_ahead is not None}
        state["last_batch"] = _checksums(self._last) if self._num_to_replay(has_batch=state["has_batch"]) else None
        return state | {name: getattr(self, name) for name in STATE_ATTRIBUTES}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take the batches that the epoch has had from the data again, and drop them; the generator moves."""
        vars(self).update({name: state[name] for name in STATE_ATTRIBUTES})
        self._batches, self._batch, self._read_ahead, self._last = iter(()), None, None, None
        if self.epoch:
            self._replay(state["last_batch"], has_batch=state["has_batch"], has_upcoming=state["has_upcoming"])

    def _num_to_replay(self, *, has_batch: bool) -> int:
        """Return how many batches of the epoch are taken again: of endless data the current one alone."""
        return int(has_batch) if self.endless else self.batches_done

    def _replay(self, checksums: list[Any] | None, *, has_batch: bool, has_upcoming: bool) -> None:
        """Take the batches of the epoch again, of which the last is the current one, and compare its checksums."""
        self.rng.bit_generator.state = self._replay_rng
        self._batches = self.data.batches(self.batch_size, self.rng, self.dtype)
        batch: Batch | NotFiniteError | None = None
        for _ in range(self._num_to_replay(has_batch=has_batch)):
            try:
                batch = next(self._batches, None)
            except NotFiniteError as error:
                batch = error
            if batch is None:  # an epoch of other data is shorter
                break
        if checksums is not None and _checksums(batch) != checksums:
            self._report_other_batch(_checksums(batch), checksums)
        self._last = batch
        if isinstance(batch, NotFiniteError):
            self._read_ahead = batch if has_upcoming else None
        elif has_upcoming and batch is not None:
            self._window = slice(0, self._window.start)
            self._read_ahead = self._cut(batch)
        elif has_batch:
            self._batch = batch

    def _report_other_batch(self, checksums: list[Any] | None, expected: list[Any] | None) -> None:
        """Warn for an iterable with batches of the same shapes; raise an error for other data."""
        text = f"data must repeat batch {self.batches_done} of epoch {self.epoch}, got another one"
        shapes = [[entry and entry[0] for entry in batch or ()] for batch in (checksums, expected)]
        if not isinstance(training_part(self.data), IterableData) or shapes[0] != shapes[1]:
            raise ValueError(f"{text}: pass the data of the run, which must not have changed")
        warn(
            f"{text}: the order of the iterable has changed, such as that of a DataLoader with shuffle=True; "
            "the training goes on, with other batches than without interruption",
            CheckpointWarning,
            stacklevel=2,
        )


def _checksums(batch: Batch | NotFiniteError | None) -> list[Any] | None:
    """Return shape, dtype and CRC-32 of each array of a batch; nothing of one that is not finite."""
    if batch is None:
        return None
    if isinstance(batch, NotFiniteError):
        return []
    arrays = [None if array is None else np.asarray(array) for array in batch[:4]]
    return [
        None if array is None else [[*array.shape, str(array.dtype)], zlib.crc32(np.ascontiguousarray(array).tobytes())]
        for array in arrays
    ]
