"""The order in which a batch of sequences is processed: padding, masks and the reverse direction.

A time loop knows neither: it processes step 0, 1, 2 … of all columns alike. Here the steps of each sequence are put
into that order, its own steps first, and what comes out is put back. Both ways are a permutation of time, so each is
the other's adjoint, which is what a backward pass needs.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from glasscell.core.types import Array

Index = NDArray[np.intp]


class TimeOrder(NamedTuple):
    """Which step of time is processed when.

    Attributes
    ----------
    lengths : array (B,)
        Number of steps that each sequence has.
    time_index : array (T, B)
        time_index[k, b] is the time of the k-th step of sequence b that is processed; from its length on, a masked one.
    inverse : array (T, B)
        The inverse: inverse[t, b] is when the step of time t is processed.
    steps_done : array (T, B)
        steps_done[t, b] is the number of its steps that sequence b has processed when it is past time t.
    """

    lengths: Index
    time_index: Index
    inverse: Index
    steps_done: Index

    @property
    def valid(self) -> NDArray[np.bool_]:
        """Whether the k-th step that is processed belongs to the sequence: (T, 1, B)."""
        mask: NDArray[np.bool_] = np.arange(len(self.time_index))[:, None, None] < self.lengths
        return mask

    @property
    def unchanged(self) -> bool:
        """Whether steps are processed in time's order: forward, with padding at the end. Nothing is moved then."""
        return bool((self.time_index == np.arange(len(self.time_index))[:, None]).all())

    def to_processing_order(self, sequences: Array) -> Array:
        """Reorder (T, rows, B) from time to the order of processing; 0 after each sequence's end."""
        steps = sequences if self.unchanged else np.take_along_axis(sequences, self.time_index[:, None, :], axis=0)
        return np.where(self.valid, steps, steps.dtype.type(0))

    def to_time_order(self, steps: Array, *, repeat: bool = False) -> Array:
        """Reorder from the order of processing back to time.

        Where a sequence has no step there is 0; with `repeat`, what the last step before it gave, if there was one.
        """
        if not repeat:
            own = np.where(self.valid, steps, steps.dtype.type(0))
            return own if self.unchanged else np.take_along_axis(own, self.inverse[:, None, :], axis=0)
        done = self.steps_done[:, None, :]
        if not len(steps):
            return steps.copy()
        return np.where(done > 0, np.take_along_axis(steps, done - 1, axis=0), steps.dtype.type(0))

    def to_time_order_backward(self, d_time: Array, *, repeat: bool = False) -> Array:
        """Compute the adjoint of :meth:`to_time_order`."""
        if not repeat:
            return self.to_processing_order(d_time)
        d_steps = np.zeros_like(d_time)
        t, b = np.nonzero(self.steps_done)
        np.add.at(d_steps.transpose(0, 2, 1), (self.steps_done[t, b] - 1, b), d_time.transpose(0, 2, 1)[t, b])
        return d_steps


def time_order(mask: NDArray[np.bool_], *, reverse: bool) -> TimeOrder:
    """Return the order of processing.

    Parameters
    ----------
    mask : array (T, B) of bool
        Whether the sequence has a step at that time; gaps are passed over, as if they were not there.
    reverse : bool
        From each sequence's own last step to its first.
    """
    lengths = mask.sum(axis=0)
    done = np.cumsum(mask[::-1] if reverse else mask, axis=0, dtype=np.intp)
    done = done[::-1] if reverse else done
    at = np.argsort(~mask, axis=0, kind="stable")  # a sequence's own steps first, both groups in the order of time
    if reverse:
        T = len(mask)
        k = np.arange(T)[:, None]
        at = np.take_along_axis(at, np.where(k < lengths, lengths - 1 - k, k), axis=0)
    return TimeOrder(lengths, at, np.argsort(at, axis=0), done)


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
        What belongs to state 0: the gradient for sequences without a step, 0 for all others.
    """
    rows, B = gradient.shape[1:]
    d_end = np.broadcast_to(np.asarray(d_end, gradient.dtype), (rows, B))
    has = np.flatnonzero(lengths)
    gradient[lengths[has] - 1, :, has] += d_end[:, has].T
    return np.where(lengths > 0, gradient.dtype.type(0), d_end)
