"""PyTorch's own files, ``.pt`` and ``.pth``, read and written without PyTorch.

``torch.save`` writes a pickle that describes the place of each tensor in a storage, and the storages as raw values:
since version 1.6 as entries of a zip archive, before that in one stream behind the pickle. The pickle is read by
:mod:`glasscell.convert.torch.restricted_unpickler`, which runs no code of the file's.
"""

import math
import struct
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from glasscell import limits
from glasscell.atomic_files import OutputFile, StrPath
from glasscell.convert.torch import zip_archive
from glasscell.convert.torch.pickling import STORAGES, AnyArray, Pickler
from glasscell.convert.torch.restricted_unpickler import AllowedCallable, FileError, Unpickler, Unread
from glasscell.escaping import one_line
from glasscell.limits import MemoryBudget

# Objects of a pickle may take this many times the standard allowance, in addition to 3 times the file's size: 4,000
# tensors of one number each are a file of 1.2 MB, and 16 MB by the upper bounds of the unpickler (9 MB measured). The
# values of tensors, of which a model takes a second copy, are bounded by the standard budget, too.
PICKLE_ALLOWANCES = 2

MAGIC, STREAM_VERSION = 0x1950A86A20F9469CFC6C, 1001  # how a stream begins

# How the numbers of each kind lie in a storage. NumPy has no bfloat16, the upper half of a float32; and a byte that is
# neither 0 nor 1 is no bool of NumPy's.
STORED = {dtype: np.dtype(dtype) for dtype in (*STORAGES.values(), "uint16", "uint32", "uint64") if dtype != "bfloat16"}
STORED |= {"bfloat16": np.dtype("uint16"), "bool": np.dtype("uint8")}

# Storages whose numbers are not read, and how many bytes each number has: a stream holds them one after another.
UNREAD_STORAGES = {
    "torch.ComplexFloatStorage": 8,
    "torch.ComplexDoubleStorage": 16,
    "torch.QInt8Storage": 1,
    "torch.QUInt8Storage": 1,
    "torch.QInt32Storage": 4,
}


class StorageType(NamedTuple):
    """What a name such as torch.FloatStorage stands for."""

    dtype: str


class Storage(NamedTuple):
    """Numbers of one kind, or a part of them."""

    dtype: str
    key: str
    first: int
    length: int


class Tensor(NamedTuple):
    """An array of ours, and where its numbers will be found."""

    array: AnyArray
    storage: Storage
    offset: int
    strides: tuple[int, ...]


def read(path: StrPath) -> object:
    """What ``torch.save`` wrote to a file, tensors as NumPy arrays.

    Both formats are read. Every tensor, a parameter like any other, is an array with separate memory, also where two
    share a storage; bfloat16 becomes float32, which holds all its values. A ``torch.Size`` is a tuple, a device and a
    dtype are text ("cuda:0", "torch.float32"), and a Counter or a defaultdict is a dict.

    Nothing that the file names is imported or run. Objects of any other class, functions, and tensors that are complex,
    sparse or quantised become an :class:`~glasscell.convert.torch.restricted_unpickler.Unread`, which holds the name
    of the class or function and nothing else. A file that is nothing but such an object, ``torch.save(model)``, is
    refused.

    Raises
    ------
    FileNotFoundError
        If there is no file.
    ValueError
        If the file is damaged, of another kind, or asks for what is not data.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"there is no model at {file}")
    try:
        content = file.read_bytes()
        return _read_archive(content) if content.startswith(zip_archive.MAGIC) else _read_stream(content)
    except FileError as refusal:
        raise ValueError(f"{file} {one_line(refusal)}") from None
    except MemoryError:
        raise ValueError(f"{file} needs more memory than there is") from None


# Reading


class TensorLoader:
    """Makes the arrays while the pickle is read, and fills them once the storages are there."""

    def __init__(self, budget: MemoryBudget) -> None:
        self.budget = budget
        self.values_budget = MemoryBudget(budget.file_size, FileError)
        self.storages: dict[str, tuple[int, int]] = {}  # how many numbers under this key, and of how many bytes
        self.unread: dict[str, tuple[int, int]] = {}  # the same, of storages that are passed over
        self.tensors: list[Tensor] = []
        self.names: dict[str, object] = {f"torch.{name}": StorageType(dtype) for name, dtype in STORAGES.items()}
        self.names |= {f"torch.{dtype}": f"torch.{dtype}" for dtype in STORED}
        self.names |= {
            "torch.storage.UntypedStorage": StorageType("uint8"),
            "torch.Size": AllowedCallable(_size),
            "torch.device": AllowedCallable(_device),
            "torch._utils._rebuild_tensor": AllowedCallable(self.tensor),
            "torch._utils._rebuild_tensor_v2": AllowedCallable(self.tensor),
            "torch._utils._rebuild_tensor_v3": AllowedCallable(self.tensor_of_bytes),
            "torch._tensor._rebuild_from_type_v2": AllowedCallable(_of_subclass),
            "torch._utils._rebuild_parameter": AllowedCallable(_parameter),
            "torch._utils._rebuild_parameter_with_state": AllowedCallable(_parameter),
        }

    def storage(self, persistent_id: object) -> Storage | Unread:
        """What ("storage", type, key, device, size) stands for; with a sixth item, of early versions, a part of one.

        The old format also has ("module", class, …) for the class of a module.
        """
        match persistent_id:
            case ("module", Unread() as cls, *_):
                return cls
            case ("storage", Unread(name=name) as kind, str(key), _, int(count), *_) if count >= 0:
                if name not in UNREAD_STORAGES:
                    raise FileError(f"has a storage of the unknown class {name}")
                self.unread[key] = count, UNREAD_STORAGES[name]
                return kind
            case ("storage", StorageType(dtype), str(key), _, int(count), *view) if count >= 0:
                itemsize = STORED[dtype].itemsize
                known = self.storages.setdefault(key, (count, itemsize))
                if known[0] * known[1] != count * itemsize:
                    raise FileError(f"gives its storage {key!r} two sizes")
            case _:
                raise FileError("has a damaged pickle: a storage that is none")
        match view:
            case [] | [None]:
                return Storage(dtype, key, 0, count)
            case [(_, int(first), int(part))] if first >= 0 <= part <= count - first:
                return Storage(dtype, key, first, part)
        raise FileError(f"has a damaged pickle: a part of its storage {key!r} that lies outside")

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
        """An array of this shape, not yet filled."""
        if isinstance(storage, Unread):
            return storage
        if type(storage) is not Storage or len(shape) != len(strides) or len(shape) > 64:
            raise FileError("has a damaged pickle: a tensor that is none")
        if any(type(number) is not int or not 0 <= number < 2**63 for number in (offset, *shape, *strides)):
            raise FileError(f"has a tensor in its storage {storage.key!r} with a size, stride or offset that is none")
        if type(metadata) is dict and (metadata.get("neg") or metadata.get("conj")):
            return Unread("a part of a complex tensor")
        strides = tuple(
            stride if n > 1 else 0 for n, stride in zip(shape, strides, strict=True)
        )  # of 1 it says nothing
        last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
        if 0 not in shape and last >= storage.length:
            where = f"shape {shape}, strides {strides} and offset {offset}"
            raise FileError(f"has a tensor of {where} outside its storage {storage.key!r} of {storage.length} numbers")
        dtype = np.dtype("float32" if storage.dtype == "bfloat16" else storage.dtype)
        # Tensors may share a storage, and be far larger than it; as weights they become float32, if they are smaller.
        size = math.prod(shape) * max(dtype.itemsize, 4)
        self.budget.reserve(size)
        self.values_budget.reserve(size)
        array = np.empty(shape, dtype)
        self.tensors.append(Tensor(array, storage, offset, strides))
        return array

    def tensor_of_bytes(self, storage: Storage, *arguments: Any) -> AnyArray | Unread:
        """The same for a dtype that has no class of storages, such as uint16: its numbers lie in one of bytes."""
        offset, shape, strides, _requires_grad, _hooks, dtype, *metadata = arguments
        if storage.dtype != "uint8" or storage.first:
            raise FileError("has a damaged pickle: a tensor that is none")
        if isinstance(dtype, Unread):
            return dtype
        kind = dtype.removeprefix("torch.")
        numbers = storage._replace(dtype=kind, length=storage.length // STORED[kind].itemsize)
        return self.tensor(numbers, offset, shape, strides, None, None, *metadata)

    def fill(self, contents: Mapping[str, memoryview], order: Literal["<", ">"]) -> None:
        """Copy the numbers from the storages into the arrays."""
        for key, (count, itemsize) in self.storages.items():
            if key not in contents:
                raise FileError(f"lacks its storage {key!r}")
            if len(contents[key]) != count * itemsize:
                raise FileError(f"has {len(contents[key])} bytes in its storage {key!r}; expected {count * itemsize}")
        for array, storage, offset, strides in self.tensors:
            if array.size:
                stored = STORED[storage.dtype].newbyteorder(order)
                steps = [stride * stored.itemsize for stride in strides]
                start = (storage.first + offset) * stored.itemsize
                numbers: AnyArray = np.ndarray(array.shape, stored, contents[storage.key], start, steps)
                if storage.dtype == "bfloat16":  # the upper half of a float32
                    bits = array.view(np.uint32)
                    bits[...] = numbers
                    bits <<= 16
                else:
                    array[...] = numbers


def _parameter(data: object, *_: object) -> object:
    if type(data) not in (np.ndarray, Unread):
        raise FileError("has a damaged pickle: a parameter that is no tensor")
    return data


def _of_subclass(builder: object, _cls: object, arguments: object, *_: object) -> object:
    """A tensor of a subclass of Tensor, as a tensor."""
    if type(builder) is Unread:
        return builder
    if type(builder) is not AllowedCallable or type(arguments) is not tuple:
        raise FileError("has a damaged pickle: a tensor that is none")
    return builder.build(*arguments)


def _size(sizes: object) -> object:
    if type(sizes) is not tuple:
        raise FileError("has a damaged pickle: a torch.Size that is none")
    return sizes


def _device(kind: str, index: int | None = None) -> str:
    if type(kind) is not str or len(kind) > 32 or type(index) not in (int, type(None)):
        raise FileError("has a damaged pickle: a torch.device that is none")
    return kind if index is None else f"{kind}:{index}"


def _read_archive(content: bytes) -> object:
    budget = MemoryBudget(len(content), FileError, allowance=PICKLE_ALLOWANCES * limits.ALLOWANCE)
    entries = zip_archive.entries(content, budget)
    pickles = [name for name in entries if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise FileError(f"is a zip archive, but not one that torch.save wrote: it has {len(pickles)} entries data.pkl")
    prefix = pickles[0].removesuffix("data.pkl")
    order = bytes(entries.get(f"{prefix}byteorder", b"little"))
    if order not in (b"little", b"big"):
        raise FileError(f"has the byte order {order!r}; expected 'little' or 'big'")
    tensors = TensorLoader(budget)
    pickle = bytes(entries[pickles[0]])
    unpickler = Unpickler(pickle, tensors.names, tensors.storage, budget)
    loaded = unpickler.load()
    if unpickler.at != len(pickle):
        raise FileError(f"has {len(pickle) - unpickler.at} bytes behind the end of its pickle")
    contents = {key: entries[name] for key in tensors.storages if (name := f"{prefix}data/{key}") in entries}
    tensors.fill(contents, "<" if order == b"little" else ">")
    return _checked(loaded)


def _read_stream(content: bytes) -> object:
    if content[257:262] == b"ustar":
        raise FileError("is of PyTorch's first format, a tar archive: load it with PyTorch and save it again")
    budget = MemoryBudget(len(content), FileError, allowance=PICKLE_ALLOWANCES * limits.ALLOWANCE)
    tensors = TensorLoader(budget)
    stream = Unpickler(content, tensors.names, tensors.storage, budget)
    if not content.startswith((b"\x80", b"L")) or not _is(stream.load(), MAGIC):
        raise FileError("is not a file that torch.save wrote, neither a zip archive nor a stream")
    if not _is(stream.load(), STREAM_VERSION):
        raise FileError(f"is a stream of another version than {STREAM_VERSION}")
    stream.load()  # about the machine that wrote it; the storages are little-endian from every machine
    loaded, keys = stream.load(), stream.load()
    contents: dict[str, memoryview] = {}
    known = tensors.unread | tensors.storages
    for key in keys if type(keys) is list else ():
        if type(key) is not str or key not in known or key in contents:
            raise FileError("lists a storage that no tensor lies in")
        count, itemsize = known[key]
        written, start = stream.number(8), stream.at
        if written != count:
            raise FileError(f"has {written} numbers in its storage {key!r}; expected {count}")
        stream.at += count * itemsize
        if stream.at > len(content):
            raise FileError(
                f"ends in its storage {key!r}: {len(content) - start} bytes are there of {count * itemsize}"
            )
        contents[key] = memoryview(content)[start : stream.at]
    if stream.at != len(content):
        raise FileError(f"has {len(content) - stream.at} bytes behind its end")
    tensors.fill(contents, "<")
    return _checked(loaded)


def _checked(loaded: object) -> object:
    """What a file holds, unless nothing of it is read."""
    if isinstance(loaded, Unread):
        raise FileError(f"holds an object of the class {loaded.name} alone: of a whole model, save model.state_dict()")
    return loaded


def _is(value: object, number: int) -> bool:
    return type(value) is int and value == number


# Writing


def write(weights: object, path: StrPath, *, legacy: bool = False) -> None:
    """Write a file that ``torch.load(path, weights_only=True)`` reads; the same weights are the same bytes.

    An existing file is replaced, once the new one is complete.

    Parameters
    ----------
    weights : mapping of str to array, or nested
        Arrays become tensors, and so do the scalars of NumPy. They may lie in dicts, lists and tuples, with text,
        numbers of Python, True, False and None. The outermost mapping becomes an OrderedDict.
    path : path
        The file.
    legacy : bool
        Write the stream that PyTorch before 1.6 reads, instead of a zip archive.

    Raises
    ------
    TypeError
        If there is anything else among the weights, or an array of a dtype that has no storage in PyTorch.
    ValueError
        If containers are nested too deep, or in themselves; or an integer has more than 600 digits.
    """
    file = OutputFile(path, (".pt", ".pth", ".bin"))
    pickle = Pickler.of(OrderedDict(weights) if isinstance(weights, Mapping) else weights, legacy=legacy)
    file.write(_stream(pickle) if legacy else _archive(pickle))


def _stream(pickle: Pickler) -> bytes:
    sizes = {"short": 2, "int": 4, "long": 4}
    system = {"protocol_version": STREAM_VERSION, "little_endian": True, "type_sizes": sizes}
    keys = [str(k) for k in range(len(pickle.arrays))]
    head = [Pickler.of(value).pickle() for value in (MAGIC, STREAM_VERSION, system)]
    numbers = [struct.pack("<q", array.size) + _little_endian(array) for array in pickle.arrays]
    return b"".join([*head, pickle.pickle(), Pickler.of(keys).pickle(), *numbers])


def _archive(pickle: Pickler) -> bytes:
    storages = {f"data/{k}": _little_endian(array) for k, array in enumerate(pickle.arrays)}
    entries = {"data.pkl": pickle.pickle(), "byteorder": b"little", **storages, "version": b"3\n"}
    return zip_archive.pack({f"archive/{name}": content for name, content in entries.items()})


def _little_endian(array: AnyArray) -> bytes:
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
