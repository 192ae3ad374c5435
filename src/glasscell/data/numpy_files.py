"""Read arrays from files of NumPy's formats, with every size checked before memory is allocated."""

from __future__ import annotations

import ast
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from glasscell.escaping import one_line
from glasscell.limits import DECOMPRESSION, max_decompressed

MAGIC = b"\x93NUMPY"
LENGTHS = {(1, 0): "<H", (2, 0): "<I", (3, 0): "<I"}  # of the header, by the format's version
MAX_HEADER = 10_000  # bytes; more is needed for structured types alone
MAX_AXES = 32
MAX_CODE = 0x10FFFF  # of a character
PYTHON_2_INTEGER = re.compile(r"(\d)L\b")  # in shapes that NumPy wrote in Python 2

# Errors of the standard library for a damaged archive, or one that is compressed or encrypted in another way.
DAMAGED = (
    *(ValueError, OSError, EOFError, MemoryError, OverflowError, RuntimeError, Warning),
    *(zipfile.BadZipFile, zlib.error, struct.error),
)


def read_array(file: IO[bytes], size: int, kinds: str = "biuf") -> NDArray[Any]:
    """Read one array in NumPy's ``.npy`` format.

    Parameters
    ----------
    file : binary file
    size : int
        Number of bytes from the position of the file to its end.
    kinds : str
        Letters of the kinds of dtypes that are accepted. Default: truth values, integers and real numbers.

    Returns
    -------
    array
        Writable.

    Raises
    ------
    ValueError
        If it is damaged, or its header does not fit the size. The message continues a sentence that begins with the
        name of the file.
    """
    start = file.read(8)
    if start[:6] != MAGIC or len(start) < 8:
        raise ValueError("it is not an array of NumPy")
    version = start[6], start[7]
    if version not in LENGTHS:
        raise ValueError(f"the version of its format must be 1.0, 2.0 or 3.0, got {version[0]}.{version[1]}")
    form = LENGTHS[version]
    packed = file.read(struct.calcsize(form))
    length = struct.unpack(form, packed)[0] if len(packed) == struct.calcsize(form) else size
    remaining = size - 8 - len(packed) - length
    if remaining < 0:
        raise ValueError("it ends within its header")
    if length > MAX_HEADER:
        raise ValueError(f"its header must have at most {MAX_HEADER} bytes, got {length}")
    shape, dtype, order = _described(file.read(length).decode("utf-8" if version == (3, 0) else "latin1"), kinds)
    if math.prod(shape) * dtype.itemsize != remaining:
        raise ValueError(f"it has {remaining} bytes of values, and the shape {shape} of {dtype}")
    content = bytearray(file.read(remaining))
    if len(content) != remaining:
        raise ValueError("it ends within its values")
    if dtype.kind == "U" and np.frombuffer(content, dtype.byteorder.replace("|", "=") + "u4").max(initial=0) > MAX_CODE:
        raise ValueError("it has text with characters that Unicode does not have")
    return np.ndarray(shape, dtype, content, order=order)


def _described(header: str, kinds: str) -> tuple[tuple[int, ...], np.dtype[Any], Literal["C", "F"]]:
    """Return shape, dtype and order of the text of a header."""
    try:
        entries = ast.literal_eval(PYTHON_2_INTEGER.sub(r"\1", header.strip()))
    except (ValueError, SyntaxError, MemoryError, RecursionError, Warning):
        entries = None
    if not isinstance(entries, dict) or entries.keys() != {"descr", "fortran_order", "shape"}:
        raise ValueError("its header cannot be read")
    description, shape, columns_first = entries["descr"], entries["shape"], entries["fortran_order"]
    if not isinstance(shape, tuple) or not all(type(length) is int and length >= 0 for length in shape):
        raise ValueError(f"its shape must be a tuple of integers from 0, got {shape!r:.80}")
    if len(shape) > MAX_AXES or math.prod(length or 1 for length in shape) >= 2**62:
        raise ValueError(f"its shape must have at most {MAX_AXES} axes and 2^62 items, got {shape!r:.80}")
    if type(columns_first) is not bool:
        raise ValueError(f"its order must be True or False, got {columns_first!r:.40}")
    simple = isinstance(description, str) and re.fullmatch(rf"[<>|=]?[{kinds}][1-9]\d{{0,8}}", description)
    try:
        dtype = np.dtype(description) if simple else None
    except TypeError:  # there is no such size
        dtype = None
    if dtype is None:
        raise ValueError(f"its dtype must be of numbers{' or text' if 'U' in kinds else ''}, got {description!r:.80}")
    return shape, dtype, "F" if columns_first else "C"


class ArrayArchive:
    """The arrays of an ``.npz`` file, each read when it is requested.

    Parameters
    ----------
    path : path

    Attributes
    ----------
    names : list of str

    Raises
    ------
    ValueError
        If the file is damaged, or its arrays are more than 100 times as long as the file and 1 MiB.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._remaining = path, max_decompressed(path.stat().st_size)
        with self._opened() as archive:
            self._entries = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            if len(self._entries) != len(archive.infolist()):
                raise ValueError("it has two arrays of one name")
        self.names = list(self._entries)

    def read(self, name: str) -> NDArray[Any]:
        """Return an array of numbers, truth values or text.

        Raises
        ------
        ValueError
            If it is damaged or too long.
        """
        info = self._entries[name]
        with self._opened() as archive:
            self._remaining -= info.file_size
            if self._remaining < 0:
                raise ValueError(
                    f"its arrays must have at most {DECOMPRESSION} times the file's size and 1 MiB, got more: "
                    "numpy.savez writes them without compression"
                )
            with archive.open(info) as entry:
                array = read_array(entry, info.file_size, "biufU")
                if entry.read(1):  # which compares the checksum, too
                    raise ValueError(f"the array {name} must have {info.file_size} bytes, as in the directory")
                return array

    @contextmanager
    def _opened(self) -> Iterator[zipfile.ZipFile]:
        try:
            with self.path.open("rb") as stream, zipfile.ZipFile(stream) as archive:
                yield archive
        except DAMAGED as error:
            raise ValueError(
                f"{self.path} must be a .npz file of arrays of numbers or text: {one_line(error)}"
            ) from None
