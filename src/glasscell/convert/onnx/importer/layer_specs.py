"""Layers as they will be: their options, and where in the file their weights are.

A graph may take a layer apart and put it together again, and may use the same weights a thousand times. So nothing is
copied until it is known what the model's layers are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from glasscell.convert.onnx.importer.constants import Constant, UnsupportedNode
from glasscell.core.types import Array
from glasscell.core.windows import Windows
from glasscell.layers import LSTM, BatchNorm, Conv1D, Embedding, LayerNorm, Linear, LSTMConfig
from glasscell.models.sequential import Layer, Stateless
from glasscell.weight_layouts import GLASSCELL, ONNX, WeightMatrices, decode, reorder


class InitialStateInput(NamedTuple):
    """An initial state that is an input of the graph, or some of its rows: those of each layer and direction."""

    source: str
    row: int


@dataclass(frozen=True, eq=False)
class DirectionWeights:
    """The weights of an LSTM node in one direction, in its layout. Each is itself alone: it also says which LSTM."""

    W: Constant  # (4H, I)
    R: Constant  # (4H, H)
    bias: Constant | None  # (4H,)
    P: Constant | None  # (3H,)
    h0: Constant | InitialStateInput | None = None  # (H,)
    c0: Constant | InitialStateInput | None = None


@dataclass(frozen=True, eq=False)
class LSTMSpec:
    """An LSTM: its options, and the weights of each layer's directions."""

    options: LSTMConfig
    ways: tuple[DirectionWeights, ...]
    dtype: np.dtype[np.floating]

    @property
    def size(self) -> int:
        """How many weights it has."""
        return sum(array.size for way in self.ways for array in (way.W, way.R, way.bias, way.P) if array is not None)

    def build(self) -> LSTM:
        """The layer."""
        lstm = LSTM(**self.options.non_default(), dtype=self.dtype, seed=None)
        variant = self.options.cell_config
        for (suffix, _, _), way in zip(self.options.directions, self.ways, strict=True):
            kernel = decode(WeightMatrices(way.W, way.R, way.bias), GLASSCELL.gates, ONNX)
            lstm.parameters[f"kernel{suffix}"][:] = reorder(kernel, GLASSCELL.gates, variant.gates)
            if way.P is not None:
                lstm.parameters[f"peepholes{suffix}"][:] = reorder(way.P, ONNX.peepholes, variant.peepholes)
            if self.options.learn_initial_state:
                for name, start in (("h", way.h0), ("c", way.c0)):
                    lstm.parameters[f"initial_{name}{suffix}"][:] = 0 if start is None else start
        return lstm


@dataclass(frozen=True, eq=False)
class LinearSpec:
    """A linear map at every step."""

    weight: Constant  # (O, I)
    bias: Constant | None  # (O,)
    scale: float = 1.0  # of the weights

    @property
    def dtype(self) -> np.dtype[np.floating]:
        """Of the weights."""
        return self.weight.dtype

    @property
    def size(self) -> int:
        """How many weights it has, at most."""
        return self.weight.size + len(self.weight)

    def build(self) -> Linear:
        """The layer."""
        O, I = self.weight.shape
        linear = Linear(I, O, bias=self.bias is not None, dtype=self.dtype, seed=None)
        linear.parameters["weight"][:] = self.weight * self.weight.dtype.type(self.scale)
        if self.bias is not None:
            linear.parameters["bias"][:] = self.bias
        return linear


@dataclass(frozen=True, eq=False)
class EmbeddingSpec:
    """A table of vectors."""

    table: Constant  # (V, E)

    @property
    def dtype(self) -> np.dtype[np.floating]:
        """Of the weights."""
        return self.table.dtype

    @property
    def size(self) -> int:
        """How many weights it has."""
        return self.table.size

    def build(self) -> Embedding:
        """The layer."""
        embedding = Embedding(*self.table.shape, dtype=self.dtype, seed=None)
        embedding.parameters["weight"][:] = self.table
        return embedding


@dataclass(frozen=True, eq=False)
class LayerNormPlan:
    """A normalisation of the features of each step."""

    features: int
    epsilon: float
    dtype: np.dtype[np.floating]
    gain: Constant | None = None  # (F,)
    shift: Constant | None = None  # (F,)

    @property
    def size(self) -> int:
        """How many weights it has, at most."""
        return 2 * self.features

    def build(self) -> LayerNorm:
        """The layer."""
        gain, shift = self.gain is not None, self.shift is not None
        norm = LayerNorm(self.features, epsilon=self.epsilon, gain=gain, shift=shift, dtype=self.dtype)
        for name, array in (("gain", self.gain), ("shift", self.shift)):
            if array is not None:
                norm.parameters[name][:] = array
        return norm


@dataclass(frozen=True, eq=False)
class BatchNormPlan:
    """A normalisation of each feature by statistics of training."""

    gain: Constant  # (F,), as all four
    shift: Constant
    mean: Constant
    variance: Constant
    epsilon: float

    @property
    def dtype(self) -> np.dtype[np.floating]:
        """Of the weights."""
        return self.gain.dtype

    @property
    def size(self) -> int:
        """How many weights it has."""
        return 4 * self.gain.size

    def build(self) -> BatchNorm:
        """The layer."""
        norm = BatchNorm(self.gain.size, epsilon=self.epsilon, dtype=self.dtype)
        norm.parameters["gain"][:], norm.parameters["shift"][:] = self.gain, self.shift
        norm.statistics["running_mean"][:], norm.statistics["running_var"][:] = self.mean, self.variance
        return norm


@dataclass(frozen=True, eq=False)
class ConvolutionPlan:
    """A convolution over time."""

    weight: Constant  # (O, I / groups, K)
    bias: Constant | None  # (O,)
    windows: Windows
    groups: int

    @property
    def dtype(self) -> np.dtype[np.floating]:
        """Of the weights."""
        return self.weight.dtype

    @property
    def size(self) -> int:
        """How many weights it has."""
        return self.weight.size + len(self.weight)

    def build(self) -> Conv1D:
        """The layer."""
        (O, I, K), of = self.weight.shape, self.windows
        layer = Conv1D(
            *(I * self.groups, O, K),
            stride=of.stride,
            padding=of.padding,
            dilation=of.dilation,
            groups=self.groups,
            bias=self.bias is not None,
            dtype=self.dtype,
            seed=None,
        )
        layer.parameters["weight"][:] = self.weight
        if self.bias is not None:
            layer.parameters["bias"][:] = self.bias
        return layer


WithWeights = LSTMSpec | LinearSpec | EmbeddingSpec | LayerNormPlan | BatchNormPlan | ConvolutionPlan
LayerSpec = WithWeights | Stateless


def build_layer(plan: LayerSpec) -> Layer:
    """The layer of a plan."""
    return plan.build() if isinstance(plan, WithWeights) else plan


def weights_of(name: str, value: Any) -> Array:
    """An array that can be weights: of float32 or float64, and finite."""
    if not isinstance(value, np.ndarray):
        raise UnsupportedNode(f"has {name} that are computed from the inputs, or none")
    if value.dtype not in (np.float32, np.float64):
        raise UnsupportedNode(f"has {name} of dtype {value.dtype}; expected float32 or float64")
    if not np.isfinite(value).all():
        raise UnsupportedNode(f"has {name} with NaN or infinite values")
    return value
