"""HDF5 files as Keras writes them, read without the HDF5 library, which a forged file can crash or keep busy for ever.

Of the many ways in which the format can say a thing, this reads the oldest, which h5py writes unless it is asked for
another: groups with a table of symbols, text as attributes, and numbers that lie in one piece. Whatever else there is,
links, chunks, compression, numbers in other files, is refused by name. Memory is reserved before it is used, a header
is read once, however many entries lead to it, and nothing recurses.
"""

import math
import struct
from collections.abc import Container, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glasscell.limits import MemoryBudget

SIGNATURE = b"\x89HDF\r\n\x1a\n"
UNDEFINED = 2**64 - 1  # the address of what is not there

# Memory for a part of a header, an attribute, and an entry of a group or a heap, without its name.
MESSAGE_BYTES, ATTRIBUTE_BYTES, ENTRY_BYTES = 192, 320, 256

DEEPEST = 32  # groups in groups

# The kinds of messages in the header of an object.
DATASPACE, LINK_INFO, DATATYPE, LINK, EXTERNAL, LAYOUT, ATTRIBUTE, CONTINUATION, SYMBOLS = (
    *(0x01, 0x02, 0x03, 0x06, 0x07, 0x08, 0x0C, 0x10, 0x11),
)
SOFT_LINK = 2  # a kind of symbol

# Of a floating-point type: places and sizes of exponent and mantissa, and the bias.
FLOATS = {2: (10, 5, 0, 10, 15), 4: (23, 8, 0, 23, 127), 8: (52, 11, 0, 52, 1023)}


class Message(NamedTuple):
    """A part of an object's header."""

    kind: int
    shared: bool  # whether what it says stands elsewhere
    at: int
    size: int


class Type(NamedTuple):
    """What an element is."""

    kind: str  # "float", "text", "long text" (which lies elsewhere), "bytes" or "other"
    size: int
    order: str  # of the bytes of a float, as NumPy says it


class File:
    """The bytes of a file.

    Parameters
    ----------
    content : bytes
    budget : MemoryBudget
        A forged file can show the same bytes in many places; all that is taken of it is reserved here.

    Attributes
    ----------
    root : Group

    Raises
    ------
    ValueError
        Here and wherever something is read: if the file is damaged, or holds what Keras does not write.
    """

    def __init__(self, content: bytes, budget: MemoryBudget) -> None:
        self.content, self.budget = content, budget
        self._heaps: dict[int, dict[int, tuple[int, int]]] = {}
        self._headers: dict[int, Header] = {}
        if not content.startswith(SIGNATURE):
            raise ValueError("it is not an HDF5 file")
        version = self.number(8, 1)
        if version > 1:
            raise ValueError(f"it is in a newer format of HDF5 (superblock {version}) than Keras writes")
        if self.take(13, 2) != b"\x08\x08":
            raise ValueError("it is an HDF5 file of another width of addresses than Keras writes")
        base, _, end, _, _, root = struct.unpack("<6Q", self.take(24 + 4 * version, 48))
        if base != 0:
            raise ValueError("it is an HDF5 file within another file")
        if end > len(content):
            raise ValueError(f"it is truncated: {len(content)} bytes are there of {end}")
        self.root = Group(self, "/", self.header("/", root))

    def take(self, at: int, size: int) -> bytes:
        """Bytes of the file."""
        if not 0 <= at <= at + size <= len(self.content):
            raise ValueError(f"it is damaged: something should lie at byte {at}, outside the file")
        return self.content[at : at + size]

    def number(self, at: int, size: int) -> int:
        """An unsigned integer."""
        return int.from_bytes(self.take(at, size), "little")

    def header(self, path: str, address: int) -> "Header":
        """Return the header of an object, which many entries of groups may share."""
        if address not in self._headers:
            self._headers[address] = Header(self, _messages(self, path, address))
        return self._headers[address]

    def long_text(self, at: int) -> bytes:
        """Return text from a heap. The 16 bytes at `at` are its length, the heap and its index there."""
        length, heap, index = struct.unpack("<IQI", self.take(at, 16))
        if not length:
            return b""
        if heap not in self._heaps:
            self._heaps[heap] = dict(self._in_heap(heap))
        start, size = self._heaps[heap].get(index, (0, 0))
        if length > size:
            raise ValueError("it is damaged: a text is longer than where it lies")
        self.budget.reserve(ENTRY_BYTES + length)
        return self.take(start, length)

    def _in_heap(self, heap: int) -> Iterator[tuple[int, tuple[int, int]]]:
        """What a heap holds: number, and where it begins and how long it is."""
        if self.take(heap, 4) != b"GCOL":
            raise ValueError("it is damaged: a heap does not begin as one")
        at, end = heap + 16, heap + self.number(heap + 8, 8)
        while at + 16 <= end and (index := self.number(at, 2)):
            size = self.number(at + 8, 8)
            self.budget.reserve(ENTRY_BYTES)
            yield index, (at + 16, size)
            at += 16 + size + -size % 8


class Header:
    """The parts of the header of an object, and what is known of them, once for all entries that lead to it."""

    def __init__(self, file: File, messages: Sequence[Message]) -> None:
        self.file, self.messages = file, messages
        self.kinds = {message.kind for message in messages}
        self.entries: dict[str, tuple[int, int]] | None = None  # of a group, once they have been read

    @cached_property
    def first(self) -> dict[int, Message]:
        """The first message of each kind that is not kept elsewhere."""
        return {message.kind: message for message in reversed(self.messages) if not message.shared}

    @cached_property
    def attributes(self) -> dict[str, tuple[Message, int, int]]:
        """By name: the message, its version, and where its datatype begins."""
        found = {}
        for message in self.messages:
            if message.kind == ATTRIBUTE:
                self.file.budget.reserve(ATTRIBUTE_BYTES + self.file.number(message.at + 2, 2))
                version = self.file.number(message.at, 1)
                length, at = self.file.number(message.at + 2, 2), message.at + (9 if version == 3 else 8)
                name = self.file.take(at, length).rstrip(b"\0").decode("utf-8", "replace")
                found[name] = (message, version, at + _padded(length, version))
        return found


class Object:
    """A group or a dataset: what its header says."""

    def __init__(self, file: File, path: str, header: Header) -> None:
        self.file, self.path, self.header = file, path, header

    def message(self, kind: int, what: str) -> Message:
        """The part of the header of this kind."""
        if kind not in self.header.first:
            raise ValueError(f"{self.path} {what}")
        return self.header.first[kind]

    def has(self, attribute: str) -> bool:
        """Whether there is an attribute of that name."""
        return attribute in self.header.attributes

    def texts(self, attribute: str) -> list[str] | None:
        """An attribute that is text, or a list of texts; None where there is none of that name."""
        if attribute not in self.header.attributes:
            return None
        file, (message, version, at) = self.file, self.header.attributes[attribute]
        of_type, of_space = file.number(message.at + 4, 2), file.number(message.at + 6, 2)
        space = at + _padded(of_type, version)
        shape, data = self._shape(space), space + _padded(of_space, version)
        count, kind = math.prod(shape), self._type(at)
        if count == 0:
            return []
        if kind.kind not in ("text", "long text") or (version > 1 and file.number(message.at + 1, 1)):
            raise ValueError(f"the attribute {attribute!r} of {self.path} is no text")
        if data + count * kind.size > message.at + message.size:
            raise ValueError(f"the attribute {attribute!r} of {self.path} is longer than its place")
        places = range(data, data + count * kind.size, max(1, kind.size))
        file.budget.reserve(count * (ENTRY_BYTES + kind.size))
        raw = [file.long_text(at) if kind.kind == "long text" else file.take(at, kind.size) for at in places]
        return [text.rstrip(b"\0").decode("utf-8") for text in raw]

    def text(self, attribute: str) -> str | None:
        """An attribute that is one text."""
        texts = self.texts(attribute)
        if texts is not None and len(texts) != 1:
            raise ValueError(f"the attribute {attribute!r} of {self.path} is {len(texts)} texts; expected one")
        return texts[0] if texts else None

    def _shape(self, at: int) -> tuple[int, ...]:
        """What a dataspace says."""
        version, rank, _, kind = self.file.take(at, 4)
        if version not in (1, 2) or rank > 32:
            raise ValueError(f"{self.path} is damaged: it has no shape")
        if version == 2 and kind == 2:
            return (0,)
        return struct.unpack(f"<{rank}Q", self.file.take(at + (8 if version == 1 else 4), 8 * rank))

    def _type(self, at: int) -> Type:
        """What a datatype says."""
        head, low, _, _, size = struct.unpack("<4BI", self.file.take(at, 8))
        kind = head & 15
        if kind == 1 and size in FLOATS and low & 64 == 0:
            _, precision, *layout, bias = struct.unpack("<HHBBBBI", self.file.take(at + 8, 12))
            if precision == 8 * size and (*layout, bias) == FLOATS[size]:
                return Type("float", size, ">" if low & 1 else "<")
        if kind == 9 and low & 15 == 1 and size == 16:
            return Type("long text", size, "")
        return Type({3: "text", 5: "bytes"}.get(kind, "other"), size, "")


class Group(Object, Mapping[str, Object]):
    """A group; its entries by name, each a :class:`Group` or a :class:`Dataset`."""

    __hash__ = object.__hash__

    @property
    def _entries(self) -> dict[str, tuple[int, int]]:
        """Address and kind of symbol by name."""
        if self.header.entries is None:
            self.header.entries = self._read_entries()
        return self.header.entries

    def _read_entries(self) -> dict[str, tuple[int, int]]:
        file = self.file
        if self.header.kinds & {LINK_INFO, LINK}:
            raise ValueError(f"the group {self.path} has links to elsewhere, or is newer than what Keras writes")
        tree, heap = struct.unpack("<QQ", file.take(self.message(SYMBOLS, "is no group").at, 16))
        if file.take(heap, 4) != b"HEAP":
            raise ValueError(f"the group {self.path} is damaged: it has no names")
        size, names = file.number(heap + 8, 8), file.number(heap + 24, 8)
        file.take(names, size)
        found: dict[str, tuple[int, int]] = {}
        for at in self._leaves(tree):
            offset, address, kind = struct.unpack("<QQI", file.take(at, 20))
            start = names + min(offset, size)
            end = file.content.find(b"\0", start, names + size)
            if end < 0:
                raise ValueError(f"the group {self.path} is damaged: a name does not end")
            file.budget.reserve(ENTRY_BYTES + end - start)
            found[file.take(start, end - start).decode("utf-8")] = (address, kind)
        return found

    def _leaves(self, tree: int) -> Iterator[int]:
        """Where the symbols stand that hang in a tree."""
        file, nodes, seen = self.file, [tree], set()
        for node in nodes:
            kind = file.take(node, 4)
            if node in seen or kind not in (b"TREE", b"SNOD") or (kind == b"TREE" and file.number(node + 4, 1)):
                raise ValueError(f"the group {self.path} is damaged: its entries cannot be found")
            seen.add(node)
            count = file.number(node + 6, 2)
            if kind == b"TREE":
                nodes += [file.number(node + 32 + 16 * k, 8) for k in range(count)]
            else:
                yield from range(node + 8, node + 8 + 40 * count, 40)

    def datasets(self, but: Container[str] = ()) -> "Iterator[Dataset]":
        """All that are in it and in groups in it, but for what has one of these names."""
        groups, seen = [self], set()
        for group in groups:
            place = group.message(SYMBOLS, "is newer than what Keras writes").at
            if place in seen:  # so a group that is in itself is not entered for ever
                continue
            seen.add(place)
            for entry in (group[name] for name in group if name not in but):
                if isinstance(entry, Group):
                    groups.append(entry)
                else:
                    yield entry

    def __getitem__(self, name: str) -> "Group | Dataset":
        if name not in self._entries:
            raise KeyError(name)
        address, kind = self._entries[name]
        path = f"{self.path.rstrip('/')}/{name}"
        if path.count("/") > DEEPEST:
            raise ValueError(f"the group {self.path} is deeper than any of Keras")
        if kind == SOFT_LINK or address == UNDEFINED:
            raise ValueError(f"{path} is a link to elsewhere; Keras writes none")
        header = self.file.header(path, address)
        return (Group if header.kinds & {SYMBOLS, LINK_INFO, LINK} else Dataset)(self.file, path, header)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


class Dataset(Object):
    """Numbers."""

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """The length of each axis."""
        return self._shape(self.message(DATASPACE, "is no dataset").at)

    def read(self) -> NDArray[Any]:
        """Return the values: float16, float32 or float64; bfloat16, which NumPy does not support, as float32."""
        kind = self._type(self.message(DATATYPE, "has no type that stands in its place").at)
        brain = kind == Type("bytes", 2, "") and self.has("dtype") and self.text("dtype") == "bfloat16"
        if kind.kind != "float" and not brain:
            raise ValueError(f"{self.path} does not hold floating-point numbers")
        size = math.prod(self.shape) * kind.size
        place = self._place(size)
        self.file.budget.reserve(max(size, 4 * math.prod(self.shape)))  # of two bytes, they become float32
        dtype = np.dtype("<u2" if brain else f"{kind.order}f{kind.size}")
        array = np.ndarray(self.shape, dtype, self.file.take(place, size))
        if brain:
            return (array.astype(np.uint32) << 16).view(np.float32)
        return array.astype(dtype.newbyteorder("="))

    def _place(self, size: int) -> int:
        """Where the numbers lie."""
        if EXTERNAL in self.header.kinds:
            raise ValueError(f"the numbers of {self.path} lie in another file; Keras writes none so")
        at = self.message(LAYOUT, "has no numbers").at
        version, kind = self.file.take(at, 2)
        if version not in (3, 4) or kind not in (0, 1):
            raise ValueError(f"the numbers of {self.path} lie in chunks, perhaps compressed; Keras writes none so")
        if kind == 0:
            start, held = at + 4, self.file.number(at + 2, 2)
        else:
            start, held = struct.unpack("<QQ", self.file.take(at + 2, 16))
        if size and (held < size or start == UNDEFINED):
            raise ValueError(f"{self.path} has the shape {self.shape}, and numbers for less than that")
        return start if size else 0


def _messages(file: File, path: str, address: int) -> list[Message]:
    """The parts of the header of an object."""
    version, _, left, _, length = struct.unpack("<BBHII", file.take(address, 12))
    if version != 1:
        raise ValueError(f"{path} is damaged, or in a newer format of HDF5 than Keras writes")
    found: list[Message] = []
    blocks = [(address + 16, length)]
    for start, length in blocks:
        at, end = start, start + length
        while left and at + 8 <= end:
            kind, size, flags = struct.unpack("<HHB", file.take(at, 5))
            if at + 8 + size > end:
                raise ValueError(f"{path} is damaged: a part of its header is longer than the header")
            if kind == CONTINUATION:
                blocks.append((file.number(at + 8, 8), file.number(at + 16, 8)))
            file.budget.reserve(MESSAGE_BYTES)
            found.append(Message(kind, bool(flags & 2), at + 8, size))
            at += 8 + size
            left -= 1  # so a header that goes on in itself does not go on for ever
    return found


def _padded(size: int, version: int) -> int:
    """The length of a part of an attribute: the oldest fill up to 8 bytes."""
    return size + -size % 8 if version == 1 else size
