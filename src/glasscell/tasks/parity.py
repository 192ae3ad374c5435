"""The parity problem: Bengio, Simard & Frasconi (1994); Hochreiter & Schmidhuber (1996, 1997).

A sequence consists of the numbers 1 and -1. The target after the last step is 1 if the number of ones is odd, and 0 if
it is even: every step may change the answer. Hochreiter & Schmidhuber (1996), "Bridging Long Time Lags by Weight
Guessing and Long Short-Term Memory", and section 5 of their paper of 1997 show that guessing the weights at random
solves it faster than the methods of its time: a lag alone does not make a problem difficult.

- The sources have sequences of 25 to 50 and of 250 to 500 steps; here lengths are uniform in a range, inclusive.
- Bengio et al. also add uniform noise in [-0.2, 0.2] to the inputs: `noise`.
- `per_step`: a target at every step, the parity of all numbers up to it. This variant is not in these papers. It is
  easier, because early steps teach what later ones need.
- A sequence is correct if all of its outputs are on the right side of 1/2.
"""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from glasscell.core.layouts import feature_major_zeros
from glasscell.core.types import Array
from glasscell.data.batch import Batch
from glasscell.data.metrics import Metric
from glasscell.tasks.generated import GeneratedTask, check_draw, check_seed, has_right_signs
from glasscell.tasks.vector_copy import check_range
from glasscell.validation import boolean, probability


def is_correct(outputs: Array, batch: Batch) -> NDArray[np.bool_]:
    """Return in which sequences all logits have the right sign, (B,): (B, 1), or (B, T, 1) with a target per step."""
    valid = np.ones(batch.targets.shape) if batch.weights is None else batch.weights
    right = has_right_signs(outputs, batch.targets) | (valid == 0)
    correct: NDArray[np.bool_] = right.all(axis=tuple(range(1, right.ndim)))
    return correct


@dataclass(frozen=True)
class Parity(GeneratedTask):
    """The parity problem: whether the number of ones in a sequence is odd.

    Bengio, Simard & Frasconi (1994), Hochreiter & Schmidhuber (1996, 1997); docs/tasks.md has the details. Inputs are
    (B, T, 1), 1 or -1; targets are (B, 1), or (B, T, 1) with `per_step`, 1 for odd and 0 for even.

    Parameters
    ----------
    min_length, max_length : int
        Range of the numbers of steps, at least 2.
    per_step : bool
        Whether each step has a target: the parity of the sequence up to it.
    noise : float
        Half the width of the uniform noise that is added to the inputs, at least 0 and below 1. Bengio et al. have 0.2.
    seed : int
        Of the sequences for validation and test.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another type, or out of range.

    Examples
    --------
    >>> import glasscell as gc
    >>> batch = gc.tasks.Parity(min_length=5, max_length=5).test_batch(2)
    >>> batch.inputs[..., 0].tolist(), batch.targets.tolist()
    ([[1.0, -1.0, -1.0, -1.0, -1.0], [1.0, 1.0, -1.0, -1.0, -1.0]], [[1.0], [0.0]])
    """

    min_length: int = 25
    max_length: int = 50
    per_step: bool = False
    noise: float = 0.0
    seed: int = 0

    loss: ClassVar[str] = "binary_cross_entropy"
    metrics: ClassVar[tuple[str | Metric, ...]] = ("accuracy", "sequence_accuracy")
    input_size: ClassVar[int] = 1
    output_size: ClassVar[int] = 1

    def __post_init__(self) -> None:
        shortest, longest = check_range("length", self.min_length, self.max_length)
        if shortest < 2:
            raise ValueError(f"min_length must be at least 2, got {shortest}")
        object.__setattr__(self, "min_length", shortest)
        object.__setattr__(self, "max_length", longest)
        object.__setattr__(self, "per_step", boolean("per_step", self.per_step))
        object.__setattr__(self, "noise", probability("noise", self.noise))
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
            Steps after the end of a sequence are 0; with `per_step`, they have weight 0.
        """
        dtype = check_draw(size, rng, dtype)
        lengths = rng.integers(self.min_length, self.max_length, size, endpoint=True)
        T = int(lengths.max(initial=0))
        valid = np.arange(T) < lengths[:, None]
        ones = rng.integers(2, size=(size, T)) * valid
        inputs = feature_major_zeros((size, T, 1), dtype)
        numbers = 2 * ones - 1.0
        if self.noise:
            numbers += rng.uniform(-self.noise, self.noise, (size, T))
        inputs[..., 0] = np.where(valid, numbers, 0)
        if not self.per_step:
            return Batch(inputs, (ones.sum(axis=1, keepdims=True) % 2).astype(dtype), None, lengths)
        targets, weights = (feature_major_zeros((size, T, 1), dtype) for _ in range(2))
        targets[..., 0] = np.cumsum(ones, axis=1) % 2 * valid
        weights[..., 0] = valid
        return Batch(inputs, targets, weights, lengths)

    def memoryless_baseline_loss(self, batch: Batch) -> float:
        """Return the loss of the best predictor that uses the input of the current step only, in nats.

        At the last step all other numbers make odd and even equally probable: log 2. With `per_step` the first step has
        no others. With q, its frequency among all steps, a 1 is followed by odd with probability (1 + q) / 2, and a -1
        by even.
        """
        if not self.per_step:
            return float(np.log(2))
        q = 2 / (self.min_length + self.max_length)
        valid = batch.inputs != 0 if batch.weights is None else batch.weights > 0
        agrees = ((batch.inputs > 0) == (batch.targets > 0.5))[valid]
        return float(-np.log(np.where(agrees, (1 + q) / 2, (1 - q) / 2)).mean()) if agrees.size else 0.0
