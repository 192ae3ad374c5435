"""Layers without parameters: functions, dropout, and what makes one vector of a sequence.

Their protocol is that of :class:`glasscell.layers.base.StatelessLayer`.
"""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from glasscell.core.activations import activation
from glasscell.core.types import Array
from glasscell.layers.base import Mask, StatelessLayer
from glasscell.validation import choice, finite_number, integer, probability

if TYPE_CHECKING:
    from glasscell.recurrent.config import LSTMConfig
    from glasscell.stream.building import Stage


@dataclass(frozen=True)
class Function(StatelessLayer):
    """An activation at every place: one of :func:`glasscell.core.activations.activation`, Softmax or LogSoftmax.

    Parameters
    ----------
    name : str
    alpha, beta : float, optional
    """

    name: str
    alpha: float | None = None
    beta: float | None = None

    def __post_init__(self) -> None:
        if self.name in ("Softmax", "LogSoftmax"):
            for field, value in (("alpha", self.alpha), ("beta", self.beta)):
                if value is not None:
                    raise ValueError(f"{field} must be None for {self.name}, which has no parameters, got {value!r}")
        else:
            for field, value in zip(("name", "alpha", "beta"), self._activation.parameters, strict=True):
                object.__setattr__(self, field, value)

    @property
    def _activation(self) -> Any:
        return activation(self.name, self.alpha, self.beta)

    def forward(self, x: Array, mask: Mask | None = None, rng: np.random.Generator | None = None) -> tuple[Array, Any]:
        """The function of x."""
        del mask, rng
        if self.name in ("Softmax", "LogSoftmax"):
            shifted = x - x.max(axis=-1, keepdims=True)
            odds = np.exp(shifted)
            total = odds.sum(axis=-1, keepdims=True)
            y = odds / total if self.name == "Softmax" else shifted - np.log(total)
        else:
            y = self._activation.function(x)
        return y, (x, y)

    def backward(self, tape: Any, dy: Array) -> Array:
        """The gradient on x."""
        x, y = tape
        dx: Array
        if self.name == "Softmax":
            dx = y * (dy - (dy * y).sum(axis=-1, keepdims=True))
        elif self.name == "LogSoftmax":
            dx = dy - np.exp(y) * dy.sum(axis=-1, keepdims=True)
        else:
            dx = self._activation.derivative(x, y) * dy
        return dx

    def stream_stage(self, *, single: bool) -> Stage:
        """Return the stage of a stream."""
        from glasscell.stream.stages import ActivationStage  # noqa: PLC0415 - only where it is used

        del single
        return ActivationStage(self.name, self.alpha, self.beta)


@dataclass(frozen=True)
class Dropout(StatelessLayer):
    """In training, each value 0 with this probability, and the others larger for it: Srivastava et al. (2014)."""

    rate: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "rate", probability("rate", self.rate))

    def forward(self, x: Array, mask: Mask | None = None, rng: np.random.Generator | None = None) -> tuple[Array, Any]:
        """What is left of x; all of it without a generator."""
        del mask
        if rng is None or not self.rate:
            return x, None
        kept = (rng.random(x.shape) >= self.rate).astype(x.dtype) / x.dtype.type(1 - self.rate)
        return x * kept, kept

    def backward(self, tape: Any, dy: Array) -> Array:
        """The gradient on x."""
        return dy if tape is None else dy * tape

    def stream_stage(self, *, single: bool) -> None:
        """Return None: a stream is never in training."""
        del single


@dataclass(frozen=True)
class Step(StatelessLayer):
    """One step of each sequence, counted from its first (0) or, below 0, from its last own step (-1).

    A sequence without a step gives 0.
    """

    index: int = -1

    takes: ClassVar = "sequence"
    gives: ClassVar = "vector"

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", integer("index", self.index))

    def forward(self, x: Array, mask: Mask | None = None, rng: np.random.Generator | None = None) -> tuple[Array, Any]:
        """From (..., T, F) to (..., F)."""
        del rng
        T = x.shape[-2]
        if not -T <= self.index < T:
            raise ValueError(f"there is no step {self.index} in sequences of {T} steps")
        at: NDArray[np.intp] = np.full(x.shape[:-2], self.index % T)
        some: Mask = np.ones(x.shape[:-2], np.bool_)
        if mask is not None:
            at, some = _valid_step_index(mask, self.index), np.asarray(mask.any(axis=-1))
        y = np.take_along_axis(x, at[..., None, None], axis=-2)[..., 0, :]
        return np.where(some[..., None], y, y.dtype.type(0)), (at, some, x.shape)

    def backward(self, tape: Any, dy: Array) -> Array:
        """The gradient on x: 0 at all other steps."""
        at, some, shape = tape
        dx = np.zeros(shape, dy.dtype)
        np.put_along_axis(dx, at[..., None, None], (dy * some[..., None])[..., None, :], axis=-2)
        return dx

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


@dataclass(frozen=True)
class FinalState(StatelessLayer):
    """From the outputs of an LSTM, the hidden state at the end of each direction's way.

    That is the last own step of the forward half, and the first of the reverse half.

    Parameters
    ----------
    directions : "forward", "reverse" or "both", optional
        What the features are: one direction, or two side by side. Default: in a :class:`glasscell.Sequential`, those of
        the LSTM before it; where there is none, "both" if one is kept or they are merged, and else "forward".
    keep : "forward", "reverse" or "both"
        Which of two to keep.
    merge : "concat", "sum", "average" or "multiply"
        How two that are kept become one vector: side by side, or a number for each unit.
    """

    directions: Literal["forward", "reverse", "both"] | None = None
    keep: Literal["forward", "reverse", "both"] = "both"
    merge: Literal["concat", "sum", "average", "multiply"] = "concat"

    takes: ClassVar = "sequence"
    gives: ClassVar = "vector"

    def __post_init__(self) -> None:
        choice("directions", self.directions, (None, "forward", "reverse", "both"))
        choice("keep", self.keep, ("forward", "reverse", "both"))
        choice("merge", self.merge, ("concat", "sum", "average", "multiply"))
        if self.directions is None and (self.keep != "both" or self.merge != "concat"):
            object.__setattr__(self, "directions", "both")  # what is one of two, or made of two
        if self.merge != "concat" and (self.directions, self.keep) != ("both", "both"):
            raise ValueError(f"merge is {self.merge!r}, and there is one direction")

    def behind(self, options: LSTMConfig | None) -> FinalState:
        """Return this layer with the directions of the features behind an LSTM with these options; None: no LSTM.

        Raises
        ------
        ValueError
            If they are stated, and are others.
        """
        if options is None:
            return replace(self, directions=self.directions or "forward")
        if options.bidirectional and options.merge != "concat":
            raise ValueError(
                f"must have both directions side by side, and the LSTM before it has merge={options.merge!r}: "
                f"let that be 'concat', and use FinalState(merge={options.merge!r})"
            )
        own: Literal["forward", "reverse", "both"] = "forward"
        if options.bidirectional:
            own = "both"
        elif options.reverse and options.outputs_in == "time":
            own = "reverse"
        if self.directions not in (None, own):
            raise ValueError(f"must have directions={own!r}, as the LSTM before it, got {self.directions!r}")
        return replace(self, directions=own)

    @property
    def halves(self) -> bool:
        """Whether it gives half as many features as it takes."""
        return self.directions == "both" and (self.keep != "both" or self.merge != "concat")

    def output_features(self, features: int | None) -> int | None:
        """Return the number of features of the outputs."""
        return features // 2 if features and self.halves else features

    def forward(self, x: Array, mask: Mask | None = None, rng: np.random.Generator | None = None) -> tuple[Array, Any]:
        """From (..., T, F) to (..., F), or (..., F/2) if one of two directions is kept, or two become one."""
        del rng
        parts, tapes = zip(*(Step(at).forward(x[..., of], mask) for at, of in self._parts(x.shape[-1])), strict=True)
        return self._merged(parts), (parts, tapes, x.shape)

    def backward(self, tape: Any, dy: Array) -> Array:
        """The gradient on x."""
        parts, tapes, shape = tape
        dx = np.zeros(shape, dy.dtype)
        for (index, of), one, d_part in zip(self._parts(shape[-1]), tapes, self._apart(parts, dy), strict=True):
            dx[..., of] = Step(index).backward(one, d_part)
        return dx

    def _merged(self, parts: Sequence[Array]) -> Array:
        if self.merge == "concat":
            return np.concatenate(parts, axis=-1)
        forward, back = parts
        if self.merge == "multiply":
            return forward * back
        return forward + back if self.merge == "sum" else (forward + back) / 2

    def _apart(self, parts: Sequence[Array], dy: Array) -> Sequence[Array]:
        """The gradient on each part."""
        if self.merge == "concat":
            F = parts[0].shape[-1]
            return [dy[..., :F], dy[..., F:]][: len(parts)]
        if self.merge == "multiply":
            return [dy * parts[1], dy * parts[0]]
        return [dy, dy] if self.merge == "sum" else [dy / 2, dy / 2]

    def _parts(self, F: int) -> list[tuple[int, slice]]:
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


@dataclass(frozen=True)
class Pool(StatelessLayer):
    """The mean or the largest value of each feature over a sequence's own steps."""

    how: Literal["mean", "max"] = "mean"

    takes: ClassVar = "sequence"
    gives: ClassVar = "vector"

    def __post_init__(self) -> None:
        choice("how", self.how, ("mean", "max"))

    def forward(self, x: Array, mask: Mask | None = None, rng: np.random.Generator | None = None) -> tuple[Array, Any]:
        """From (..., T, F) to (..., F)."""
        del rng
        own = np.ones(x.shape[:-1], np.bool_) if mask is None else mask
        count = own.sum(axis=-1)
        if not count.all():
            raise ValueError("a sequence without a step has nothing to be pooled")
        if self.how == "mean":
            share = (own / count[..., None]).astype(x.dtype)[..., None]
        else:
            largest = np.where(own[..., None], x, -np.inf).argmax(axis=-2)
            share = np.zeros_like(x)
            np.put_along_axis(share, largest[..., None, :], 1, axis=-2)
        return (np.where(own[..., None], x, x.dtype.type(0)) * share).sum(axis=-2), (share, x.shape)

    def backward(self, tape: Any, dy: Array) -> Array:
        """The gradient on x."""
        share, shape = tape
        return np.broadcast_to(share * dy[..., None, :], shape).copy()

    def stream_stage(self, *, single: bool) -> Stage:
        """Return the stage of a stream."""
        from glasscell.stream.reductions import TimePoolingStage  # noqa: PLC0415 - only where it is used

        del single
        return TimePoolingStage(self.how)


@dataclass(frozen=True)
class SwapHalves(StatelessLayer):
    """The two halves of the features in the other order: reverse before forward, as some put them."""

    def forward(self, x: Array, mask: Mask | None = None, rng: np.random.Generator | None = None) -> tuple[Array, Any]:
        """From (..., F) to (..., F)."""
        del mask, rng
        return np.roll(x, x.shape[-1] // 2, axis=-1), None

    def backward(self, tape: Any, dy: Array) -> Array:
        """The gradient on x."""
        del tape
        return np.roll(dy, dy.shape[-1] // 2, axis=-1)

    def stream_stage(self, *, single: bool) -> Stage:
        """Return the stage of a stream."""
        from glasscell.stream.stages import SwapHalvesStage  # noqa: PLC0415 - only where it is used

        del single
        return SwapHalvesStage()


@dataclass(frozen=True)
class Masking(StatelessLayer):
    """A step whose features all have this value is no step: layers behind pass it over."""

    value: float = 0.0

    takes: ClassVar = "sequence"

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", finite_number("value", self.value))

    def mask(self, x: Array) -> Mask:
        """Which steps there are."""
        own: Mask = (x != self.value).any(axis=-1)
        return own

    def output_mask(self, x: Array, mask: Mask | None) -> Mask:
        """Return the mask of the outputs: the valid steps of x that are not masked here."""
        return self.mask(x) if mask is None else mask & self.mask(x)

    def forward(self, x: Array, mask: Mask | None = None, rng: np.random.Generator | None = None) -> tuple[Array, Any]:
        """x, 0 where there is no step."""
        del mask, rng
        own = self.mask(x)[..., None]
        return np.where(own, x, x.dtype.type(0)), own

    def backward(self, tape: Any, dy: Array) -> Array:
        """The gradient on x."""
        return np.where(tape, dy, dy.dtype.type(0))

    def stream_stage(self, *, single: bool) -> Stage:
        """Return the stage of a stream."""
        from glasscell.stream.stages import MaskingStage  # noqa: PLC0415 - only where it is used

        del single
        return MaskingStage(self.value)


def _valid_step_index(mask: Mask, index: int) -> NDArray[np.intp]:
    """The time of the index-th step that there is; of the first or last one where there are fewer."""
    count = mask.sum(axis=-1)
    wanted = np.clip(index if index >= 0 else count + index, 0, np.maximum(count - 1, 0))
    at: NDArray[np.intp] = np.take_along_axis(np.argsort(~mask, axis=-1, kind="stable"), wanted[..., None], axis=-1)
    return at[..., 0]
