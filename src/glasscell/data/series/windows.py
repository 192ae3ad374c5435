"""Windows of a series as training data: every step of a window has targets, the values that follow it."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
from numpy.typing import DTypeLike

from glasscell.core.types import Array
from glasscell.data.batch import Batch
from glasscell.data.metrics import Loss
from glasscell.validation import positive_integer


class WindowData:
    """Windows at random places of the training part of one series; batches never end.

    Parameters
    ----------
    inputs : array (T, I)
    targets : array (T, O)
        For each step, values of later steps.
    training : int
        Number of steps, from the first, whose inputs and targets are in the training part.
    window : int
        Steps of a window, at most `training`.
    burn_in : int
        Steps at the beginning of a window whose targets do not count, less than `window`.
    validation : int
        Number of steps at the end of `inputs` whose targets are in the validation part. Default: 0, no validation.
    loss : str or callable
        As in :func:`glasscell.fit`.
    """

    endless: ClassVar = True
    metrics: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        inputs: Array,
        targets: Array,
        *,
        training: int,
        window: int,
        burn_in: int,
        validation: int = 0,
        loss: str | Loss,
    ) -> None:
        self.inputs, self.targets, self.loss = inputs, targets, loss
        self.training = positive_integer("training", training)
        self.window = positive_integer("window", window)
        if window > training:
            raise ValueError(f"window must be at most {training}, the steps of the training part, got {window}")
        if not 0 <= burn_in < window:
            raise ValueError(f"burn_in must be from 0 to window - 1 = {window - 1}, got {burn_in}")
        if not 0 <= validation <= len(inputs) - training:
            raise ValueError(f"validation must be from 0 to {len(inputs) - training} steps, got {validation}")
        self.burn_in, self.validation_steps = burn_in, validation

    def batches(self, size: int, rng: np.random.Generator, dtype: DTypeLike) -> Iterator[Batch]:
        """Yield batches of `size` windows, endlessly."""
        x, y = self.inputs[: self.training].astype(dtype), self.targets[: self.training].astype(dtype)
        weights: Array = np.ones((size, self.window, 1), dtype)
        weights[:, : self.burn_in] = 0
        while True:
            starts = rng.integers(0, self.training - self.window + 1, size)
            steps = starts[:, None] + np.arange(self.window)
            yield Batch(x[steps], y[steps], weights)

    def validation(self, size: int, dtype: DTypeLike) -> list[Batch] | None:
        """Return one batch of one sequence: the steps of the validation part, after a window of earlier steps."""
        del size
        if not self.validation_steps:
            return None
        first = max(0, len(self.inputs) - self.validation_steps - self.window)
        steps = slice(first, len(self.inputs))
        weights: Array = np.ones((1, len(self.inputs) - first, 1), dtype)
        weights[:, : -self.validation_steps] = 0
        return [Batch(self.inputs[None, steps].astype(dtype), self.targets[None, steps].astype(dtype), weights)]
