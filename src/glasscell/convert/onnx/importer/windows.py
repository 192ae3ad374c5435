"""Operators over windows of steps: convolutions and pools, on (B, features, T), perhaps with axes of size 1."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from glasscell.convert.onnx.importer.affine import check_type, with_features
from glasscell.convert.onnx.importer.constants import UnsupportedNode
from glasscell.convert.onnx.importer.layer_specs import ConvolutionPlan, LayerSpec, weights_of
from glasscell.convert.onnx.importer.node import Node
from glasscell.convert.onnx.importer.selection import as_features, check_in_time
from glasscell.convert.onnx.importer.symbolic_values import (
    Axis,
    Dim,
    SymbolicTensor,
    describe_shape,
    runs_over,
    without_unit_dims,
)
from glasscell.core.windows import Padding, Windows
from glasscell.layers import AveragePooling1D, MaxPooling1D


class Over(NamedTuple):
    """A view with features as its axis 1, and what windows of a node run over."""

    view: SymbolicTensor
    axis: int  # that of time
    windows: Windows


def _over(node: Node, kernel: tuple[int, ...]) -> Over:
    """What windows run over: one axis of those behind the first two; along the others, of size 1, a window is one."""
    view = as_features(node.value)
    check_in_time(view)
    if len(view.axes) < 3 or view.alone or len(kernel) != len(view.axes) - 2 or min(kernel) < 1:
        raise UnsupportedNode(f"has windows of {kernel} on an input of {len(view.axes)} axes")
    if not (view.features or view.axes[1]):  # the axis is new: the input has none for features
        groups = [(Dim(1),) if k == 1 else group for k, group in enumerate(view.axes)]
        view = replace(view, axes=tuple(groups), features=groups[1], bare=True)
    view = with_features(view, 1)
    longer = [k for k in range(2, len(view.axes)) if without_unit_dims(view.axes[k])]
    axis = longer[0] if longer else 2
    group = without_unit_dims(view.axes[axis])
    if len(longer) > 1 or len(group) > 1 or (view.time is not None and not runs_over(view.axes[axis], view.time)):
        raise UnsupportedNode("has windows over something else than time")
    k, axes = axis - 2, len(kernel)
    strides, dilations = (node.attributes.get(name) or [1] * axes for name in ("strides", "dilations"))
    pads = node.attributes.get("pads") or [0] * 2 * axes
    wide = any(size != 1 for at, size in enumerate(kernel) if at != k)
    padded = any(size for at, size in enumerate(pads) if at % axes != k)
    if wide or padded or min(*pads, *strides, *dilations) < 0:
        raise UnsupportedNode("has windows over something else than time")
    windows = Windows(kernel[k], strides[k], dilations[k], (pads[k], pads[axes + k]))
    return Over(view, axis, windows._replace(padding=_padding(node, windows)))


def _padding(node: Node, windows: Windows) -> Padding:
    """The padding of windows; (0, 0) and one before all steps by their names."""
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


def _after(node: Node, over: Over, plan: LayerSpec, features: Axis, module: str) -> SymbolicTensor:
    """The view behind a layer that gives other steps and features."""
    view, axis, windows = over
    group = view.axes[axis]
    if node.attributes.get("ceil_mode", 0) and windows.stride > 1:
        T = view.shape[axis]
        if any(atom.open for atom in group) or (T + sum(windows.pads(T)) - windows.span) % windows.stride:
            raise UnsupportedNode("has a last window of fewer steps: ceil_mode")
    steps = Dim(windows.count(view.shape[axis]), open=any(atom.open for atom in group))
    if steps.size < 1:
        raise UnsupportedNode(f"has windows of {windows.span} steps in sequences of {view.shape[axis]}")
    axes = [features if k == 1 else (steps,) if k == axis else one for k, one in enumerate(view.axes)]
    axes = [() if k > 1 and k != axis else one for k, one in enumerate(axes)]
    batch = view.batch or (*without_unit_dims(view.axes[0]), *view.axes[0], Dim(1))[0]
    new = view.through(plan, module)
    return replace(new, axes=tuple(axes), features=features, time=steps, batch=batch)


def convolution(node: Node) -> SymbolicTensor:
    """A convolution."""
    weight = weights_of("weights", node.inputs[1])
    bias = None if node.given(2) is None else weights_of("biases", node.given(2))
    groups = int(node.attributes.get("group", 1))
    if weight.ndim < 3 or groups < 1:
        raise UnsupportedNode(f"has weights of shape {weight.shape} in {groups} groups")
    (O, I), kernel = weight.shape[:2], weight.shape[2:]
    if tuple(node.attributes.get("kernel_shape", kernel)) != kernel:
        raise UnsupportedNode(f"has kernel_shape {tuple(node.attributes['kernel_shape'])}, and weights of {kernel}")
    over = _over(node, kernel)
    if over.view.shape[1] != I * groups or O % groups or (bias is not None and bias.shape != (O,)):
        raise UnsupportedNode(
            f"has weights {weight.shape} in {groups} groups, and its input has the shape {describe_shape(over.view)}"
        )
    check_type(over.view, weight.dtype)
    plan = ConvolutionPlan(weight.reshape(O, I, over.windows.size), bias, over.windows, groups)
    return _after(node, over, plan, (Dim(O),), node.owner)


def pooling(node: Node) -> list[SymbolicTensor]:
    """The mean or maximum of each window."""
    kernel = tuple(node.attributes.get("kernel_shape", ()))
    over = _over(node, kernel)
    of = over.windows
    if of.dilation != 1:
        raise UnsupportedNode("pools steps that do not follow each other")
    layer: Any
    try:
        if node.op == "MaxPool":
            layer = MaxPooling1D(of.size, of.stride, of.padding)
        else:
            counted = bool(node.attributes.get("count_include_pad", 0))
            layer = AveragePooling1D(of.size, of.stride, of.padding, count_padding=counted)
    except ValueError as error:
        raise UnsupportedNode(f"pools windows that cannot be represented: {error}") from None
    return [_after(node, over, layer, over.view.features, node.module)]


def covers_all(node: Node, sizes: tuple[int, ...]) -> bool:
    """Whether the one window of a pool is all there is."""
    kernel, auto = tuple(node.attributes.get("kernel_shape", sizes)), node.attributes.get("auto_pad", b"NOTSET")
    return kernel == sizes and not any(node.attributes.get("pads", ())) and auto in (b"NOTSET", b"VALID")
