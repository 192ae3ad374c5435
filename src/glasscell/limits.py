"""Bounds on the memory for reading a file of unknown origin.

A few bytes of a file can describe far more memory: empty objects, shared storages, compressed zeros. Therefore every
reader reserves memory in one budget per file before it allocates.
"""

from math import ceil
from typing import Any

# The content of a file may need this many times its size, and 16 MiB. The model built from it needs as much again,
# temporarily twice.
EXPANSION, ALLOWANCE = 3, 2**24

# Compressed data of the user, unlike a model's, may be far longer than the file: tables and one-hot arrays are.
DECOMPRESSION, DECOMPRESSION_ALLOWANCE = 100, 2**20

# Upper bounds on the bytes that CPython needs for a value of JSON: an object, an array, and each of their items.
OBJECT_BYTES, ARRAY_BYTES, ITEM_BYTES = 184, 56, 96


class BudgetError(ValueError):
    """A file needs more memory than its budget."""


def max_decompressed(file_size: int) -> int:
    """Return how many bytes the compressed data of a file may have."""
    return DECOMPRESSION * file_size + DECOMPRESSION_ALLOWANCE


class MemoryBudget:
    """Memory for reading one file.

    Parameters
    ----------
    file_size : int
        Bytes on disk.
    error : type of ValueError
        Type of the error of :meth:`reserve`. Its message continues a sentence that begins with the name of the file.
    allowance : int
        Bytes in addition to 3 times the file's size. Default: 16 MiB.

    Attributes
    ----------
    reserved : int
        Bytes that have been reserved.
    """

    def __init__(self, file_size: int, error: type[ValueError] = BudgetError, *, allowance: int | None = None) -> None:
        self.file_size, self.error = file_size, error
        self.allowance = ALLOWANCE if allowance is None else allowance
        self.limit, self.reserved = EXPANSION * file_size + self.allowance, 0

    def reserve(self, size: float) -> None:
        """Reserve `size` bytes.

        Raises
        ------
        ValueError
            If more bytes are reserved than the limit.
        """
        self.reserved += ceil(min(max(size, 0), 2.0**62))
        if self.reserved > self.limit:
            raise self.error(
                f"needs more memory than {EXPANSION} times the file's {self.file_size} bytes "
                f"and {self.allowance >> 20} MiB"
            )


def parse_json(text: bytes, budget: MemoryBudget, *, constants: bool = False) -> Any:
    """Parse JSON whose values fit into the budget.

    Parameters
    ----------
    text : bytes
    budget : MemoryBudget
    constants : bool
        Accept NaN, Infinity and -Infinity, which Python writes although JSON does not have them.

    Raises
    ------
    ValueError
        If the text is not JSON, is nested too deep, or needs too much memory.
    """
    import json  # noqa: PLC0415 - not paid for by `import glasscell`

    counts = {mark: text.count(mark) for mark in (b"{", b"[", b",")}
    objects, arrays, commas = counts.values()
    items = objects + arrays + commas
    budget.reserve(OBJECT_BYTES * objects + ARRAY_BYTES * arrays + ITEM_BYTES * items + 2 * len(text))
    try:
        return json.loads(text) if constants else json.loads(text, parse_constant=_raise_for_constant)
    except RecursionError:
        raise ValueError("JSON is nested too deep") from None


def _raise_for_constant(name: str) -> object:
    raise ValueError(f"JSON has no number {name}")
