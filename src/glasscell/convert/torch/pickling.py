"""Write pickles of arrays and plain data in PyTorch's format, without PyTorch.

Python's pickler can name PyTorch's functions only by importing them.
"""

import math
import struct
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from glasscell.convert.torch.restricted_unpickler import MAX_DEPTH

AnyArray: TypeAlias = NDArray[Any]

# Classes of storages, and the dtypes of their values.
STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}


class GlobalName(NamedTuple):
    """A class or function that a pickle names."""

    module: str
    name: str


class Pickler:
    """A pickle of protocol 2, which all versions of PyTorch read, and its arrays.

    Parameters
    ----------
    legacy : bool
        Use PyTorch's names of storages before version 1.6.
    """

    def __init__(self, *, legacy: bool = False) -> None:
        self.legacy = legacy
        self.opcodes = bytearray(b"\x80\x02")
        self.arrays: list[AnyArray] = []

    @classmethod
    def dump(cls, value: object, *, legacy: bool = False) -> "Pickler":
        """Return a pickler that contains a value."""
        pickle = cls(legacy=legacy)
        pickle.add(value)
        return pickle

    def pickle(self) -> bytes:
        """Return the bytes of the pickle."""
        return bytes(self.opcodes) + b"."

    def add(self, value: object, path: tuple[object, ...] = ()) -> None:  # noqa: PLR0912 - one case for each type
        """Append the opcodes that push a value; `path` has the keys and indices that lead to it."""
        if len(path) > MAX_DEPTH:
            raise ValueError(f"containers must not be nested more than {MAX_DEPTH} deep, or contain themselves")
        match value:
            case np.ndarray() | np.generic():
                self.add_tensor(np.asarray(value), path)
            case None:
                self.opcodes += b"N"
            case bool():
                self.opcodes += b"\x88" if value else b"\x89"
            case int() if -(2**31) <= value < 2**31:
                self.opcodes += b"J" + struct.pack("<i", value)
            case int() if value.bit_length() < 8 * 255:
                digits = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
                self.opcodes += b"\x8a" + struct.pack("<B", len(digits)) + digits
            case float():
                self.opcodes += b"G" + struct.pack(">d", value)
            case str():
                text = value.encode("utf-8", "surrogatepass")
                self.opcodes += b"X" + struct.pack("<I", len(text)) + text
            case GlobalName():
                self.opcodes += f"c{value.module}\n{value.name}\n".encode()
            case OrderedDict():
                self.add(GlobalName("collections", "OrderedDict"))
                self.opcodes += b")R"
                self.add_items(value, path)
            case dict():
                self.opcodes += b"}"
                self.add_items(value, path)
            case list():
                self.opcodes += b"]("
                self.add_all(value, path)
                self.opcodes += b"e"
            case tuple():
                self.opcodes += b"("
                self.add_all(value, path)
                self.opcodes += b"t"
            case _:
                raise TypeError(f"{_format_path(path)} must be an array or plain data, got a {type(value).__name__}")

    def add_all(self, values: Iterable[object], path: tuple[object, ...]) -> None:
        """Append the opcodes that push each value."""
        for k, value in enumerate(values):
            self.add(value, (*path, k))

    def add_items(self, values: Mapping[Any, object], path: tuple[object, ...]) -> None:
        """Append the opcodes that set the items of the dict on the stack."""
        self.opcodes += b"("
        for key, value in values.items():
            self.add(key, (*path, key))
            self.add(value, (*path, key))
        self.opcodes += b"u"

    def add_tensor(self, array: AnyArray, path: tuple[object, ...]) -> None:
        """Append the opcodes that push a tensor, and keep its array."""
        storage_names = {dtype: name for name, dtype in STORAGES.items()}
        if array.dtype.kind not in "biuf" or array.dtype.name not in storage_names:
            raise TypeError(f"{_format_path(path)} must have a dtype that PyTorch's files support, got {array.dtype}")
        strides = [math.prod(max(n, 1) for n in array.shape[axis + 1 :]) for axis in range(array.ndim)]
        storage_type = GlobalName("torch", storage_names[array.dtype.name])
        storage = ("storage", storage_type, str(len(self.arrays)), "cpu", array.size)
        self.arrays.append(array)
        self.add(GlobalName("torch._utils", "_rebuild_tensor_v2"))
        self.opcodes += b"("
        self.add((*storage, None) if self.legacy else storage)
        self.opcodes += b"Q"
        self.add_all((0, array.shape, tuple(strides), False, OrderedDict()), ())
        self.opcodes += b"tR"


def _format_path(path: tuple[object, ...]) -> str:
    return "".join(["weights", *(f"[{key!r}]" for key in path)])
