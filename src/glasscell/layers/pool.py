"""Pooling over a whole sequence."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from glasscell.core.types import Array
from glasscell.layers.base import Mask
from glasscell.layers.batch_first import StatelessLayer
from glasscell.validation import choice

if TYPE_CHECKING:
    from glasscell.stream.building import Stage


@dataclass(frozen=True)
class Pool(StatelessLayer):
    """The mean or the largest value of each feature over the valid steps of a sequence.

    Parameters
    ----------
    how : {"mean", "max"}
    """

    how: Literal["mean", "max"] = "mean"

    takes: ClassVar = "sequence"
    gives: ClassVar = "vector"

    def __post_init__(self) -> None:
        choice("how", self.how, ("mean", "max"))

    def forward(self, x: Array, mask: Mask | None = None, rng: np.random.Generator | None = None) -> tuple[Array, Any]:
        """Pool x (..., T, F) to (..., F)."""
        del rng
        valid = np.ones(x.shape[:-1], np.bool_) if mask is None else mask
        count = valid.sum(axis=-1)
        if not count.all():
            raise ValueError("a sequence without a step has nothing to be pooled")
        if self.how == "mean":
            share = (valid / count[..., None]).astype(x.dtype)[..., None]
        else:
            largest = np.where(valid[..., None], x, -np.inf).argmax(axis=-2)
            share = np.zeros_like(x)
            np.put_along_axis(share, largest[..., None, :], 1, axis=-2)
        return (np.where(valid[..., None], x, x.dtype.type(0)) * share).sum(axis=-2), (share, x.shape)

    def backward(self, tape: Any, d_outputs: Array) -> Array:
        """Compute the gradient on x."""
        share, shape = tape
        return np.broadcast_to(share * d_outputs[..., None, :], shape).copy()

    def stream_stage(self, *, single: bool) -> Stage:
        """Return the stage of a stream."""
        from glasscell.stream.reductions import TimePoolingStage  # noqa: PLC0415 - only where it is used

        del single
        return TimePoolingStage(self.how)
