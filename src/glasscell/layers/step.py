"""One step of each sequence."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from glasscell.core.layouts import feature_major_zeros
from glasscell.core.types import Array
from glasscell.layers.base import Mask
from glasscell.layers.batch_first import StatelessLayer
from glasscell.validation import integer

if TYPE_CHECKING:
    from glasscell.stream.building import Stage


@dataclass(frozen=True)
class Step(StatelessLayer):
    """One step of each sequence.

    The output for a sequence with no valid step is 0.

    Parameters
    ----------
    index : int
        From 0, counted from the first valid step; below 0, from the last one, -1.
    """

    index: int = -1

    takes: ClassVar = "sequence"
    gives: ClassVar = "vector"

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", integer("index", self.index))

    def forward(self, x: Array, mask: Mask | None = None, rng: np.random.Generator | None = None) -> tuple[Array, Any]:
        """Select from x (..., T, F) the step, (..., F)."""
        del rng
        T = x.shape[-2]
        if not -T <= self.index < T:
            raise ValueError(f"there is no step {self.index} in sequences of {T} steps")
        if mask is None:
            return x[..., self.index, :].copy("K"), (self.index % T, None, x.shape)
        at, nonempty = _valid_step_index(mask, self.index), np.asarray(mask.any(axis=-1))
        y = x[_each(at)]
        if not nonempty.all():
            y = np.where(nonempty[..., None], y, y.dtype.type(0))
        return y, (at, nonempty, x.shape)

    def backward(self, tape: Any, d_outputs: Array) -> Array:
        """Compute the gradient on x, 0 at all other steps."""
        dx = feature_major_zeros(tape[2], d_outputs.dtype)
        self.write_gradient(tape, d_outputs, dx)
        return dx

    def write_gradient(self, tape: Any, d_outputs: Array, dx: Array) -> None:
        """Write the gradient on the step that was selected into dx (..., T, F)."""
        at, nonempty, _ = tape
        if nonempty is None:
            dx[..., at, :] = d_outputs
            return
        dx[_each(at)] = d_outputs * nonempty[..., None]

    def stream_stage(self, *, single: bool) -> Stage:
        """Return the stage of a stream. Only the last step has one."""
        from glasscell.stream.reductions import LastStepStage  # noqa: PLC0415 - only where it is used

        del single
        if self.index != -1:
            raise ValueError(
                f"of the steps so far a stream gives the last, and {self!r} takes another; forward() runs it over a "
                "whole sequence"
            )
        return LastStepStage()


def _each(at: NDArray[np.intp]) -> tuple[NDArray[np.intp], ...]:
    """Return the index of these steps, one of each sequence: (B,), or () of a single one."""
    return (np.arange(len(at)), at) if at.ndim else (at,)


def _valid_step_index(mask: Mask, index: int) -> NDArray[np.intp]:
    """Return the time of the index-th valid step, clipped to the first and last one; any if no step is valid."""
    if index in (0, -1) and mask.shape[-1]:
        first: NDArray[np.intp] = (mask if index == 0 else mask[..., ::-1]).argmax(axis=-1)
        return first if index == 0 else mask.shape[-1] - 1 - first
    count = mask.sum(axis=-1)
    position = np.clip(index if index >= 0 else count + index, 0, np.maximum(count - 1, 0))
    at: NDArray[np.intp] = np.take_along_axis(np.argsort(~mask, axis=-1, kind="stable"), position[..., None], axis=-1)
    return at[..., 0]
