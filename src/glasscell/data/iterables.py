"""Any iterable of (x, y[, lengths]) as a source of batches, such as a PyTorch DataLoader."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from glasscell.data.arrays import to_dtype
from glasscell.data.batch import AnyArray, Batch
from glasscell.data.not_finite import NotFiniteError, check_finite


class IterableData:
    """Batches from an iterable of (x, y) or (x, y, lengths), or of :class:`Batch`, unchanged.

    Parameters
    ----------
    source : iterable
        Iterated once per epoch; it determines batch size and order. Entries are arrays, or objects that NumPy
        converts, such as tensors of PyTorch.
    validation : iterable, optional
        Validation batches; a list or another iterable that can be iterated repeatedly.
    """

    def __init__(self, source: Iterable[Any], validation: Iterable[Any] | None = None) -> None:
        for name, value in (("data", source), ("validation", validation)):
            if value is not None and iter(value) is value:
                raise TypeError(f"{name} must be iterable once per epoch, got an iterator, which ends after one")
        self.source, self._validation = source, validation

    def batches(self, size: int, rng: np.random.Generator, dtype: DTypeLike) -> Iterator[Batch]:
        """Yield one pass over the source."""
        del size, rng
        # A map, unlike a generator, continues with the next entry after an error.
        return map(partial(_numbered_batch, dtype), enumerate(self.source, start=1))

    def validation(self, size: int, dtype: DTypeLike) -> Iterable[Batch] | None:
        """Return the validation batches, which can be iterated repeatedly; None if there are none."""
        del size
        return None if self._validation is None else _Batches(self._validation, dtype)


class _Batches:
    """The batches of an iterable, converted each time they are iterated."""

    def __init__(self, source: Iterable[Any], dtype: DTypeLike) -> None:
        self.source, self.dtype = source, dtype

    def __iter__(self) -> Iterator[Batch]:
        return (_batch(entry, self.dtype) for entry in self.source)


def _numbered_batch(dtype: DTypeLike, numbered: tuple[int, Any]) -> Batch:
    """Return a batch; the number of its entry is added to an error of its numbers."""
    number, entry = numbered
    try:
        return _batch(entry, dtype)
    except NotFiniteError as error:
        raise NotFiniteError(f"batch {number} of the data: {error}") from None


def _batch(entry: Any, dtype: DTypeLike) -> Batch:
    if isinstance(entry, Batch):
        x, y, lengths, weights = entry.inputs, entry.targets, entry.lengths, entry.weights
    elif isinstance(entry, tuple | list) and len(entry) in (2, 3):
        (x, y), lengths, weights = entry[:2], entry[2] if len(entry) == 3 else None, None
    else:
        raise TypeError(f"each entry of the data must be (x, y) or (x, y, lengths), got {type(entry).__name__}")
    x, y = _numbers("x", x), _numbers("y", y)
    if x.ndim not in (2, 3) or y.ndim < 1 or len(x) != len(y):
        raise ValueError(
            f"x must have shape (B, T, I), or (B, T) for ids, and y one entry per sequence, got {x.shape}, {y.shape}"
        )
    continues, indices = (entry.continues, entry.indices) if isinstance(entry, Batch) else (False, None)
    T = x.shape[1]
    check_finite("x", x, has_steps=True)
    check_finite("y", y, has_steps=y.ndim > 1 and y.shape[1] == T)
    x, y = to_dtype(x, dtype), to_dtype(y, dtype)
    if lengths is None:
        return Batch(x, y, weights, None, continues, indices)
    lengths = np.asarray(lengths)
    if lengths.shape != (len(x),) or lengths.dtype.kind not in "iu" or (lengths < 0).any() or (lengths > T).any():
        raise ValueError(f"lengths must be {len(x)} integers from 0 to T = {T}, got {lengths!r}")
    valid = np.arange(T) < lengths[:, None]
    x = np.where(valid.reshape(valid.shape + (1,) * (x.ndim - 2)), x, x.dtype.type(0))
    if weights is None and y.ndim > 1 and y.shape[1] == T and (y.ndim == 3 or y.dtype.kind in "iu"):
        weights = valid.astype(dtype).reshape(valid.shape + (1,) * (y.ndim - 2))
    return Batch(x, y, weights, lengths, continues, indices)


def _numbers(name: str, value: Any) -> AnyArray:
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be real numbers, got dtype {array.dtype}")
    return array
