"""Layers without recurrence, other than linear maps, as nodes of an ONNX graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import sqrt
from typing import Any

import numpy as np

from glasscell.convert.onnx.exporter.flow import TensorRef, refuse
from glasscell.convert.onnx.exporter.graph import Graph
from glasscell.core.activations import ACTIVATIONS, GELU_CUBIC, SELU_ALPHA, SELU_SCALE
from glasscell.core.windows import Windows
from glasscell.layers import (
    AveragePooling1D,
    BatchNorm,
    Conv1D,
    Dropout,
    Flatten,
    Function,
    GaussianDropout,
    GaussianNoise,
    LayerNorm,
    MaxPooling1D,
    Normalization,
    RepeatVector,
    Rescaling,
    SpatialDropout1D,
    Squeeze,
    Unsqueeze,
)


def _function(graph: Graph, name: str, layer: Function, flow: TensorRef) -> TensorRef:
    alpha, beta, x = layer.alpha, layer.beta, flow.value
    if layer.name == "Affine":
        y = graph.add("Add", [graph.add("Mul", [x, graph.number(alpha)]), graph.number(beta)])
    elif layer.name == "ScaledTanh":
        inside = graph.add("Tanh", [graph.add("Mul", [x, graph.number(beta)])])
        y = graph.add("Mul", [inside, graph.number(alpha)])
    elif layer.name == "Silu":
        y = graph.add("Mul", [x, graph.add("Sigmoid", [x])])
    elif layer.name == "Selu":
        y = graph.add("Selu", [x], alpha=SELU_ALPHA, gamma=SELU_SCALE)
    elif layer.name == "Gelu":
        y = _half(graph, x, graph.add("Erf", [graph.add("Div", [x, graph.number(sqrt(2))])]))
    elif layer.name == "GeluTanh":
        cube = graph.add("Mul", [graph.add("Mul", [graph.add("Mul", [x, x]), x]), graph.number(GELU_CUBIC)])
        inside = graph.add("Mul", [graph.add("Add", [x, cube]), graph.number(sqrt(2 / np.pi))])
        y = _half(graph, x, graph.add("Tanh", [inside]))
    elif layer.name in (*ACTIVATIONS, "Softmax", "LogSoftmax"):
        given = {key: number for key, number in (("alpha", alpha), ("beta", beta)) if number is not None}
        over = {"axis": -1} if "Softmax" in layer.name else {}
        y = graph.add(layer.name, [x], **given, **over)
    else:
        refuse(name, f"is {layer.name}, which is not written to ONNX")
    return replace(flow, value=y, lstm=None)


def _half(graph: Graph, x: str, inside: str) -> str:
    """½ x (1 + inside)."""
    return graph.add("Mul", [graph.add("Mul", [x, graph.add("Add", [inside, graph.number(1)])]), graph.number(0.5)])


def _dropout(graph: Graph, name: str, layer: Dropout, flow: TensorRef) -> TensorRef:
    del name
    return replace(flow, value=graph.add("Dropout", [flow.value, graph.number(layer.rate)]), lstm=None)


def _noise(
    graph: Graph, name: str, layer: SpatialDropout1D | GaussianNoise | GaussianDropout, flow: TensorRef
) -> TensorRef:
    """Nothing: ONNX has no operator that does nothing outside training but Dropout."""
    del graph, name, layer
    return replace(flow, lstm=None)


def _layer_norm(graph: Graph, name: str, layer: LayerNorm, flow: TensorRef) -> TensorRef:
    del name
    ones, parameters = np.ones(layer.size), layer.parameters
    inputs = [flow.value, graph.constant("weight", parameters["gain"] if layer.gain else ones)]
    inputs += [graph.constant("bias", parameters["shift"])] if layer.shift else []
    y = graph.add("LayerNormalization", inputs, axis=-1, epsilon=layer.epsilon)
    return replace(flow, value=y, lstm=None)


def _batch_norm(graph: Graph, name: str, layer: BatchNorm, flow: TensorRef) -> TensorRef:
    del name
    ones, zeros, statistics = np.ones(layer.size), np.zeros(layer.size), layer.statistics
    arrays = {
        "weight": layer.parameters["gain"] if layer.gain else ones,
        "bias": layer.parameters["shift"] if layer.shift else zeros,
        "running_mean": statistics["running_mean"],
        "running_var": statistics["running_var"],
    }
    x = _turned(graph, flow.value) if flow.in_time else flow.value
    constants = [graph.constant(key, array) for key, array in arrays.items()]
    y = graph.add("BatchNormalization", [x, *constants], epsilon=layer.epsilon)
    return replace(flow, value=_turned(graph, y) if flow.in_time else y, lstm=None)


def _turned(graph: Graph, value: str) -> str:
    """From (B, T, F) to (B, F, T), and the other way."""
    return graph.add("Transpose", [value], perm=[0, 2, 1])


def _affine(graph: Graph, name: str, layer: Normalization | Rescaling, flow: TensorRef) -> TensorRef:
    """(x - center) · scale + offset, of which each is one number or one for each feature."""
    del name
    center, scale, offset = layer.affine(graph.dtype)
    y = flow.value
    for op, key, array, nothing in (("Sub", "mean", center, 0), ("Mul", "scale", scale, 1), ("Add", "bias", offset, 0)):
        if array.ndim or array != nothing:
            y = graph.add(op, [y, graph.constant(key, array)])
    return replace(flow, value=y, features=layer.size or flow.features, lstm=None)


def _convolution(graph: Graph, name: str, layer: Conv1D, flow: TensorRef) -> TensorRef:
    _check_lengths(graph, name)
    inputs = [_turned(graph, flow.value), graph.constant("weight", layer.parameters["weight"])]
    inputs += [graph.constant("bias", layer.parameters["bias"])] if layer.bias else []
    of = layer.windows
    attributes = _windows(of) | {"dilations": [of.dilation], "group": layer.groups}
    y = graph.add("Conv", inputs, kernel_shape=[of.size], **attributes)
    time = None if _changes_steps(of) else flow.time
    return TensorRef(_turned(graph, y), layer.output_size, time=time)


def _pooling(graph: Graph, name: str, layer: MaxPooling1D | AveragePooling1D, flow: TensorRef) -> TensorRef:
    _check_lengths(graph, name)
    of = layer.windows
    attributes = _windows(of)
    if isinstance(layer, AveragePooling1D):
        attributes["count_include_pad"] = int(layer.count_padding)
    op = "AveragePool" if isinstance(layer, AveragePooling1D) else "MaxPool"
    y = graph.add(op, [_turned(graph, flow.value)], kernel_shape=[of.size], **attributes)
    return TensorRef(_turned(graph, y), flow.features, time=None if _changes_steps(of) else flow.time)


def _windows(of: Windows) -> dict[str, Any]:
    """Strides and padding as attributes."""
    if of.padding == "same":
        return {"strides": [of.stride], "auto_pad": "SAME_UPPER"}
    return {"strides": [of.stride], "pads": [*of.pads(0)]}


def _changes_steps(of: Windows) -> bool:
    return of.stride != 1 or sum(of.pads(of.span)) != of.span - 1


def _check_lengths(graph: Graph, name: str) -> None:
    """Refuse what takes all steps alike, where some are no steps of a sequence."""
    if graph.lengths is not None:
        refuse(name, "looks at steps, and ONNX does not know there which are a sequence's own")


def _repeat(graph: Graph, name: str, layer: RepeatVector, flow: TensorRef) -> TensorRef:
    del name
    graph.lengths = None  # all of these steps are valid ones
    one = graph.add("Unsqueeze", [flow.value, graph.integers([1])])
    y = graph.add("Tile", [one, graph.integers([1, layer.times, 1])])
    return TensorRef(y, flow.features, time=layer.times)


def _flatten(graph: Graph, name: str, layer: Flatten, flow: TensorRef) -> TensorRef:
    del layer
    _check_lengths(graph, name)
    return TensorRef(graph.add("Flatten", [flow.value], axis=1), None, in_time=False)


def _unsqueeze(graph: Graph, name: str, layer: Unsqueeze, flow: TensorRef) -> TensorRef:
    del name, layer
    return replace(flow, value=graph.add("Unsqueeze", [flow.value, graph.integers([2])]), features=1)


def _squeeze(graph: Graph, name: str, layer: Squeeze, flow: TensorRef) -> TensorRef:
    del name, layer
    return replace(flow, value=graph.add("Squeeze", [flow.value, graph.integers([-1])]), lstm=None)


FURTHER_WRITERS: dict[type, Callable[[Graph, str, Any, TensorRef], TensorRef]] = {
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
