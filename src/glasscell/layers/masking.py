"""A step mask from the values of the inputs."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from glasscell.core.types import Array
from glasscell.layers.base import Mask
from glasscell.layers.batch_first import StatelessLayer
from glasscell.validation import finite_number

if TYPE_CHECKING:
    from glasscell.stream.building import Stage


@dataclass(frozen=True)
class Masking(StatelessLayer):
    """A mask for steps whose features all equal one value: later layers skip them.

    Parameters
    ----------
    value : float
    """

    value: float = 0.0

    takes: ClassVar = "sequence"
    pointwise: ClassVar = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", finite_number("value", self.value))

    def mask(self, x: Array) -> Mask:
        """Return the valid steps."""
        valid: Mask = (x != self.value).any(axis=-1)
        return valid

    def output_mask(self, x: Array, mask: Mask | None) -> Mask:
        """Return the mask of the outputs: the valid steps of x that are not masked here."""
        return self.mask(x) if mask is None else mask & self.mask(x)

    def forward(self, x: Array, mask: Mask | None = None, rng: np.random.Generator | None = None) -> tuple[Array, Any]:
        """Return x, with 0 at masked steps."""
        del mask, rng
        valid = self.mask(x)[..., None]
        return np.where(valid, x, x.dtype.type(0)), valid

    def backward(self, tape: Any, d_outputs: Array) -> Array:
        """Compute the gradient on x."""
        return np.where(tape, d_outputs, d_outputs.dtype.type(0))

    def stream_stage(self, *, single: bool) -> Stage:
        """Return the stage of a stream."""
        from glasscell.stream.stages import MaskingStage  # noqa: PLC0415 - only where it is used

        del single
        return MaskingStage(self.value)
