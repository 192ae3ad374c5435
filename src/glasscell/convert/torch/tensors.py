"""Tensors of a file of ``torch.save``: views of storages, which are filled after the pickle has been read."""

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from glasscell.convert.torch.pickle_reader import AllowedCallable, FileError, Unread
from glasscell.convert.torch.pickling import STORAGES, AnyArray
from glasscell.limits import MemoryBudget

# NumPy dtypes of the values in a storage. NumPy has no bfloat16, the upper half of a float32, and its bool supports
# only the bytes 0 and 1.
STORED = {dtype: np.dtype(dtype) for dtype in (*STORAGES.values(), "uint16", "uint32", "uint64") if dtype != "bfloat16"}
STORED |= {"bfloat16": np.dtype("uint16"), "bool": np.dtype("uint8")}

# Bytes per value of storages that are not read: in a stream they are between the others.
UNREAD_STORAGES = {
    "torch.ComplexFloatStorage": 8,
    "torch.ComplexDoubleStorage": 16,
    "torch.QInt8Storage": 1,
    "torch.QUInt8Storage": 1,
    "torch.QInt32Storage": 4,
}


class StorageType(NamedTuple):
    """A class of storages such as torch.FloatStorage."""

    dtype: str


class Storage(NamedTuple):
    """Values of one dtype, or a range of them.

    Attributes
    ----------
    dtype : str
    key : str
        Name of the storage in the file.
    first, length : int
        Index of the first value, and number of values.
    """

    dtype: str
    key: str
    first: int
    length: int


class Tensor(NamedTuple):
    """An array, and the view of a storage that holds its values; the offset and strides count values."""

    array: AnyArray
    storage: Storage
    offset: int
    strides: tuple[int, ...]


class TensorLoader:
    """Creates arrays while the pickle is read, and fills them from the storages afterwards.

    Parameters
    ----------
    budget : MemoryBudget
        Budget of the file.

    Attributes
    ----------
    storages, skipped_storages : dict of str to tuple of int
        Number of values and bytes per value of each storage, by key: those that are read and those that are not.
    tensors : list of Tensor
    names : dict of str to object
        Values of the globals that a pickle may use.
    """

    def __init__(self, budget: MemoryBudget) -> None:
        self.budget = budget
        self.values_budget = MemoryBudget(budget.file_size, FileError)
        self.storages: dict[str, tuple[int, int]] = {}
        self.skipped_storages: dict[str, tuple[int, int]] = {}
        self.tensors: list[Tensor] = []
        self.names: dict[str, object] = {f"torch.{name}": StorageType(dtype) for name, dtype in STORAGES.items()}
        self.names |= {f"torch.{dtype}": f"torch.{dtype}" for dtype in STORED}
        self.names |= {
            "torch.storage.UntypedStorage": StorageType("uint8"),
            "torch.Size": AllowedCallable(_size),
            "torch.device": AllowedCallable(_device),
            "torch._utils._rebuild_tensor": AllowedCallable(self.tensor),
            "torch._utils._rebuild_tensor_v2": AllowedCallable(self.tensor),
            "torch._utils._rebuild_tensor_v3": AllowedCallable(self.tensor_from_bytes),
            "torch._tensor._rebuild_from_type_v2": AllowedCallable(_subclass_tensor),
            "torch._utils._rebuild_parameter": AllowedCallable(_parameter),
            "torch._utils._rebuild_parameter_with_state": AllowedCallable(_parameter),
        }

    def storage(self, persistent_id: object) -> Storage | Unread:
        """Return the storage ("storage", type, key, device, size), or the range in a sixth item of early versions.

        The legacy format also uses ("module", class, …) for the class of a module.
        """
        match persistent_id:
            case ("module", Unread() as cls, *_):
                return cls
            case ("storage", Unread(name=name) as unread, str(key), _, int(count), *_) if count >= 0:
                if name not in UNREAD_STORAGES:
                    raise FileError(f"has a storage of the unsupported class {name}")
                self.skipped_storages[key] = count, UNREAD_STORAGES[name]
                return unread
            case ("storage", StorageType(dtype), str(key), _, int(count), *view) if count >= 0:
                itemsize = STORED[dtype].itemsize
                first_count, first_itemsize = self.storages.setdefault(key, (count, itemsize))
                if first_count * first_itemsize != count * itemsize:
                    raise FileError(f"has two sizes of its storage {key!r}")
            case _:
                raise FileError("has a damaged pickle: an invalid storage")
        match view:
            case [] | [None]:
                return Storage(dtype, key, 0, count)
            case [(_, int(first), int(length))] if first >= 0 <= length <= count - first:
                return Storage(dtype, key, first, length)
        raise FileError(f"has a damaged pickle: a range outside its storage {key!r}")

    def tensor(
        self,
        storage: Storage | Unread,
        offset: int,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        _requires_grad: object = None,
        _hooks: object = None,
        metadata: object = None,
    ) -> AnyArray | Unread:
        """Return an array of this shape, which :meth:`fill` fills."""
        if isinstance(storage, Unread):
            return storage
        if type(storage) is not Storage or len(shape) != len(strides) or len(shape) > 64:
            raise FileError("has a damaged pickle: an invalid tensor")
        if any(type(number) is not int or not 0 <= number < 2**63 for number in (offset, *shape, *strides)):
            raise FileError(f"has a tensor in its storage {storage.key!r} with an invalid size, stride or offset")
        if type(metadata) is dict and (metadata.get("neg") or metadata.get("conj")):
            return Unread("a part of a complex tensor")
        strides = tuple(stride if n > 1 else 0 for n, stride in zip(shape, strides, strict=True))  # unused for size 1
        last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
        if 0 not in shape and last >= storage.length:
            layout = f"shape {shape}, strides {strides} and offset {offset}"
            raise FileError(f"has a tensor of {layout} outside its storage {storage.key!r} of {storage.length} values")
        dtype = np.dtype("float32" if storage.dtype == "bfloat16" else storage.dtype)
        # Tensors that share a storage may be far larger than it. Weights of smaller dtypes become float32.
        size = math.prod(shape) * max(dtype.itemsize, 4)
        self.budget.reserve(size)
        self.values_budget.reserve(size)
        array = np.empty(shape, dtype)
        self.tensors.append(Tensor(array, storage, offset, strides))
        return array

    def tensor_from_bytes(self, storage: Storage, *arguments: Any) -> AnyArray | Unread:
        """Return an array of a dtype without a class of storages, such as uint16, whose storage holds bytes."""
        offset, shape, strides, _requires_grad, _hooks, dtype, *metadata = arguments
        if storage.dtype != "uint8" or storage.first:
            raise FileError("has a damaged pickle: an invalid tensor")
        if isinstance(dtype, Unread):
            return dtype
        name = dtype.removeprefix("torch.")
        values = storage._replace(dtype=name, length=storage.length // STORED[name].itemsize)
        return self.tensor(values, offset, shape, strides, None, None, *metadata)

    def fill(self, contents: Mapping[str, memoryview], order: Literal["<", ">"]) -> None:
        """Copy the values from the storages, of this byte order, to the arrays."""
        for key, (count, itemsize) in self.storages.items():
            if key not in contents:
                raise FileError(f"does not contain its storage {key!r}")
            if len(contents[key]) != count * itemsize:
                raise FileError(f"must have {count * itemsize} bytes in its storage {key!r}, got {len(contents[key])}")
        for array, storage, offset, strides in self.tensors:
            if array.size:
                stored = STORED[storage.dtype].newbyteorder(order)
                byte_strides = [stride * stored.itemsize for stride in strides]
                start = (storage.first + offset) * stored.itemsize
                values: AnyArray = np.ndarray(array.shape, stored, contents[storage.key], start, byte_strides)
                if storage.dtype == "bfloat16":  # the upper half of a float32
                    bits = array.view(np.uint32)
                    bits[...] = values
                    bits <<= 16
                else:
                    array[...] = values


def _parameter(data: object, *_: object) -> object:
    if type(data) not in (np.ndarray, Unread):
        raise FileError("has a damaged pickle: a parameter without a tensor")
    return data


def _subclass_tensor(builder: object, _cls: object, arguments: object, *_: object) -> object:
    """Return a tensor of a subclass of Tensor as a tensor."""
    if type(builder) is Unread:
        return builder
    if type(builder) is not AllowedCallable or type(arguments) is not tuple:
        raise FileError("has a damaged pickle: an invalid tensor")
    return builder.build(*arguments)


def _size(sizes: object) -> object:
    if type(sizes) is not tuple:
        raise FileError("has a damaged pickle: an invalid torch.Size")
    return sizes


def _device(device_type: str, index: int | None = None) -> str:
    if type(device_type) is not str or len(device_type) > 32 or type(index) not in (int, type(None)):
        raise FileError("has a damaged pickle: an invalid torch.device")
    return device_type if index is None else f"{device_type}:{index}"
