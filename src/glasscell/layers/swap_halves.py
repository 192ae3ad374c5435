"""The halves of the features exchanged."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from glasscell.core.types import Array
from glasscell.layers.base import Features, Mask
from glasscell.layers.batch_first import StatelessLayer

if TYPE_CHECKING:
    from glasscell.stream.building import Stage


@dataclass(frozen=True)
class SwapHalves(StatelessLayer):
    """The halves of the features exchanged: the reverse direction before the forward one, as in some formats."""

    def output_origin(self, origin: Features | None) -> Features | None:
        """Return the origin of the output features: that of the inputs, with the halves exchanged."""
        return None if origin is None else origin._replace(swapped=not origin.swapped)

    def forward(self, x: Array, mask: Mask | None = None, rng: np.random.Generator | None = None) -> tuple[Array, Any]:
        """Exchange the halves of x (..., F)."""
        del mask, rng
        return np.roll(x, x.shape[-1] // 2, axis=-1), None

    def backward(self, tape: Any, d_outputs: Array) -> Array:
        """Compute the gradient on x."""
        del tape
        return np.roll(d_outputs, d_outputs.shape[-1] // 2, axis=-1)

    def stream_stage(self, *, single: bool) -> Stage:
        """Return the stage of a stream."""
        from glasscell.stream.stages import SwapHalvesStage  # noqa: PLC0415 - only where it is used

        del single
        return SwapHalvesStage()
