"""Sequences of numbers of which two are marked: experiments 4 and 5 of Hochreiter & Schmidhuber (1997)."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from glasscell.core.layouts import feature_major_zeros
from glasscell.core.types import Array
from glasscell.data.batch import AnyArray, Batch
from glasscell.data.metrics import WeightedSum
from glasscell.tasks.generated import outputs_like, random_lengths

TOLERANCE = 0.04  # largest absolute error of a correct sequence, in the paper
FIRST_CHOICES = 10  # steps of which the first marked number is one


def sequence_accuracy(outputs: Array, batch: Batch) -> WeightedSum:
    """Count sequences with an absolute error below 0.04."""
    return WeightedSum(float(is_correct(outputs, batch.targets).sum()), float(len(outputs)))


def is_correct(outputs: Array, targets: Array) -> NDArray[np.bool_]:
    """Return which sequences meet the criterion of the paper, (B,)."""
    correct: NDArray[np.bool_] = np.abs(outputs_like(outputs, targets) - targets).max(axis=-1) < TOLERANCE
    return correct


class MarkedNumbers(NamedTuple):
    """Sequences with two marked numbers each.

    Attributes
    ----------
    inputs : array (B, T, 2)
        Numbers and markers: 1 at the two numbers, -1 at the first and the last step, 0 elsewhere; 0 after the end.
    lengths : array (B,)
    marked : array (B, 2)
        The two numbers.
    is_first : array (B, 2) of bool
        Whether a marked number is that of the first step, where the marker remains -1.
    """

    inputs: Array
    lengths: NDArray[np.int64]
    marked: AnyArray
    is_first: NDArray[np.bool_]


def draw_marked_numbers(
    size: int, T: int, smallest: float, rng: np.random.Generator, dtype: DTypeLike
) -> MarkedNumbers:
    """Draw sequences of T to T + T/10 numbers, uniform in [smallest, 1]."""
    rows = np.arange(size)
    lengths = random_lengths(size, T, rng)
    first = rng.integers(FIRST_CHOICES, size=size)
    second = rng.integers(T // 2 - 1, size=size)
    second += second >= first  # skip the first one
    longest = int(lengths.max(initial=0))
    inputs = feature_major_zeros((size, longest, 2), dtype)
    inputs[..., 0] = rng.uniform(smallest, 1, (longest, size)).T
    inputs[..., 0] *= np.arange(longest) < lengths[:, None]
    for marked in (first, second):
        inputs[rows, marked, 1] = 1
    for end in (np.zeros_like(lengths), lengths - 1):
        inputs[rows, end, 1] = -1
    steps = np.stack([first, second], axis=1)
    return MarkedNumbers(inputs, lengths, np.take_along_axis(inputs[..., 0], steps, axis=1), steps == 0)


def probability_of_first(T: int) -> float:
    """Return the probability that one of the two marked numbers is that of the first step."""
    p = 1 / FIRST_CHOICES
    return p + (1 - p) / (T // 2 - 1)
