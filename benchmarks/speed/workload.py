"""Sequences, targets and initial weights, the same for all contenders."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from dataclasses import dataclass

import numpy as np

from glasscell.core.types import Array
from glasscell.layers import LSTM, Linear
from speed.shapes import Shape

OUTPUTS = 8  # of the readout behind the LSTM
LEARNING_RATE = 1e-3
CLIP_NORM = 0.05  # below the norm that these gradients have at first, so that everyone has to scale them


@dataclass(frozen=True)
class Workload:
    """Arrays in float32.

    Attributes
    ----------
    x : array (B, T, I)
    targets : array (B, T, O)
    weights : dict of str to array
        Of an nn.LSTM ``lstm`` and an nn.Linear ``readout``, under PyTorch's names; every ``bias_hh`` is 0.
    """

    shape: Shape
    x: Array
    targets: Array
    weights: dict[str, Array]

    def lstm_weights(self) -> dict[str, Array]:
        """Return the weights of the LSTM."""
        return {name.removeprefix("lstm."): array for name, array in self.weights.items() if name.startswith("lstm.")}


def make_workload(shape: Shape, seed: int = 0) -> Workload:
    """Draw a random workload."""
    rng = np.random.default_rng(seed)
    lstm = LSTM(shape.I, shape.H, shape.L, initializer="uniform", seed=rng)
    readout = Linear(shape.H, OUTPUTS, seed=rng)
    weights = {f"lstm.{name}": array for name, array in lstm.to_torch().items()}
    weights |= {f"readout.{name}": array.copy() for name, array in readout.parameters.items()}
    x, targets = (rng.normal(size=(shape.B, shape.T, n)).astype(np.float32) for n in (shape.I, OUTPUTS))
    return Workload(shape, x, targets, weights)
