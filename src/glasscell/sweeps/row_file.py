"""File of the rows of a sweep: one JSON object per line, appended and flushed to disk as runs end.

The first line describes the sweep. A sweep that is extended appends another such line. Each line ends with a checksum.
Only the last line can be incomplete, after a kill or a failure of the machine: it is removed, and its run is repeated.
"""

from __future__ import annotations

import errno
import os
import stat
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakSet

from glasscell.atomic_files import StrPath, sync_folder
from glasscell.sweeps.grid import MARK, Grid
from glasscell.sweeps.rows import Row, check_row, decode_line, encode_line, key_of
from glasscell.training.folder_lock import lock_descriptor

ROWS_FILE = "rows.jsonl"  # in the folder of a sweep of the command line
BEGINNING = b'{"%s":' % MARK.encode()
_open_files: WeakSet[RowFile] = WeakSet()


class SweepWarning(UserWarning):
    """A file of rows was repaired."""


class Content(NamedTuple):
    """What a file of rows holds.

    Attributes
    ----------
    grid : Grid or None
        The last one; None: the file is empty, or only a part of its first line was written.
    rows : dict of str to Row
        By key. A run that was repeated after a failure has its last row.
    size : int
        Bytes of the whole lines.
    """

    grid: Grid | None
    rows: dict[str, Row]
    size: int


def count_rows(file: Path) -> int:
    """Return the number of whole rows in a file, without a check."""
    lines = file.read_bytes().split(b"\n")[:-1]
    return sum(not line.startswith(BEGINNING) for line in lines)


def parse(content: bytes, path: Path) -> Content:
    """Return what the content of a file means; an incomplete last line is left out.

    Raises
    ------
    ValueError
        If it is not a file of rows, or a line is damaged.
    """
    *lines, rest = content.split(b"\n")
    if not (content.startswith(BEGINNING) or (not lines and BEGINNING.startswith(rest))):
        raise ValueError(f"{path} must be the rows of a sweep, got another file")
    parser = _Parser()
    for number, line in enumerate(lines, start=1):
        try:
            parser.add(decode_line(line))
        except ValueError as error:
            advice = "move the file" if number == 1 else "remove that line, and its run is repeated"
            raise ValueError(f"{path}: line {number} must be a whole row of the sweep: {error}; {advice}") from None
    return Content(parser.grid, parser.rows, len(content) - len(rest))


class _Parser:
    """Lines of a file, checked against those before."""

    def __init__(self) -> None:
        self.grid: Grid | None = None
        self.rows: dict[str, Row] = {}
        self._runs: dict[str, Any] = {}

    def add(self, content: dict[str, Any]) -> None:
        """Add the content of a line: a description of the sweep, or a row."""
        if MARK in content:
            grid = Grid.from_header(content)
            if self.grid is not None and grid.difference(self.grid):
                raise ValueError("it describes another sweep")
            self.grid, self._runs = grid, grid.runs
            return
        row = check_row(content)
        key = key_of(row["setting"], row["seed"])
        if key not in self._runs:
            raise ValueError("its setting is not in the grid")
        if key in self.rows and self.rows[key]["status"] == "finished":
            raise ValueError("there is a row of its run before")
        self.rows[key] = {**row, "setting": self._runs[key][0]}


class RowFile:
    """The file of a sweep in progress, locked against other processes.

    Parameters
    ----------
    path : path
    grid : Grid
    resume : bool
        Whether a file that exists is continued.

    Attributes
    ----------
    path, absolute : Path
        As it was passed, and independent of the current folder, which a training function may change.
    rows : dict of str to Row
        Those of earlier parts of the sweep, by key.

    Raises
    ------
    FileExistsError
        If there is a file, and `resume` is False.
    ValueError
        If it is not a regular file of rows, is damaged, or belongs to another sweep.
    BlockingIOError
        If another sweep uses it.
    OSError
        If it cannot be read or written.
    """

    def __init__(self, path: StrPath, grid: Grid, *, resume: bool) -> None:
        self.path = Path(path)
        self.absolute = self.path.absolute()
        self.rows: dict[str, Row] = {}
        self._descriptor: int | None = self._open()
        self._is_new = True
        try:
            self._begin(grid, resume=resume)
        except BaseException:
            self.close()
            raise
        _open_files.add(self)

    def _open(self) -> int:
        """Open and lock the file."""
        if not self.path.parent.is_dir():
            raise FileNotFoundError(f"there is no folder {self.path.parent}")
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        while True:
            with suppress(FileNotFoundError):
                if not stat.S_ISREG(self.path.lstat().st_mode):  # opening a FIFO would wait
                    raise ValueError(f"file must be a regular file or a free name, got {self.path}")
            descriptor = os.open(self.path, flags, 0o666)
            if lock_descriptor(descriptor) is False:
                os.close(descriptor)
                raise BlockingIOError(errno.EAGAIN, "another sweep uses it", str(self.path))
            with suppress(FileNotFoundError):
                if os.path.samestat(self.path.lstat(), os.fstat(descriptor)):
                    return descriptor
            os.close(descriptor)  # its sweep removed it before it was locked

    def _begin(self, grid: Grid, *, resume: bool) -> None:
        """Read the rows, repair the end, and write the description of the sweep."""
        content = self._read()
        if content and not resume:
            self._is_new = False
            raise FileExistsError(f"file {self.path} exists already: resume=True goes on with it")
        self._is_new = not content
        parsed = parse(content, self.path) if content else Content(None, {}, 0)
        if parsed.grid is not None and (difference := grid.difference(parsed.grid)):
            raise ValueError(f"file {self.path} has rows of another sweep: {difference}; pass another file")
        if len(content) > parsed.size:
            self._repair(parsed.size)
        self.rows = parsed.rows
        if parsed.grid is None or encode_line(parsed.grid.header) != encode_line(grid.header):
            self._write(encode_line(grid.header))
            sync_folder(self.path.parent)

    def _read(self) -> bytes:
        with open(self._opened, "rb", closefd=False) as file:
            file.seek(0)
            return file.read()

    @property
    def _opened(self) -> int:
        assert self._descriptor is not None  # noqa: S101 - only used before `close`
        return self._descriptor

    def _repair(self, size: int) -> None:
        """Remove the incomplete last line."""
        os.ftruncate(self._opened, size)
        message = (
            f"{self.path}: the last line was incomplete, after a kill or a failure; it is removed, and its run is "
        )
        warnings.warn(f"{message}repeated", SweepWarning, stacklevel=7)

    def append(self, row: Row) -> None:
        """Write a row, and flush it to disk.

        Raises
        ------
        OSError
            If that fails. The file has its earlier rows.
        """
        self._is_new = False  # before: an interrupt may come when the row has been written
        self._write(encode_line(row))

    def append_once(self, row: Row) -> None:
        """Write a row unless the file has it: after an interrupt, which may have come while it was written.

        Raises
        ------
        OSError
            If that fails.
        """
        content = self._read()
        *lines, rest = content.split(b"\n")
        if encode_line(row)[:-1] not in lines:
            os.ftruncate(self._opened, len(content) - len(rest))
            self.append(row)

    def _write(self, line: bytes) -> None:
        size = os.fstat(self._opened).st_size
        try:
            written = 0
            while written < len(line):
                written += os.write(self._opened, line[written:])
            os.fsync(self._opened)
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._opened, size)
            reason = f"{error.strerror or error}; the rows before are kept"
            raise OSError(error.errno, reason, str(self.path)) from error

    def close(self) -> None:
        """Close the file; one without rows that this sweep created is removed."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            if self._is_new:
                with suppress(OSError):
                    self.absolute.unlink()
            os.close(descriptor)

    def close_descriptor(self) -> None:
        """Close the descriptor in a forked process, which would keep the lock after the end of the sweep."""
        if self._descriptor is not None:
            with suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = None


def _after_fork() -> None:
    for file in list(_open_files):
        file.close_descriptor()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
