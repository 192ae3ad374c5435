"""Activations as a layer."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from glasscell.core.activations import ACTIVATIONS, EXTRA_ACTIVATIONS, activation, softmax_terms
from glasscell.core.types import Array
from glasscell.layers.base import Mask
from glasscell.layers.batch_first import StatelessLayer

if TYPE_CHECKING:
    from glasscell.stream.building import Stage


@dataclass(frozen=True)
class Function(StatelessLayer):
    """An activation of every value, or Softmax or LogSoftmax over the features.

    Parameters
    ----------
    name : str
        A name of :func:`glasscell.core.activations.activation`, "Softmax" or "LogSoftmax".
    alpha, beta : float, optional
        Parameters of the activation.
    """

    name: str
    alpha: float | None = None
    beta: float | None = None

    pointwise: ClassVar = True

    def __post_init__(self) -> None:
        if self.name in ("Softmax", "LogSoftmax"):
            for field, value in (("alpha", self.alpha), ("beta", self.beta)):
                if value is not None:
                    raise ValueError(f"{field} must be None for {self.name}, which has no parameters, got {value!r}")
        else:
            names = [*ACTIVATIONS, *EXTRA_ACTIVATIONS, "Softmax", "LogSoftmax"]
            if str(self.name).lower() not in map(str.lower, names[:-2]):
                raise ValueError(f"name must be one of {', '.join(names)}, got {self.name!r}")
            for field, value in zip(("name", "alpha", "beta"), self._activation.spec, strict=True):
                object.__setattr__(self, field, value)

    @property
    def _activation(self) -> Any:
        return activation(self.name, self.alpha, self.beta)

    def forward(self, x: Array, mask: Mask | None = None, rng: np.random.Generator | None = None) -> tuple[Array, Any]:
        """Apply the function to x."""
        del mask, rng
        if self.name in ("Softmax", "LogSoftmax"):
            shifted, exponentials, total = softmax_terms(x)
            y = exponentials / total if self.name == "Softmax" else shifted - np.log(total)
        else:
            y = self._activation.function(x)
        return y, (x, y)

    def backward(self, tape: Any, d_outputs: Array) -> Array:
        """Compute the gradient on x."""
        x, y = tape
        dx: Array
        if self.name == "Softmax":
            dx = y * (d_outputs - (d_outputs * y).sum(axis=-1, keepdims=True))
        elif self.name == "LogSoftmax":
            dx = d_outputs - np.exp(y) * d_outputs.sum(axis=-1, keepdims=True)
        else:
            dx = self._activation.derivative(x, y) * d_outputs
        return dx

    def stream_stage(self, *, single: bool) -> Stage:
        """Return the stage of a stream."""
        from glasscell.stream.stages import ActivationStage  # noqa: PLC0415 - only where it is used

        del single
        return ActivationStage(self.name, self.alpha, self.beta)
