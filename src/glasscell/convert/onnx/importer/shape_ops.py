"""Operators that move axes or select entries: they pass on the output of the previous layers."""

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
from glasscell.convert.onnx.importer.node import Node, require_symbolic
from glasscell.convert.onnx.importer.selection import (
    NOT_CONCATENATED,
    as_features,
    concat,
    concat_directions,
    squeeze,
    take_index,
    take_range,
    take_single,
)
from glasscell.convert.onnx.importer.symbolic_values import (
    Dim,
    SymbolicStates,
    SymbolicTensor,
    SymbolicValue,
    replace_axis,
    reshape,
    transpose,
    unsqueeze,
    without_unit_dims,
)
from glasscell.layers import RepeatVector


def _transpose(node: Node) -> SymbolicValue:
    return transpose(node.value, node.attributes.get("perm", range(len(node.value.axes))[::-1]))


def _reshape(node: Node) -> SymbolicValue:
    target, allow_zero = integers(node.inputs[1]), bool(node.attributes.get("allowzero", 0))
    return _with_flatten_module(reshape(node.value, target, allow_zero=allow_zero), node.module)


def _flatten(node: Node) -> SymbolicValue:
    shape, axis = node.value.shape, node.attributes.get("axis", 1)
    flattened = reshape(node.value, [prod(shape[:axis]), prod(shape[axis:])], allow_zero=True)
    return _with_flatten_module(flattened, node.module)


def _with_flatten_module(value: SymbolicValue, module: str) -> SymbolicValue:
    """Return the value with the module that merged steps and features into one axis, if it did."""
    if isinstance(value, SymbolicTensor) and value.axes and value.time in value.axes[-1] and len(value.axes[-1]) > 1:
        return replace(value, flatten_module=module)
    return value


def _expand(node: Node) -> SymbolicValue:
    shape = np.broadcast_shapes(node.value.shape, tuple(integers(node.inputs[1])))
    value = unsqueeze(node.value, range(len(shape) - len(node.value.shape)))
    return _repeat(value, [new // old for old, new in zip(value.shape, shape, strict=True)], node.module)


def _tile(node: Node) -> SymbolicValue:
    repeats = integers(node.inputs[1])
    if len(repeats) != len(node.value.axes):
        raise UnsupportedNode(f"repeats {len(node.value.axes)} axes {repeats} times")
    return _repeat(node.value, repeats, node.module)


def _repeat(value: SymbolicValue, repeats: Sequence[int], module: str) -> SymbolicValue:
    """Return one vector per sequence repeated along an axis of size 1, which becomes time."""
    repeated = [k for k, times in enumerate(repeats) if times != 1]
    if not repeated:
        return value
    axis = repeated[0]
    tensor = as_features(value)
    if (
        len(repeated) > 1
        or not tensor.per_sequence
        or without_unit_dims(tensor.axes[axis])
        or not tensor.features
        or repeats[axis] < 1
    ):
        raise UnsupportedNode("repeats values that no sequential model repeats")
    time = Dim(repeats[axis])
    axes = replace_axis(tensor, axis, (time,))
    return replace(tensor.apply(RepeatVector(repeats[axis]), module), axes=axes, time=time, per_sequence=False)


def _cast(node: Node) -> SymbolicValue:
    value, target = node.value, dtype_of(int(node.attributes["to"]))
    dtype = value.dtype if isinstance(value, SymbolicTensor) else value.entries[0][0].dtype
    if target == dtype:
        return value
    if not isinstance(value, SymbolicTensor) or value.last_layer is not None:
        raise UnsupportedNode(f"casts from {dtype} to {target} between layers")
    if target.kind not in "iuf" or value.cast_ids:
        raise UnsupportedNode(f"casts an input from {dtype} to {target}")
    return replace(value, dtype=target, cast_ids=dtype.kind == "f" and target.kind != "f")  # truncates floats


def _slice(node: Node) -> SymbolicValue:
    value = node.value
    for axis, bounds in slices_of(node.inputs, node.attributes, value.shape).items():
        size = value.shape[axis]
        indices = range(*bounds.indices(size))
        if len(indices) == 1 and size > 1:
            index = indices[0] - size if bounds.start < 0 else indices[0]
            value = take_single(value, axis, index, node.module)
        else:
            value = take_range(value, axis, indices, node.module)
    return value


def _gather(node: Node) -> SymbolicValue:
    table, indices, axis = node.inputs[0], node.inputs[1], node.attributes.get("axis", 0)
    if isinstance(indices, SymbolicTensor) and isinstance(table, np.ndarray):
        return embedding(node, table, indices, axis)
    value, array = node.value, require_constant(indices)
    axis = normalize_axis(axis, len(value.axes))
    numbers = integers(array)
    if len(numbers) == 1:
        take = take_index if array.ndim == 0 else take_single
        return take(value, axis, numbers[0], node.module)
    return take_range(value, axis, _as_range([normalize_axis(k, value.shape[axis]) for k in numbers]), node.module)


def _as_range(indices: list[int]) -> Sequence[int]:
    """Return equally spaced indices as a range, others unchanged."""
    step = indices[1] - indices[0] if len(indices) > 1 else 1
    equal = range(indices[0], indices[0] + step * len(indices), step) if indices and step else range(0)
    return equal if [*equal] == indices else indices


def _split(node: Node) -> list[SymbolicValue]:
    axis = normalize_axis(node.attributes.get("axis", 0), len(node.value.axes))
    ranges = split_ranges(node.inputs, node.attributes, node.value.shape[axis], node.num_outputs)
    return [take_range(node.value, axis, indices, node.module) for indices in ranges]


def _concat(node: Node) -> SymbolicValue:
    values = [require_symbolic(value) for value in node.inputs]
    axis = normalize_axis(node.attributes["axis"], len(values[0].axes))
    if len(values) == 1:
        return values[0]
    states = [value for value in values if isinstance(value, SymbolicStates)]
    if len(states) == len(values):
        return concat(states, axis)
    if len(values) != 2 or states:
        raise UnsupportedNode(NOT_CONCATENATED)
    a, b = (as_features(value) for value in values)
    return concat_directions(a, b, axis)


SHAPE_HANDLERS: dict[str, Callable[[Node], SymbolicValue | list[SymbolicValue]]] = {
    "Transpose": _transpose,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": lambda node: squeeze(node.value, axes_of(node.inputs, node.attributes)),
    "Unsqueeze": lambda node: unsqueeze(node.value, axes_of(node.inputs, node.attributes) or []),
    "Identity": lambda node: node.value,
    "Expand": _expand,
    "Tile": _tile,
    "Cast": _cast,
    "Slice": _slice,
    "Gather": _gather,
    "Split": _split,
    "Concat": _concat,
}
