"""The adding problem: Hochreiter & Schmidhuber (1997), "Long Short-Term Memory", experiment 4.

Each step has a number, uniform in [-1, 1], and a marker. Two numbers of a sequence are marked; after its last step the
target is their sum X1 + X2, scaled to 1/2 + (X1 + X2) / 4, in [0, 1]. The model must store two numbers precisely for at
least half of the sequence.

- The length is uniform from T to T + T/10.
- Markers are 1 at the two numbers, -1 at the first and the last step, and 0 elsewhere.
- The first of the two is one of the first ten steps; the second one of the first T/2 - 1 steps that are left.
- If the first step is chosen, its number counts as 0: its marker remains -1.
"""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import DTypeLike

from glasscell.data.batch import Batch
from glasscell.data.metrics import Metric
from glasscell.tasks.generated import GeneratedTask, check_draw, check_min_length, check_seed
from glasscell.tasks.marked_numbers import FIRST_CHOICES, draw_marked_numbers, is_correct, sequence_accuracy

__all__ = ["Adding", "is_correct", "sequence_accuracy"]


@dataclass(frozen=True)
class Adding(GeneratedTask):
    """The adding problem: add the two marked numbers of a sequence.

    Hochreiter & Schmidhuber (1997), experiment 4; docs/tasks.md has the details. Inputs are (B, T, 2), a number and a
    marker, with lengths from T to T + T/10; targets are (B, 1), in [0, 1].

    Parameters
    ----------
    min_length : int
        T, at least 20. The paper has 100, 500 and 1000.
    seed : int
        Of the sequences for validation and test.

    Examples
    --------
    >>> import glasscell as gc
    >>> task = gc.tasks.Adding(min_length=20)
    >>> batch = task.test_batch(3)
    >>> batch.inputs.shape[::2], batch.targets.shape, batch.lengths.shape
    ((3, 2), (3, 1), (3,))
    """

    min_length: int = 100
    seed: int = 0

    loss: ClassVar[str] = "squared_error"
    metrics: ClassVar[tuple[Metric, ...]] = (sequence_accuracy,)
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
        drawn = draw_marked_numbers(size, self.min_length, -1, rng, dtype)
        total = (drawn.marked * ~drawn.is_first).sum(axis=1, keepdims=True)
        return Batch(drawn.inputs, 0.5 + total / 4, None, drawn.lengths)

    def memoryless_baseline_loss(self, batch: Batch) -> float:
        """Return the loss of the best predictor that uses the inputs of the last step only: it predicts 1/2.

        Notes
        -----
        Its expected value is (2 - 1/10 - 9/10 / (T/2 - 1)) / 48, about 0.039: a marked number has the variance 1/3,
        and the first step is chosen in the other cases.
        """
        return float(np.square(batch.targets - 0.5, dtype=np.float64).mean())
