"""The two-sequence problem: Hochreiter & Schmidhuber (1997), "Long Short-Term Memory", experiments 3a, 3b and 3c.

Bengio, Simard & Frasconi (1994) defined it. A sequence of numbers belongs to one of two classes. Its first N numbers
are 1 for class 1 and -1 for class 2; all later ones are Gaussian noise with mean 0 and variance 0.2. The target after
the last step depends on the class. Signal and noise have the same input.

- 3a: the target is 1 for class 1 and 0 for class 2.
- 3b: the same, with Gaussian noise of variance 0.2 added to the first N numbers too.
- 3c: the target is 0.2 for class 1 and 0.8 for class 2, plus Gaussian noise of variance 0.1. The first N numbers have
  no noise. The model must learn the means of the targets.

- The length is uniform from T to T + T/10. (Bengio et al. also have sequences of T/2 steps.)
- In 3c the larger target belongs to class 2, unlike in 3a, because the paper has them in this order.
- Targets for validation and test have noise in 3c, too. Criterion and `mean_difference` compare with the targets
  without noise, as in the paper.
"""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from glasscell.core.activations import sigmoid
from glasscell.core.layouts import feature_major_zeros
from glasscell.core.types import Array
from glasscell.data.batch import AnyArray, Batch
from glasscell.data.metrics import Metric, WeightedSum
from glasscell.tasks.generated import GeneratedTask, check_draw, check_seed, outputs_like, random_lengths
from glasscell.validation import choice, positive_integer

VARIANCE = 0.2  # of the noise in the sequences
TARGET_VARIANCE = 0.1  # of the noise of targets in 3c
TARGETS = {"3a": (1.0, 0.0), "3b": (1.0, 0.0), "3c": (0.2, 0.8)}  # of class 1 and class 2
TOLERANCES = {"3a": 0.2, "3b": 0.2, "3c": 0.1}  # absolute error of a correct sequence
# Of 256 sequences of a test: the largest number that may be wrong, and the limit of the mean absolute error.
STOPPING_CRITERIA = {"3a": (0, 0.01), "3b": (5, 0.04), "3c": (0, 0.015)}


def is_correct(outputs: Array, targets: Array, experiment: str = "3a") -> NDArray[np.bool_]:
    """Return which sequences meet the criterion of the paper, (B,): errors below 0.2, or 0.1 in 3c.

    Parameters
    ----------
    outputs, targets : array (B, 1)
        Targets without noise, as :meth:`TwoSequence.noise_free_targets` returns them.
    experiment : {"3a", "3b", "3c"}
    """
    choice("experiment", experiment, tuple(TARGETS))
    correct: NDArray[np.bool_] = np.abs(outputs_like(outputs, targets) - targets).max(axis=-1) < TOLERANCES[experiment]
    return correct


@dataclass(frozen=True)
class TwoSequence(GeneratedTask):
    """The two-sequence problem: classify a sequence by its first numbers, through noise on the same input.

    Hochreiter & Schmidhuber (1997), experiments 3a, 3b and 3c; docs/tasks.md has the details. Inputs are (B, T, 1),
    with lengths from T to T + T/10; targets are numbers (B, 1).

    Parameters
    ----------
    experiment : {"3a", "3b", "3c"}
    informative : int
        N, how many numbers carry information; 1 or 3 in the paper.
    min_length : int
        T, larger than N. The paper has 100 and 1000.
    seed : int
        Of the sequences for validation and test.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.

    Examples
    --------
    >>> import glasscell as gc
    >>> task = gc.tasks.TwoSequence("3a", informative=2, min_length=5)
    >>> batch = task.test_batch(2)
    >>> batch.inputs[..., 0].astype(float).round(2)
    array([[-1.  , -1.  ,  0.13, -0.7 , -0.43],
           [ 1.  ,  1.  ,  0.08, -0.58,  0.32]])
    >>> batch.targets.tolist()
    [[0.0], [1.0]]
    """

    experiment: Literal["3a", "3b", "3c"] = "3a"
    informative: int = 3
    min_length: int = 100
    seed: int = 0

    loss: ClassVar[str] = "squared_error"
    input_size: ClassVar[int] = 1
    output_size: ClassVar[int] = 1

    def __post_init__(self) -> None:
        choice("experiment", self.experiment, tuple(TARGETS))
        object.__setattr__(self, "informative", positive_integer("informative", self.informative))
        if positive_integer("min_length", self.min_length) <= self.informative:
            raise ValueError(f"min_length must be larger than informative = {self.informative}, got {self.min_length}")
        object.__setattr__(self, "min_length", int(self.min_length))
        object.__setattr__(self, "seed", check_seed(self.seed))

    @property
    def metrics(self) -> tuple[str | Metric, ...]:
        """The fraction of correct sequences, and the mean absolute difference from the targets without noise."""
        return (self.sequence_accuracy, self.mean_difference)

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
        lengths = random_lengths(size, self.min_length, rng)
        T, N = int(lengths.max(initial=0)), self.informative
        signal = 1 - 2 * rng.integers(2, size=(size, 1))
        numbers = rng.normal(0, np.sqrt(VARIANCE), (size, T))
        if self.experiment != "3b":
            numbers[:, :N] = 0
        numbers[:, :N] += signal
        inputs = feature_major_zeros((size, T, 1), dtype)
        inputs[..., 0] = numbers * (np.arange(T) < lengths[:, None])
        targets = self._targets(signal > 0)
        if self.experiment == "3c":
            targets += rng.normal(0, np.sqrt(TARGET_VARIANCE), (size, 1))
        return Batch(inputs, targets.astype(dtype), None, lengths)

    def _targets(self, is_class_1: AnyArray) -> NDArray[np.float64]:
        return np.where(is_class_1, *TARGETS[self.experiment])

    def noise_free_targets(self, batch: Batch) -> Array:
        """Return the targets without noise, (B, 1): in 3c by the first number, which is exactly 1 or -1."""
        if self.experiment != "3c":
            return batch.targets
        return self._targets(batch.inputs[:, 0] > 0).astype(batch.targets.dtype)

    def is_correct(self, outputs: Array, batch: Batch) -> NDArray[np.bool_]:
        """Return which sequences meet the criterion of the paper, (B,)."""
        return is_correct(outputs, self.noise_free_targets(batch), self.experiment)

    def is_solved(self, outputs: Array, batch: Batch) -> bool:
        """Return whether the outputs for a batch meet the stopping criterion of the paper (ST2 in 3a and 3b).

        The paper uses 256 sequences, as :meth:`validation_batch` has them. None of them may be wrong, or 5 in 3b (as a
        fraction, for batches of another size); the mean absolute error must be below 0.01 (3a), 0.04 (3b) or 0.015
        (3c).
        """
        most_wrong, limit = STOPPING_CRITERIA[self.experiment]
        wrong = 1 - float(self.is_correct(outputs, batch).mean())
        difference, number = self.mean_difference(outputs, batch)
        return wrong <= most_wrong / 256 + 1e-12 and difference < limit * number

    def sequence_accuracy(self, outputs: Array, batch: Batch) -> WeightedSum:
        """Count sequences that meet the criterion of the paper."""
        return WeightedSum(float(self.is_correct(outputs, batch).sum()), float(len(outputs)))

    def mean_difference(self, outputs: Array, batch: Batch) -> WeightedSum:
        """Sum the absolute differences between outputs and targets without noise."""
        targets = self.noise_free_targets(batch)
        differences = np.abs(outputs_like(outputs, targets) - targets, dtype=np.float64)
        return WeightedSum(float(differences.sum()), float(differences.size))

    def best_outputs(self, batch: Batch) -> Array:
        """Return the expected targets given the inputs, (B, 1): the outputs with the smallest expected loss.

        In 3b the class is uncertain: the probability of class 1 is σ(2 Σ x / 0.2), with the sum of the first N numbers.
        """
        if self.experiment != "3b":
            return self.noise_free_targets(batch)
        total = batch.inputs[:, : self.informative].sum(axis=1, dtype=np.float64)
        return sigmoid(2 * total / VARIANCE)

    def loss_with_memory(self, batch: Batch) -> float:
        """Return the loss of :meth:`best_outputs`: 0 in 3a, about 0.1 in 3c, where it is the noise of the targets."""
        return float(np.square(self.best_outputs(batch) - batch.targets, dtype=np.float64).mean())

    def memoryless_baseline_loss(self, batch: Batch) -> float:
        """Return the loss of the best predictor that uses the input of the last step only: it predicts 1/2.

        Its expected value is 0.25 in 3a and 3b, and 0.3² + 0.1 = 0.19 in 3c.
        """
        return float(np.square(batch.targets - 0.5, dtype=np.float64).mean())
