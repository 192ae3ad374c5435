"""What nodes compute from constants and from the sizes of the inputs.

Nothing is computed before it is known how many numbers it gives: a few bytes of a file can ask for more than there is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from math import prod
from typing import Any

import numpy as np
import onnx

from glasscell.convert.onnx.importer.constants import (
    Attributes,
    Constant,
    UnsupportedNode,
    array_of,
    axes_of,
    axis_of,
    dtype_of,
    integers,
    ranges,
    require_constant,
    split_places,
    type_name,
)
from glasscell.limits import MemoryBudget

Compute = Callable[[list[Constant], Attributes], Constant]


def _divided(a: Constant, b: Constant) -> Constant:
    """Integers are divided as in C."""
    return np.asarray(np.divide(a, b) if a.dtype.kind == "f" else np.sign(a) * np.sign(b) * (abs(a) // abs(b)))


def _elementwise(function: Callable[..., Any]) -> Compute:
    return lambda inputs, _: np.asarray(function(*inputs))


def _reduced(function: Callable[..., Any]) -> Compute:
    def compute(inputs: list[Constant], attributes: Attributes) -> Constant:
        axes = axes_of(inputs, attributes)
        if not axes and attributes.get("noop_with_empty_axes"):
            return inputs[0]
        over = tuple(axes) if axes else None
        return np.asarray(function(inputs[0], axis=over, keepdims=bool(attributes.get("keepdims", 1))))

    return compute


def _cast(array: Constant, to: Any) -> Constant:
    dtype = dtype_of(int(to))
    if dtype.kind not in "biuf":
        raise UnsupportedNode(f"casts to {type_name(to)}")
    return array.astype(dtype)


def _filled(inputs: list[Constant], attributes: Attributes) -> Constant:
    value = array_of(attributes["value"]) if "value" in attributes else np.zeros(1, np.float32)
    return np.broadcast_to(value.reshape(()), integers(inputs[0]))


def _expanded(inputs: list[Constant], _: Attributes) -> Constant:
    return np.broadcast_to(inputs[0], np.broadcast_shapes(inputs[0].shape, tuple(integers(inputs[1]))))


def _reshaped(inputs: list[Constant], attributes: Attributes) -> Constant:
    array, target = inputs[0], integers(inputs[1])
    if not attributes.get("allowzero"):
        target = [array.shape[k] if size == 0 else size for k, size in enumerate(target)]
    return array.reshape(target)


def _flattened(inputs: list[Constant], attributes: Attributes) -> Constant:
    shape, axis = inputs[0].shape, attributes.get("axis", 1)
    return inputs[0].reshape(prod(shape[:axis]), prod(shape[axis:]))


def _squeezed(inputs: list[Constant], attributes: Attributes) -> Constant:
    axes = axes_of(inputs, attributes)
    return np.squeeze(inputs[0], None if axes is None else tuple(axes))


def _sliced(inputs: list[Constant], attributes: Attributes) -> Constant:
    of_axes = ranges(inputs, attributes, inputs[0].shape)
    return np.asarray(inputs[0][tuple(of_axes.get(k, slice(None)) for k in range(inputs[0].ndim))])


def _run(start: Constant, stop: Constant, step: Constant) -> Constant:
    return np.arange(start.item(), stop.item(), step.item(), dtype=start.dtype)


def _shape(inputs: list[Constant], attributes: Attributes) -> Constant:
    return np.array(inputs[0].shape, np.int64)[slice(attributes.get("start"), attributes.get("end"))]


ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "Abs": np.abs,
    "Add": np.add,
    "And": np.logical_and,
    "Ceil": np.ceil,
    "Div": _divided,
    "Equal": np.equal,
    "Floor": np.floor,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Max": lambda *arrays: reduce(np.maximum, arrays),
    "Min": lambda *arrays: reduce(np.minimum, arrays),
    "Mul": np.multiply,
    "Neg": np.negative,
    "Not": np.logical_not,
    "Or": np.logical_or,
    "Sqrt": np.sqrt,
    "Sub": np.subtract,
    "Where": np.where,
}
BROADCAST: dict[str, Compute] = {name: _elementwise(function) for name, function in ELEMENTWISE.items()} | {
    "Mod": lambda inputs, attributes: np.asarray((np.fmod if attributes.get("fmod") else np.mod)(*inputs)),
    "Cast": lambda inputs, attributes: _cast(inputs[0], attributes["to"]),
    "CastLike": lambda inputs, _: inputs[0].astype(inputs[1].dtype),
}

SHAPE_OPS: dict[str, Compute] = {  # these give no more than they are given, and most of them the same memory
    "Identity": lambda inputs, _: inputs[0],
    "Transpose": lambda inputs, attributes: inputs[0].transpose(attributes.get("perm")),
    "Reshape": _reshaped,
    "Flatten": _flattened,
    "Squeeze": _squeezed,
    "Unsqueeze": lambda inputs, attributes: np.expand_dims(inputs[0], tuple(axes_of(inputs, attributes) or ())),
    "Slice": _sliced,
    "Shape": _shape,
    "Size": lambda inputs, _: np.array(inputs[0].size, np.int64),
    "ReduceSum": _reduced(np.sum),
    "ReduceProd": _reduced(np.prod),
    "ReduceMax": _reduced(np.max),
    "ReduceMin": _reduced(np.min),
}

EXPANDING_OPS: dict[str, Compute] = {
    "Concat": lambda inputs, attributes: np.concatenate(inputs, axis=attributes["axis"]),
    "ConstantOfShape": _filled,
    "Expand": _expanded,
    "Gather": lambda inputs, attributes: np.take(inputs[0], inputs[1], axis=attributes.get("axis", 0)),
    "Range": lambda inputs, _: _run(*inputs),
    "Tile": lambda inputs, _: np.tile(inputs[0], integers(inputs[1])),
}

COMPUTED = {**BROADCAST, **SHAPE_OPS, **EXPANDING_OPS}
FOLDED = frozenset({"Constant", "Split", *COMPUTED})


def fold(node: onnx.NodeProto, inputs: list[Any], attributes: Attributes, budget: MemoryBudget) -> list[Constant]:
    """What a node gives whose inputs are all constants."""
    if node.op_type == "Constant":
        return [_constant(attributes)]
    arrays = [require_constant(value) for value in inputs if value is not None]
    if node.op_type not in SHAPE_OPS:
        budget.reserve(_size(node.op_type, arrays, attributes) * _bytes_each(node.op_type, arrays, attributes))
    with np.errstate(all="ignore"):
        if node.op_type == "Split":
            axis = axis_of(attributes.get("axis", 0), arrays[0].ndim)
            places = split_places(inputs, attributes, arrays[0].shape[axis], len(node.output))
            return [arrays[0].take(of, axis=axis) for of in places]
        given = inputs if node.op_type == "Slice" else arrays
        value = np.asarray(COMPUTED[node.op_type](given, attributes))
    if node.op_type in SHAPE_OPS and not np.may_share_memory(value, arrays[0]):
        budget.reserve(value.nbytes)
    return [value]


def _constant(attributes: Attributes) -> Constant:
    if isinstance(attributes.get("value"), onnx.TensorProto):
        return array_of(attributes["value"])
    of = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    for name, dtype in of.items():
        if name in attributes:
            return np.array(attributes[name], dtype)
    raise UnsupportedNode("holds no numbers")


def _bytes_each(op: str, arrays: list[Constant], attributes: Attributes) -> int:
    """Bytes for a value of what a node gives, at most."""
    if op == "Cast":
        return dtype_of(int(attributes["to"])).itemsize
    return 8 if op == "ConstantOfShape" else max(array.itemsize for array in arrays)


def _size(op: str, arrays: list[Constant], attributes: Attributes) -> float:
    """How many values a node gives, at most."""
    first = arrays[0]
    if op in BROADCAST:
        size: float = prod(np.broadcast_shapes(*(array.shape for array in arrays)))
    elif op == "Concat":
        size = sum(array.size for array in arrays)
    elif op == "Gather":
        size = arrays[1].size * first.size / max(first.shape[attributes.get("axis", 0)], 1)
    elif op == "Range":
        start, stop, step = (float(array.reshape(())) for array in arrays)
        size = (stop - start) / step if step else 0.0
    elif op == "Expand":
        size = prod(np.broadcast_shapes(first.shape, tuple(integers(arrays[1]))))
    elif op == "ConstantOfShape":
        size = prod(integers(first))
    elif op == "Tile":
        size = first.size * prod(integers(arrays[1]))
    else:
        size = first.size
    return size
