"""The final hidden states of an LSTM, selected from its outputs."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from glasscell.core.layouts import feature_major_zeros
from glasscell.core.types import Array
from glasscell.layers.base import Features, Mask
from glasscell.layers.batch_first import StatelessLayer
from glasscell.layers.step import Step
from glasscell.validation import choice

if TYPE_CHECKING:
    from glasscell.stream.building import Stage


@dataclass(frozen=True)
class FinalState(StatelessLayer):
    """The final hidden state of each direction of an LSTM, selected from its outputs.

    That is the last valid step of the forward half, and the first valid step of the reverse half.

    Parameters
    ----------
    directions : "forward", "reverse" or "both", optional
        The directions among the features. Default: in a :class:`glasscell.Sequential`, those of the LSTM before it; if
        there is none, "both" if one is kept or they are merged, otherwise "forward".
    keep : "forward", "reverse" or "both"
        Which of two to keep.
    merge : "concat", "sum", "average" or "multiply"
        How two directions become one vector: side by side, or combined unit by unit.
    """

    directions: Literal["forward", "reverse", "both"] | None = None
    keep: Literal["forward", "reverse", "both"] = "both"
    merge: Literal["concat", "sum", "average", "multiply"] = "concat"

    takes: ClassVar = "sequence"
    gives: ClassVar = "vector"
    _processing_order: ClassVar[bool] = False  # set on the instance by `behind`: not an argument, and not in files

    def __post_init__(self) -> None:
        choice("directions", self.directions, (None, "forward", "reverse", "both"))
        choice("keep", self.keep, ("forward", "reverse", "both"))
        choice("merge", self.merge, ("concat", "sum", "average", "multiply"))
        if self.directions is None and (self.keep != "both" or self.merge != "concat"):
            object.__setattr__(self, "directions", "both")  # one of two is kept, or two are merged
        if self.merge != "concat" and (self.directions, self.keep) != ("both", "both"):
            raise ValueError(f"merge is {self.merge!r}, and there is one direction")

    def behind(self, origin: Features | None) -> FinalState:
        """Return this layer with the directions of the LSTM whose outputs it takes.

        Raises
        ------
        ValueError
            If others are stated, or the outputs do not hold the final states at their ends.
        """
        if origin is None:
            return replace(self, directions=self.directions or "forward")
        if origin.directions == "both" and origin.merge != "concat":
            raise ValueError(
                f"must have both directions side by side, and the LSTM before it has merge={origin.merge!r}: "
                f"let that be 'concat', and use FinalState(merge={origin.merge!r})"
            )
        if origin.directions == "both" and origin.swapped:
            raise ValueError(
                "must be before the SwapHalves behind a bidirectional LSTM, which exchanges the directions"
            )
        directions = origin.directions
        if directions == "reverse" and origin.processing_order:
            directions = "forward"  # the final state is the last of the outputs
        if self.directions not in (None, directions):
            raise ValueError(f"must have directions={directions!r}, as the LSTM before it, got {self.directions!r}")
        layer = replace(self, directions=directions)
        if origin.directions == "reverse" and origin.processing_order:
            object.__setattr__(layer, "_processing_order", True)
        return layer

    @property
    def halves(self) -> bool:
        """Whether there are half as many output features as input features."""
        return self.directions == "both" and (self.keep != "both" or self.merge != "concat")

    @property
    def keeps_feature_count(self) -> bool:
        """Whether outputs have as many features as inputs."""
        return not self.halves

    def output_features(self, features: int | None) -> int | None:
        """Return the number of features of the outputs."""
        return features // 2 if features and self.halves else features

    def forward(self, x: Array, mask: Mask | None = None, rng: np.random.Generator | None = None) -> tuple[Array, Any]:
        """Select from x (..., T, F): (..., F), or (..., F/2) if one of two directions is kept, or two are merged."""
        del rng
        if self._processing_order and mask is not None:
            mask = mask[..., ::-1]  # outputs begin with the last step, masks do not
        parts, tapes = zip(
            *(Step(index).forward(x[..., columns], mask) for index, columns in self._split(x.shape[-1])), strict=True
        )
        return self._merge_directions(parts), (parts, tapes, x.shape)

    def backward(self, tape: Any, d_outputs: Array) -> Array:
        """Compute the gradient on x."""
        parts, tapes, shape = tape
        dx = feature_major_zeros(shape, d_outputs.dtype)
        for (index, columns), step_tape, d_part in zip(
            self._split(shape[-1]), tapes, self._split_gradient(parts, d_outputs), strict=True
        ):
            Step(index).write_gradient(step_tape, d_part, dx[..., columns])
        return dx

    def _merge_directions(self, parts: Sequence[Array]) -> Array:
        if self.merge == "concat":
            return np.concatenate(parts, axis=-1)
        forward, back = parts
        if self.merge == "multiply":
            return forward * back
        return forward + back if self.merge == "sum" else (forward + back) / 2

    def _split_gradient(self, parts: Sequence[Array], d_outputs: Array) -> Sequence[Array]:
        """Return the gradient on each direction."""
        if self.merge == "concat":
            F = parts[0].shape[-1]
            return [d_outputs[..., :F], d_outputs[..., F:]][: len(parts)]
        if self.merge == "multiply":
            return [d_outputs * parts[1], d_outputs * parts[0]]
        return [d_outputs, d_outputs] if self.merge == "sum" else [d_outputs / 2, d_outputs / 2]

    def _split(self, F: int) -> list[tuple[int, slice]]:
        if self.directions != "both":
            return [(0 if self.directions == "reverse" else -1, slice(0, F))]
        halves = {"forward": (-1, slice(0, F // 2)), "reverse": (0, slice(F // 2, F))}
        return [half for name, half in halves.items() if self.keep in (name, "both")]

    def stream_stage(self, *, single: bool) -> Stage:
        """Return the stage of a stream. Only the forward direction has one."""
        from glasscell.stream.reductions import LastStepStage  # noqa: PLC0415 - only where it is used

        del single
        if self.directions != "forward":
            raise ValueError(
                f"of the steps so far a stream gives the last, and {self!r} takes another; forward() runs it over a "
                "whole sequence"
            )
        return LastStepStage()
