"""Noise-free sequences with long time lags: Hochreiter & Schmidhuber (1997), "Long Short-Term Memory", experiment 2a.

There are p + 1 symbols a_1, …, a_{p-1}, x, y, and only two sequences, each with probability 1/2:

    x a_1 a_2 … a_{p-1} x        y a_1 a_2 … a_{p-1} y

At each step the model predicts the next symbol. All predictions need the current symbol only, except for the last one,
which needs the first symbol, p steps earlier.

- The outputs of the paper are p + 1 logistic units, trained on the squared error. Here a softmax gives probabilities,
  trained on the cross-entropy; the criterion is that of the paper, on these probabilities.
- Since there are two sequences, training, validation and test have the same ones.
"""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from glasscell.core.layouts import feature_major_zeros
from glasscell.core.types import Array
from glasscell.data.batch import Batch
from glasscell.data.metrics import Metric, WeightedSum
from glasscell.tasks.generated import GeneratedTask, check_draw, check_seed, largest_errors
from glasscell.validation import positive_integer

TOLERANCE = 0.25  # largest absolute error of all outputs of a correct sequence, in the paper
CRITERION_SEQUENCES = 10_000  # that must be correct, in the paper


def is_correct(outputs: Array, batch: Batch) -> NDArray[np.bool_]:
    """Return in which sequences all probabilities are within 0.25 of 0 or 1 at every step, (B,).

    A training of the paper is successful if 10,000 random sequences in succession are correct.
    """
    largest: NDArray[np.float64] = largest_errors(outputs, batch.targets).max(axis=1)
    correct: NDArray[np.bool_] = largest < TOLERANCE
    return correct


def sequence_accuracy(outputs: Array, batch: Batch) -> WeightedSum:
    """Count sequences in which all probabilities are within 0.25 of 0 or 1 at every step."""
    return WeightedSum(float(is_correct(outputs, batch).sum()), float(len(outputs)))


def check_lag(name: str, lag: int, smallest: int) -> int:
    """Return p, if it is an integer of at least `smallest`."""
    if positive_integer(name, lag) < smallest:
        raise ValueError(f"{name} must be at least {smallest}, got {lag}")
    return int(lag)


@dataclass(frozen=True)
class NoiseFreeLag(GeneratedTask):
    """Two sequences that differ in their first and their last symbol: predict each next symbol.

    Hochreiter & Schmidhuber (1997), experiment 2a; docs/tasks.md has the details. Inputs are (B, p, p + 1), one feature
    per symbol in the order a_1, …, a_{p-1}, x, y; targets are the symbols that follow, (B, p).

    Parameters
    ----------
    lag : int
        p, the steps between the first symbol and its repetition, at least 2. The paper has 4, 10 and 100.
    seed : int
        Of the order of the sequences for validation and test.

    Raises
    ------
    TypeError, ValueError
        If an argument is no integer, or out of range.

    Examples
    --------
    >>> import glasscell as gc
    >>> batch = gc.tasks.NoiseFreeLag(lag=4).test_batch(2)
    >>> batch.inputs.argmax(axis=-1).tolist(), batch.targets.tolist()  # 0 to 2 are a_1 to a_3; 3 is x, 4 is y
    ([[4, 0, 1, 2], [3, 0, 1, 2]], [[0, 1, 2, 4], [0, 1, 2, 3]])
    """

    lag: int = 100
    seed: int = 0

    loss: ClassVar[str] = "categorical_cross_entropy"
    metrics: ClassVar[tuple[str | Metric, ...]] = ("accuracy", sequence_accuracy)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lag", check_lag("lag", self.lag, 2))
        object.__setattr__(self, "seed", check_seed(self.seed))

    @property
    def input_size(self) -> int:
        """I: the number of symbols, p + 1."""
        return self.lag + 1

    @property
    def output_size(self) -> int:
        """O: the number of symbols, p + 1."""
        return self.lag + 1

    def batch(self, size: int, rng: np.random.Generator, dtype: DTypeLike = np.float32) -> Batch:
        """Return `size` sequences, each one of the two with probability 1/2.

        Parameters
        ----------
        size : int
            B
        rng : numpy.random.Generator
        dtype : float32 or float64

        Returns
        -------
        Batch
        """
        dtype = check_draw(size, rng, dtype)
        p = self.lag
        ids = np.tile(np.arange(-1, p), (size, 1))
        ids[:, 0] = ids[:, p] = p - 1 + rng.integers(2, size=size)
        inputs = feature_major_zeros((size, p, p + 1), dtype)
        np.put_along_axis(inputs, ids[:, :-1, None], 1, axis=2)
        return Batch(inputs, np.ascontiguousarray(ids[:, 1:]))

    def memoryless_baseline_loss(self, batch: Batch) -> float:
        """Return the loss of the best predictor that uses the current symbol only, in nats per symbol: log 2 / p.

        It predicts all symbols but the last, for which x and y have the probability 1/2.
        """
        del batch
        return float(np.log(2) / self.lag)
