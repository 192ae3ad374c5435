"""Operators that move axes about, or take parts: they hand on what the layers so far give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod

import numpy as np

from glasscell.convert.onnx.importer.constants import (
    UnsupportedNode,
    axes_of,
    dtype_of,
    integers,
    normalize_axis,
    require_constant,
    slices_of,
    split_ranges,
)
from glasscell.convert.onnx.importer.layer_ops import embedding
from glasscell.convert.onnx.importer.node import Node, data
from glasscell.convert.onnx.importer.selection import (
    as_features,
    concat,
    concat_directions,
    squeeze,
    take_index,
    take_range,
)
from glasscell.convert.onnx.importer.symbolic_values import (
    Dim,
    SymbolicStates,
    SymbolicTensor,
    Value,
    reshaped,
    transposed,
    unsqueezed,
    with_axes,
    without_unit_dims,
)
from glasscell.layers import RepeatVector


def _transpose(node: Node) -> Value:
    return transposed(node.value, node.attributes.get("perm", range(len(node.value.axes))[::-1]))


def _reshape(node: Node) -> Value:
    target, allow_zero = integers(node.inputs[1]), bool(node.attributes.get("allowzero", 0))
    return _flat(reshaped(node.value, target, allow_zero=allow_zero), node.module)


def _flatten(node: Node) -> Value:
    shape, axis = node.value.shape, node.attributes.get("axis", 1)
    return _flat(reshaped(node.value, [prod(shape[:axis]), prod(shape[axis:])], allow_zero=True), node.module)


def _flat(value: Value, module: str) -> Value:
    """The value, with the module that put steps and features in one axis."""
    if isinstance(value, SymbolicTensor) and value.axes and value.time in value.axes[-1] and len(value.axes[-1]) > 1:
        return replace(value, flat=module)
    return value


def _expand(node: Node) -> Value:
    shape = np.broadcast_shapes(node.value.shape, tuple(integers(node.inputs[1])))
    value = unsqueezed(node.value, range(len(shape) - len(node.value.shape)))
    return _repeated(value, [new // old for old, new in zip(value.shape, shape, strict=True)], node.module)


def _tile(node: Node) -> Value:
    repeats = integers(node.inputs[1])
    if len(repeats) != len(node.value.axes):
        raise UnsupportedNode(f"repeats {len(node.value.axes)} axes {repeats} times")
    return _repeated(node.value, repeats, node.module)


def _repeated(value: Value, repeats: Sequence[int], module: str) -> Value:
    """A vector a sequence as one a step: along one axis of size 1, which is time behind it."""
    growing = [k for k, times in enumerate(repeats) if times != 1]
    if not growing:
        return value
    [axis, *others] = growing
    view = as_features(value)
    if others or not view.alone or without_unit_dims(view.axes[axis]) or not view.features or repeats[axis] < 1:
        raise UnsupportedNode("repeats what a chain of layers has once")
    time = Dim(repeats[axis])
    axes = [(time,) if k == axis else group for k, group in enumerate(view.axes)]
    new = view.through(RepeatVector(repeats[axis]), module)
    return replace(new, axes=tuple(axes), time=time, alone=False)


def _cast(node: Node) -> Value:
    value, to = node.value, dtype_of(int(node.attributes["to"]))
    dtype = value.dtype if isinstance(value, SymbolicTensor) else value.entries[0][0].dtype
    if to == dtype:
        return value
    if not isinstance(value, SymbolicTensor) or value.link is not None:
        raise UnsupportedNode(f"casts from {dtype} to {to} between layers")
    if to.kind not in "iuf" or value.symbols:
        raise UnsupportedNode(f"casts an input from {dtype} to {to}")
    return replace(value, dtype=to, symbols=dtype.kind == "f" and to.kind != "f")  # of floats, their integer part


def _slice(node: Node) -> Value:
    value = node.value
    for axis, of in slices_of(node.inputs, node.attributes, value.shape).items():
        size = value.shape[axis]
        places = range(*of.indices(size))
        if len(places) == 1 and size > 1:
            one = take_index(value, axis, places[0] - size if of.start < 0 else places[0], node.module)
            value = with_axes(one, [*one.axes[:axis], (), *one.axes[axis:]])
        else:
            value = take_range(value, axis, places, node.module)
    return value


def _gather(node: Node) -> Value:
    table, places, axis = node.inputs[0], node.inputs[1], node.attributes.get("axis", 0)
    if isinstance(places, SymbolicTensor) and isinstance(table, np.ndarray):
        return embedding(node, table, places, axis)
    value, index = node.value, require_constant(places)
    axis = normalize_axis(axis, len(value.axes))
    numbers = integers(index)
    if len(numbers) == 1:
        one = take_index(value, axis, numbers[0], node.module)
        return one if index.ndim == 0 else with_axes(one, [*one.axes[:axis], (), *one.axes[axis:]])
    return take_range(value, axis, _as_range([normalize_axis(k, value.shape[axis]) for k in numbers]), node.module)


def _as_range(places: list[int]) -> Sequence[int]:
    """Places one behind the other, or one before the other, as a range."""
    step = places[1] - places[0] if len(places) > 1 else 1
    run = range(places[0], places[0] + step * len(places), step) if places and step else range(0)
    return run if [*run] == places else places


def _split(node: Node) -> list[Value]:
    axis = normalize_axis(node.attributes.get("axis", 0), len(node.value.axes))
    parts = split_ranges(node.inputs, node.attributes, node.value.shape[axis], node.outputs)
    return [take_range(node.value, axis, places, node.module) for places in parts]


def _concat(node: Node) -> Value:
    values = [data(value) for value in node.inputs]
    axis = normalize_axis(node.attributes["axis"], len(values[0].axes))
    if len(values) == 1:
        return values[0]
    states = [value for value in values if isinstance(value, SymbolicStates)]
    if len(states) == len(values):
        return concat(states, axis)
    if len(values) != 2 or states:
        raise UnsupportedNode("concatenates values that no sequential model concatenates")
    a, b = (as_features(value) for value in values)
    return concat_directions(a, b, axis)


MOVES: dict[str, Callable[[Node], Value | list[Value]]] = {
    "Transpose": _transpose,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": lambda node: squeeze(node.value, axes_of(node.inputs, node.attributes)),
    "Unsqueeze": lambda node: unsqueezed(node.value, axes_of(node.inputs, node.attributes) or []),
    "Identity": lambda node: node.value,
    "Expand": _expand,
    "Tile": _tile,
    "Cast": _cast,
    "Slice": _slice,
    "Gather": _gather,
    "Split": _split,
    "Concat": _concat,
}
