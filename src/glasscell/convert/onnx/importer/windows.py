"""Operators over windows of steps: convolutions and pools, on (B, features, T) with optional axes of size 1."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from glasscell.convert.onnx.importer.affine import check_dtype, with_features
from glasscell.convert.onnx.importer.constants import UnsupportedNode
from glasscell.convert.onnx.importer.layer_specs import ConvolutionSpec, LayerSpec, require_weights
from glasscell.convert.onnx.importer.node import Node
from glasscell.convert.onnx.importer.selection import as_features, check_all_steps_valid
from glasscell.convert.onnx.importer.symbolic_values import (
    Axis,
    Dim,
    SymbolicTensor,
    describe_shape,
    replace_axis,
    runs_over,
    without_unit_dims,
)
from glasscell.core.windows import Padding, Windows
from glasscell.layers import AveragePooling1D, MaxPooling1D

NOT_OVER_TIME = "has windows over other axes than time"


class WindowedInput(NamedTuple):
    """A tensor whose axis 1 is the features, its axis of time, and the windows of a node over it."""

    tensor: SymbolicTensor
    axis: int
    windows: Windows


def _windowed_input(node: Node, kernel: tuple[int, ...]) -> WindowedInput:
    """Return the windows of a node: over one axis after the first two; the others, of size 1, have windows of 1."""
    tensor = as_features(node.value)
    check_all_steps_valid(tensor)
    if len(tensor.axes) < 3 or tensor.per_sequence or len(kernel) != len(tensor.axes) - 2 or min(kernel) < 1:
        raise UnsupportedNode(f"has windows of {kernel} on an input of {len(tensor.axes)} axes")
    if not (tensor.features or tensor.axes[1]):  # a new axis: the input of the graph has none for features
        features = (Dim(1),)
        tensor = replace(tensor, axes=replace_axis(tensor, 1, features), features=features, no_feature_axis=True)
    tensor = with_features(tensor, 1)
    longer = [k for k in range(2, len(tensor.axes)) if without_unit_dims(tensor.axes[k])]
    axis = longer[0] if longer else 2
    dims = without_unit_dims(tensor.axes[axis])
    if len(longer) > 1 or len(dims) > 1 or (tensor.time is not None and not runs_over(tensor.axes[axis], tensor.time)):
        raise UnsupportedNode(NOT_OVER_TIME)
    return WindowedInput(tensor, axis, _windows(node, kernel, axis - 2))


def _windows(node: Node, kernel: tuple[int, ...], axis: int) -> Windows:
    """Return the windows along one axis of a kernel."""
    rank = len(kernel)
    strides, dilations = (node.attributes.get(name) or [1] * rank for name in ("strides", "dilations"))
    pads = node.attributes.get("pads") or [0] * 2 * rank
    over_others = any(size != 1 for k, size in enumerate(kernel) if k != axis)
    pads_others = any(size for k, size in enumerate(pads) if k % rank != axis)
    if over_others or pads_others or min(*pads, *strides, *dilations) < 0:
        raise UnsupportedNode(NOT_OVER_TIME)
    windows = Windows(kernel[axis], strides[axis], dilations[axis], (pads[axis], pads[rank + axis]))
    return windows._replace(padding=_padding(node, windows))


def _padding(node: Node, windows: Windows) -> Padding:
    """Return the padding of windows by its name where it has one."""
    auto = node.attributes.get("auto_pad", b"NOTSET")
    if auto == b"SAME_UPPER":
        return "same"
    if auto == b"SAME_LOWER" and windows.stride == 1:
        return windows.span // 2, (windows.span - 1) // 2
    if auto not in (b"NOTSET", b"VALID"):
        raise UnsupportedNode(f"has auto_pad {auto.decode(errors='replace')[:40]}")
    if windows.padding == (0, 0) or auto == b"VALID":
        return "valid"
    return "causal" if node.op == "Conv" and windows.padding == (windows.span - 1, 0) else windows.padding


def _apply(node: Node, inputs: WindowedInput, spec: LayerSpec, features: Axis, module: str) -> SymbolicTensor:
    """Return the output of a layer that changes the number of steps and the features."""
    tensor, axis, windows = inputs
    T, dynamic = tensor.shape[axis], any(dim.dynamic for dim in tensor.axes[axis])
    if (
        node.attributes.get("ceil_mode", 0)
        and windows.stride > 1
        and (dynamic or (T + sum(windows.pads(T)) - windows.span) % windows.stride)
    ):
        raise UnsupportedNode("has ceil_mode, and a last window of fewer steps")
    time = Dim(windows.count(T), dynamic=dynamic)
    if time.size < 1:
        raise UnsupportedNode(f"has windows of {windows.span} steps in sequences of {T}")
    axes = tuple(
        features if k == 1 else (time,) if k == axis else () if k > 1 else dims for k, dims in enumerate(tensor.axes)
    )
    batch = tensor.batch or (*without_unit_dims(tensor.axes[0]), *tensor.axes[0], Dim(1))[0]
    return replace(tensor.apply(spec, module), axes=axes, features=features, time=time, batch=batch)


def convolution(node: Node) -> SymbolicTensor:
    """Apply a convolution over time."""
    weight = require_weights("weights", node.inputs[1])
    bias = None if node.input(2) is None else require_weights("biases", node.input(2))
    groups = int(node.attributes.get("group", 1))
    if weight.ndim < 3 or groups < 1:
        raise UnsupportedNode(f"has weights of shape {weight.shape} in {groups} groups")
    (O, I), kernel = weight.shape[:2], weight.shape[2:]
    if tuple(node.attributes.get("kernel_shape", kernel)) != kernel:
        raise UnsupportedNode(f"has kernel_shape {tuple(node.attributes['kernel_shape'])}, and weights of {kernel}")
    inputs = _windowed_input(node, kernel)
    if inputs.tensor.shape[1] != I * groups or O % groups or (bias is not None and bias.shape != (O,)):
        raise UnsupportedNode(
            f"has weights {weight.shape} in {groups} groups, and an input of shape {describe_shape(inputs.tensor)}"
        )
    check_dtype(inputs.tensor, weight.dtype)
    spec = ConvolutionSpec(weight.reshape(O, I, inputs.windows.size), bias, inputs.windows, groups)
    return _apply(node, inputs, spec, (Dim(O),), node.weight_module)


def pooling(node: Node) -> list[SymbolicTensor]:
    """Apply the mean or maximum of each window."""
    inputs = _windowed_input(node, tuple(node.attributes.get("kernel_shape", ())))
    windows = inputs.windows
    if windows.dilation != 1:
        raise UnsupportedNode("has dilations, which pooling layers do not support")
    spec: Any
    try:
        if node.op == "MaxPool":
            spec = MaxPooling1D(windows.size, windows.stride, windows.padding)
        else:
            count_padding = bool(node.attributes.get("count_include_pad", 0))
            spec = AveragePooling1D(windows.size, windows.stride, windows.padding, count_padding=count_padding)
    except ValueError as error:
        raise UnsupportedNode(f"pools windows that cannot be represented: {error}") from None
    return [_apply(node, inputs, spec, inputs.tensor.features, node.module)]


def covers_all_steps(node: Node, shape: tuple[int, ...]) -> bool:
    """Return whether a pool has one window over all steps."""
    kernel, auto = tuple(node.attributes.get("kernel_shape", shape)), node.attributes.get("auto_pad", b"NOTSET")
    return kernel == shape and not any(node.attributes.get("pads", ())) and auto in (b"NOTSET", b"VALID")
