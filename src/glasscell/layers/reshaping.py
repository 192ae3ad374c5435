"""Layers that change axes alone: of a sequence one vector, of a vector a sequence, numbers with or without features."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from glasscell.core.types import Array
from glasscell.layers.base import Mask
from glasscell.layers.batch_first import StatelessLayer, check_mask
from glasscell.validation import boolean, positive_integer

if TYPE_CHECKING:
    from glasscell.stream.building import Stage


@dataclass(frozen=True)
class RepeatVector(StatelessLayer):
    """Repeat a vector: a sequence of equal steps, as a decoder takes it.

    Parameters
    ----------
    times : int
        Number of steps.
    """

    times: int

    takes: ClassVar = "vector"
    gives: ClassVar = "sequence"

    @property
    def keeps_feature_count(self) -> bool:
        """Return False."""
        return False

    def __post_init__(self) -> None:
        object.__setattr__(self, "times", positive_integer("times", self.times))

    def forward(self, x: Array, mask: Mask | None = None, rng: np.random.Generator | None = None) -> tuple[Array, None]:
        """From (..., F) to (..., times, F)."""
        del mask, rng
        return np.repeat(x[..., None, :], self.times, axis=-2), None

    def backward(self, tape: None, d_outputs: Array) -> Array:
        """Compute the gradient on x."""
        del tape
        dx: Array = d_outputs.sum(axis=-2)
        return dx

    def stream_stage(self, *, single: bool) -> Stage:
        """Raise an error: a stream gives one step for one."""
        del single
        raise ValueError(f"{self!r} gives several steps for one; forward() runs it over a whole sequence")


@dataclass(frozen=True)
class Flatten(StatelessLayer):
    """Join the features of all steps to one vector, step by step.

    Parameters
    ----------
    ignore_mask : bool
        Whether padded steps are taken like valid ones, as Keras does. Default: a ValueError where a sequence is padded.
    """

    ignore_mask: bool = False

    takes: ClassVar = "sequence"
    gives: ClassVar = "vector"

    def __post_init__(self) -> None:
        boolean("ignore_mask", self.ignore_mask)

    @property
    def keeps_feature_count(self) -> bool:
        """Return False."""
        return False

    def output_features(self, features: int | None) -> None:
        """Return None: the number of features depends on the number of steps."""
        del features

    def forward(
        self, x: Array, mask: Mask | None = None, rng: np.random.Generator | None = None
    ) -> tuple[Array, tuple[int, ...]]:
        """From (..., T, F) to (..., T · F)."""
        del rng
        check_mask(self, mask, ignore=self.ignore_mask)
        return x.reshape(*x.shape[:-2], x.shape[-2] * x.shape[-1]), x.shape

    def backward(self, tape: tuple[int, ...], d_outputs: Array) -> Array:
        """Compute the gradient on x."""
        return d_outputs.reshape(tape)

    def stream_stage(self, *, single: bool) -> Stage:
        """Raise an error: a stream has one step at a time."""
        del single
        raise ValueError(
            f"{self!r} joins all steps of a sequence, of which one is there at a time; forward() runs it over a whole "
            "sequence"
        )


@dataclass(frozen=True)
class Unsqueeze(StatelessLayer):
    """Add an axis of one feature to sequences of numbers: (B, T) or (T,). Only the first layer can be one."""

    position: ClassVar = "first"
    inputs: ClassVar = "numbers"

    @property
    def input_features(self) -> int:
        """Return 1."""
        return 1

    def output_features(self, features: int | None) -> int:
        """Return 1."""
        del features
        return 1

    def forward(self, x: Array, mask: Mask | None = None, rng: np.random.Generator | None = None) -> tuple[Array, None]:
        """From (...) to (..., 1)."""
        del mask, rng
        return x[..., None], None

    def backward(self, tape: None, d_outputs: Array) -> Array:
        """Compute the gradient on x."""
        del tape
        return d_outputs[..., 0]

    def stream_stage(self, *, single: bool) -> Stage:
        """Return the stage of a stream."""
        from glasscell.stream.stages import UnsqueezeStage  # noqa: PLC0415 - only where it is used

        del single
        return UnsqueezeStage()


@dataclass(frozen=True)
class Squeeze(StatelessLayer):
    """Remove the axis of one feature: outputs are (B, T), or (B,) of one vector. Only the last layer can be one."""

    position: ClassVar = "last"
    outputs: ClassVar = "numbers"

    def output_features(self, features: int | None) -> int:
        """Return 1."""
        if features not in (None, 1):
            raise ValueError("takes 1 feature")
        return 1

    def forward(self, x: Array, mask: Mask | None = None, rng: np.random.Generator | None = None) -> tuple[Array, None]:
        """From (..., 1) to (...)."""
        del mask, rng
        if x.shape[-1] != 1:
            raise ValueError(f"x must have 1 feature, got {x.shape[-1]}")
        return x[..., 0], None

    def backward(self, tape: None, d_outputs: Array) -> Array:
        """Compute the gradient on x."""
        del tape
        return d_outputs[..., None]

    def stream_stage(self, *, single: bool) -> Stage:
        """Return the stage of a stream."""
        from glasscell.stream.stages import SqueezeStage  # noqa: PLC0415 - only where it is used

        del single
        return SqueezeStage()
