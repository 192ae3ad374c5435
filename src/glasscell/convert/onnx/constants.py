"""What a graph knows by itself: its tensors, and what nodes compute from them and from the sizes of the inputs.

Nothing is computed before it is known how many numbers it gives: a few bytes of a file can ask for more than there is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from math import ceil, prod
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Constant = NDArray[Any]
Attributes = dict[str, Any]

# All that is computed for a file is together at most so many times as large as the file, and so many bytes.
EXPANSION, ALLOWANCE = 32, 2**24
MOST_AXES = 32

TYPES = onnx.TensorProto
IN_INT32 = (TYPES.INT32, TYPES.INT16, TYPES.INT8, TYPES.UINT16, TYPES.UINT8, TYPES.BOOL, TYPES.FLOAT16)
FIELDS = dict.fromkeys(IN_INT32, "int32_data") | {
    TYPES.FLOAT: "float_data",
    TYPES.DOUBLE: "double_data",
    TYPES.INT64: "int64_data",
    TYPES.UINT32: "uint64_data",
    TYPES.UINT64: "uint64_data",
}


class Refusal(ValueError):  # noqa: N818 - what it is called in a sentence
    """What cannot be represented: the end of a sentence that begins with the node's name."""


class Budget:
    """The bytes that may still be asked for.

    Parameters
    ----------
    size : int
        Of the file.
    """

    def __init__(self, size: int) -> None:
        self.left = EXPANSION * size + ALLOWANCE

    def spend(self, values: float, bytes_each: int = 8) -> None:
        """Take it, or refuse to."""
        self.left -= ceil(min(values, 2.0**62)) * bytes_each
        if self.left < 0:
            raise Refusal(f"makes {values:.4g} values, which is too much for a file of this size")


def array_of(tensor: onnx.TensorProto) -> Constant:
    """The numbers of a tensor, if they are all in the file."""
    name, shape = f"the tensor {tensor.name!r}", tuple(tensor.dims)
    if tensor.data_location == TYPES.EXTERNAL or tensor.external_data:
        raise ValueError(f"{name} keeps its numbers in another file; save the model as one file")
    if tensor.data_type not in FIELDS:
        raise ValueError(f"{name} is of the type {_type_name(tensor.data_type)}, which is none of plain numbers")
    if len(shape) > MOST_AXES or any(size < 0 for size in shape):
        raise ValueError(f"{name} has the shape {_cut(shape)}")
    if tensor.HasField("raw_data"):
        held, unit = len(tensor.raw_data), int(helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    else:
        held, unit = len(getattr(tensor, FIELDS[tensor.data_type])), 1
    if prod(shape) * unit != held:
        raise ValueError(f"{name} has the shape {_cut(shape)}, and {held} {'bytes' if unit > 1 else 'values'}")
    try:
        return numpy_helper.to_array(tensor)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{name} cannot be read: {error}") from None


def known(value: Any) -> Constant:
    """A value of a graph that must be a constant."""
    if not isinstance(value, np.ndarray):
        raise Refusal("needs a constant where it has a value that is computed from the inputs, or none")
    return value


def integers(value: Any) -> list[int]:
    """A constant that is a list of integers: places, sizes or axes."""
    array = known(value)
    if array.dtype.kind not in "iu" or array.ndim > 1:
        raise Refusal(f"needs a list of integers, and has an array {array.shape} of {array.dtype}")
    return [int(number) for number in array.reshape(-1)]


def integer(value: Any) -> int:
    """A constant that is one integer."""
    numbers = integers(value)
    if len(numbers) != 1:
        raise Refusal(f"needs one integer, and has {len(numbers)}")
    return numbers[0]


def decimal(value: Any) -> float:
    """A number that a file keeps as a float32, as it was meant: 0.3, and not 0.30000001192092896."""
    number = np.asarray(value)
    return float(number) if number.dtype == np.float64 and number.ndim else float(str(np.float32(number)))


def axis_of(axis: int, rank: int) -> int:
    """An axis counted from the first, also if it was counted from the last."""
    if not -rank <= axis < rank:
        raise Refusal(f"is about the axis {axis} of {rank}")
    return axis % rank


def axes_of(inputs: Sequence[Any], attributes: Attributes) -> list[int] | None:
    """Axes: an attribute in old files, an input in new ones."""
    if len(inputs) > 1 and inputs[1] is not None:
        return integers(inputs[1])
    given = attributes.get("axes")
    return None if given is None else [int(axis) for axis in given]


def ranges(inputs: Sequence[Any], attributes: Attributes, shape: Sequence[int]) -> dict[int, slice]:
    """What a Slice takes, axis by axis."""
    names = ("starts", "ends", "axes", "steps")  # attributes in old files, inputs in new ones
    given = {name: list(attributes[name]) for name in names if name in attributes}
    given |= {name: integers(value) for name, value in zip(names, inputs[1:], strict=False) if value is not None}
    starts, ends = given["starts"], given["ends"]
    axes, steps = given.get("axes", range(len(starts))), given.get("steps", [1] * len(starts))
    return {
        axis_of(axis, len(shape)): slice(start, stop, step)
        for axis, start, stop, step in zip(axes, starts, ends, steps, strict=True)
    }


def split_places(inputs: Sequence[Any], attributes: Attributes, size: int, parts: int) -> list[range]:
    """What the parts of a Split are of an axis."""
    if len(inputs) > 1 and inputs[1] is not None:
        sizes = integers(inputs[1])
    else:
        each = ceil(size / max(parts, 1))
        sizes = list(attributes.get("split", [min(each, max(size - k * each, 0)) for k in range(parts)]))
    if len(sizes) != parts or min(sizes, default=0) < 0 or sum(sizes) != size:
        raise Refusal(f"splits an axis of {size} into parts of {sizes}")
    starts = np.cumsum([0, *sizes]).tolist()
    return [range(start, start + length) for start, length in zip(starts, sizes, strict=False)]


# Nodes of constants

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
    dtype = helper.tensor_dtype_to_np_dtype(int(to))
    if dtype.kind not in "biuf":
        raise Refusal(f"casts to {_type_name(int(to))}")
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


def _shape(inputs: list[Constant], attributes: Attributes) -> Constant:
    return np.array(inputs[0].shape, np.int64)[slice(attributes.get("start"), attributes.get("end"))]


BROADCAST: dict[str, Compute] = {
    name: _elementwise(function)
    for name, function in {
        **{"Abs": np.abs, "Ceil": np.ceil, "Floor": np.floor, "Neg": np.negative, "Sqrt": np.sqrt},
        **{"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": _divided, "Where": np.where},
        **{"And": np.logical_and, "Or": np.logical_or, "Not": np.logical_not, "Equal": np.equal},
        **{"Less": np.less, "LessOrEqual": np.less_equal, "Greater": np.greater, "GreaterOrEqual": np.greater_equal},
        "Max": lambda *arrays: reduce(np.maximum, arrays),
        "Min": lambda *arrays: reduce(np.minimum, arrays),
    }.items()
} | {
    "Mod": lambda inputs, attributes: np.asarray((np.fmod if attributes.get("fmod") else np.mod)(*inputs)),
    "Cast": lambda inputs, attributes: _cast(inputs[0], attributes["to"]),
    "CastLike": lambda inputs, _: inputs[0].astype(inputs[1].dtype),
}

MOVED: dict[str, Compute] = {  # these give no more than they are given
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

GROWN: dict[str, Compute] = {
    "Concat": lambda inputs, attributes: np.concatenate(inputs, axis=attributes["axis"]),
    "ConstantOfShape": _filled,
    "Expand": _expanded,
    "Gather": lambda inputs, attributes: np.take(inputs[0], inputs[1], axis=attributes.get("axis", 0)),
    "Range": lambda inputs, _: np.arange(*(array.reshape(())[()] for array in inputs)),
    "Tile": lambda inputs, _: np.tile(inputs[0], integers(inputs[1])),
}

COMPUTED = {**BROADCAST, **MOVED, **GROWN}
FOLDED = frozenset({"Constant", "Split", *COMPUTED})


def folded(node: onnx.NodeProto, inputs: list[Any], attributes: Attributes, budget: Budget) -> list[Constant]:
    """What a node gives whose inputs are all constants."""
    if node.op_type == "Constant":
        value = _constant(attributes)
        budget.spend(value.size)
        return [value]
    arrays = [known(value) for value in inputs if value is not None]
    budget.spend(_size(node.op_type, arrays))
    with np.errstate(all="ignore"):
        if node.op_type == "Split":
            axis = axis_of(attributes.get("axis", 0), arrays[0].ndim)
            places = split_places(inputs, attributes, arrays[0].shape[axis], len(node.output))
            return [arrays[0].take(of, axis=axis) for of in places]
        given = inputs if node.op_type == "Slice" else arrays
        return [np.asarray(COMPUTED[node.op_type](given, attributes))]


def _constant(attributes: Attributes) -> Constant:
    if isinstance(attributes.get("value"), onnx.TensorProto):
        return array_of(attributes["value"])
    of = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    for name, dtype in of.items():
        if name in attributes:
            return np.array(attributes[name], dtype)
    raise Refusal("holds no numbers")


def _size(op: str, arrays: list[Constant]) -> float:
    """How many values a node gives, at most."""
    if op in BROADCAST:
        return prod(np.broadcast_shapes(*(array.shape for array in arrays)))
    if op == "Concat":
        return sum(array.size for array in arrays)
    if op == "Gather":
        return arrays[0].size * arrays[1].size
    if op == "Range":
        start, stop, step = (float(array.reshape(())) for array in arrays)
        return max((stop - start) / step, 0.0) if step else 0.0
    if op == "Expand":
        return prod(np.broadcast_shapes(arrays[0].shape, tuple(integers(arrays[1]))))
    if op == "ConstantOfShape":
        return prod(integers(arrays[0]))
    if op == "Tile":
        return arrays[0].size * prod(integers(arrays[1]))
    return arrays[0].size


def _type_name(number: int) -> str:
    return str(TYPES.DataType.Name(number)) if number in TYPES.DataType.values() else f"number {number}"


def _cut(shape: tuple[int, ...]) -> str:
    """A shape as text of some length."""
    return str(shape[:8])[:-1] + (", …)" if len(shape) > 8 else ")")
