"""Constants of a graph: tensors, and lists of indices, sizes and axes."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, prod
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Constant = NDArray[Any]
Attributes = dict[str, Any]

MOST_AXES = 32

TYPES = onnx.TensorProto
IN_INT32: tuple[int, ...] = (TYPES.INT32, TYPES.INT16, TYPES.INT8, TYPES.UINT16, TYPES.UINT8, TYPES.BOOL, TYPES.FLOAT16)
FIELDS: dict[int, str] = dict.fromkeys(IN_INT32, "int32_data") | {
    TYPES.FLOAT: "float_data",
    TYPES.DOUBLE: "double_data",
    TYPES.INT64: "int64_data",
    TYPES.UINT32: "uint64_data",
    TYPES.UINT64: "uint64_data",
}


class UnsupportedNode(ValueError):  # noqa: N818 - what it is called in a sentence
    """What cannot be represented: the end of a sentence that begins with the node's name."""


def dtype_of(number: int) -> np.dtype[Any]:
    """The dtype in which numbers of a type are computed here: of half precision, in single."""
    dtype = helper.tensor_dtype_to_np_dtype(number)
    return np.dtype(np.float32) if dtype == np.float16 else dtype


def array_of(tensor: onnx.TensorProto) -> Constant:
    """The numbers of a tensor, if they are all in the file."""
    name, shape = f"the tensor {tensor.name!r}", tuple(tensor.dims)
    if tensor.data_location == TYPES.EXTERNAL or tensor.external_data:
        raise ValueError(
            f"{name} keeps its numbers in another file, and only weights of a model that is loaded from a file may"
        )
    if tensor.data_type not in FIELDS:
        raise ValueError(f"{name} is of the type {type_name(tensor.data_type)}, which is none of plain numbers")
    if len(shape) > MOST_AXES or any(size < 0 for size in shape):
        raise ValueError(f"{name} has the shape {_cut(shape)}")
    if tensor.HasField("raw_data"):
        held, unit = len(tensor.raw_data), int(helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    else:
        held, unit = len(getattr(tensor, FIELDS[tensor.data_type])), 1
    if prod(shape) * unit != held:
        raise ValueError(f"{name} has the shape {_cut(shape)}, and {held} {'bytes' if unit > 1 else 'values'}")
    try:
        return numpy_helper.to_array(tensor).astype(dtype_of(tensor.data_type), copy=False)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{name} cannot be read: {error}") from None


def require_constant(value: Any) -> Constant:
    """A value of a graph that must be a constant."""
    if not isinstance(value, np.ndarray):
        raise UnsupportedNode("needs a constant where it has a value that is computed from the inputs, or none")
    return value


def integers(value: Any) -> list[int]:
    """A constant that is a list of integers: places, sizes or axes."""
    array = require_constant(value)
    if array.dtype.kind not in "iu" or array.ndim > 1:
        raise UnsupportedNode(f"needs a list of integers, and has an array {array.shape} of {array.dtype}")
    return [int(number) for number in array.reshape(-1)]


def integer(value: Any) -> int:
    """A constant that is one integer."""
    numbers = integers(value)
    if len(numbers) != 1:
        raise UnsupportedNode(f"needs one integer, and has {len(numbers)}")
    return numbers[0]


def float32_literal(number: Any) -> float:
    """A number that a file keeps as a float32, as it was meant: 0.3, and not 0.30000001192092896."""
    return float(str(np.float32(number)))


def scalar(value: Any) -> float:
    """A constant that is one number."""
    array = require_constant(value)
    if array.size != 1 or array.dtype.kind not in "iuf":
        raise UnsupportedNode(f"needs one number, and has an array {array.shape} of {array.dtype}")
    number = array.reshape(())[()]
    return float32_literal(number) if array.dtype == np.float32 else float(number)


def axis_of(axis: int, rank: int) -> int:
    """An axis counted from the first, also if it was counted from the last."""
    if not -rank <= axis < rank:
        raise UnsupportedNode(f"is about the axis {axis} of {rank}")
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
        raise UnsupportedNode(f"splits an axis into {parts} parts whose sizes do not add up to its size")
    starts = np.cumsum([0, *sizes]).tolist()
    return [range(start, start + length) for start, length in zip(starts, sizes, strict=False)]


def type_name(number: Any) -> str:
    return str(TYPES.DataType.Name(number)) if number in TYPES.DataType.values() else f"number {number}"


def _cut(shape: tuple[int, ...]) -> str:
    """A shape as text of some length."""
    return str(shape[:8])[:-1] + (", …)" if len(shape) > 8 else ")")
