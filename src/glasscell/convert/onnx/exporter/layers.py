"""Export layers without recurrence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import sqrt
from typing import Any

import numpy as np

from glasscell.convert.onnx.exporter.graph import Graph
from glasscell.convert.onnx.exporter.tensor_ref import TensorRef, raise_unsupported
from glasscell.core.activations import ACTIVATIONS, GELU_CUBIC, SELU_ALPHA, SELU_SCALE
from glasscell.core.windows import Windows
from glasscell.layers import (
    AveragePooling1D,
    BatchNorm,
    Conv1D,
    Dropout,
    Embedding,
    Flatten,
    Function,
    GaussianDropout,
    GaussianNoise,
    LayerNorm,
    Linear,
    MaxPooling1D,
    Normalization,
    RepeatVector,
    Rescaling,
    SpatialDropout1D,
    Squeeze,
    Unsqueeze,
)


def _embedding(graph: Graph, name: str, layer: Embedding, tensor: TensorRef) -> TensorRef:
    if layer.mask_zero:
        raise_unsupported(name, "has mask_zero=True, which ONNX does not support; export with lengths=True")
    table = graph.constant("weight", layer.parameters["weight"])
    return replace(tensor, value=graph.add("Gather", [table, tensor.value]), features=layer.embedding_size)


def _linear(graph: Graph, name: str, layer: Linear, tensor: TensorRef) -> TensorRef:
    del name
    weight = layer.parameters["weight"]
    bias = [graph.constant("bias", layer.parameters["bias"])] if layer.bias else []
    if not tensor.is_sequence:
        y = graph.add("Gemm", [tensor.value, graph.constant("weight", weight), *bias], transB=1)
    else:  # MatMul needs the transposed weights
        y = graph.add("MatMul", [tensor.value, graph.constant("weight", weight.T)])
        y = graph.add("Add", [y, *bias]) if bias else y
    return replace(tensor, value=y, features=layer.output_size, lstm=None)


def _function(graph: Graph, name: str, layer: Function, tensor: TensorRef) -> TensorRef:
    alpha, beta, x = layer.alpha, layer.beta, tensor.value
    if layer.name == "Affine":
        y = graph.add("Add", [graph.add("Mul", [x, graph.number(alpha)]), graph.number(beta)])
    elif layer.name == "ScaledTanh":
        tanh = graph.add("Tanh", [graph.add("Mul", [x, graph.number(beta)])])
        y = graph.add("Mul", [tanh, graph.number(alpha)])
    elif layer.name == "Silu":
        y = graph.add("Mul", [x, graph.add("Sigmoid", [x])])
    elif layer.name == "Selu":
        y = graph.add("Selu", [x], alpha=SELU_ALPHA, gamma=SELU_SCALE)
    elif layer.name == "Gelu":
        y = _half_gated(graph, x, graph.add("Erf", [graph.add("Div", [x, graph.number(sqrt(2))])]))
    elif layer.name == "GeluTanh":
        cube = graph.add("Mul", [graph.add("Mul", [graph.add("Mul", [x, x]), x]), graph.number(GELU_CUBIC)])
        scaled = graph.add("Mul", [graph.add("Add", [x, cube]), graph.number(sqrt(2 / np.pi))])
        y = _half_gated(graph, x, graph.add("Tanh", [scaled]))
    elif layer.name in (*ACTIVATIONS, "Softmax", "LogSoftmax"):
        parameters = {key: number for key, number in (("alpha", alpha), ("beta", beta)) if number is not None}
        axis = {"axis": -1} if "Softmax" in layer.name else {}
        y = graph.add(layer.name, [x], **parameters, **axis)
    else:
        raise_unsupported(name, f"is {layer.name}, which the export to ONNX does not support")
    return replace(tensor, value=y, lstm=None)


def _half_gated(graph: Graph, x: str, gate: str) -> str:
    """Return ½ x (1 + gate)."""
    return graph.add("Mul", [graph.add("Mul", [x, graph.add("Add", [gate, graph.number(1)])]), graph.number(0.5)])


def _dropout(graph: Graph, name: str, layer: Dropout, tensor: TensorRef) -> TensorRef:
    del name
    return replace(tensor, value=graph.add("Dropout", [tensor.value, graph.number(layer.rate)]), lstm=None)


def _noise(
    graph: Graph, name: str, layer: SpatialDropout1D | GaussianNoise | GaussianDropout, tensor: TensorRef
) -> TensorRef:
    """Add nothing: these layers have no effect in inference, and ONNX has no operator for them."""
    del graph, name, layer
    return replace(tensor, lstm=None)


def _layer_norm(graph: Graph, name: str, layer: LayerNorm, tensor: TensorRef) -> TensorRef:
    del name
    ones, parameters = np.ones(layer.size), layer.parameters
    inputs = [tensor.value, graph.constant("weight", parameters["gain"] if layer.gain else ones)]
    inputs += [graph.constant("bias", parameters["shift"])] if layer.shift else []
    y = graph.add("LayerNormalization", inputs, axis=-1, epsilon=layer.epsilon)
    return replace(tensor, value=y, lstm=None)


def _batch_norm(graph: Graph, name: str, layer: BatchNorm, tensor: TensorRef) -> TensorRef:
    del name
    ones, zeros, statistics = np.ones(layer.size), np.zeros(layer.size), layer.statistics
    arrays = {
        "weight": layer.parameters["gain"] if layer.gain else ones,
        "bias": layer.parameters["shift"] if layer.shift else zeros,
        "running_mean": statistics["running_mean"],
        "running_var": statistics["running_var"],
    }
    x = _swap_time_and_features(graph, tensor.value) if tensor.is_sequence else tensor.value
    constants = [graph.constant(key, array) for key, array in arrays.items()]
    y = graph.add("BatchNormalization", [x, *constants], epsilon=layer.epsilon)
    return replace(tensor, value=_swap_time_and_features(graph, y) if tensor.is_sequence else y, lstm=None)


def _swap_time_and_features(graph: Graph, value: str) -> str:
    """Return (B, F, T) from (B, T, F), or the reverse."""
    return graph.add("Transpose", [value], perm=[0, 2, 1])


def _affine(graph: Graph, name: str, layer: Normalization | Rescaling, tensor: TensorRef) -> TensorRef:
    """Add (x - center) · scale + offset; each is one number, or one per feature."""
    del name
    center, scale, offset = layer.affine(graph.dtype)
    y = tensor.value
    operations = (("Sub", "mean", center, 0), ("Mul", "scale", scale, 1), ("Add", "bias", offset, 0))
    for op, key, array, identity in operations:
        if array.ndim or array != identity:
            y = graph.add(op, [y, graph.constant(key, array)])
    return replace(tensor, value=y, features=layer.size or tensor.features, lstm=None)


def _convolution(graph: Graph, name: str, layer: Conv1D, tensor: TensorRef) -> TensorRef:
    _check_no_lengths(graph, name)
    inputs = [_swap_time_and_features(graph, tensor.value), graph.constant("weight", layer.parameters["weight"])]
    inputs += [graph.constant("bias", layer.parameters["bias"])] if layer.bias else []
    windows = layer.windows
    attributes = _window_attributes(windows) | {"dilations": [windows.dilation], "group": layer.groups}
    y = graph.add("Conv", inputs, **attributes)
    time = None if _changes_steps(windows) else tensor.time
    return TensorRef(_swap_time_and_features(graph, y), layer.output_size, time=time)


def _pooling(graph: Graph, name: str, layer: MaxPooling1D | AveragePooling1D, tensor: TensorRef) -> TensorRef:
    _check_no_lengths(graph, name)
    op, attributes = "MaxPool", _window_attributes(layer.windows)
    if isinstance(layer, AveragePooling1D):
        op, attributes = "AveragePool", attributes | {"count_include_pad": int(layer.count_padding)}
    y = graph.add(op, [_swap_time_and_features(graph, tensor.value)], **attributes)
    time = None if _changes_steps(layer.windows) else tensor.time
    return TensorRef(_swap_time_and_features(graph, y), tensor.features, time=time)


def _window_attributes(windows: Windows) -> dict[str, Any]:
    """Return size, stride and padding as attributes."""
    padding = {"auto_pad": "SAME_UPPER"} if windows.padding == "same" else {"pads": [*windows.pads(0)]}
    return {"kernel_shape": [windows.size], "strides": [windows.stride]} | padding


def _changes_steps(windows: Windows) -> bool:
    return windows.stride != 1 or sum(windows.pads(windows.span)) != windows.span - 1


def _check_no_lengths(graph: Graph, name: str) -> None:
    """Raise an error for a layer that combines steps, if steps may be invalid."""
    if graph.lengths is not None:
        raise_unsupported(name, "combines steps, and ONNX ignores lengths there; export with lengths=False")


def _repeat(graph: Graph, name: str, layer: RepeatVector, tensor: TensorRef) -> TensorRef:
    del name
    graph.lengths = None  # all of these steps are valid
    step = graph.add("Unsqueeze", [tensor.value, graph.integers([1])])
    y = graph.add("Tile", [step, graph.integers([1, layer.times, 1])])
    return TensorRef(y, tensor.features, time=layer.times)


def _flatten(graph: Graph, name: str, layer: Flatten, tensor: TensorRef) -> TensorRef:
    del layer
    _check_no_lengths(graph, name)
    return TensorRef(graph.add("Flatten", [tensor.value], axis=1), None, is_sequence=False)


def _unsqueeze(graph: Graph, name: str, layer: Unsqueeze, tensor: TensorRef) -> TensorRef:
    del name, layer
    return replace(tensor, value=graph.add("Unsqueeze", [tensor.value, graph.integers([2])]), features=1)


def _squeeze(graph: Graph, name: str, layer: Squeeze, tensor: TensorRef) -> TensorRef:
    del name, layer
    return replace(tensor, value=graph.add("Squeeze", [tensor.value, graph.integers([-1])]), lstm=None)


LAYER_EXPORTERS: dict[type, Callable[[Graph, str, Any, TensorRef], TensorRef]] = {
    Embedding: _embedding,
    Linear: _linear,
    Function: _function,
    Dropout: _dropout,
    SpatialDropout1D: _noise,
    GaussianNoise: _noise,
    GaussianDropout: _noise,
    LayerNorm: _layer_norm,
    BatchNorm: _batch_norm,
    Normalization: _affine,
    Rescaling: _affine,
    Conv1D: _convolution,
    MaxPooling1D: _pooling,
    AveragePooling1D: _pooling,
    RepeatVector: _repeat,
    Flatten: _flatten,
    Unsqueeze: _unsqueeze,
    Squeeze: _squeeze,
}
