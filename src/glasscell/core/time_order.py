"""The order in which a batch of sequences is processed: padding, masks and the reverse direction.

A time loop processes step 0, 1, 2 … of all sequences alike. Here the steps of each sequence are put into that order,
its valid steps first, and results are put back. Both are a permutation of time, so each is the adjoint of the other,
which a backward pass needs.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from glasscell.core.buffers import numbers_are_adjacent
from glasscell.core.cached import cached_property
from glasscell.core.types import Array

Index = NDArray[np.intp]

GATHER_BLOCK = 1 << 13  # numbers gathered by one call: their indices stay in the nearest caches


class TimeOrder:
    """Which step of time is processed when.

    Forward through sequences that are padded at the end only, nothing is moved.

    Parameters
    ----------
    mask : array (T, B) of bool
        Whether the sequence has a step at that time; gaps are skipped.
    reverse : bool
        From each sequence's last step to its first.

    Attributes
    ----------
    lengths : array (B,)
        Number of steps of each sequence.
    valid : array (T, 1, B) of bool
        Whether the k-th step that is processed belongs to the sequence.
    """

    def __init__(self, mask: NDArray[np.bool_], *, reverse: bool) -> None:
        self.mask, self.reverse = mask, reverse
        self.lengths: Index = np.add.reduce(mask, axis=0, dtype=np.intp)
        self._padded_at_end = not np.greater(mask[1:], mask[:-1]).any()
        self._moves = reverse or not self._padded_at_end
        in_order = mask if self._padded_at_end else mask_from_lengths(self.lengths, len(mask))
        self.valid: NDArray[np.bool_] = in_order[:, None]
        self._valid_in_order = _Selection(self.valid, int(self.lengths.min(initial=len(mask))))

    @cached_property
    def _valid_in_time(self) -> "_Selection":
        return self._valid_in_order if self._padded_at_end else _Selection(self.mask[:, None], 0)

    @cached_property
    def time_index(self) -> Index:
        """Return the time of the k-th processed step of sequence b, (T, B); from its length on, a masked one."""
        T, lengths = len(self.mask), self.lengths
        k = np.arange(T)[:, None]
        in_time: Index = np.broadcast_to(k, self.mask.shape)
        if not self._padded_at_end:
            in_time = np.argsort(~self.mask, axis=0, kind="stable")  # valid steps first, both groups in time order
        if self.reverse:
            in_time = np.take_along_axis(in_time, np.where(k < lengths, lengths - 1 - k, k), axis=0)
        return in_time

    @cached_property
    def inverse(self) -> Index:
        """When the step of time t is processed, (T, B)."""
        inverse = np.empty_like(self.time_index)
        np.put_along_axis(inverse, self.time_index, np.arange(len(inverse))[:, None], axis=0)
        return inverse

    @cached_property
    def steps_done(self) -> Index:
        """Return the number of steps that sequence b has processed when time t has been processed, (T, B)."""
        done = np.cumsum(self.mask[::-1] if self.reverse else self.mask, axis=0, dtype=np.intp)
        return done[::-1] if self.reverse else done

    @cached_property
    def ended(self) -> Index | None:
        """How many sequences, the first ones, have no k-th step, (T,); None for one, or if lengths do not ascend."""
        if len(self.lengths) < 2 or (self.lengths[1:] < self.lengths[:-1]).any():
            return None
        return np.searchsorted(self.lengths, np.arange(len(self.mask)), side="right")

    @property
    def moves_steps(self) -> bool:
        """Whether the processing order differs from that of time."""
        return self._moves

    def is_in_order(self, sequences: Array) -> bool:
        """Return whether :meth:`to_processing_order` would change nothing."""
        return not self._moves and self._valid_in_order.is_zero_elsewhere(sequences)

    def to_processing_order(self, sequences: Array, *, out: Array | None = None) -> Array:
        """Reorder (T, rows, B) from time order to processing order; zero-fill after each sequence's end."""
        if self._moves:
            out = sequences = _gather(sequences, self.time_index, out)
        return self._valid_in_order.apply(sequences, out)

    def to_time_order(self, steps: Array, *, repeat: bool = False, out: Array | None = None) -> Array:
        """Reorder from processing order to time order.

        Invalid steps are 0; with `repeat`, the value of the last valid step before, if there is one.
        """
        if repeat:
            out = _gather(steps, np.maximum(self.steps_done - 1, 0), out)
            return _Selection(self.steps_done[:, None] > 0, 0).apply(out, out)
        if self._moves:
            out = steps = _gather(steps, self.inverse, out)
        return self._valid_in_time.apply(steps, out)

    def to_time_order_backward(self, d_time: Array, *, repeat: bool = False, out: Array | None = None) -> Array:
        """Compute the adjoint of :meth:`to_time_order`."""
        if not repeat:
            return self.to_processing_order(d_time, out=out)
        d_steps = np.zeros_like(d_time)
        t, b = np.nonzero(self.steps_done)
        np.add.at(d_steps.transpose(0, 2, 1), (self.steps_done[t, b] - 1, b), d_time.transpose(0, 2, 1)[t, b])
        return d_steps


class _Selection:
    """Sets steps (T, rows, B) to 0, also instead of NaN, where valid (T, 1, B) is False: from step `first` on."""

    def __init__(self, valid: NDArray[np.bool_], first: int) -> None:
        self._first, self._valid = first, valid[first:]
        self._bits: dict[int, NDArray[np.signedinteger[Any]]] = {}

    def bits(self, dtype: np.dtype[Any]) -> NDArray[np.signedinteger[Any]]:
        """Return -1 or 0: AND with them takes an eighth of the time of `np.where`."""
        bits = self._bits.get(dtype.itemsize)
        if bits is None:
            bits = self._bits[dtype.itemsize] = np.negative(self._valid.astype(f"i{dtype.itemsize}"))
        return bits

    def is_zero_elsewhere(self, steps: Array) -> bool:
        """Return whether all bits of invalid steps are 0."""
        bits = self.bits(steps.dtype)
        return not np.bitwise_and(steps[self._first :].view(bits.dtype), ~bits).any()

    def apply(self, steps: Array, out: Array | None) -> Array:
        """Return the result, in `out` if it is present."""
        bits, first = self.bits(steps.dtype), self._first
        out = np.empty_like(steps) if out is None else out
        if out is not steps:
            out[:first] = steps[:first]
        np.bitwise_and(steps[first:].view(bits.dtype), bits, out=out[first:].view(bits.dtype))
        return out


def _gather(steps: Array, index: Index, out: Array | None) -> Array:
    """Return the array whose step k of sequence b is step index[k, b] of `steps` (T, rows, B)."""
    T, rows, B = steps.shape
    out = np.empty_like(steps) if out is None else out
    if numbers_are_adjacent(steps):  # one copy for each step
        by_sequence = steps.transpose(0, 2, 1).reshape(T * B, rows)
        np.take(by_sequence, index * B + np.arange(B), axis=0, out=out.transpose(0, 2, 1), mode="clip")
        return out
    first = np.arange(rows)[:, None] * B + np.arange(B)
    flat, offsets = np.ascontiguousarray(steps).reshape(-1), (index * (rows * B))[:, None, :]
    length = max(1, GATHER_BLOCK // max(1, rows * B))
    for start in range(0, T, length):  # a third of the time of `np.take_along_axis`
        block = slice(start, start + length)
        np.take(flat, first + offsets[block], out=out[block], mode="clip")
    return out


def time_order(mask: NDArray[np.bool_], *, reverse: bool) -> TimeOrder:
    """Return the order of processing: see :class:`TimeOrder`."""
    return TimeOrder(mask, reverse=reverse)


def mask_from_lengths(lengths: Index, T: int) -> NDArray[np.bool_]:
    """Return the mask (T, B) of sequences that start at time 0 and have these numbers of steps."""
    mask: NDArray[np.bool_] = np.arange(T)[:, None] < lengths
    return mask


def gather_final(states: Array, lengths: Index) -> Array:
    """Return the state after each sequence's last step, (rows, B), of states (T + 1, rows, B), initial one first."""
    ends: Array = np.take_along_axis(states, lengths[None, None, :], axis=0)[0]
    return ends


def scatter_add_final(gradient: Array, d_end: Array | float, lengths: Index) -> Array:
    """Add to the gradient (T, rows, B) in place: the adjoint of :func:`gather_final` for states 1 … T.

    Returns
    -------
    array (rows, B)
        The gradient on state 0: `d_end` for sequences without a step, 0 for all others.
    """
    rows, B = gradient.shape[1:]
    d_end = np.broadcast_to(np.asarray(d_end, gradient.dtype), (rows, B))
    nonempty = np.flatnonzero(lengths)
    gradient[lengths[nonempty] - 1, :, nonempty] += d_end[:, nonempty].T
    return np.where(lengths > 0, gradient.dtype.type(0), d_end)
