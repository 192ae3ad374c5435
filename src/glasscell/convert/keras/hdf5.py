"""Read HDF5 files of Keras without the HDF5 library, which a forged file can crash or block.

Of the many variants of the format, this supports the oldest, the default of h5py: groups with symbol tables, text
attributes, and contiguous datasets. Links, chunks, compression and external files raise an error. Memory is reserved
before it is used, each header is read once, and no function recurses.
"""

import math
import struct
from collections.abc import Container, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glasscell.convert.keras.hdf5_header import (
    DATASPACE,
    DATATYPE,
    ENTRY_BYTES,
    EXTERNAL,
    LAYOUT,
    LINK,
    LINK_INFO,
    SYMBOLS,
    FileBytes,
    Header,
    Message,
    padded_size,
    read_header,
)
from glasscell.core.cached import cached_property
from glasscell.limits import MemoryBudget

SIGNATURE = b"\x89HDF\r\n\x1a\n"
UNDEFINED = 2**64 - 1  # the address of a missing object

MAX_DEPTH = 32  # of nested groups

SOFT_LINK = 2  # a type of symbol table entry

# Floating-point types by size: offset and size of exponent and mantissa, and the exponent bias.
FLOATS = {2: (10, 5, 0, 10, 15), 4: (23, 8, 0, 23, 127), 8: (52, 11, 0, 52, 1023)}


class Type(NamedTuple):
    """A datatype.

    Attributes
    ----------
    kind : {"float", "text", "long text", "bytes", "other"}
        "long text" is stored in a heap.
    size : int
    order : str
        Byte order of a float, in NumPy's notation.
    """

    kind: str
    size: int
    order: str


class File(FileBytes):
    """An HDF5 file.

    Parameters
    ----------
    content : bytes
    budget : MemoryBudget

    Attributes
    ----------
    root : Group

    Raises
    ------
    ValueError
        Here and in all methods: if the file is damaged, or uses features that Keras does not.
    """

    def __init__(self, content: bytes, budget: MemoryBudget) -> None:
        super().__init__(content, budget)
        self._heaps: dict[int, dict[int, tuple[int, int]]] = {}
        self._headers: dict[int, Header] = {}
        if not content.startswith(SIGNATURE):
            raise ValueError("it is not an HDF5 file")
        version = self.read_integer(8, 1)
        if version > 1:
            raise ValueError(f"it is in a newer format of HDF5 (superblock {version}) than Keras writes")
        if self.read_bytes(13, 2) != b"\x08\x08":
            raise ValueError("it is an HDF5 file of another width of addresses than Keras writes")
        base, _, end, _, _, root = struct.unpack("<6Q", self.read_bytes(24 + 4 * version, 48))
        if base != 0:
            raise ValueError("it is an HDF5 file within another file")
        if end > len(content):
            raise ValueError(f"it is truncated: it has {len(content)} of {end} bytes")
        self.root = Group(self, "/", self.header("/", root))

    def header(self, path: str, address: int) -> "Header":
        """Return the header of an object, which many entries of groups may share."""
        if address not in self._headers:
            self._headers[address] = read_header(self, path, address)
        return self._headers[address]

    def long_text(self, offset: int) -> bytes:
        """Return text from a heap. The 16 bytes at `offset` are its length, the heap and its index there."""
        length, heap, index = struct.unpack("<IQI", self.read_bytes(offset, 16))
        if not length:
            return b""
        if heap not in self._heaps:
            self._heaps[heap] = dict(self._heap_objects(heap))
        start, size = self._heaps[heap].get(index, (0, 0))
        if length > size:
            raise ValueError("it is damaged: a text is longer than its heap object")
        self.budget.reserve(ENTRY_BYTES + length)
        return self.read_bytes(start, length)

    def _heap_objects(self, heap: int) -> Iterator[tuple[int, tuple[int, int]]]:
        """Yield the index, and the offset and size, of each object in a heap."""
        if self.read_bytes(heap, 4) != b"GCOL":
            raise ValueError("it is damaged: a heap has no signature")
        offset, end = heap + 16, heap + self.read_integer(heap + 8, 8)
        while offset + 16 <= end and (index := self.read_integer(offset, 2)):
            size = self.read_integer(offset + 8, 8)
            self.budget.reserve(ENTRY_BYTES)
            yield index, (offset + 16, size)
            offset += 16 + size + -size % 8


class Object:
    """A group or a dataset."""

    def __init__(self, file: File, path: str, header: Header) -> None:
        self.file, self.path, self.header = file, path, header

    def message(self, kind: int, error: str) -> Message:
        """Return the message of a kind; raise ValueError(error) if it is missing."""
        if kind not in self.header.first:
            raise ValueError(f"{self.path} {error}")
        return self.header.first[kind]

    def has(self, attribute: str) -> bool:
        """Return whether the object has an attribute of this name."""
        return attribute in self.header.attributes

    def texts(self, attribute: str) -> list[str] | None:
        """Return an attribute that is text, or a list of texts; None if it is missing."""
        if attribute not in self.header.attributes:
            return None
        file, (message, version, offset) = self.file, self.header.attributes[attribute]
        type_size, space_size = file.read_integer(message.offset + 4, 2), file.read_integer(message.offset + 6, 2)
        space = offset + padded_size(type_size, version)
        shape, data = self._shape(space), space + padded_size(space_size, version)
        count, dtype = math.prod(shape), self._type(offset)
        if count == 0:
            return []
        if dtype.kind not in ("text", "long text") or (version > 1 and file.read_integer(message.offset + 1, 1)):
            raise ValueError(f"the attribute {attribute!r} of {self.path} must be text")
        if data + count * dtype.size > message.offset + message.size:
            raise ValueError(f"the attribute {attribute!r} of {self.path} is longer than its message")
        offsets = range(data, data + count * dtype.size, max(1, dtype.size))
        file.budget.reserve(count * (ENTRY_BYTES + dtype.size))
        is_long = dtype.kind == "long text"
        raw = [file.long_text(offset) if is_long else file.read_bytes(offset, dtype.size) for offset in offsets]
        return [text.rstrip(b"\0").decode("utf-8") for text in raw]

    def text(self, attribute: str) -> str | None:
        """Return an attribute that is one text; None if it is missing."""
        texts = self.texts(attribute)
        if texts is not None and len(texts) != 1:
            raise ValueError(f"the attribute {attribute!r} of {self.path} must be one text, got {len(texts)}")
        return texts[0] if texts else None

    def _shape(self, at: int) -> tuple[int, ...]:
        """Return the shape of a dataspace."""
        version, rank, _, kind = self.file.read_bytes(at, 4)
        if version not in (1, 2) or rank > 32:
            raise ValueError(f"{self.path} is damaged: its shape is invalid")
        if version == 2 and kind == 2:
            return (0,)
        return struct.unpack(f"<{rank}Q", self.file.read_bytes(at + (8 if version == 1 else 4), 8 * rank))

    def _type(self, at: int) -> Type:
        """Return a datatype."""
        head, low, _, _, size = struct.unpack("<4BI", self.file.read_bytes(at, 8))
        kind = head & 15
        if kind == 1 and size in FLOATS and low & 64 == 0:
            _, precision, *layout, bias = struct.unpack("<HHBBBBI", self.file.read_bytes(at + 8, 12))
            if precision == 8 * size and (*layout, bias) == FLOATS[size]:
                return Type("float", size, ">" if low & 1 else "<")
        if kind == 9 and low & 15 == 1 and size == 16:
            return Type("long text", size, "")
        return Type({3: "text", 5: "bytes"}.get(kind, "other"), size, "")


class Group(Object, Mapping[str, Object]):
    """A mapping from names to groups and datasets."""

    __hash__ = object.__hash__

    @property
    def _entries(self) -> dict[str, tuple[int, int]]:
        """Address and type of each entry, by name."""
        if self.header.entries is None:
            self.header.entries = self._read_entries()
        return self.header.entries

    def _read_entries(self) -> dict[str, tuple[int, int]]:
        file = self.file
        if self.header.kinds & {LINK_INFO, LINK}:
            raise ValueError(f"the group {self.path} has links, or a newer format than Keras writes")
        tree, heap = struct.unpack("<QQ", file.read_bytes(self.message(SYMBOLS, "must be a group").offset, 16))
        if file.read_bytes(heap, 4) != b"HEAP":
            raise ValueError(f"the group {self.path} is damaged: it has no names")
        size, names = file.read_integer(heap + 8, 8), file.read_integer(heap + 24, 8)
        file.read_bytes(names, size)
        entries: dict[str, tuple[int, int]] = {}
        for entry in self._entry_offsets(tree):
            offset, address, kind = struct.unpack("<QQI", file.read_bytes(entry, 20))
            start = names + min(offset, size)
            end = file.content.find(b"\0", start, names + size)
            if end < 0:
                raise ValueError(f"the group {self.path} is damaged: a name does not end")
            file.budget.reserve(ENTRY_BYTES + end - start)
            entries[file.read_bytes(start, end - start).decode("utf-8")] = (address, kind)
        return entries

    def _entry_offsets(self, tree: int) -> Iterator[int]:
        """Yield the offsets of the symbol table entries in a B-tree."""
        file, nodes, visited = self.file, [tree], set()
        for node in nodes:
            kind = file.read_bytes(node, 4)
            if (
                node in visited
                or kind not in (b"TREE", b"SNOD")
                or (kind == b"TREE" and file.read_integer(node + 4, 1))
            ):
                raise ValueError(f"the group {self.path} is damaged: its entries cannot be found")
            visited.add(node)
            count = file.read_integer(node + 6, 2)
            if kind == b"TREE":
                nodes += [file.read_integer(node + 32 + 16 * k, 8) for k in range(count)]
            else:
                yield from range(node + 8, node + 8 + 40 * count, 40)

    def datasets(self, exclude: Container[str] = ()) -> "Iterator[Dataset]":
        """Yield all datasets in the group and its subgroups, except entries with excluded names."""
        groups, visited = [self], set()
        for group in groups:
            offset = group.message(SYMBOLS, "has a newer format than Keras writes").offset
            if offset in visited:  # a forged group may contain itself
                continue
            visited.add(offset)
            for entry in (group[name] for name in group if name not in exclude):
                if isinstance(entry, Group):
                    groups.append(entry)
                else:
                    yield entry

    def __getitem__(self, name: str) -> "Group | Dataset":
        if name not in self._entries:
            raise KeyError(name)
        address, kind = self._entries[name]
        path = f"{self.path.rstrip('/')}/{name}"
        if path.count("/") > MAX_DEPTH:
            raise ValueError(f"the group {self.path} is nested more than {MAX_DEPTH} deep")
        if kind == SOFT_LINK or address == UNDEFINED:
            raise ValueError(f"{path} is a link, which Keras does not write")
        header = self.file.header(path, address)
        return (Group if header.kinds & {SYMBOLS, LINK_INFO, LINK} else Dataset)(self.file, path, header)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


class Dataset(Object):
    """An array of numbers."""

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Return the length of each axis."""
        return self._shape(self.message(DATASPACE, "must be a dataset").offset)

    def read(self) -> NDArray[Any]:
        """Return the values: float16, float32 or float64; bfloat16, which NumPy does not support, as float32."""
        stored = self._type(self.message(DATATYPE, "has no datatype in its header").offset)
        is_bfloat16 = stored == Type("bytes", 2, "") and self.has("dtype") and self.text("dtype") == "bfloat16"
        if stored.kind != "float" and not is_bfloat16:
            raise ValueError(f"{self.path} must contain floating-point numbers")
        size = math.prod(self.shape) * stored.size
        offset = self._data_offset(size)
        self.file.budget.reserve(max(size, 4 * math.prod(self.shape)))  # values of two bytes become float32
        dtype = np.dtype("<u2" if is_bfloat16 else f"{stored.order}f{stored.size}")
        array = np.ndarray(self.shape, dtype, self.file.read_bytes(offset, size))
        if is_bfloat16:
            return (array.astype(np.uint32) << 16).view(np.float32)
        return array.astype(dtype.newbyteorder("="))

    def _data_offset(self, size: int) -> int:
        """Return the offset of the values, of `size` bytes."""
        if EXTERNAL in self.header.kinds:
            raise ValueError(f"the values of {self.path} are in another file, which Keras does not write")
        offset = self.message(LAYOUT, "has no values").offset
        version, kind = self.file.read_bytes(offset, 2)
        if version not in (3, 4) or kind not in (0, 1):
            raise ValueError(f"the values of {self.path} are in chunks, which Keras does not write")
        if kind == 0:
            start, stored_size = offset + 4, self.file.read_integer(offset + 2, 2)
        else:
            start, stored_size = struct.unpack("<QQ", self.file.read_bytes(offset + 2, 16))
        if size and (stored_size < size or start == UNDEFINED):
            raise ValueError(f"{self.path} has the shape {self.shape}, but only {stored_size} bytes of values")
        return start if size else 0
