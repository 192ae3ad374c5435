"""Ids of a long text, in memory or in a file of which only the requested parts are read."""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, ClassVar, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray


class StoredIds:
    """Ids of which parts are read.

    Parameters
    ----------
    ids : array (N,) of unsigned integers, optional
        All ids, in memory.
    file : binary file, optional
        Alternatively the file that holds them, which is mapped into memory for each read: the pages of a whole epoch
        would otherwise count as memory of the process.
    dtype : dtype
        Of the file.

    Attributes
    ----------
    in_memory : bool
    """

    def __init__(
        self, ids: NDArray[Any] | None = None, file: IO[bytes] | None = None, dtype: DTypeLike = np.uint8
    ) -> None:
        self._ids, self._file, self.dtype = ids, file, np.dtype(dtype if ids is None else ids.dtype)
        self.in_memory = ids is not None
        if file is not None:
            weakref.finalize(self, file.close)
        self._length = len(ids) if ids is not None else _size(file) // self.dtype.itemsize

    @classmethod
    def of_file(cls, path: Path) -> Self:
        """Return the bytes of a file as ids."""
        return cls(file=path.open("rb"))

    def __len__(self) -> int:
        return self._length

    def rows(self, starts: Sequence[int], length: int) -> NDArray[Any]:
        """Return `length` ids from each of these starts on, (len(starts), length), as a copy.

        Raises
        ------
        OSError
            If the file has become shorter.
        """
        ids = self._ids
        if ids is None:
            if _size(self._file) // self.dtype.itemsize < self._length:
                raise OSError(f"the file of the text has become shorter than its {self._length:,} ids")
            file: Any = self._file
            ids = np.memmap(file, self.dtype, mode="r")
        result = np.empty((len(starts), length), self.dtype)
        for row, start in zip(result, starts, strict=True):
            row[:] = ids[start : start + length]
        return result


class IdWriter:
    """Collects ids, in memory up to a limit and beyond that in a temporary file.

    Parameters
    ----------
    dtype : dtype
        Unsigned integers.
    folder : path, optional
        Of the temporary file, which is removed when the ids are no longer used. Default: the system's folder.
    """

    MEMORY_LIMIT: ClassVar[int] = 1 << 25  # bytes

    def __init__(self, dtype: DTypeLike, folder: str | os.PathLike[str] | None = None) -> None:
        self._dtype, self._folder = np.dtype(dtype), folder
        self._parts: list[NDArray[Any]] = []
        self._num_bytes = 0
        self._file: IO[bytes] | None = None

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
        return StoredIds(file=self._file, dtype=self._dtype)


def _size(file: IO[bytes] | None) -> int:
    assert file is not None  # where ids are not in memory  # noqa: S101
    return os.fstat(file.fileno()).st_size
