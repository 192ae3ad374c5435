"""Read the values in the bytes of a pickle, with bounds on memory and time."""

from collections.abc import Callable
from typing import NamedTuple

from glasscell.limits import MemoryBudget

MAX_PICKLE_OPCODES, BYTES_PER_OPCODE = 2**19, 32  # opcodes and copied items: a constant, and one per 32 bytes of a file


class FileError(ValueError):
    """A fault of a file. The message continues a sentence that begins with the file's name."""


class AllowedCallable(NamedTuple):
    """A function that a pickle may call."""

    build: Callable[..., object]


class Unread:
    """A placeholder for an object that is not created: the name of its class, or of the function that creates it.

    Attributes
    ----------
    name : str
        Such as "argparse.Namespace"; printable, at most 200 characters.
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"<not read: {self.name}>"


class PickleReader:
    """Reads values from bytes, in order.

    Parameters
    ----------
    data : bytes
    budget : MemoryBudget
        Budget of the file.

    Attributes
    ----------
    position : int
        Index of the next byte.
    """

    def __init__(self, data: bytes, budget: MemoryBudget) -> None:
        self.data, self.position, self.budget = data, 0, budget
        self.opcodes, self.max_opcodes = 0, MAX_PICKLE_OPCODES + budget.file_size // BYTES_PER_OPCODE

    def count_opcodes(self, count: int) -> None:
        """Count opcodes or copied items, which bounds the time."""
        self.opcodes += count
        if self.opcodes > self.max_opcodes:
            raise FileError(f"has a pickle of more than {self.max_opcodes} steps, too many for a model")

    def read_bytes(self, length: int) -> bytes:
        """Return the next bytes."""
        start, self.position = self.position, self.position + length
        if not start <= self.position <= len(self.data):
            raise FileError("ends too early")
        return self.data[start : self.position]

    def read_integer(self, length: int, *, signed: bool = False) -> int:
        """Return the next integer, of `length` bytes."""
        return int.from_bytes(self.read_bytes(length), "little", signed=signed)

    def read_counted(self, length: int) -> bytes:
        """Return bytes that follow their count, an integer of `length` bytes."""
        count = self.read_integer(length)
        self.budget.reserve(count)
        return self.read_bytes(count)

    def read_text(self, length: int) -> str:
        """Return text that follows the number of its bytes, an integer of `length` bytes."""
        content = self.read_counted(length)
        self.budget.reserve(0 if content.isascii() else 3 * len(content))  # 4 bytes per character if one needs them
        return content.decode("utf-8", "surrogatepass")

    def read_line(self) -> str:
        """Return the text up to the next line feed."""
        return self.read_bytes(self.data.index(b"\n", self.position) + 1 - self.position)[:-1].decode()

    def read_decimal(self) -> int:
        """Return an integer that is written as text; protocol 1 writes True and False as 01 and 00."""
        line = self.read_line()
        return line == "01" if line in ("00", "01") else int(line.removesuffix("L"))
