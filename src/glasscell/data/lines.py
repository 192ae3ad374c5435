"""Lines of text files, compressed or not."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path


def lines_of(path: Path) -> Iterator[str]:
    """Yield the lines of a UTF-8 file, with their ends; a name that ends in ``.gz`` is decompressed.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is empty, not UTF-8, or damaged; the message names the file and the line.
    """
    number = 0
    try:
        with gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                yield _decoded(path, number, line)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}, line {number + 1}: must be a gzip file, got damaged data: {error}") from None
    if not number:
        raise ValueError(f"{path} must have at least one line, got an empty file")


def _decoded(path: Path, number: int, line: bytes) -> str:
    if b"\0" in line:
        raise ValueError(f"{path}, line {number}: must be text, got a zero byte")
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        byte = line[error.start]
        raise ValueError(f"{path}, line {number}: must be UTF-8, got the byte 0x{byte:02x}") from None
