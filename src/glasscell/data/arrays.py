"""Sequences in memory: arrays, or lists of arrays of different lengths."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from glasscell.core.layouts import last_axis_first
from glasscell.data.batch import AnyArray, Batch
from glasscell.data.entries import as_entries, read_entries
from glasscell.data.sample_weights import check_sample_weights, check_step_weights, is_vector, with_axes_of

BUCKET_BATCHES = 64  # batches whose sequences are sorted by length together: enough to leave little padding


class Concatenated(NamedTuple):
    """The steps of sequences of different lengths: (sum of T_n, ...), and where each sequence starts, (N,)."""

    steps: AnyArray
    starts: NDArray[np.intp]


class ArrayData:
    """Inputs and targets in memory, drawn without replacement, sequences of similar length together.

    The arrays must not be modified afterwards: some are copied at the first batch, and others are used as they are.

    Parameters
    ----------
    x : array (N, T, I) or ids (N, T); or a list of N arrays (T_n, I) or (T_n,)
    y : array whose first axis is N, or a list of N arrays
        One target per sequence, (N,) class numbers or (N, O); or one per step, (N, T) or (N, T, O), or a list of arrays
        (T_n,) or (T_n, O).
    lengths : array (N,) of int, optional
        Lengths of sequences in arrays. Default: T, or the lengths in the list.
    mask : array (N, T) of bool, or a list of N arrays (T_n,), optional
        Alternative to `lengths`: True for valid steps. Invalid steps are removed, with their targets if there is one
        target per step; layers would skip them.
    sample_weights : array (N,), (N, T), or list of N arrays (T_n,), optional
        Weight of each sequence in the loss or, for targets per step, of each step.
    validation : (x, y) or ArrayData or float, optional
        Validation data; a number between 0 and 1 is the fraction that is taken off the end of x and y.

    Raises
    ------
    TypeError, ValueError
        If x and y do not fit together.
    """

    def __init__(
        self,
        x: ArrayLike | Sequence[ArrayLike],
        y: ArrayLike | Sequence[ArrayLike],
        *,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | Sequence[ArrayLike] | None = None,
        sample_weights: ArrayLike | None = None,
        validation: tuple[Any, ...] | ArrayData | float | None = None,
    ) -> None:
        (self.x, joined_x), (self.y, joined_y) = read_entries("x", x), read_entries("y", y)
        self._joined = {"x": joined_x, "y": joined_y}  # until the first batch, which converts them
        if len(self.x) != len(self.y):
            raise ValueError(f"y must have one entry for each of the {len(self.x)} sequences of x, got {len(self.y)}")
        if not len(self.x):
            raise ValueError("x must have at least one sequence, got none")
        if lengths is not None and mask is not None:
            raise ValueError("lengths and mask must not be passed together")
        self.lengths = _lengths(self.x, lengths, joined_x)
        self.per_step = _is_per_step(self.x, self.y, self.lengths)
        self.sample_weights: AnyArray | None = None
        self.step_weights: AnyArray | list[AnyArray] | None = None
        if sample_weights is not None and self.per_step and not is_vector(sample_weights):
            self.step_weights = check_step_weights(as_entries("sample_weights", sample_weights), self.lengths, self.x)
        elif sample_weights is not None:
            self.sample_weights = check_sample_weights(sample_weights, len(self.x))
        if mask is not None:
            self._remove_invalid_steps(mask)
        self.ragged = bool((self.lengths != self.lengths.max(initial=0)).any()) or (
            isinstance(self.x, np.ndarray) and bool((self.lengths != self.x.shape[1]).any())
        )
        self._validation = self._split(validation)
        self._concatenated: dict[tuple[str, np.dtype[Any]], Concatenated] = {}  # made at the first batch

    def __len__(self) -> int:
        return len(self.x)

    def batches(self, size: int, rng: np.random.Generator, dtype: DTypeLike) -> Iterator[Batch]:
        """Yield one epoch: each sequence once, in random order, batches of similar lengths."""
        order = rng.permutation(len(self.x))
        if not self.ragged:
            groups = [order[start : start + size] for start in range(0, len(order), size)]
        else:
            groups = []
            for start in range(0, len(order), size * BUCKET_BATCHES):
                bucket = order[start : start + size * BUCKET_BATCHES]
                bucket = bucket[np.argsort(self.lengths[bucket], kind="stable")]
                groups += [bucket[k : k + size] for k in range(0, len(bucket), size)]
            groups = [groups[k] for k in rng.permutation(len(groups))]
        for group in groups:
            yield self._batch(group, dtype)

    def validation(self, size: int, dtype: DTypeLike) -> list[Batch] | None:
        """Return the validation batches, in the order of the data; None if there are none."""
        if self._validation is None:
            return None
        return self._validation.in_order(size, dtype)

    def by_length(self, size: int, dtype: DTypeLike) -> Iterator[tuple[NDArray[np.intp], Batch]]:
        """Yield all sequences as batches of similar lengths, with their places in the data."""
        order = np.argsort(self.lengths, kind="stable")
        for start in range(0, len(order), size):
            group = order[start : start + size]
            yield group, self._batch(group, dtype)

    def in_order(self, size: int, dtype: DTypeLike) -> list[Batch]:
        """Return all sequences as batches, in their order."""
        rows = np.arange(len(self.x))
        return [self._batch(rows[start : start + size], dtype) for start in range(0, len(rows), size)]

    def _remove_invalid_steps(self, mask: ArrayLike | Sequence[ArrayLike]) -> None:
        """Keep the steps for which the mask is True, as lists of sequences."""
        masks = as_entries("mask", mask)
        if len(masks) != len(self.x):
            raise ValueError(f"mask must have one entry for each of the {len(self.x)} sequences, got {len(masks)}")
        for n, (row, length) in enumerate(zip(masks, self.lengths, strict=True)):
            if row.dtype != bool or row.shape != (length,):
                raise ValueError(f"mask must be True or False for each of {length} steps, got {row!r} for sequence {n}")
        self.x = [sequence[row] for sequence, row in zip(self.x, masks, strict=True)]
        if self.per_step:
            self.y = [target[row] for target, row in zip(self.y, masks, strict=True)]
        if self.step_weights is not None:
            self.step_weights = [weights[row] for weights, row in zip(self.step_weights, masks, strict=True)]
        self.lengths, self._joined = _list_lengths(self.x), {}

    def _split(self, validation: tuple[Any, ...] | ArrayData | float | None) -> ArrayData | None:
        if validation is None or isinstance(validation, ArrayData):
            return validation
        if isinstance(validation, tuple):
            return from_tuple(validation)
        if not 0 < validation < 1:
            raise ValueError(f"validation must be (x, y) or a fraction between 0 and 1, got {validation!r}")
        count = round(len(self.x) * validation)
        if not 0 < count < len(self.x):
            raise ValueError(f"validation must leave sequences on both sides of {len(self.x)}, got {validation!r}")
        first = len(self.x) - count
        weights = self.sample_weights if self.step_weights is None else self.step_weights
        held_out = ArrayData(
            self.x[first:],
            self.y[first:],
            lengths=self.lengths[first:] if isinstance(self.x, np.ndarray) else None,
            sample_weights=None if weights is None else weights[first:],
        )
        self.x, self.y, self.lengths, self._joined = self.x[:first], self.y[:first], self.lengths[:first], {}
        self.sample_weights = None if self.sample_weights is None else self.sample_weights[:first]
        self.step_weights = None if self.step_weights is None else self.step_weights[:first]
        return held_out

    def _batch(self, group: NDArray[np.intp], dtype: DTypeLike) -> Batch:
        lengths = self.lengths[group]
        T = int(lengths.max(initial=0))
        x = self._steps("x", group, lengths, T, dtype)
        # Targets of sequences are an array: lists have one target per step.
        y = self._steps("y", group, lengths, T, dtype) if self.per_step else to_dtype(np.asarray(self.y)[group], dtype)
        ragged = bool((lengths != T).any())
        if self.step_weights is not None:
            weights: AnyArray | None = with_axes_of(self._steps("step_weights", group, lengths, T, dtype), y)
        else:
            weights = self._weights(group, lengths, T, y, dtype, ragged=ragged)
        return Batch(x, y, weights, lengths if ragged else None, indices=group)

    def _steps(
        self,
        name: Literal["x", "y", "step_weights"],
        group: NDArray[np.intp],
        lengths: AnyArray,
        T: int,
        dtype: DTypeLike,
    ) -> AnyArray:
        """Return the steps (B, T, ...) of these sequences, zero after their ends."""
        entries: AnyArray | list[AnyArray] = getattr(self, name)
        if isinstance(entries, np.ndarray) and (lengths == entries.shape[1]).all():
            return _whole(entries, group, dtype)
        key = name, np.dtype(dtype)
        if key not in self._concatenated:
            self._concatenated[key] = _concatenate(entries, self._joined.pop(name, None), self.lengths, dtype)
        return _padded(self._concatenated[key], group, lengths, T, dtype)

    def _weights(
        self, group: NDArray[np.intp], lengths: AnyArray, T: int, y: AnyArray, dtype: DTypeLike, *, ragged: bool
    ) -> AnyArray | None:
        weights = None if self.sample_weights is None else self.sample_weights[group].astype(dtype)
        if self.per_step and (ragged or weights is not None):
            valid = (np.arange(T) < lengths[:, None]).astype(dtype)
            weights = valid if weights is None else valid * weights[:, None]
        return None if weights is None else with_axes_of(weights, y)


def from_tuple(value: tuple[Any, ...], validation: tuple[Any, ...] | ArrayData | float | None = None) -> ArrayData:
    """Return the data of (x, y) or (x, y, lengths)."""
    if len(value) not in (2, 3):
        raise ValueError(f"data must be (x, y) or (x, y, lengths), got a tuple of {len(value)}")
    return ArrayData(*value[:2], lengths=value[2] if len(value) == 3 else None, validation=validation)


def _lengths(
    x: AnyArray | list[AnyArray], lengths: ArrayLike | None, joined: AnyArray | None
) -> NDArray[np.integer[Any]]:
    if isinstance(x, list):
        if lengths is not None:
            raise ValueError("lengths must be None for a list of sequences")
        if joined is None or joined.ndim not in (1, 2):
            raise ValueError("x must be sequences (T_n, I) of one I, or ids (T_n,), got several shapes")
        return _list_lengths(x)
    if x.ndim not in (2, 3):
        raise ValueError(f"x must have shape (N, T, I), or (N, T) for ids, got {x.shape}")
    if lengths is None:
        return np.full(len(x), x.shape[1])
    integers = np.asarray(lengths)
    if (
        integers.shape != (len(x),)
        or integers.dtype.kind not in "iu"
        or (integers < 0).any()
        or (integers > x.shape[1]).any()
    ):
        raise ValueError(f"lengths must be {len(x)} integers from 0 to T = {x.shape[1]}, got {integers!r}")
    return integers.astype(np.intp)


def _list_lengths(arrays: list[AnyArray]) -> NDArray[np.intp]:
    return np.fromiter(map(len, arrays), np.intp, len(arrays))


def _is_per_step(x: AnyArray | list[AnyArray], y: AnyArray | list[AnyArray], lengths: AnyArray) -> bool:
    """Return whether there is one target per step."""
    if isinstance(y, list):
        wrong = np.flatnonzero(_list_lengths(y) != lengths)
        if len(wrong):
            n = wrong[0]
            raise ValueError(
                f"y must have one entry per step, got {len(y[n])} for the {lengths[n]} steps of sequence {n}"
            )
        return True
    if isinstance(x, list):
        if y.ndim > 2:
            raise ValueError(f"y must be a list of one array per sequence, or (N,) or (N, O), got shape {y.shape}")
        return False
    T = x.shape[1]
    if y.ndim > 3 or (y.ndim == 3 and y.shape[1] != T):
        raise ValueError(f"y must have T = {T} steps, got shape {y.shape}")
    # (N, T) integers are class numbers per step; (N, O) floats are one vector per sequence.
    return y.ndim == 3 or (y.ndim == 2 and y.dtype.kind in "iu" and y.shape[1] == T)


def to_dtype(array: AnyArray, dtype: DTypeLike) -> AnyArray:
    """Return a floating-point or Boolean array in this dtype; integers stay integers."""
    return array.astype(dtype, copy=False) if array.dtype.kind == "f" or array.dtype == bool else array


def _concatenate(
    entries: AnyArray | list[AnyArray], joined: AnyArray | None, lengths: AnyArray, dtype: DTypeLike
) -> Concatenated:
    """Return all sequences one after the other; those of an array keep what is after their lengths.

    `joined` has those of a list already, if it is present.
    """
    if isinstance(entries, np.ndarray):
        N, T = entries.shape[:2]
        steps, starts = entries.reshape(N * T, *entries.shape[2:]), np.arange(N) * T
    else:
        if joined is None:
            joined = np.concatenate([entry for entry in entries if len(entry)] or entries[:1])
        steps, starts = to_dtype(joined, dtype), np.cumsum(lengths) - lengths
    return Concatenated(np.ascontiguousarray(steps), starts)  # `take` copies all of an array in another layout


def _padded(sequences: Concatenated, group: NDArray[np.intp], lengths: AnyArray, T: int, dtype: DTypeLike) -> AnyArray:
    """Return (B, T, ...), zero after each sequence's end, in the layout (T, ..., B) that layers use."""
    steps, starts = sequences
    k, shortest = np.arange(T)[:, None], int(lengths.min(initial=T))
    taken = steps.take(starts[group] + k, axis=0, mode="clip")  # (T, B, ...), after a sequence's end those of others
    taken[shortest:][k[shortest:] >= lengths] = 0
    memory = np.empty((T, *steps.shape[1:], len(group)), steps.dtype if steps.dtype.kind in "iu" else np.dtype(dtype))
    batch = last_axis_first(memory)
    batch[...] = taken.swapaxes(0, 1)
    return batch


def _whole(entries: AnyArray, group: NDArray[np.intp], dtype: DTypeLike) -> AnyArray:
    """Return (B, T, ...) of sequences of T steps, in the layout (T, ..., B) that layers use."""
    shape = (*entries.shape[1:], len(group))
    memory = np.empty(shape, entries.dtype if entries.dtype.kind in "iu" else np.dtype(dtype))
    batch = last_axis_first(memory)
    batch[...] = entries[group]
    return batch
