"""The temporal order problem: Hochreiter & Schmidhuber (1997), "Long Short-Term Memory", experiments 6a and 6b.

A sequence begins with E, ends with B, and has random symbols a, b, c, d between them, except for two (6a) or three (6b)
symbols X or Y. The class is their order: the model must store what it read first for at least 30 steps, through noise.

- The length is uniform from T to T + T/10, T = 100. Positions are counted from 1.
- 6a: positions uniform in [10, 20] and [50, 60]; 4 classes XX, XY, YX, YY.
- 6b: positions uniform in [10, 20], [33, 43] and [66, 76]; 8 classes XXX, XXY, …, YYY.
"""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from dataclasses import dataclass
from itertools import product
from typing import ClassVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from glasscell.core.layouts import feature_major_zeros
from glasscell.core.types import Array
from glasscell.data.batch import AnyArray, Batch
from glasscell.data.metrics import Metric, WeightedSum
from glasscell.tasks.generated import (
    GeneratedTask,
    check_draw,
    check_min_length,
    check_seed,
    largest_errors,
    random_lengths,
)
from glasscell.validation import choice

SYMBOLS = "abcdXYEB"  # the features of a step: 1 for its symbol
DISTRACTORS = 4  # a, b, c, d are the first symbols
X, START, END = (SYMBOLS.index(symbol) for symbol in "XEB")
RANGES = {2: ((10, 20), (50, 60)), 3: ((10, 20), (33, 43), (66, 76))}  # positions in percent of T
SMALLEST_LENGTH = 30  # 4^26 distractors: that a test sequence occurs in training is less likely than 1 to 10^6
TOLERANCE = 0.3  # largest absolute error of each output of a correct sequence, in the paper


def sequence_accuracy(outputs: Array, batch: Batch) -> WeightedSum:
    """Count sequences in which the probability of each class is within 0.3 of its target, 0 or 1."""
    return WeightedSum(float(is_correct(outputs, batch.targets).sum()), float(len(outputs)))


def is_correct(outputs: Array, targets: AnyArray) -> NDArray[np.bool_]:
    """Return which sequences meet the criterion of the paper, (B,): logits (B, classes), class numbers (B,)."""
    correct: NDArray[np.bool_] = largest_errors(outputs, targets) < TOLERANCE
    return correct


@dataclass(frozen=True)
class TemporalOrder(GeneratedTask):
    """The temporal order problem: classify a sequence by the order of two or three of its symbols.

    Hochreiter & Schmidhuber (1997), experiments 6a and 6b; docs/tasks.md has the details. Inputs are (B, T, 8), one
    feature per symbol, with lengths from T to T + T/10; targets are class numbers (B,).

    Parameters
    ----------
    relevant : 2 or 3
        Number of symbols X or Y: 2 in experiment 6a, with 4 classes; 3 in experiment 6b, with 8.
    min_length : int
        T, at least 30; 100 in the paper. The ranges of the positions are scaled with it.
    seed : int
        Of the sequences for validation and test.

    Examples
    --------
    >>> import glasscell as gc
    >>> task = gc.tasks.TemporalOrder()
    >>> batch = task.test_batch(3)
    >>> batch.inputs.shape[::2], task.class_names
    ((3, 8), ('XX', 'XY', 'YX', 'YY'))
    """

    relevant: int = 2
    min_length: int = 100
    seed: int = 0

    loss: ClassVar[str] = "categorical_cross_entropy"
    metrics: ClassVar[tuple[str | Metric, ...]] = ("accuracy", sequence_accuracy)
    input_size: ClassVar[int] = len(SYMBOLS)

    def __post_init__(self) -> None:
        choice("relevant", self.relevant, tuple(RANGES))
        object.__setattr__(self, "relevant", int(self.relevant))
        object.__setattr__(self, "min_length", check_min_length(self.min_length, SMALLEST_LENGTH))
        object.__setattr__(self, "seed", check_seed(self.seed))

    @property
    def output_size(self) -> int:
        """Number of classes: 4 or 8."""
        return int(2**self.relevant)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The order of symbols that each class stands for."""
        return tuple(map("".join, product("XY", repeat=self.relevant)))

    def batch(self, size: int, rng: np.random.Generator, dtype: DTypeLike = np.float32) -> Batch:
        """Return `size` random sequences.

        Parameters
        ----------
        size : int
            B
        rng : numpy.random.Generator
        dtype : float32 or float64

        Returns
        -------
        Batch
            Steps after the end of a sequence are 0.
        """
        dtype = check_draw(size, rng, dtype)
        rows = np.arange(size)
        lengths = random_lengths(size, self.min_length, rng)
        longest = int(lengths.max(initial=0))
        ids = rng.integers(DISTRACTORS, size=(size, longest))
        ids[:, :1] = START
        ids[rows, lengths - 1] = END
        classes = np.zeros(size, np.int64)
        for first, last in RANGES[self.relevant]:
            positions = rng.integers(self._step(first), self._step(last), size, endpoint=True)
            is_y = rng.integers(2, size=size)
            ids[rows, positions] = X + is_y
            classes = 2 * classes + is_y
        inputs = feature_major_zeros((size, longest, len(SYMBOLS)), dtype)
        np.put_along_axis(inputs, ids[..., None], 1, axis=2)
        inputs *= (np.arange(longest) < lengths[:, None])[..., None]
        return Batch(inputs, classes, None, lengths)

    def strings(self, batch: Batch) -> list[str]:
        """Return the sequences of a batch as strings, such as ``EacXbd…B``."""
        ids = batch.inputs.argmax(axis=-1)
        lengths = [ids.shape[1]] * len(ids) if batch.lengths is None else batch.lengths
        return ["".join(SYMBOLS[k] for k in row[:length]) for row, length in zip(ids, lengths, strict=True)]

    def memoryless_baseline_loss(self, batch: Batch) -> float:
        """Return the loss of the best predictor that uses the inputs of the last step only, in nats.

        The last symbol is always B, and all classes are equally frequent: log 4, or log 8.
        """
        del batch
        return float(np.log(self.output_size))

    def _step(self, percent: int) -> int:
        """Return the index of a step from its position in percent of T, counted from 1."""
        return percent * self.min_length // 100 - 1
