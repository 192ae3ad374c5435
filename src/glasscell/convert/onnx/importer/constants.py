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

MAX_AXES = 32

TYPES = onnx.TensorProto
IN_INT32: tuple[int, ...] = (TYPES.INT32, TYPES.INT16, TYPES.INT8, TYPES.UINT16, TYPES.UINT8, TYPES.BOOL, TYPES.FLOAT16)
FIELDS: dict[int, str] = dict.fromkeys(IN_INT32, "int32_data") | {
    TYPES.FLOAT: "float_data",
    TYPES.DOUBLE: "double_data",
    TYPES.INT64: "int64_data",
    TYPES.UINT32: "uint64_data",
    TYPES.UINT64: "uint64_data",
}


class UnsupportedNode(ValueError):  # noqa: N818 - its message is the end of a sentence that begins with the node
    """A node that cannot be represented. The message continues a sentence that begins with the node's name."""


def dtype_of(number: int) -> np.dtype[Any]:
    """Return the dtype in which values of an ONNX type are computed: float32 for half precision."""
    dtype = helper.tensor_dtype_to_np_dtype(number)
    return np.dtype(np.float32) if dtype == np.float16 else dtype


def array_of(tensor: onnx.TensorProto) -> Constant:
    """Return the values of a tensor that the file holds completely."""
    name, shape = f"the tensor {tensor.name!r}", tuple(tensor.dims)
    if tensor.data_location == TYPES.EXTERNAL or tensor.external_data:
        raise ValueError(
            f"{name} is in another file, which is supported only for weights of a model loaded from a file"
        )
    if tensor.data_type not in FIELDS:
        raise ValueError(f"{name} is of the type {type_name(tensor.data_type)}, which is not supported")
    if len(shape) > MAX_AXES or any(size < 0 for size in shape):
        raise ValueError(f"{name} has the shape {_shorten(shape)}")
    if tensor.HasField("raw_data"):
        length, unit = len(tensor.raw_data), int(helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    else:
        length, unit = len(getattr(tensor, FIELDS[tensor.data_type])), 1
    if prod(shape) * unit != length:
        raise ValueError(f"{name} has the shape {_shorten(shape)}, and {length} {'bytes' if unit > 1 else 'values'}")
    try:
        return numpy_helper.to_array(tensor).astype(dtype_of(tensor.data_type), copy=False)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{name} cannot be read: {error}") from None


def require_constant(value: Any) -> Constant:
    """Return a value of a graph, which must be a constant."""
    if not isinstance(value, np.ndarray):
        raise UnsupportedNode("needs a constant where its input is missing or computed from the graph's inputs")
    return value


def integers(value: Any) -> list[int]:
    """Return a constant that is a list of integers: indices, sizes or axes."""
    array = require_constant(value)
    if array.dtype.kind not in "iu" or array.ndim > 1:
        raise UnsupportedNode(f"needs a list of integers, and has an array {array.shape} of {array.dtype}")
    return [int(number) for number in array.reshape(-1)]


def float32_literal(number: Any) -> float:
    """Return the shortest decimal number of a float32: 0.3, not 0.30000001192092896."""
    return float(str(np.float32(number)))


def scalar(value: Any) -> float:
    """Return a constant that is one number."""
    array = require_constant(value)
    if array.size != 1 or array.dtype.kind not in "iuf":
        raise UnsupportedNode(f"needs one number, and has an array {array.shape} of {array.dtype}")
    number = array.reshape(())[()]
    return float32_literal(number) if array.dtype == np.float32 else float(number)


def normalize_axis(axis: int, rank: int) -> int:
    """Return an axis counted from the first, whose input may be counted from the last."""
    if not -rank <= axis < rank:
        raise UnsupportedNode(f"has the axis {axis} for a value of {rank} axes")
    return axis % rank


def axes_of(inputs: Sequence[Any], attributes: Attributes) -> list[int] | None:
    """Return a node's axes: an attribute in old files, an input in new ones."""
    if len(inputs) > 1 and inputs[1] is not None:
        return integers(inputs[1])
    axes = attributes.get("axes")
    return None if axes is None else [int(axis) for axis in axes]


def slices_of(inputs: Sequence[Any], attributes: Attributes, shape: Sequence[int]) -> dict[int, slice]:
    """Return the slices that a Slice takes, by axis."""
    names = ("starts", "ends", "axes", "steps")  # attributes in old files, inputs in new ones
    lists = {name: list(attributes[name]) for name in names if name in attributes}
    lists |= {name: integers(value) for name, value in zip(names, inputs[1:], strict=False) if value is not None}
    starts, ends = lists["starts"], lists["ends"]
    axes, steps = lists.get("axes", range(len(starts))), lists.get("steps", [1] * len(starts))
    return {
        normalize_axis(axis, len(shape)): slice(start, stop, step)
        for axis, start, stop, step in zip(axes, starts, ends, steps, strict=True)
    }


def split_ranges(inputs: Sequence[Any], attributes: Attributes, size: int, count: int) -> list[range]:
    """Return the indices of an axis that each of a Split's outputs takes."""
    if len(inputs) > 1 and inputs[1] is not None:
        sizes = integers(inputs[1])
    else:
        each = ceil(size / max(count, 1))
        sizes = list(attributes.get("split", [min(each, max(size - k * each, 0)) for k in range(count)]))
    if len(sizes) != count or min(sizes, default=0) < 0 or sum(sizes) != size:
        raise UnsupportedNode(f"splits an axis into {count} parts whose sizes do not add up to its size")
    starts = np.cumsum([0, *sizes]).tolist()
    return [range(start, start + length) for start, length in zip(starts, sizes, strict=False)]


def type_name(number: Any) -> str:
    """Return the name of an ONNX type for a message."""
    return str(TYPES.DataType.Name(number)) if number in TYPES.DataType.values() else f"number {number}"


def _shorten(shape: tuple[int, ...]) -> str:
    """Return a shape as text of bounded length."""
    return str(shape[:8])[:-1] + (", …)" if len(shape) > 8 else ")")
