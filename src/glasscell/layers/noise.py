"""Layers that draw noise in training, and change nothing outside it."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from glasscell.core.types import Array
from glasscell.layers.base import Mask
from glasscell.layers.batch_first import StatelessLayer
from glasscell.validation import non_negative_number, probability


@dataclass(frozen=True)
class SpatialDropout1D(StatelessLayer):
    """Drop whole features of a sequence: Tompson et al. (2015).

    During training, zero each feature at all steps with probability `rate`, and scale the others by 1 / (1 − rate).

    Parameters
    ----------
    rate : float
    """

    rate: float

    takes: ClassVar = "sequence"
    pointwise: ClassVar = True
    only_in_training: ClassVar = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "rate", probability("rate", self.rate))

    def forward(
        self, x: Array, mask: Mask | None = None, rng: np.random.Generator | None = None
    ) -> tuple[Array, Array | None]:
        """Drop features of x (..., T, F). Without a generator: x itself."""
        del mask
        if rng is None or not self.rate:
            return x, None
        kept = (rng.random((*x.shape[:-2], 1, x.shape[-1])) >= self.rate).astype(x.dtype) / x.dtype.type(1 - self.rate)
        return x * kept, kept

    def backward(self, tape: Array | None, d_outputs: Array) -> Array:
        """Compute the gradient on x."""
        return d_outputs if tape is None else d_outputs * tape

    def stream_stage(self, *, single: bool) -> None:
        """Return None: a stream is never in training."""
        del single


@dataclass(frozen=True)
class GaussianNoise(StatelessLayer):
    """Add normal noise during training.

    Parameters
    ----------
    deviation : float
        Standard deviation of the noise.
    """

    deviation: float

    pointwise: ClassVar = True
    only_in_training: ClassVar = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "deviation", non_negative_number("deviation", self.deviation))

    def forward(self, x: Array, mask: Mask | None = None, rng: np.random.Generator | None = None) -> tuple[Array, None]:
        """Add noise to x. Without a generator: x itself."""
        del mask
        if rng is None or not self.deviation:
            return x, None
        return x + rng.standard_normal(x.shape, x.dtype) * x.dtype.type(self.deviation), None

    def backward(self, tape: None, d_outputs: Array) -> Array:
        """Compute the gradient on x."""
        del tape
        return d_outputs

    def stream_stage(self, *, single: bool) -> None:
        """Return None: a stream is never in training."""
        del single


@dataclass(frozen=True)
class GaussianDropout(StatelessLayer):
    """Multiply by normal noise during training: mean 1, variance rate / (1 − rate), Srivastava et al. (2014).

    Parameters
    ----------
    rate : float
    """

    rate: float

    pointwise: ClassVar = True
    only_in_training: ClassVar = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "rate", probability("rate", self.rate))

    def forward(
        self, x: Array, mask: Mask | None = None, rng: np.random.Generator | None = None
    ) -> tuple[Array, Array | None]:
        """Multiply x by noise. Without a generator: x itself."""
        del mask
        if rng is None or not self.rate:
            return x, None
        deviation = x.dtype.type((self.rate / (1 - self.rate)) ** 0.5)
        factor = 1 + rng.standard_normal(x.shape, x.dtype) * deviation
        return x * factor, factor

    def backward(self, tape: Array | None, d_outputs: Array) -> Array:
        """Compute the gradient on x."""
        return d_outputs if tape is None else d_outputs * tape

    def stream_stage(self, *, single: bool) -> None:
        """Return None: a stream is never in training."""
        del single
