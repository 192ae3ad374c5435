"""Dropout as a layer."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from glasscell.core.layouts import first_axis_last, last_axis_first
from glasscell.core.types import Array
from glasscell.layers.base import Mask
from glasscell.layers.batch_first import StatelessLayer
from glasscell.validation import probability


@dataclass(frozen=True)
class Dropout(StatelessLayer):
    """Inverted dropout: Srivastava et al. (2014).

    With a generator, as in training, each value becomes 0 with probability `rate`, and the others are scaled by
    1/(1 - rate).

    Parameters
    ----------
    rate : float
        In [0, 1).
    """

    rate: float

    pointwise: ClassVar = True
    only_in_training: ClassVar = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "rate", probability("rate", self.rate))

    def forward(self, x: Array, mask: Mask | None = None, rng: np.random.Generator | None = None) -> tuple[Array, Any]:
        """Apply dropout to x if there is a generator."""
        del mask
        if rng is None or not self.rate:
            return x, None
        # Drawn for the shape of x, but in core's layout (..., B) in memory, and so are the outputs: no copies there.
        is_kept = np.ascontiguousarray(first_axis_last(rng.random(x.shape) >= self.rate))
        factors = last_axis_first(is_kept * (1 / x.dtype.type(1 - self.rate)))
        return np.multiply(x, factors, out=np.empty_like(factors)), factors

    def backward(self, tape: Any, d_outputs: Array) -> Array:
        """Compute the gradient on x."""
        return d_outputs if tape is None else d_outputs * tape

    def stream_stage(self, *, single: bool) -> None:
        """Return None: a stream is never in training."""
        del single
