"""The multiplication problem: Hochreiter & Schmidhuber (1997), "Long Short-Term Memory", experiment 5.

The adding problem (:mod:`glasscell.tasks.adding`) with two differences: numbers are uniform in [0, 1], and the target
is the product X1 · X2 of the two marked numbers. It cannot be computed by a cell that adds up its inputs.

- If the first step is chosen, its number counts as 1: its marker remains -1. The paper writes "we set X1 to 1.0"; here
  this is so whether the first or the second of the two numbers is that of the first step, as in experiment 4.
- The paper reports mean squared errors of 0.0223 and 0.0139, for models with 139 and 14 errors above 0.04 in 2560
  sequences. The second one is impossible, even if these 14 errors were 1: 0.04² + 14/2560 = 0.0071. Both are close to
  its "average test set error" and may be mean absolute errors. The metrics include `mean_absolute_error`.
"""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import DTypeLike

from glasscell.data.batch import Batch
from glasscell.data.metrics import Metric
from glasscell.tasks.generated import GeneratedTask, check_draw, check_min_length, check_seed
from glasscell.tasks.marked_numbers import (
    FIRST_CHOICES,
    draw_marked_numbers,
    is_correct,
    probability_of_first,
    sequence_accuracy,
)

__all__ = ["Multiplication", "is_correct", "sequence_accuracy"]


@dataclass(frozen=True)
class Multiplication(GeneratedTask):
    """The multiplication problem: multiply the two marked numbers of a sequence.

    Hochreiter & Schmidhuber (1997), experiment 5; docs/tasks.md has the details. Inputs are (B, T, 2), a number and a
    marker, with lengths from T to T + T/10; targets are (B, 1), in [0, 1].

    Parameters
    ----------
    min_length : int
        T, at least 20; 100 in the paper.
    seed : int
        Of the sequences for validation and test.

    Raises
    ------
    TypeError, ValueError
        If an argument is no integer, or out of range.

    Examples
    --------
    >>> import glasscell as gc
    >>> batch = gc.tasks.Multiplication(min_length=20).test_batch(3)
    >>> batch.inputs.shape[::2], batch.targets.shape, batch.lengths.shape
    ((3, 2), (3, 1), (3,))
    """

    min_length: int = 100
    seed: int = 0

    loss: ClassVar[str] = "squared_error"
    metrics: ClassVar[tuple[str | Metric, ...]] = ("mean_absolute_error", sequence_accuracy)
    input_size: ClassVar[int] = 2
    output_size: ClassVar[int] = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "min_length", check_min_length(self.min_length, 2 * FIRST_CHOICES))
        object.__setattr__(self, "seed", check_seed(self.seed))

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
        drawn = draw_marked_numbers(size, self.min_length, 0, rng, dtype)
        factors = np.where(drawn.is_first, drawn.marked.dtype.type(1), drawn.marked)
        return Batch(drawn.inputs, factors.prod(axis=1, keepdims=True), None, drawn.lengths)

    @property
    def mean_target(self) -> float:
        """Mean of the targets: (1 + q) / 4, with the probability q that the first step is chosen."""
        return (1 + probability_of_first(self.min_length)) / 4

    def memoryless_baseline_loss(self, batch: Batch) -> float:
        """Return the loss of the best predictor that uses the inputs of the last step only: it predicts the mean.

        Notes
        -----
        Its expected value is (1 + 2q) / 9 - (1 + q)² / 16, with q = 1/10 + 9/10 / (T/2 - 1), the probability that the
        first step is chosen: 0.0592 for T = 100. The product of two numbers has the mean 1/4 and the mean square 1/9;
        a single number has 1/2 and 1/3.
        """
        return float(np.square(batch.targets - self.mean_target, dtype=np.float64).mean())
