"""What tasks share: endless training batches, and evaluation batches from random numbers of their own."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import partial
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from glasscell.core.types import Array
from glasscell.data.batch import AnyArray, Batch
from glasscell.data.predictions import has_largest_output, has_right_sign
from glasscell.validation import float_dtype, integer, non_negative_integer, positive_integer, type_name

VALIDATION, TEST = 1, 2  # second number of the seed; generators with other seeds are independent
TEST_SEQUENCES = 2560  # in Hochreiter & Schmidhuber (1997)


class EndlessTask(ABC):
    """A task that draws training batches at random, and has one validation batch."""

    endless: ClassVar[bool] = True  # there are no epochs

    @abstractmethod
    def batch(self, size: int, rng: np.random.Generator, dtype: DTypeLike = np.float32) -> Batch:
        """Return `size` random sequences."""

    def batches(self, size: int, rng: np.random.Generator, dtype: DTypeLike = np.float32) -> Iterator[Batch]:
        """Return an iterator that draws training batches endlessly: see :meth:`batch`."""
        return iter(partial(self.batch, size, rng, dtype), None)

    def validation(self, size: int, dtype: DTypeLike = np.float32) -> list[Batch]:
        """Return one validation batch; the batch size of training does not matter."""
        del size
        return [self.validation_batch(dtype)]

    @abstractmethod
    def validation_batch(self, dtype: DTypeLike = np.float32) -> Batch:
        """Return sequences for decisions during training, always the same ones."""


class GeneratedTask(EndlessTask):
    """A task whose sequences are drawn from a distribution so large that no sequence is drawn twice."""

    seed: int

    def validation_batch(self, dtype: DTypeLike = np.float32) -> Batch:
        """Return 256 sequences, always the same ones, for decisions during training."""
        return self.batch(256, np.random.default_rng([self.seed, VALIDATION]), dtype)

    def test_batch(self, size: int = TEST_SEQUENCES, dtype: DTypeLike = np.float32) -> Batch:
        """Return other sequences, always the same ones, for the final score."""
        return self.batch(size, np.random.default_rng([self.seed, TEST]), dtype)


def check_draw(size: int, rng: np.random.Generator, dtype: DTypeLike) -> np.dtype[np.floating]:
    """Return the dtype of a batch, if these are the arguments of :meth:`EndlessTask.batch`.

    Raises
    ------
    TypeError, ValueError
        If the size is no integer of at least 0, `rng` no generator, or the dtype neither float32 nor float64.
    """
    non_negative_integer("size", size)
    check_generator(rng)
    return float_dtype(dtype)


def check_generator(rng: np.random.Generator) -> None:
    """Raise TypeError if this is no generator, such as a seed."""
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng must be a numpy.random.Generator, got {type_name(rng)}")


def outputs_like(outputs: ArrayLike, targets: AnyArray) -> Array:
    """Return outputs as an array, if they have the shape of the targets: otherwise they would be broadcast."""
    array: Array = np.asarray(outputs)
    if array.shape != targets.shape:
        raise ValueError(f"outputs must have the shape of the targets, {targets.shape}, got {array.shape}")
    return array


def class_outputs(outputs: ArrayLike, targets: AnyArray) -> Array:
    """Return outputs as an array, if they have one number per class for each of the targets."""
    array: Array = np.asarray(outputs)
    if array.shape[:-1] != targets.shape or not array.ndim:
        raise ValueError(
            f"outputs must have the shape of the targets, {targets.shape}, and an axis of classes, got {array.shape}"
        )
    return array


def has_right_signs(outputs: ArrayLike, targets: AnyArray) -> NDArray[np.bool_]:
    """Return where logits of the shape of the targets are on the side of targets 0 or 1; NaN is on neither side."""
    return has_right_sign(outputs_like(outputs, targets), targets)


def has_largest_outputs(outputs: ArrayLike, targets: AnyArray) -> NDArray[np.bool_]:
    """Return where the class of the target has the largest output (..., classes); never with NaN."""
    return has_largest_output(class_outputs(outputs, targets), targets)


def check_seed(seed: int) -> int:
    """Return the seed, if it is an integer of at least 0."""
    if integer("seed", seed) < 0:
        raise ValueError(f"seed must be 0 or more, got {seed}")
    return int(seed)


def check_min_length(min_length: int, smallest: int) -> int:
    """Return the minimal length, if it is an integer of at least `smallest`."""
    if positive_integer("min_length", min_length) < smallest:
        raise ValueError(f"min_length must be at least {smallest}, got {min_length}")
    return int(min_length)


def random_lengths(size: int, min_length: int, rng: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Draw lengths evenly from T to T + T/10."""
    return rng.integers(min_length, min_length + min_length // 10, size, endpoint=True)


def largest_errors(outputs: Array, targets: AnyArray) -> NDArray[np.float64]:
    """Return the largest error of the probabilities of all classes: logits (..., classes), class numbers (...)."""
    outputs = class_outputs(outputs, targets)
    odds = np.exp(outputs - outputs.max(axis=-1, keepdims=True), dtype=np.float64)
    errors: NDArray[np.float64] = odds / odds.sum(axis=-1, keepdims=True)
    target = targets[..., None]
    np.put_along_axis(errors, target, np.take_along_axis(errors, target, axis=-1) - 1, axis=-1)
    largest: NDArray[np.float64] = np.abs(errors).max(axis=-1)
    return largest
