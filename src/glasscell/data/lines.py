"""Lines of text files, compressed or not."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import Any

from glasscell.limits import DECOMPRESSION, max_decompressed

COMPRESSED = ".gz"


def lines_of(path: Path) -> Iterator[str]:
    """Yield the lines of a UTF-8 file, with their ends; a name that ends in ``.gz`` is decompressed.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is empty, not UTF-8, or damaged, or its text is more than 100 times as long as the compressed file and
        1 MiB; the message names the file and the line.
    """
    number = 0
    try:
        with gzip.open(path, "rb") if path.suffix.lower() == COMPRESSED else path.open("rb") as file:
            lines = BufferedReader(_Limited(path, file)) if isinstance(file, gzip.GzipFile) else file
            for number, line in enumerate(lines, start=1):
                yield "\n" if line == b"\n" else _decoded(path, number, line)  # blank lines may be most of a text
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}, line {number + 1}: must be a gzip file, got damaged data: {error}") from None
    if not number:
        raise ValueError(f"{path} must have at least one line, got an empty file")


class _Limited(RawIOBase):
    """The text of a compressed file, up to the limit."""

    def __init__(self, path: Path, file: gzip.GzipFile) -> None:
        self._path, self._file, self._remaining = path, file, max_decompressed(path.stat().st_size)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        count = self._file.readinto(buffer)
        self._remaining -= count
        if self._remaining < 0:
            raise ValueError(
                f"{self._path} must have a text of at most {DECOMPRESSION} times the compressed file's size and 1 MiB, "
                "got a longer one: decompress it to read it"
            )
        return count


def _decoded(path: Path, number: int, line: bytes) -> str:
    if b"\0" in line:
        raise ValueError(f"{path}, line {number}: must be text, got a zero byte")
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        byte = line[error.start]
        raise ValueError(f"{path}, line {number}: must be UTF-8, got the byte 0x{byte:02x}") from None
