"""Specifications of layers: their options, and references to their weights in the file.

Those with weights have `dtype`; `size`, the number of weights at most; `default_name`, for files without names; and
`build`, which returns the layer.

A graph may split a layer and join it again, or use the same weights many times. The weights are therefore copied only
when the layers of the model are determined.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from glasscell.convert.onnx.importer.constants import Constant, UnsupportedNode
from glasscell.core.types import Array
from glasscell.core.windows import Windows
from glasscell.layers import LSTM, BatchNorm, Conv1D, Embedding, LayerNorm, Linear, LSTMConfig
from glasscell.models.sequential import Layer, Stateless
from glasscell.weight_layouts import GLASSCELL, ONNX, WeightMatrices, decode, reorder


class InitialStateInput(NamedTuple):
    """An initial state that is an input of the graph, or one row of it: that of a layer and direction."""

    source: str
    row: int


@dataclass(frozen=True, eq=False)
class DirectionWeights:
    """Weights of an LSTM node in one direction, in ONNX's layout. The object also identifies the LSTM."""

    W: Constant  # (4H, I)
    R: Constant  # (4H, H)
    bias: Constant | None  # (4H,)
    P: Constant | None  # (3H,)
    h0: Constant | InitialStateInput | None = None  # (H,)
    c0: Constant | InitialStateInput | None = None


@dataclass(frozen=True, eq=False)
class LSTMSpec:
    """Options of an LSTM, and the weights of each layer's directions."""

    options: LSTMConfig
    directions: tuple[DirectionWeights, ...]
    dtype: np.dtype[np.floating]
    default_name: ClassVar[str] = "lstm"

    @property
    def size(self) -> int:
        arrays = (array for weights in self.directions for array in (weights.W, weights.R, weights.bias, weights.P))
        return sum(array.size for array in arrays if array is not None)

    def build(self) -> LSTM:
        lstm = LSTM(**self.options.non_default(), dtype=self.dtype, seed=None)
        variant = self.options.cell_config
        for (suffix, _, _), weights in zip(self.options.directions, self.directions, strict=True):
            kernel = decode(WeightMatrices(weights.W, weights.R, weights.bias), GLASSCELL.gates, ONNX)
            lstm.parameters[f"kernel{suffix}"][:] = reorder(kernel, GLASSCELL.gates, variant.gates)
            if weights.P is not None:
                lstm.parameters[f"peepholes{suffix}"][:] = reorder(weights.P, ONNX.peepholes, variant.peepholes)
            if self.options.learn_initial_state:
                for name, state in (("h", weights.h0), ("c", weights.c0)):
                    lstm.parameters[f"initial_{name}{suffix}"][:] = 0 if state is None else state
        return lstm


@dataclass(frozen=True, eq=False)
class LayerNormSpec:
    """A normalisation of each step over its features."""

    features: int
    epsilon: float
    dtype: np.dtype[np.floating]
    gain: Constant | None = None  # (F,)
    shift: Constant | None = None  # (F,)
    default_name: ClassVar[str] = "layernorm"

    @property
    def size(self) -> int:
        return 2 * self.features

    def build(self) -> LayerNorm:
        gain, shift = self.gain is not None, self.shift is not None
        norm = LayerNorm(self.features, epsilon=self.epsilon, gain=gain, shift=shift, dtype=self.dtype)
        _copy(norm, {"gain": self.gain, "shift": self.shift})
        return norm


@dataclass(frozen=True, eq=False)
class _MatrixSpec:
    """A layer whose first field is its weight."""

    weight: Constant

    @property
    def dtype(self) -> np.dtype[np.floating]:
        return self.weight.dtype

    @property
    def size(self) -> int:
        return self.weight.size + len(self.weight)


@dataclass(frozen=True, eq=False)
class LinearSpec(_MatrixSpec):
    """A linear map of each step, with weights (O, I)."""

    bias: Constant | None  # (O,)
    scale: float = 1.0  # factor of the weights
    default_name: ClassVar[str] = "linear"

    def build(self) -> Linear:
        O, I = self.weight.shape
        linear = Linear(I, O, bias=self.bias is not None, dtype=self.dtype, seed=None)
        _copy(linear, {"weight": self.weight * self.weight.dtype.type(self.scale), "bias": self.bias})
        return linear


@dataclass(frozen=True, eq=False)
class EmbeddingSpec(_MatrixSpec):
    """A table (V, E) of vectors."""

    default_name: ClassVar[str] = "embedding"

    def build(self) -> Embedding:
        embedding = Embedding(*self.weight.shape, dtype=self.dtype, seed=None)
        _copy(embedding, {"weight": self.weight})
        return embedding


@dataclass(frozen=True, eq=False)
class BatchNormSpec(_MatrixSpec):
    """A normalisation of each feature by statistics of training; the weight is the gain (F,)."""

    shift: Constant  # (F,)
    mean: Constant  # (F,)
    variance: Constant  # (F,)
    epsilon: float
    default_name: ClassVar[str] = "batchnorm"

    @property
    def size(self) -> int:
        return 4 * self.weight.size

    def build(self) -> BatchNorm:
        norm = BatchNorm(self.weight.size, epsilon=self.epsilon, dtype=self.dtype)
        _copy(norm, {"gain": self.weight, "shift": self.shift})
        norm.statistics["running_mean"][:], norm.statistics["running_var"][:] = self.mean, self.variance
        return norm


@dataclass(frozen=True, eq=False)
class ConvolutionSpec(_MatrixSpec):
    """A convolution over time, with weights (O, I / groups, K)."""

    bias: Constant | None  # (O,)
    windows: Windows
    groups: int
    default_name: ClassVar[str] = "conv"

    def build(self) -> Conv1D:
        O, I, K = self.weight.shape
        layer = Conv1D(
            *(I * self.groups, O, K),
            stride=self.windows.stride,
            padding=self.windows.padding,
            dilation=self.windows.dilation,
            groups=self.groups,
            bias=self.bias is not None,
            dtype=self.dtype,
            seed=None,
        )
        _copy(layer, {"weight": self.weight, "bias": self.bias})
        return layer


WeightedSpec = LSTMSpec | LinearSpec | EmbeddingSpec | LayerNormSpec | BatchNormSpec | ConvolutionSpec
LayerSpec = WeightedSpec | Stateless


def build_layer(spec: LayerSpec) -> Layer:
    """Return the layer of a specification."""
    return spec.build() if isinstance(spec, WeightedSpec) else spec


def _copy(layer: Any, arrays: Mapping[str, Constant | None]) -> None:
    """Copy arrays into the parameters of a layer; None is a parameter that the layer does not have."""
    for name, array in arrays.items():
        if array is not None:
            layer.parameters[name][:] = array


def require_weights(name: str, value: Any) -> Array:
    """Return an array of weights, which must be constant, finite, and float32 or float64."""
    if not isinstance(value, np.ndarray):
        raise UnsupportedNode(f"has {name} that are missing or computed from the inputs of the graph")
    if value.dtype not in (np.float32, np.float64):
        raise UnsupportedNode(f"has {name} of dtype {value.dtype}; expected float32 or float64")
    if not np.isfinite(value).all():
        raise UnsupportedNode(f"has {name} with NaN or infinite values")
    return value
