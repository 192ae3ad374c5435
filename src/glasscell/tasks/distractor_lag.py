"""Long time lags with random symbols: Hochreiter & Schmidhuber (1997), "Long Short-Term Memory", experiments 2b and 2c.

Experiment 2b is 2a (:mod:`glasscell.tasks.noise_free_lag`) with random symbols: x or y, then p - 1 symbols drawn evenly
from a_1, …, a_{p-1}, then the first symbol again. At each step the model predicts the next symbol. Only the last one
can be predicted; the criterion is for that step alone.

Experiment 2c has p + 4 symbols a_1, …, a_p, e, b, x, y, and two outputs, for x and y:

    b x a … a e → x        b y a … a e → y

The number of symbols a between is q, the smallest one, and after that e follows with probability 1/10 at each step. The
model reads the sequence up to e and predicts which of x and y follows: a class at the end of the sequence.

- The paper draws distractors a_i with "1 ≤ i ≤ q", although there are p of them: here 1 ≤ i ≤ p, as in its table.
- The paper adds another distractor "with probability 1/10 or, alternatively, an e with probability 1/10": the first one
  must be 9/10. Its mean length q + 14 is by its own sum q + 13: q + 9 distractors, b, e, and two of x or y.
- The outputs of the paper are logistic units, trained on the squared error. Here a softmax gives probabilities, trained
  on the cross-entropy; the criteria are those of the paper, on these probabilities.
"""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from glasscell.core.layouts import feature_major_zeros
from glasscell.core.types import Array
from glasscell.data.batch import Batch
from glasscell.data.metrics import Metric, WeightedSum
from glasscell.tasks.generated import GeneratedTask, check_draw, check_seed, class_outputs, largest_errors
from glasscell.tasks.noise_free_lag import check_lag
from glasscell.validation import choice, positive_integer

EXPERIMENTS = ("2b", "2c")
TOLERANCES = {"2b": 0.25, "2c": 0.2}  # largest absolute error of all outputs of a correct sequence, in the paper
END_PROBABILITY = 0.1  # of e, after the first q distractors


def is_correct(outputs: Array, batch: Batch) -> NDArray[np.bool_]:
    """Return in which sequences all probabilities of the last symbol meet the criterion of the paper, (B,).

    They are within 0.25 of 0 or 1 (2b: outputs at every step) or within 0.2 (2c: outputs of the last step). A training
    of the paper is successful if 10,000 random sequences in succession are correct.
    """
    outputs, per_step = class_outputs(outputs, batch.targets), batch.targets.ndim == 2
    last = (outputs[:, -1], batch.targets[:, -1]) if per_step else (outputs, batch.targets)
    correct: NDArray[np.bool_] = largest_errors(*last) < TOLERANCES["2b" if per_step else "2c"]
    return correct


def sequence_accuracy(outputs: Array, batch: Batch) -> WeightedSum:
    """Count sequences whose last symbol meets the criterion of the paper."""
    return WeightedSum(float(is_correct(outputs, batch).sum()), float(len(outputs)))


@dataclass(frozen=True)
class DistractorLag(GeneratedTask):
    """Sequences with one relevant symbol at the beginning, and random symbols after it: predict the last symbol.

    Hochreiter & Schmidhuber (1997), experiments 2b and 2c; docs/tasks.md has the details.

    - 2b: inputs are (B, p, p + 1), in the order a_1, …, a_{p-1}, x, y; targets are the symbols that follow, (B, p).
    - 2c: inputs are (B, T, p + 4), in the order a_1, …, a_p, e, b, x, y, with lengths of at least q + 3; targets are
      (B,), 0 for x and 1 for y.

    Parameters
    ----------
    experiment : {"2b", "2c"}
    num_symbols : int
        p, at least 3 in 2b and 1 in 2c. The paper has 100 in 2b, and 50 to 1000 in 2c.
    min_distractors : int, optional
        q, the smallest number of distractors in 2c; the lag is q + 1 or more. The paper has 50 to 1000. Default: p.
    seed : int
        Of the sequences for validation and test.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range, or `min_distractors` is passed in experiment 2b, where their number is p - 1.

    Examples
    --------
    >>> import glasscell as gc
    >>> task = gc.tasks.DistractorLag("2b", num_symbols=4)
    >>> task.strings(task.test_batch(2))
    ['y a2 a1 a2 y', 'x a2 a1 a1 x']
    >>> task = gc.tasks.DistractorLag("2c", num_symbols=4, min_distractors=2)
    >>> task.strings(task.test_batch(1))
    ['b y a3 a4 a1 a2 a1 a1 a2 a4 a1 a4 a2 a1 a2 a2 a2 a2 a2 a2 a4 e y']
    """

    experiment: Literal["2b", "2c"] = "2b"
    num_symbols: int = 100
    min_distractors: int | None = None
    seed: int = 0

    loss: ClassVar[str] = "categorical_cross_entropy"
    metrics: ClassVar[tuple[str | Metric, ...]] = (sequence_accuracy,)

    def __post_init__(self) -> None:
        choice("experiment", self.experiment, EXPERIMENTS)
        smallest = 3 if self.experiment == "2b" else 1
        object.__setattr__(self, "num_symbols", check_lag("num_symbols", self.num_symbols, smallest))
        if self.min_distractors is not None:
            if self.experiment == "2b":
                raise ValueError(f"min_distractors must be None in experiment 2b, got {self.min_distractors!r:.100}")
            object.__setattr__(self, "min_distractors", positive_integer("min_distractors", self.min_distractors))
        object.__setattr__(self, "seed", check_seed(self.seed))

    @property
    def fewest_distractors(self) -> int:
        """Smallest number of random symbols in a sequence: p - 1 in 2b, q in 2c."""
        if self.experiment == "2b":
            return self.num_symbols - 1
        return self.num_symbols if self.min_distractors is None else self.min_distractors

    @property
    def input_size(self) -> int:
        """I: the number of symbols, p + 1 in 2b and p + 4 in 2c."""
        return self.num_symbols + (1 if self.experiment == "2b" else 4)

    @property
    def output_size(self) -> int:
        """O: all symbols in 2b, x and y in 2c."""
        return self.input_size if self.experiment == "2b" else 2

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
        is_y = rng.integers(2, size=size)
        return self._every_symbol(is_y, rng, dtype) if self.experiment == "2b" else self._last_symbol(is_y, rng, dtype)

    def _every_symbol(self, is_y: NDArray[np.int64], rng: np.random.Generator, dtype: DTypeLike) -> Batch:
        p, size = self.num_symbols, len(is_y)
        ids = rng.integers(p - 1, size=(size, p + 1))
        ids[:, 0] = ids[:, p] = p - 1 + is_y
        inputs = feature_major_zeros((size, p, p + 1), dtype)
        np.put_along_axis(inputs, ids[:, :-1, None], 1, axis=2)
        return Batch(inputs, np.ascontiguousarray(ids[:, 1:]))

    def _last_symbol(self, is_y: NDArray[np.int64], rng: np.random.Generator, dtype: DTypeLike) -> Batch:
        p, size = self.num_symbols, len(is_y)
        lengths = self.fewest_distractors + 2 + rng.geometric(END_PROBABILITY, size)  # a geometric number is at least 1
        T = int(lengths.max(initial=0))
        ids = rng.integers(p, size=(size, T))
        ids[:, :1] = p + 1  # b
        ids[:, 1:2] = p + 2 + is_y[:, None]
        ids[np.arange(size), lengths - 1] = p  # e
        inputs = feature_major_zeros((size, T, p + 4), dtype)
        np.put_along_axis(inputs, ids[..., None], 1, axis=2)
        inputs *= (np.arange(T) < lengths[:, None])[..., None]
        return Batch(inputs, is_y, None, lengths)

    def strings(self, batch: Batch) -> list[str]:
        """Return the sequences of a batch with their last symbol, such as ``b x a3 a1 a3 e x``."""
        p = self.num_symbols
        if self.experiment == "2b":
            symbols = names = [*(f"a{k + 1}" for k in range(p - 1)), "x", "y"]
        else:
            symbols, names = [*(f"a{k + 1}" for k in range(p)), "e", "b", "x", "y"], ["x", "y"]
        last = batch.targets[:, -1] if self.experiment == "2b" else batch.targets
        lengths = [batch.inputs.shape[1]] * len(last) if batch.lengths is None else batch.lengths
        rows = zip(batch.inputs.argmax(axis=-1), lengths, last, strict=True)
        return [" ".join([*(symbols[k] for k in row[:n]), names[target]]) for row, n, target in rows]

    def memoryless_baseline_loss(self, batch: Batch) -> float:
        """Return the loss of the best predictor that uses the current symbol only, in nats.

        2c: log 2, since the last symbol is always e.

        2b, with m = p - 1: (log m + (m - 1) log(m² / (m - 1)) + log 2m) / p. After x or y it predicts each a_i with
        probability 1/m. After a_i, the end of the sequence has the probability 1/m, hence x and y 1/2m each, and the
        others (m - 1) / m² each.
        """
        del batch
        if self.experiment == "2c":
            return float(np.log(2))
        m = self.num_symbols - 1
        return float(np.log(m) + (m - 1) * np.log(m * m / (m - 1)) + np.log(2 * m)) / self.num_symbols

    def loss_with_memory(self, batch: Batch) -> float:
        """Return the smallest expected loss, in nats: (p - 1) log(p - 1) / p in 2b, where distractors are random."""
        del batch
        m = self.num_symbols - 1
        return m * float(np.log(m)) / self.num_symbols if self.experiment == "2b" else 0.0
