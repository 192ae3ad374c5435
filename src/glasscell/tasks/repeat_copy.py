"""Copying vectors several times: Graves, Wayne & Danihelka (2014), "Neural Turing Machines", section 4.2.

A sequence of n random vectors of 8 bits is read, then a number r. Then the model returns the vectors r times, and an
end marker after them, without any input. n and r are uniform from 1 to 10 in training.

    input:   v_1 … v_n   delimiter and r   0 … 0
    target:                                v_1 … v_n  v_1 … v_n  …   end marker

- r has an input channel for itself and is normalised to mean 0 and variance 1 over its values in training, as in the
  paper. A normalised number may be 0, hence a second channel marks the step of r by 1. The paper mentions none.
- The end marker is an additional output: 1 in the step after the last copy, where the targets of the bits are 0. All
  outputs of these n r + 1 steps count in the loss. The paper leaves both open.
- Figure 8 of the paper tests n = 10 with r = 20, and n = 20 with r = 10: `batch_of`.
- The paper has no criterion of a correct sequence; here all bits and markers are on the right side of 1/2.
"""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import DTypeLike

from glasscell.core.layouts import feature_major_zeros
from glasscell.data.batch import AnyArray, Batch
from glasscell.data.metrics import Metric
from glasscell.tasks.generated import GeneratedTask, check_draw, check_seed
from glasscell.tasks.vector_copy import bits_per_sequence, check_range, correct_prefix, is_correct
from glasscell.validation import positive_integer

__all__ = ["RepeatCopy", "bits_per_sequence", "correct_prefix", "is_correct"]


@dataclass(frozen=True)
class RepeatCopy(GeneratedTask):
    """The repeat copy task: return a sequence of vectors of bits several times, then an end marker.

    Graves, Wayne & Danihelka (2014), section 4.2; docs/tasks.md has the details. Inputs are (B, T, bits + 2): the bits,
    the delimiter and the number r of copies, with T = n + 1 + n r + 1; targets are (B, T, bits + 1): the bits and the
    end marker, with weight 1 at the last n r + 1 steps of a sequence.

    Parameters
    ----------
    bits : int
        Bits of a vector; 8 in the paper.
    min_length, max_length : int
        Smallest and largest n of training; 1 and 10 in the paper.
    min_repeats, max_repeats : int
        Smallest and largest r of training; 1 and 10 in the paper.
    seed : int
        Of the sequences for validation and test.

    Raises
    ------
    TypeError, ValueError
        If an argument is no integer, or out of range.

    Examples
    --------
    >>> import numpy as np
    >>> import glasscell as gc
    >>> batch = gc.tasks.RepeatCopy(bits=2).batch_of(1, 2, 2, np.random.default_rng(0))
    >>> batch.targets[0, 3:].astype(int).tolist()  # two vectors, twice, and the end marker
    [[1, 1, 0], [1, 0, 0], [1, 1, 0], [1, 0, 0], [0, 0, 1]]
    """

    bits: int = 8
    min_length: int = 1
    max_length: int = 10
    min_repeats: int = 1
    max_repeats: int = 10
    seed: int = 0

    loss: ClassVar[str] = "binary_cross_entropy"
    metrics: ClassVar[tuple[str | Metric, ...]] = (
        *("bit_accuracy", "sequence_accuracy"),
        *(correct_prefix, bits_per_sequence),
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "bits", positive_integer("bits", self.bits))
        for name in ("length", "repeats"):
            values = check_range(name, getattr(self, f"min_{name}"), getattr(self, f"max_{name}"))
            for limit, value in zip(("min", "max"), values, strict=True):
                object.__setattr__(self, f"{limit}_{name}", value)
        object.__setattr__(self, "seed", check_seed(self.seed))

    @property
    def input_size(self) -> int:
        """I: the bits, the delimiter, and the number of copies."""
        return self.bits + 2

    @property
    def output_size(self) -> int:
        """O: the bits, and the end marker."""
        return self.bits + 1

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
            Steps after the end of a sequence are 0, with weight 0.
        """
        dtype = check_draw(size, rng, dtype)
        counts = rng.integers(self.min_length, self.max_length, size, endpoint=True)
        repeats = rng.integers(self.min_repeats, self.max_repeats, size, endpoint=True)
        return self._build_batch(counts, repeats, rng, dtype)

    def batch_of(
        self, size: int, length: int, repeats: int, rng: np.random.Generator, dtype: DTypeLike = np.float32
    ) -> Batch:
        """Return `size` random sequences of `length` vectors and `repeats` copies, which may be outside the ranges."""
        dtype = check_draw(size, rng, dtype)
        counts = np.full(size, positive_integer("length", length))
        return self._build_batch(counts, np.full(size, positive_integer("repeats", repeats)), rng, dtype)

    def normalised_repeats(self, repeats: AnyArray) -> AnyArray:
        """Return numbers of copies with mean 0 and variance 1 over those of training; 0 if these have one value."""
        values = self.max_repeats - self.min_repeats + 1
        deviation = np.sqrt((values**2 - 1) / 12) if values > 1 else 1.0
        normalised: AnyArray = (repeats - (self.min_repeats + self.max_repeats) / 2) / deviation
        return normalised

    def _build_batch(self, counts: AnyArray, repeats: AnyArray, rng: np.random.Generator, dtype: DTypeLike) -> Batch:
        """Return sequences with these numbers of vectors and of copies, both (B,)."""
        size, k, answers = len(counts), self.bits, counts * repeats
        lengths = counts + answers + 2
        T = int(lengths.max(initial=0))
        inputs, targets, weights = (feature_major_zeros((size, T, F), dtype) for F in (k + 2, k + 1, 1))
        rows, steps = np.nonzero(np.arange(T) < counts[:, None])
        vectors = rng.integers(2, size=(len(rows), k))
        inputs[rows, steps, :k] = vectors
        every = np.arange(size)
        inputs[every, counts, k] = 1
        inputs[every, counts, k + 1] = self.normalised_repeats(repeats)
        rows, steps = np.nonzero(np.arange(T) < answers[:, None])
        first = np.cumsum(counts) - counts  # of each sequence, among all vectors
        targets[rows, counts[rows] + 1 + steps, :k] = vectors[first[rows] + steps % counts[rows]]
        targets[every, lengths - 1, k] = 1
        t = np.arange(T)
        weights[..., 0] = (t > counts[:, None]) & (t < lengths[:, None])
        return Batch(inputs, targets, weights, lengths)

    def memoryless_baseline_loss(self, batch: Batch) -> float:
        """Return the loss of the best predictor that uses the inputs of the current step only, in nats per output.

        All inputs of an answer are 0. It predicts how frequent 1 is among its n r + 1 steps in training: with m, the
        mean of n times that of r, m / (2m + 2) for each bit and 1 / (m + 1) for the end marker.
        """
        m = (self.min_length + self.max_length) * (self.min_repeats + self.max_repeats) / 4
        p = np.append(np.full(self.bits, m / (2 * m + 2)), 1 / (m + 1))
        has_target = batch.weights[..., 0] > 0 if batch.weights is not None else np.ones(batch.targets.shape[:2], bool)
        ones = batch.targets[has_target] > 0.5
        return float(-np.log(np.where(ones, p, 1 - p)).mean()) if ones.size else 0.0
