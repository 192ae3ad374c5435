"""Dropout as a layer."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from glasscell.core.types import Array
from glasscell.layers.base import LayerResult, Mask
from glasscell.layers.batch_first import StatelessLayer, first_axis_last, last_axis_first
from glasscell.validation import probability

if TYPE_CHECKING:
    from glasscell.core.buffers import BufferPool
    from glasscell.core.parameters import Parameters


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
        factors = self._factors(x.shape, rng, x.dtype)
        return x * factors, factors

    def backward(self, tape: Any, d_outputs: Array) -> Array:
        """Compute the gradient on x."""
        return d_outputs if tape is None else d_outputs * tape

    def _factors(self, shape: tuple[int, ...], rng: np.random.Generator, dtype: np.dtype[np.floating]) -> Array:
        """Draw 0 or 1/(1 - rate), in the layout (..., B) in memory for a shape (B, ...)."""
        kept = np.ascontiguousarray(first_axis_last(rng.random(shape) >= self.rate))
        return last_axis_first(kept * (1 / dtype.type(1 - self.rate)))

    def forward_feature_major(
        self,
        x: Array,
        mask: Mask | None = None,
        state: Any = None,
        rng: np.random.Generator | None = None,
        buffers: BufferPool | None = None,
        keep_tape: bool = True,
    ) -> LayerResult:
        """Apply dropout in core's layout; the factors are those of ``forward`` with the same generator."""
        del state, buffers
        if rng is None or not self.rate:
            return LayerResult(x, mask, None, None)
        factors = first_axis_last(self._factors(last_axis_first(x).shape, rng, x.dtype))
        return LayerResult(np.multiply(x, factors, order="C"), mask, None, factors if keep_tape else None)

    def backward_feature_major(
        self,
        tape: Any,
        d_outputs: Array,
        gradients: Parameters | None = None,
        buffers: BufferPool | None = None,
        need_dx: bool = True,
    ) -> Array:
        """Compute the gradient on x in core's layout."""
        del gradients, buffers, need_dx
        return self.backward(tape, d_outputs)

    def stream_stage(self, *, single: bool) -> None:
        """Return None: a stream is never in training."""
        del single
