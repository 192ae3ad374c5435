"""Layers that shift and scale features: learned, from running statistics, or fixed."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from glasscell.core.layer_norm import NormalizedActivations, layer_norm, layer_norm_backward
from glasscell.core.parameters import Parameters
from glasscell.core.types import Array, Seed
from glasscell.layers.base import Mask
from glasscell.layers.batch_first import ParameterLayer, StatelessLayer
from glasscell.layers.feature_numbers import common_size, numbers, same_features, shortened
from glasscell.validation import boolean, float_dtype, positive_integer, positive_number

if TYPE_CHECKING:
    from glasscell.stream.building import Stage

SMALLEST_DEVIATION = 1e-7  # a standard deviation below it counts as this, as in Keras


class _GainAndShift(ParameterLayer):
    """A layer whose last operation is gain · n + shift, n the normalised inputs."""

    torch_names: ClassVar = {"gain": "weight", "shift": "bias"}
    seeded: ClassVar = False
    pointwise: ClassVar = True

    def __init__(self, size: int, *, epsilon: float, gain: bool, shift: bool, dtype: DTypeLike) -> None:
        self.input_size = self.output_size = self.size = positive_integer("size", size)
        self.epsilon = positive_number("epsilon", epsilon)
        self.gain, self.shift = boolean("gain", gain), boolean("shift", shift)
        self.dtype = float_dtype(dtype)
        self._parameters = Parameters(self.shapes(size, gain=gain, shift=shift), self.dtype)
        self.statistics = {}
        self._begin(None)

    def _draw(self, parameters: Parameters, seed: Seed | None) -> None:
        del seed  # nothing is random
        for name, view in parameters.items():
            view[:] = name == "gain"

    @staticmethod
    def shapes(
        size: int, *, epsilon: float = 1e-5, gain: bool = True, shift: bool = True
    ) -> dict[str, tuple[int, ...]]:
        """Return the names and shapes of the parameters."""
        del epsilon
        return {name: (size,) for name, present in (("gain", gain), ("shift", shift)) if present}

    @property
    def config(self) -> dict[str, Any]:
        """The arguments that make an equal layer, except dtype."""
        return {"size": self.size, "epsilon": self.epsilon, "gain": self.gain, "shift": self.shift}

    def _scaled(self, n: Array) -> Array:
        y = n * self.parameters["gain"] if self.gain else n
        return y + self.parameters["shift"] if self.shift else y

    def _scaled_backward(self, n: Array, d_outputs: Array) -> tuple[Array, Parameters]:
        """Compute the gradients on n and on the parameters."""
        gradients = self.parameters.zeros_like()
        leading = tuple(range(d_outputs.ndim - 1))
        if self.shift:
            gradients["shift"][:] = d_outputs.sum(axis=leading)
        if not self.gain:
            return d_outputs, gradients
        gradients["gain"][:] = (d_outputs * n).sum(axis=leading)
        return d_outputs * self.parameters["gain"], gradients

    def __repr__(self) -> str:
        options = [
            f"epsilon={self.epsilon:g}",
            *(f"{name}=False" for name in ("gain", "shift") if not self.config[name]),
        ]
        return f"{type(self).__name__}({self.size}, {', '.join(options)}, dtype={self.dtype})"


class LayerNorm(_GainAndShift):
    """Normalise the features of every step to mean 0 and variance 1, then scale and shift them: Ba et al. (2016).

    y = gain · (x − mean) / √(variance + ε) + shift, mean and variance over the features of the step.

    Parameters
    ----------
    size : int
        Number of features F.
    epsilon : float
        ε. Default: 1e-5, as in PyTorch; Keras has 1e-3.
    gain, shift : bool
        Whether there are these parameters.
    dtype : float32 or float64

    Attributes
    ----------
    parameters : Parameters
        ``gain`` (F,), initially 1, and ``shift`` (F,), initially 0.
    """

    def __init__(
        self,
        size: int,
        *,
        epsilon: float = 1e-5,
        gain: bool = True,
        shift: bool = True,
        dtype: DTypeLike = np.float32,
    ) -> None:
        super().__init__(size, epsilon=epsilon, gain=gain, shift=shift, dtype=dtype)

    def forward(
        self, x: ArrayLike, mask: Mask | None = None, rng: np.random.Generator | None = None
    ) -> tuple[Array, NormalizedActivations]:
        """Normalise x (..., F)."""
        del mask, rng
        tape = layer_norm(self._inputs(x)[..., None], self.epsilon)
        return self._scaled(tape.values[..., 0]), tape

    def backward(self, tape: NormalizedActivations, d_outputs: Array) -> tuple[Array, Parameters]:
        """Compute the gradients on x and on the parameters."""
        dn, gradients = self._scaled_backward(tape.values[..., 0], d_outputs)
        return layer_norm_backward(tape, dn[..., None])[..., 0], gradients

    def stream_stage(self, *, single: bool) -> Stage:
        """Return the stage of a stream."""
        from glasscell.stream.scaling import LayerNormStage  # noqa: PLC0415 - only where it is used

        del single
        gain, shift = self.parameters.get("gain"), self.parameters.get("shift")
        return LayerNormStage(self.size, self.epsilon, gain, shift)


class BatchNorm(_GainAndShift):
    """Normalise every feature by its running statistics, then scale and shift it: Ioffe & Szegedy (2015), at inference.

    y = gain · (x − running_mean) / √(running_var + ε) + shift.

    Parameters
    ----------
    size : int
        Number of features F.
    epsilon : float
        ε. Default: 1e-5, as in PyTorch; Keras has 1e-3.
    gain, shift : bool
        Whether there are these parameters.
    dtype : float32 or float64

    Attributes
    ----------
    parameters : Parameters
        ``gain`` (F,), initially 1, and ``shift`` (F,), initially 0.
    statistics : dict of str to array
        ``running_mean`` (F,), initially 0, and ``running_var`` (F,), initially 1.

    Notes
    -----
    The running statistics are constants here, in training too: outputs do not depend on the other sequences of a batch.
    Gain and shift are trained. That is fine-tuning with PyTorch's ``eval()`` or Keras's ``trainable = False`` for the
    statistics; statistics of batches are not computed.
    """

    def __init__(
        self,
        size: int,
        *,
        epsilon: float = 1e-5,
        gain: bool = True,
        shift: bool = True,
        dtype: DTypeLike = np.float32,
    ) -> None:
        super().__init__(size, epsilon=epsilon, gain=gain, shift=shift, dtype=dtype)
        self.statistics = {"running_mean": np.zeros(size, self.dtype), "running_var": np.ones(size, self.dtype)}

    @property
    def scale(self) -> Array:
        """1 / √(running_var + ε), (F,)."""
        self._check_torch(self.statistics)
        scale: Array = 1 / np.sqrt(self.statistics["running_var"] + self.dtype.type(self.epsilon))
        return scale

    def _check_torch(self, weights: Mapping[str, Array]) -> None:
        variance = weights["running_var"]
        if (variance < 0).any():
            raise ValueError(f"running_var must be at least 0, got {variance.min()}")

    def forward(
        self, x: ArrayLike, mask: Mask | None = None, rng: np.random.Generator | None = None
    ) -> tuple[Array, tuple[Array, Array]]:
        """Normalise x (..., F)."""
        del mask, rng
        scale = self.scale
        n = (self._inputs(x) - self.statistics["running_mean"]) * scale
        return self._scaled(n), (n, scale)

    def backward(self, tape: tuple[Array, Array], d_outputs: Array) -> tuple[Array, Parameters]:
        """Compute the gradients on x and on the parameters."""
        n, scale = tape
        dn, gradients = self._scaled_backward(n, d_outputs)
        return dn * scale, gradients

    def stream_stage(self, *, single: bool) -> Stage:
        """Return the stage of a stream: running statistics, gain and shift in one."""
        from glasscell.stream.scaling import ScalingStage  # noqa: PLC0415 - only where it is used

        del single
        center = self.statistics["running_mean"]
        scale = self.scale * self.parameters["gain"] if self.gain else self.scale
        offset = self.parameters["shift"] if self.shift else np.zeros_like(center)
        return ScalingStage(self.size, center, scale, offset)


class _FixedAffine(StatelessLayer):
    """A fixed affine map of each feature: y = (x − center) · scale + offset."""

    @property
    @abstractmethod
    def size(self) -> int | None:
        """Number of features; None: any."""

    @abstractmethod
    def affine(self, dtype: np.dtype[np.floating]) -> tuple[Array, Array, Array]:
        """Return center, scale and offset."""

    def output_features(self, features: int | None) -> int | None:
        """Return the number of features of the outputs."""
        return same_features(self.size, features)

    def forward(self, x: Array, mask: Mask | None = None, rng: np.random.Generator | None = None) -> tuple[Array, Any]:
        """Map x (..., F)."""
        del mask, rng
        return _affine(x, self.size, *self.affine(x.dtype))

    def backward(self, tape: Any, d_outputs: Array) -> Array:
        """Compute the gradient on x."""
        dx: Array = d_outputs * tape
        return dx

    def stream_stage(self, *, single: bool) -> Stage:
        """Return the stage of a stream."""
        from glasscell.stream.scaling import ScalingStage  # noqa: PLC0415 - only where it is used

        del single
        return ScalingStage(self.size, *self.affine(np.dtype(np.float64)))


@dataclass(frozen=True)
class Normalization(_FixedAffine):
    """Normalise every feature by a fixed mean and variance: y = (x − mean) / √variance.

    Parameters
    ----------
    mean, variance : float or sequence of float
        One number, or one for each feature. A standard deviation below 1e-7 counts as 1e-7, as in Keras.
    invert : bool
        Compute y = x · √variance + mean instead.
    """

    mean: float | tuple[float, ...]
    variance: float | tuple[float, ...]
    invert: bool = False

    pointwise: ClassVar = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", numbers("mean", self.mean))
        object.__setattr__(self, "variance", numbers("variance", self.variance))
        boolean("invert", self.invert)
        if np.min(self.variance) < 0:
            raise ValueError(f"variance must be at least 0, got {np.min(self.variance)}")
        common_size(mean=self.mean, variance=self.variance)

    @property
    def size(self) -> int | None:
        """Number of features; None: any."""
        return common_size(mean=self.mean, variance=self.variance)

    def affine(self, dtype: np.dtype[np.floating]) -> tuple[Array, Array, Array]:
        """Return (center, scale, offset) of y = (x − center) · scale + offset."""
        mean, zero = np.asarray(self.mean, dtype), np.zeros((), dtype)
        deviation = np.maximum(np.sqrt(np.asarray(self.variance)), SMALLEST_DEVIATION)
        if self.invert:
            return zero, deviation.astype(dtype), mean
        return mean, (1 / deviation).astype(dtype), zero

    def __repr__(self) -> str:
        invert = ", invert=True" if self.invert else ""
        return f"Normalization(mean={shortened(self.mean)}, variance={shortened(self.variance)}{invert})"


@dataclass(frozen=True)
class Rescaling(_FixedAffine):
    """Scale and shift by fixed numbers: y = scale · x + offset.

    Parameters
    ----------
    scale, offset : float or sequence of float
        One number, or one for each feature.
    """

    scale: float | tuple[float, ...]
    offset: float | tuple[float, ...] = 0.0

    pointwise: ClassVar = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", numbers("scale", self.scale))
        object.__setattr__(self, "offset", numbers("offset", self.offset))
        common_size(scale=self.scale, offset=self.offset)

    @property
    def size(self) -> int | None:
        """Number of features; None: any."""
        return common_size(scale=self.scale, offset=self.offset)

    def affine(self, dtype: np.dtype[np.floating]) -> tuple[Array, Array, Array]:
        """Return (center, scale, offset) of y = (x − center) · scale + offset."""
        return np.zeros((), dtype), np.asarray(self.scale, dtype), np.asarray(self.offset, dtype)

    def __repr__(self) -> str:
        return f"Rescaling(scale={shortened(self.scale)}, offset={shortened(self.offset)})"


def _affine(x: Array, size: int | None, center: Array, scale: Array, offset: Array) -> tuple[Array, Array]:
    """Compute (x − center) · scale + offset, and its derivative."""
    if size not in (None, x.shape[-1]):
        raise ValueError(f"x must have {size} features, got {x.shape[-1]}")
    return (x - center) * scale + offset, scale
