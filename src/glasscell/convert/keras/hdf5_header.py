"""Read the headers of objects in HDF5 files."""

import struct
from collections.abc import Sequence
from typing import NamedTuple

from glasscell.core.cached import cached_property
from glasscell.limits import MemoryBudget

# Memory for a message of a header, an attribute, and an entry of a group or a heap, without its name.
MESSAGE_BYTES, ATTRIBUTE_BYTES, ENTRY_BYTES = 192, 320, 256

# Types of messages in the header of an object.
DATASPACE, LINK_INFO, DATATYPE, LINK, EXTERNAL, LAYOUT, ATTRIBUTE, CONTINUATION, SYMBOLS = (
    *(0x01, 0x02, 0x03, 0x06, 0x07, 0x08, 0x0C, 0x10, 0x11),
)


class Message(NamedTuple):
    """A message in the header of an object.

    Attributes
    ----------
    kind : int
    shared : bool
        Whether the content is elsewhere in the file.
    offset, size : int
        Bytes of the content.
    """

    kind: int
    shared: bool
    offset: int
    size: int


class FileBytes:
    """The bytes of a file, with bounds checks.

    Parameters
    ----------
    content : bytes
    budget : MemoryBudget
        A forged file may refer to the same bytes many times; everything that is read is reserved here.
    """

    def __init__(self, content: bytes, budget: MemoryBudget) -> None:
        self.content, self.budget = content, budget

    def read_bytes(self, offset: int, size: int) -> bytes:
        """Return bytes of the file."""
        if not 0 <= offset <= offset + size <= len(self.content):
            raise ValueError(f"it is damaged: it refers to byte {offset}, outside the file")
        return self.content[offset : offset + size]

    def read_integer(self, offset: int, size: int) -> int:
        """Return an unsigned integer."""
        return int.from_bytes(self.read_bytes(offset, size), "little")


class Header:
    """The header of an object, read once for all entries that refer to it."""

    def __init__(self, file: FileBytes, messages: Sequence[Message]) -> None:
        self.file, self.messages = file, messages
        self.kinds = {message.kind for message in messages}
        self.entries: dict[str, tuple[int, int]] | None = None  # of a group, after the first read

    @cached_property
    def first(self) -> dict[int, Message]:
        """Return the first message of each kind whose content is not elsewhere."""
        return {message.kind: message for message in reversed(self.messages) if not message.shared}

    @cached_property
    def attributes(self) -> dict[str, tuple[Message, int, int]]:
        """Return message, version and offset of the datatype of each attribute, by name."""
        result = {}
        for message in self.messages:
            if message.kind == ATTRIBUTE:
                self.file.budget.reserve(ATTRIBUTE_BYTES + self.file.read_integer(message.offset + 2, 2))
                version = self.file.read_integer(message.offset, 1)
                length = self.file.read_integer(message.offset + 2, 2)
                offset = message.offset + (9 if version == 3 else 8)
                name = self.file.read_bytes(offset, length).rstrip(b"\0").decode("utf-8", "replace")
                result[name] = (message, version, offset + padded_size(length, version))
        return result


def read_header(file: FileBytes, path: str, address: int) -> Header:
    """Return the header of the object at an address."""
    version, _, remaining, _, length = struct.unpack("<BBHII", file.read_bytes(address, 12))
    if version != 1:
        raise ValueError(f"{path} is damaged, or in a newer format of HDF5 than Keras writes")
    messages: list[Message] = []
    blocks = [(address + 16, length)]
    for start, length in blocks:
        offset, end = start, start + length
        while remaining and offset + 8 <= end:
            kind, size, flags = struct.unpack("<HHB", file.read_bytes(offset, 5))
            if offset + 8 + size > end:
                raise ValueError(f"{path} is damaged: a message is longer than its header")
            if kind == CONTINUATION:
                blocks.append((file.read_integer(offset + 8, 8), file.read_integer(offset + 16, 8)))
            file.budget.reserve(MESSAGE_BYTES)
            messages.append(Message(kind, bool(flags & 2), offset + 8, size))
            offset += 8 + size
            remaining -= 1  # bounds the loop if a block continues in itself
    return Header(file, messages)


def padded_size(size: int, version: int) -> int:
    """Return the size of a field of an attribute: version 1 pads fields to 8 bytes."""
    return size + -size % 8 if version == 1 else size
