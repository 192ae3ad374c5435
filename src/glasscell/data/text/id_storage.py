"""Ids of a long text, in memory or in a file of which only the requested parts are read."""

from __future__ import annotations

import os
import tempfile
import weakref
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, ClassVar, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

BLOCK = 1 << 20  # ids of which a checksum is taken at a time


class StoredIds:
    """Ids of which parts are read.

    Parameters
    ----------
    source : array (N,) of unsigned integers, or binary file
        All ids, in memory; or the file that holds them, which is mapped into memory for each read: the pages of a whole
        epoch would otherwise count as memory of the process.
    dtype : dtype
        Of a file.
    """

    def __init__(self, source: NDArray[Any] | IO[bytes], dtype: DTypeLike = np.uint8) -> None:
        self._source = source
        if isinstance(source, np.ndarray):
            self.dtype, self._length = source.dtype, len(source)
        else:
            weakref.finalize(self, source.close)
            self.dtype = np.dtype(dtype)
            self._length = _size(source) // self.dtype.itemsize

    @classmethod
    def of_file(cls, path: Path) -> Self:
        """Return the bytes of a file as ids."""
        return cls(path.open("rb"))

    def __len__(self) -> int:
        return self._length

    @property
    def in_memory(self) -> bool:
        """Whether all ids are in memory."""
        return isinstance(self._source, np.ndarray)

    def rows(self, starts: Sequence[int], length: int) -> NDArray[Any]:
        """Return `length` ids from each of these starts on, (len(starts), length), as a copy.

        Raises
        ------
        OSError
            If the file has become shorter.
        """
        ids: Any = self._source
        if not isinstance(ids, np.ndarray):
            if _size(ids) // self.dtype.itemsize < self._length:
                raise OSError(f"the file of the text has become shorter than its {self._length:,} ids")
            ids = np.memmap(ids, self.dtype, mode="r")
        result = np.empty((len(starts), length), self.dtype)
        for row, start in zip(result, starts, strict=True):
            row[:] = ids[start : start + length]
        return result

    def checksum(self) -> int:
        """Return the CRC-32 of all ids."""
        checksum = 0
        for start in range(0, len(self), BLOCK):
            checksum = zlib.crc32(self.rows([start], min(BLOCK, len(self) - start)).data, checksum)
        return checksum


class IdWriter:
    """Collects ids, in memory up to a limit and beyond that in a temporary file.

    Parameters
    ----------
    dtype : dtype
        Unsigned integers.
    folder : path, optional
        Of the temporary file, which is removed when the ids are no longer used. Default: the system's folder.
    target : binary file, optional
        Gets all ids, instead of a temporary file.
    """

    MEMORY_LIMIT: ClassVar[int] = 1 << 25  # bytes

    def __init__(
        self, dtype: DTypeLike, folder: str | os.PathLike[str] | None = None, target: IO[bytes] | None = None
    ) -> None:
        self._dtype, self._folder = np.dtype(dtype), folder
        self._parts: list[NDArray[Any]] = []
        self._num_bytes = 0
        self._file = target

    def write(self, ids: NDArray[Any]) -> None:
        """Append ids.

        Raises
        ------
        OSError
            If the temporary file cannot be written, such as for lack of space; names its folder.
        """
        part = ids.astype(self._dtype)
        self._num_bytes += part.nbytes
        if self._file is None and self._num_bytes <= self.MEMORY_LIMIT:
            self._parts.append(part)
            return
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="glasscell-", dir=self._folder)  # noqa: SIM115 - kept open
            for pending in (*self._parts, part):
                self._file.write(pending.tobytes())
        except OSError as error:
            folder = os.fspath(self._folder) if self._folder is not None else tempfile.gettempdir()
            reason = f"{error.strerror}; the ids of the text need space there: choose another folder"
            raise OSError(error.errno, reason, folder) from None
        self._parts = []

    def close(self) -> None:
        """Remove the temporary file."""
        if self._file is not None:
            self._file.close()

    def finish(self) -> StoredIds:
        """Return the ids."""
        if self._file is None:
            return StoredIds(np.concatenate(self._parts) if self._parts else np.zeros(0, self._dtype))
        self._file.flush()
        return StoredIds(self._file, self._dtype)


def _size(file: IO[bytes]) -> int:
    """Return the size of an open file in bytes."""
    return os.fstat(file.fileno()).st_size
