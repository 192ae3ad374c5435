"""Evaluate nodes whose inputs are all constants.

The size of a result is reserved before the node is evaluated: a few bytes of a file can describe an array larger than
memory.

NumPy evaluates the nodes, not ``onnx.reference`` (measured with onnx 1.23): that takes 35 µs per node instead of 5,
allocates the results of Expand twice and those of ConstantOfShape once, which are views here, and orders the axes of an
Unsqueeze before version 13 wrongly. The tests compare both.
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
    dtype_of,
    integers,
    normalize_axis,
    require_constant,
    slices_of,
    split_ranges,
    type_name,
)
from glasscell.limits import MemoryBudget

Evaluate = Callable[[list[Constant], Attributes], Constant]
CONSTANT_DTYPES = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}


def _divide(a: Constant, b: Constant) -> Constant:
    """Return a / b; integers are rounded towards zero, as in C."""
    return np.asarray(np.divide(a, b) if a.dtype.kind == "f" else np.sign(a) * np.sign(b) * (abs(a) // abs(b)))


def _elementwise(function: Callable[..., Any]) -> Evaluate:
    return lambda inputs, _: np.asarray(function(*inputs))


def _reduction(ufunc: np.ufunc) -> Evaluate:
    def evaluate(inputs: list[Constant], attributes: Attributes) -> Constant:
        axes = axes_of(inputs, attributes)
        if not axes and attributes.get("noop_with_empty_axes"):
            return inputs[0]
        keepdims = bool(attributes.get("keepdims", 1))
        return np.asarray(
            ufunc.reduce(inputs[0], tuple(axes) if axes else None, dtype=inputs[0].dtype, keepdims=keepdims)
        )

    return evaluate


def _cast(inputs: list[Constant], attributes: Attributes) -> Constant:
    dtype = dtype_of(int(attributes["to"]))
    if dtype.kind not in "biuf":
        raise UnsupportedNode(f"casts to {type_name(attributes['to'])}")
    return inputs[0].astype(dtype)


def _constant_of_shape(inputs: list[Constant], attributes: Attributes) -> Constant:
    value = array_of(attributes["value"]) if "value" in attributes else np.zeros(1, np.float32)
    return np.broadcast_to(value.reshape(()), integers(inputs[0]))


def _expanded_shape(inputs: list[Constant]) -> tuple[int, ...]:
    return np.broadcast_shapes(inputs[0].shape, tuple(integers(inputs[1])))


def _reshape(inputs: list[Constant], attributes: Attributes) -> Constant:
    array, shape = inputs[0], integers(inputs[1])
    if not attributes.get("allowzero"):
        shape = [array.shape[k] if size == 0 else size for k, size in enumerate(shape)]
    return array.reshape(shape)


def _flatten(inputs: list[Constant], attributes: Attributes) -> Constant:
    shape, axis = inputs[0].shape, attributes.get("axis", 1)
    return inputs[0].reshape(prod(shape[:axis]), prod(shape[axis:]))


def _squeeze(inputs: list[Constant], attributes: Attributes) -> Constant:
    axes = axes_of(inputs, attributes)
    return np.squeeze(inputs[0], None if axes is None else tuple(axes))


def _slice(inputs: list[Constant], attributes: Attributes) -> Constant:
    slices = slices_of(inputs, attributes, inputs[0].shape)
    return np.asarray(inputs[0][tuple(slices.get(k, slice(None)) for k in range(inputs[0].ndim))])


def _shape(inputs: list[Constant], attributes: Attributes) -> Constant:
    return np.array(inputs[0].shape, np.int64)[slice(attributes.get("start"), attributes.get("end"))]


def _gather(inputs: list[Constant], attributes: Attributes) -> Constant:
    array, index = inputs
    if index.dtype.kind not in "iu":
        raise UnsupportedNode(f"needs integers as indices, and has {index.dtype}")
    axis = normalize_axis(attributes.get("axis", 0), array.ndim)
    return np.asarray(array[(slice(None),) * axis + (index,)])  # np.take would copy all of a transposed array


def _gathered_size(inputs: list[Constant], attributes: Attributes) -> float:
    array, index = inputs
    size: int = array.shape[attributes.get("axis", 0)]
    return index.size * array.size / max(size, 1)


def _range(inputs: list[Constant], _: Attributes) -> Constant:
    start, stop, step = (array.item() for array in inputs)
    return np.arange(start, stop, step, dtype=inputs[0].dtype)


def _range_size(inputs: list[Constant], _: Attributes) -> float:
    start, stop, step = (float(array.item()) for array in inputs)
    return (stop - start) / step if step else 0.0


BROADCAST_OPS: dict[str, Evaluate] = {
    "Abs": _elementwise(np.abs),
    "Add": _elementwise(np.add),
    "And": _elementwise(np.logical_and),
    "Cast": _cast,
    "CastLike": lambda inputs, _: inputs[0].astype(inputs[1].dtype),
    "Ceil": _elementwise(np.ceil),
    "Div": _elementwise(_divide),
    "Equal": _elementwise(np.equal),
    "Floor": _elementwise(np.floor),
    "Greater": _elementwise(np.greater),
    "GreaterOrEqual": _elementwise(np.greater_equal),
    "Less": _elementwise(np.less),
    "LessOrEqual": _elementwise(np.less_equal),
    "Max": lambda inputs, _: reduce(np.maximum, inputs),
    "Min": lambda inputs, _: reduce(np.minimum, inputs),
    "Mod": lambda inputs, attributes: np.asarray((np.fmod if attributes.get("fmod") else np.mod)(*inputs)),
    "Mul": _elementwise(np.multiply),
    "Neg": _elementwise(np.negative),
    "Not": _elementwise(np.logical_not),
    "Or": _elementwise(np.logical_or),
    "Sqrt": _elementwise(np.sqrt),
    "Sub": _elementwise(np.subtract),
    "Where": _elementwise(np.where),
}

SHAPE_OPS: dict[str, Evaluate] = {  # the result is no larger than the input, and in most cases a view of it
    "Identity": lambda inputs, _: inputs[0],
    "Transpose": lambda inputs, attributes: inputs[0].transpose(attributes.get("perm")),
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": lambda inputs, attributes: np.expand_dims(inputs[0], tuple(axes_of(inputs, attributes) or ())),
    "Slice": _slice,
    "Shape": _shape,
    "Size": lambda inputs, _: np.array(inputs[0].size, np.int64),
    "ReduceSum": _reduction(np.add),
    "ReduceProd": _reduction(np.multiply),
    "ReduceMax": _reduction(np.maximum),
    "ReduceMin": _reduction(np.minimum),
}

# With an upper bound of the number of values in the result.
EXPANDING_OPS: dict[str, tuple[Evaluate, Callable[[list[Constant], Attributes], float]]] = {
    "Concat": (
        lambda inputs, attributes: np.concatenate(inputs, axis=attributes["axis"]),
        lambda inputs, _: sum(array.size for array in inputs),
    ),
    "ConstantOfShape": (_constant_of_shape, lambda inputs, _: prod(integers(inputs[0]))),
    "Expand": (
        lambda inputs, _: np.broadcast_to(inputs[0], _expanded_shape(inputs)),
        lambda inputs, _: prod(_expanded_shape(inputs)),
    ),
    "Gather": (_gather, _gathered_size),
    "Range": (_range, _range_size),
    "Tile": (
        lambda inputs, _: np.tile(inputs[0], integers(inputs[1])),
        lambda inputs, _: inputs[0].size * prod(integers(inputs[1])),
    ),
}

FOLDED = frozenset({"Constant", "Split", *BROADCAST_OPS, *SHAPE_OPS, *EXPANDING_OPS})


def fold(node: onnx.NodeProto, inputs: list[Any], attributes: Attributes, budget: MemoryBudget) -> list[Constant]:
    """Return the outputs of a node whose inputs are all constants.

    Parameters
    ----------
    node : onnx.NodeProto
        Its operator is one of `FOLDED`.
    inputs : list of (Constant or None)
        None for an omitted input.
    attributes : dict
    budget : MemoryBudget
        The memory of the outputs is reserved here.
    """
    op = node.op_type
    if op == "Constant":
        return [_constant(attributes)]
    arrays = [require_constant(value) for value in inputs if value is not None]
    with np.errstate(all="ignore"):
        if op == "Split":
            axis = normalize_axis(attributes.get("axis", 0), arrays[0].ndim)
            ranges = split_ranges(inputs, attributes, arrays[0].shape[axis], len(node.output))
            return [arrays[0][(slice(None),) * axis + (slice(places.start, places.stop),)] for places in ranges]
        if op in SHAPE_OPS:
            value = np.asarray(SHAPE_OPS[op](inputs if op == "Slice" else arrays, attributes))
            if not np.may_share_memory(value, arrays[0]):
                budget.reserve(value.nbytes)
            return [value]
        if op in BROADCAST_OPS:
            evaluate, size = BROADCAST_OPS[op], float(prod(np.broadcast_shapes(*(array.shape for array in arrays))))
        else:
            evaluate, size_of = EXPANDING_OPS[op]
            size = size_of(arrays, attributes)
        budget.reserve(size * _max_itemsize(op, arrays, attributes))
        return [np.asarray(evaluate(arrays, attributes))]


def _constant(attributes: Attributes) -> Constant:
    if isinstance(attributes.get("value"), onnx.TensorProto):
        return array_of(attributes["value"])
    for name, dtype in CONSTANT_DTYPES.items():
        if name in attributes:
            return np.array(attributes[name], dtype)
    raise UnsupportedNode("holds no numbers")


def _max_itemsize(op: str, arrays: list[Constant], attributes: Attributes) -> int:
    """Return an upper bound of the bytes per value of a result."""
    if op == "Cast":
        return dtype_of(int(attributes["to"])).itemsize
    return 8 if op == "ConstantOfShape" else max(array.itemsize for array in arrays)
