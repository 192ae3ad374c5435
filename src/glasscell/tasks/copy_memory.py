"""The copy memory task: Arjovsky, Shah & Bengio (2016), "Unitary Evolution Recurrent Neural Networks", section 5.1.

It goes back to Hochreiter & Schmidhuber (1997). A sequence has T + 2n steps, for n symbols of an alphabet of k (in the
paper n = 10 and k = 8), a blank and a marker:

    input:   s_1 … s_n   T - 1 blanks      the marker   n blanks
    target:  n blanks    T blanks                       s_1 … s_n

The first symbol is recalled n + T steps after it was read. The marker is the input of the step before the first recall.

- The alphabet of inputs has k + 2 = 10 symbols, that of targets k + 1 = 9: the marker is never a target. The paper
  states 10 symbols for both; its loss and its baseline are the same with either.
- The loss is the mean over all T + 2n steps, blanks included, as in the paper. That is why its baseline falls with T.
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
from glasscell.tasks.generated import GeneratedTask, check_draw, check_seed, has_largest_outputs
from glasscell.validation import positive_integer


def is_correct(outputs: Array, batch: Batch) -> NDArray[np.bool_]:
    """Return which sequences have the largest logit at the target of every step, (B,). The paper has no criterion."""
    return np.asarray(has_largest_outputs(outputs, batch.targets).all(axis=1))


def sequence_accuracy(outputs: Array, batch: Batch) -> WeightedSum:
    """Count sequences in which every symbol and every blank is predicted."""
    return WeightedSum(float(is_correct(outputs, batch).sum()), float(len(outputs)))


def recall_accuracy(outputs: Array, batch: Batch) -> WeightedSum:
    """Count recalled symbols that are predicted, without the blanks."""
    correct = has_largest_outputs(outputs, batch.targets)
    recalled = batch.targets < outputs.shape[-1] - 1  # the last class is the blank
    return WeightedSum(float(correct[recalled].sum()), float(recalled.sum()))


@dataclass(frozen=True)
class CopyMemory(GeneratedTask):
    """The copy memory task: recall symbols after a delay of many blanks.

    Arjovsky, Shah & Bengio (2016), section 5.1; docs/tasks.md has the details. Inputs are (B, T + 2n, k + 2), one
    feature per symbol, blank (number k) and marker (k + 1); targets are class numbers (B, T + 2n), 0 to k.

    Parameters
    ----------
    delay : int
        T, at least 1. The paper has 100, 200, 300 and 500.
    length : int
        n, the number of symbols to recall; 10 in the paper.
    num_symbols : int
        k, the size of the alphabet, at least 2; 8 in the paper.
    seed : int
        Of the sequences for validation and test.

    Raises
    ------
    TypeError, ValueError
        If an argument is no integer, or out of range.

    Examples
    --------
    >>> import glasscell as gc
    >>> task = gc.tasks.CopyMemory(delay=5, length=3)
    >>> batch = task.test_batch(1)
    >>> batch.inputs.argmax(axis=-1)  # 8 is the blank, 9 the marker
    array([[7, 0, 2, 8, 8, 8, 8, 9, 8, 8, 8]])
    >>> batch.targets
    array([[8, 8, 8, 8, 8, 8, 8, 8, 7, 0, 2]])
    """

    delay: int = 200
    length: int = 10
    num_symbols: int = 8
    seed: int = 0

    loss: ClassVar[str] = "categorical_cross_entropy"
    metrics: ClassVar[tuple[str | Metric, ...]] = (recall_accuracy, sequence_accuracy)

    def __post_init__(self) -> None:
        object.__setattr__(self, "delay", positive_integer("delay", self.delay))
        object.__setattr__(self, "length", positive_integer("length", self.length))
        if positive_integer("num_symbols", self.num_symbols) < 2:
            raise ValueError(f"num_symbols must be at least 2, got {self.num_symbols}")
        object.__setattr__(self, "num_symbols", int(self.num_symbols))
        object.__setattr__(self, "seed", check_seed(self.seed))

    @property
    def num_steps(self) -> int:
        """Number of steps of a sequence: T + 2n."""
        return self.delay + 2 * self.length

    @property
    def input_size(self) -> int:
        """I: the symbols, the blank and the marker."""
        return self.num_symbols + 2

    @property
    def output_size(self) -> int:
        """O: the symbols and the blank."""
        return self.num_symbols + 1

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
        """
        dtype = check_draw(size, rng, dtype)
        n, blank = self.length, self.num_symbols
        symbols = rng.integers(self.num_symbols, size=(size, n))
        ids = np.full((size, self.num_steps), blank)
        targets = ids.copy()
        ids[:, :n], targets[:, -n:] = symbols, symbols
        ids[:, -n - 1] = blank + 1
        inputs = feature_major_zeros((*ids.shape, self.input_size), dtype)
        np.put_along_axis(inputs, ids[..., None], 1, axis=2)
        return Batch(inputs, targets)

    def memoryless_baseline_loss(self, batch: Batch) -> float:
        """Return the loss of the baseline of the paper, in nats per step: n log k / (T + 2n).

        It predicts a blank until the marker, then each symbol with probability 1/k. It uses the position of the marker
        and no symbol. (A predictor that uses the input of the current step only is worse: it cannot distinguish the
        blanks before and after the marker.)
        """
        del batch
        return float(self.length * np.log(self.num_symbols) / self.num_steps)
