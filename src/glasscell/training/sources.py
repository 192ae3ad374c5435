"""Sources of batches from the data that `fit` accepts."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from glasscell.data.arrays import ArrayData, from_tuple
from glasscell.data.batch import check_batch
from glasscell.data.iterables import IterableData

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from glasscell.data.batch import Batch, Data

NOT_DATA = (str, bytes, dict)  # iterables that contain no batches


def source_of(data: Any, validation: Any) -> Data:
    """Return the data of a call of `fit` as a source of batches.

    Raises
    ------
    TypeError, ValueError
        If the type is unsupported, or data and validation do not fit together.
    """
    if _is_data(data):
        return data if validation is None else WithValidation(data, _validation_source(validation))
    if is_arrays(data):
        if validation is not None and not isinstance(validation, float | int | tuple | ArrayData):
            return WithValidation(from_tuple(data), _validation_source(validation))
        return from_tuple(data, validation)
    if isinstance(data, Iterable) and not isinstance(data, NOT_DATA) and not hasattr(data, "__array__"):
        source = IterableData(data)
        return source if validation is None else WithValidation(source, _validation_source(validation))
    kind = type(data).__name__
    for name, other in (("batches", "validation"), ("validation", "batches")):
        if callable(getattr(data, name, None)):
            raise TypeError(f"data must have the methods batches and validation, got a {kind} without {other}")
    hint = "; pass (data.x, data.labels)" if kind == "LabelledSequences" else ""
    raise TypeError(f"data must be a task, (x, y) or an iterable of (x, y), got a {kind}{hint}")


def _is_data(value: Any) -> bool:
    return callable(getattr(value, "batches", None)) and callable(getattr(value, "validation", None))


def is_arrays(value: Any) -> bool:
    """Return whether the value is (x, y) or (x, y, lengths), and not a tuple of batches."""
    return isinstance(value, tuple) and (len(value) == 2 or (len(value) == 3 and not isinstance(value[0], tuple)))


def _validation_source(validation: Any) -> Data:
    """Return a source whose validation batches are these."""
    if isinstance(validation, ArrayData):
        return _InOrder(validation)
    if _is_data(validation):
        return validation  # type: ignore[no-any-return] # it has the methods of the protocol
    if is_arrays(validation):
        return _InOrder(from_tuple(validation))
    if (
        isinstance(validation, Iterable)
        and not isinstance(validation, NOT_DATA)
        and not hasattr(validation, "__array__")
    ):
        return IterableData((), validation)
    raise TypeError(f"validation must be (x, y), data, or an iterable of (x, y), got a {type(validation).__name__}")


class _InOrder:
    """All sequences of an ArrayData as validation batches."""

    def __init__(self, data: ArrayData) -> None:
        self.data = data

    def batches(self, size: int, rng: np.random.Generator, dtype: DTypeLike) -> Iterator[Batch]:
        """Yield the batches of one epoch."""
        return self.data.batches(size, rng, dtype)

    def validation(self, size: int, dtype: DTypeLike) -> list[Batch]:
        """Return all sequences, in their order."""
        return self.data.in_order(size, dtype)


def training_part(source: Data) -> Data:
    """Return the source of the training batches alone."""
    while isinstance(source, WithValidation | NumbersPerStep):
        source = source.data
    return source


def attribute(source: Data, name: str, default: Any = None) -> Any:
    """Return an optional attribute of the training data: see :class:`glasscell.data.batch.Data`."""
    return getattr(training_part(source), name, default)


class WithValidation:
    """Batches of one source, validation batches of another."""

    def __init__(self, data: Data, validation: Data) -> None:
        self.data, self._validation = data, validation

    def batches(self, size: int, rng: np.random.Generator, dtype: DTypeLike) -> Iterator[Batch]:
        """Yield the batches of one epoch."""
        return self.data.batches(size, rng, dtype)

    def validation(self, size: int, dtype: DTypeLike) -> Iterable[Batch] | None:
        """Return the validation batches."""
        return self._validation.validation(size, dtype)


class NumbersPerStep:
    """Batches for a model with one number per step: padded steps of targets (B, T) do not count."""

    def __init__(self, data: Data) -> None:
        self.data = data

    def batches(self, size: int, rng: np.random.Generator, dtype: DTypeLike) -> Iterator[Batch]:
        """Yield the batches of one epoch."""
        return (_without_padding(batch, dtype) for batch in self.data.batches(size, rng, dtype))

    def validation(self, size: int, dtype: DTypeLike) -> Iterable[Batch] | None:
        """Return the validation batches."""
        batches = self.data.validation(size, dtype)
        return None if batches is None else [_without_padding(batch, dtype) for batch in batches]


def _without_padding(batch: Batch, dtype: DTypeLike) -> Batch:
    """Return a batch in which targets after the end of a sequence have the weight 0."""
    check_batch(batch)
    if batch.lengths is None or batch.targets.shape != batch.inputs.shape[:2]:
        return batch
    valid = (np.arange(batch.targets.shape[1]) < batch.lengths[:, None]).astype(dtype)
    return batch._replace(weights=valid if batch.weights is None else valid * batch.weights.reshape(len(valid), -1))
