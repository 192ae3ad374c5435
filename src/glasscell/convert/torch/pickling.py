"""Pickles of arrays and plain data, as PyTorch writes them, written without PyTorch.

Python's own pickler could name PyTorch's functions only by importing them.
"""

import math
import struct
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from glasscell.convert.torch.restricted_unpickler import DEPTH

AnyArray: TypeAlias = NDArray[Any]

# The classes of storages, and the dtype of the numbers in each.
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
    """Something of a module that is named in a pickle."""

    module: str
    name: str


class Pickler:
    """Opcodes of a pickle of protocol 2, which all versions of PyTorch read, and its arrays.

    Parameters
    ----------
    legacy : bool
        Name the storages as PyTorch did before version 1.6.
    """

    def __init__(self, *, legacy: bool = False) -> None:
        self.legacy = legacy
        self.opcodes = bytearray(b"\x80\x02")
        self.arrays: list[AnyArray] = []

    @classmethod
    def of(cls, value: object, *, legacy: bool = False) -> "Pickler":
        """A pickle of this value."""
        pickle = cls(legacy=legacy)
        pickle.add(value)
        return pickle

    def pickle(self) -> bytes:
        """The whole pickle."""
        return bytes(self.opcodes) + b"."

    def add(self, value: object, at: tuple[object, ...] = ()) -> None:  # noqa: PLR0912 - one case for each type
        """Append the opcodes that push the value; `at` is where it stands in the whole."""
        if len(at) > DEPTH:
            raise ValueError(f"containers are nested more than {DEPTH} deep, or in themselves")
        match value:
            case np.ndarray() | np.generic():
                self.add_tensor(np.asarray(value), at)
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
                self.add_items(value, at)
            case dict():
                self.opcodes += b"}"
                self.add_items(value, at)
            case list():
                self.opcodes += b"]("
                self.add_each(value, at)
                self.opcodes += b"e"
            case tuple():
                self.opcodes += b"("
                self.add_each(value, at)
                self.opcodes += b"t"
            case _:
                raise TypeError(f"{_place(at)} is a {type(value).__name__}, which has no place in a file of PyTorch")

    def add_each(self, values: Iterable[object], at: tuple[object, ...]) -> None:
        for k, value in enumerate(values):
            self.add(value, (*at, k))

    def add_items(self, values: Mapping[Any, object], at: tuple[object, ...]) -> None:
        self.opcodes += b"("
        for key, value in values.items():
            self.add(key, (*at, key))
            self.add(value, (*at, key))
        self.opcodes += b"u"

    def add_tensor(self, array: AnyArray, at: tuple[object, ...]) -> None:
        kinds = {dtype: name for name, dtype in STORAGES.items()}
        if array.dtype.kind not in "biuf" or array.dtype.name not in kinds:
            raise TypeError(
                f"{_place(at)} is an array of dtype {array.dtype}, which has no storage in a file of PyTorch"
            )
        strides = [math.prod(max(n, 1) for n in array.shape[axis + 1 :]) for axis in range(array.ndim)]
        storage = ("storage", GlobalName("torch", kinds[array.dtype.name]), str(len(self.arrays)), "cpu", array.size)
        self.arrays.append(array)
        self.add(GlobalName("torch._utils", "_rebuild_tensor_v2"))
        self.opcodes += b"("
        self.add((*storage, None) if self.legacy else storage)
        self.opcodes += b"Q"
        self.add_each((0, array.shape, tuple(strides), False, OrderedDict()), ())
        self.opcodes += b"tR"


def _place(at: tuple[object, ...]) -> str:
    return "".join(["weights", *(f"[{key!r}]" for key in at)])
