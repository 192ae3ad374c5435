"""Copying vectors of bits: Graves, Wayne & Danihelka (2014), "Neural Turing Machines", section 4.1.

A sequence of n random vectors of 8 bits is read, then a delimiter. In the n steps after it the model returns the
vectors, without any input. n is uniform from 1 to 20 in training; figures 4 and 5 of the paper test 10, 20, 30, 50 and
120.

    input:   v_1 … v_n   delimiter   0 … 0
    target:                          v_1 … v_n

- Bits are 0 and 1, and the delimiter is 1 on a separate input. In the steps after it all inputs are 0. A vector of
  eight zeros is therefore the same input as silence, but it comes before the delimiter.
- The paper counts bits (base 2) per sequence: :func:`bits_per_sequence`. The loss of training is the mean over bits, in
  nats, so that long sequences of a batch count more.
- In the paper all sequences of a batch have one length; here each has a random one. `batch_of_length` has one length.
- The paper has no criterion of a correct sequence; here all bits are on the right side of 1/2.
"""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypedDict

import numpy as np
from numpy.typing import DTypeLike, NDArray

from glasscell.core.layouts import feature_major_zeros
from glasscell.core.losses import binary_cross_entropy
from glasscell.core.types import Array
from glasscell.data.batch import AnyArray, Batch
from glasscell.data.metrics import Metric, WeightedSum, loss_count
from glasscell.tasks.generated import TEST, GeneratedTask, check_draw, check_seed, has_right_signs
from glasscell.validation import positive_integer

PAPER_LENGTHS = (10, 20, 30, 50, 120)  # of figures 4 and 5
ROWS_OF_TABLE = 100  # sequences of each length


class LengthScores(TypedDict):
    """Scores at one length: fractions of bits and sequences, vectors, and bits of information per sequence."""

    length: int
    bit_accuracy: float
    sequence_accuracy: float
    correct_prefix: float
    bits_per_sequence: float


def correct_vectors(outputs: Array, batch: Batch) -> NDArray[np.bool_]:
    """Return at which steps all bits are right, (B, T), from logits (B, T, bits); True at steps without target."""
    wrong: AnyArray = ~has_right_signs(outputs, batch.targets) & (_weights(batch) > 0)
    return np.logical_not(wrong.any(axis=-1))


def is_correct(outputs: Array, batch: Batch) -> NDArray[np.bool_]:
    """Return which sequences are copied without any wrong bit, (B,)."""
    return np.asarray(correct_vectors(outputs, batch).all(axis=1))


def correct_prefixes(outputs: Array, batch: Batch) -> NDArray[np.int64]:
    """Return how many vectors of each sequence are right before the first wrong one, (B,)."""
    has_target = (_weights(batch) > 0).any(axis=-1)
    unbroken = np.logical_and.accumulate(correct_vectors(outputs, batch), axis=1)
    prefixes: NDArray[np.int64] = (unbroken & has_target).sum(axis=1)
    return prefixes


def correct_prefix(outputs: Array, batch: Batch) -> WeightedSum:
    """Sum the vectors that are right before the first wrong one."""
    return WeightedSum(float(correct_prefixes(outputs, batch).sum()), float(len(outputs)))


def bits_per_sequence(outputs: Array, batch: Batch) -> WeightedSum:
    """Sum the cross-entropies of all bits, in bits: the cost of the paper."""
    nats, _ = binary_cross_entropy(outputs, batch.targets, batch.weights)
    return WeightedSum(nats * loss_count(batch) / float(np.log(2)), float(len(outputs)))


def _weights(batch: Batch) -> AnyArray:
    return np.ones(batch.targets.shape) if batch.weights is None else batch.weights


@dataclass(frozen=True)
class VectorCopy(GeneratedTask):
    """The copy task on sequences of random vectors of bits, of different lengths.

    Graves, Wayne & Danihelka (2014), section 4.1; docs/tasks.md has the details. Inputs are (B, T, bits + 1), with
    T = 2n + 1 for n vectors; targets are (B, T, bits), with weight 1 at the n steps after the delimiter.

    Parameters
    ----------
    bits : int
        Bits of a vector; 8 in the paper.
    min_length, max_length : int
        Smallest and largest n of training; 1 and 20 in the paper.
    seed : int
        Of the sequences for validation and test.

    Raises
    ------
    TypeError, ValueError
        If an argument is no integer, or out of range.

    Examples
    --------
    >>> import glasscell as gc
    >>> batch = gc.tasks.VectorCopy(bits=3).test_batch_of_length(2, size=1)
    >>> batch.inputs[0].astype(int).tolist()  # three bits, and the delimiter
    [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]]
    >>> batch.targets[0].astype(int).tolist(), batch.weights[0, :, 0].tolist()
    ([[0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]], [0.0, 0.0, 0.0, 1.0, 1.0])
    """

    bits: int = 8
    min_length: int = 1
    max_length: int = 20
    seed: int = 0

    loss: ClassVar[str] = "binary_cross_entropy"
    metrics: ClassVar[tuple[str | Metric, ...]] = (
        *("bit_accuracy", "sequence_accuracy"),
        *(correct_prefix, bits_per_sequence),
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "bits", positive_integer("bits", self.bits))
        shortest, longest = check_range("length", self.min_length, self.max_length)
        object.__setattr__(self, "min_length", shortest)
        object.__setattr__(self, "max_length", longest)
        object.__setattr__(self, "seed", check_seed(self.seed))

    @property
    def input_size(self) -> int:
        """I: the bits, and the delimiter."""
        return self.bits + 1

    @property
    def output_size(self) -> int:
        """O: the bits."""
        return self.bits

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
        return self._build_batch(counts, rng, dtype)

    def batch_of_length(self, size: int, length: int, rng: np.random.Generator, dtype: DTypeLike = np.float32) -> Batch:
        """Return `size` random sequences of `length` vectors each; the length may be outside the range of training."""
        dtype = check_draw(size, rng, dtype)
        return self._build_batch(np.full(size, positive_integer("length", length)), rng, dtype)

    def test_batch_of_length(self, length: int, size: int = ROWS_OF_TABLE, dtype: DTypeLike = np.float32) -> Batch:
        """Return sequences of `length` vectors, always the same ones."""
        rng = np.random.default_rng([self.seed, TEST, positive_integer("length", length)])
        return self.batch_of_length(size, length, rng, dtype)

    def length_table(
        self,
        predict: Callable[[Array], Array],
        lengths: Sequence[int] = PAPER_LENGTHS,
        size: int = ROWS_OF_TABLE,
        dtype: DTypeLike = np.float32,
    ) -> list[LengthScores]:
        """Return the scores of a model at each of several lengths, as in figures 4 and 5 of the paper.

        Parameters
        ----------
        predict : function
            Takes inputs (B, T, bits + 1) and returns logits (B, T, bits), such as a model.
        lengths : sequence of int
            Numbers of vectors.
        size : int
            Sequences of each length.
        dtype : float32 or float64
            Of the inputs.

        Returns
        -------
        list of dict
            With `length`; `bit_accuracy` and `sequence_accuracy`, the fractions of right bits and sequences;
            `correct_prefix`, the mean number of vectors before the first wrong one; and `bits_per_sequence`.
        """
        rows: list[LengthScores] = []
        for length in lengths:
            batch = self.test_batch_of_length(length, positive_integer("size", size), dtype)
            outputs = np.asarray(predict(batch.inputs))
            if outputs.shape != batch.targets.shape:
                raise ValueError(f"predict must return shape {batch.targets.shape}, got {outputs.shape}")
            right = has_right_signs(outputs, batch.targets)[:, length + 1 :]
            rows.append(
                {
                    "length": int(length),
                    "bit_accuracy": float(right.mean()),
                    "sequence_accuracy": float(is_correct(outputs, batch).mean()),
                    "correct_prefix": float(correct_prefixes(outputs, batch).mean()),
                    "bits_per_sequence": bits_per_sequence(outputs, batch).total / size,
                }
            )
        return rows

    def _build_batch(self, counts: AnyArray, rng: np.random.Generator, dtype: DTypeLike) -> Batch:
        """Return sequences with these numbers of vectors, (B,)."""
        lengths, k = 2 * counts + 1 if len(counts) else counts, self.bits
        T = int(lengths.max(initial=0))
        inputs, targets, weights = (feature_major_zeros((len(counts), T, F), dtype) for F in (k + 1, k, 1))
        rows, steps = np.nonzero(np.arange(T) < counts[:, None])
        vectors, answers = rng.integers(2, size=(len(rows), k)), counts[rows] + 1 + steps
        inputs[rows, steps, :k] = vectors
        inputs[np.arange(len(counts)), counts, k] = 1
        targets[rows, answers] = vectors
        weights[rows, answers] = 1
        return Batch(inputs, targets, weights, lengths)

    def memoryless_baseline_loss(self, batch: Batch) -> float:
        """Return the loss of the best predictor that uses the inputs of the current step only, in nats per bit: log 2.

        All inputs of an answer are 0, and each bit is 1 with probability 1/2.
        """
        del batch
        return float(np.log(2))


def check_range(name: str, smallest: int, largest: int) -> tuple[int, int]:
    """Return ``min_name`` and ``max_name``, if they are integers from 1, and not the largest one first."""
    smallest = positive_integer(f"min_{name}", smallest)
    if positive_integer(f"max_{name}", largest) < smallest:
        raise ValueError(f"max_{name} must be at least min_{name} = {smallest}, got {largest}")
    return smallest, int(largest)
