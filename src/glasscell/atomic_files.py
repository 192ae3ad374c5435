"""Output files that are checked in advance, and written atomically.

A file is written under a temporary name in its folder and then renamed. Only regular files are replaced: never a
symbolic link, a folder, a device or a FIFO, and never a file whose content does not match its name.
"""

from __future__ import annotations  # pathlib takes longer to load than a model: only where something is written

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

StrPath = str | os.PathLike[str]

PREFIX, SUFFIX = ".glasscell-", ".tmp"  # of temporary files; between them 16 hexadecimal digits
HEAD = 4096  # bytes of an existing file that decide its kind
TEXT = b" \t\r\n\xef\xbb\xbf"  # white space and byte-order mark before the first character of a text


def _begins(*starts: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(starts)


def _text_begins(*starts: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.lstrip(TEXT).startswith(starts)


KINDS: dict[str, Callable[[bytes], bool]] = {  # by ending: whether a file's first bytes are those of this kind
    ".safetensors": lambda head: head[8:9] == b"{",
    **dict.fromkeys((".pt", ".pth", ".bin"), _begins(b"PK\x03\x04", b"\x80")),
    ".onnx": _begins(b"\x08"),
    ".keras": _begins(b"PK\x03\x04"),
    **dict.fromkeys((".h5", ".hdf5"), _begins(b"\x89HDF\r\n\x1a\n")),
    **dict.fromkeys((".html", ".htm", ".svg"), _text_begins(b"<")),
    ".json": _text_begins(b"{", b"["),
    ".csv": lambda head: b"\0" not in head,
    ".png": _begins(b"\x89PNG\r\n\x1a\n"),
    ".pdf": _begins(b"%PDF-"),
    ".gif": _begins(b"GIF8"),
    ".webp": _begins(b"RIFF"),
}


class OutputFile:
    """An output file, checked when it is created.

    Parameters
    ----------
    path : path
    endings : tuple of str
        Endings that the name may have, in lower case, of :data:`KINDS`. Default: any name.
    overwrite : bool
        Whether an existing file is replaced; one whose content is of another kind than its ending never is.
    name : str
        The argument, for messages.

    Raises
    ------
    ValueError
        If the name has another ending, or is that of a symbolic link, a device, a FIFO or a socket.
    FileExistsError
        If there is a file that may not be replaced.
    OSError
        If the folder does not exist or cannot be written to, or the path is a folder.
    """

    def __init__(
        self, path: StrPath, endings: tuple[str, ...] = (), *, overwrite: bool = True, name: str = "path"
    ) -> None:
        from pathlib import Path  # noqa: PLC0415

        self.path = Path(path)
        self._overwrite, self._name = overwrite, name
        base = self.path.name.lower()
        self._ending = next((ending for ending in endings if base.endswith(ending) and base != ending), "")
        if endings and not self._ending:
            raise ValueError(f"{name} must end in {' or '.join(endings)}, got {path!s}")
        self._check()
        remove_abandoned(self.path.parent)
        temporary, descriptor = self._create()  # whether the folder can be written to is known before the work
        os.close(descriptor)
        temporary.unlink(missing_ok=True)  # another process may have taken it for abandoned: it is not locked any more

    def write(self, *content: bytes | memoryview) -> None:
        """Write the file, in one or several pieces, atomically: it always has the old content or the new content.

        A replaced file keeps its mode, and its owner if the process may set it.

        Raises
        ------
        OSError
            If writing fails. The message names the file and says what it holds now.
        """
        old = self._check()
        try:
            self._write(content, old)
        except FileExistsError:
            raise FileExistsError(f"{self._name} {self.path} exists already") from None
        except OSError as error:
            state = "nothing was written" if old is None else "the file that was there is unchanged"
            raise OSError(error.errno, f"{error.strerror or error}; {state}", str(self.path)) from error

    def _write(self, content: tuple[bytes | memoryview, ...], old: os.stat_result | None) -> None:
        mode = 0o666 if old is None else stat.S_IMODE(old.st_mode) & 0o777
        temporary, descriptor = self._create(mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.writelines(content)
                file.flush()
                os.fsync(file.fileno())
                if old is not None and os.name == "posix":
                    with suppress(PermissionError):
                        os.fchown(descriptor, old.st_uid, old.st_gid)
                    os.fchmod(descriptor, mode)  # os.open took the umask off
                if os.name != "posix":
                    file.close()  # Windows renames closed files only
                self._publish(temporary)  # before the file is closed, which ends the lock
        finally:
            temporary.unlink(missing_ok=True)

    def _publish(self, temporary: Path) -> None:
        if not self._overwrite:
            try:
                self.path.hardlink_to(temporary)  # fails if the name was taken during the work
            except FileExistsError:
                raise
            except OSError:  # a file system without hard links
                self._check()
            else:
                return
        temporary.replace(self.path)

    def _check(self) -> os.stat_result | None:
        """Return the status of the file to be replaced, or None; raise an error if it must not be."""
        if self.path.is_dir():
            raise IsADirectoryError(f"{self.path} is a folder; give a file")
        if not self.path.parent.is_dir():
            raise FileNotFoundError(f"there is no folder {self.path.parent}")
        return check_replaceable(
            self.path,
            KINDS.get(self._ending),
            name=self._name,
            kind=f"a {self._ending} file",
            overwrite=self._overwrite,
        )

    def _create(self, mode: int = 0o666) -> tuple[Path, int]:
        """Create a temporary file in the folder, open and locked: its path and descriptor."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        while True:
            temporary = self.path.with_name(temporary_name())
            try:
                descriptor = os.open(temporary, flags, mode)
            except OSError as error:
                reason = f"the folder cannot be written to: {error.strerror}"
                raise OSError(error.errno, reason, str(self.path.parent)) from None
            lock(descriptor, wait=True)
            if os.name != "posix" or os.fstat(descriptor).st_nlink:
                return temporary, descriptor
            os.close(descriptor)  # another process took it for abandoned before it was locked


def check_replaceable(
    path: Path, is_kind: Callable[[bytes], bool] | None, *, name: str, kind: str, overwrite: bool = True
) -> os.stat_result | None:
    """Return the status of the file at a path, or None if the name is free; raise if it must not be replaced.

    Parameters
    ----------
    path : Path
    is_kind : callable, optional
        Returns whether the first `HEAD` bytes are those of a file that may be replaced. Default: any content. Empty
        files are of every kind.
    name : str
        The argument, for messages.
    kind : str
        The expected kind of file, for messages.
    overwrite : bool
        Whether a file may be replaced at all.

    Raises
    ------
    ValueError
        If the path is a symbolic link, a folder, a device, a FIFO or a socket.
    FileExistsError
        If `overwrite` is False, or the file is of another kind.
    PermissionError
        If the file is read-only.
    """
    try:
        old = path.lstat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(old.st_mode):
        types = {stat.S_IFLNK: "a symbolic link", stat.S_IFDIR: "a folder"}
        actual = types.get(stat.S_IFMT(old.st_mode), "a device, FIFO or socket")
        raise ValueError(f"{name} must be a regular file or a free name, got {path}, which is {actual}")
    if not overwrite:
        raise FileExistsError(f"{name} {path} exists already")
    if not os.access(path, os.W_OK):
        raise PermissionError(f"{name} {path} is read-only")
    if is_kind is not None and old.st_size:
        with path.open("rb") as file:
            head = file.read(HEAD)
        if not is_kind(head):
            raise FileExistsError(
                f"{name} must not replace {path}, which holds something other than {kind}; "
                "give another name or remove it"
            )
    return old


def write_atomically(
    path: StrPath, content: bytes, endings: tuple[str, ...] = (), *, overwrite: bool = True, name: str = "path"
) -> None:
    """Check and write a file; see :class:`OutputFile`."""
    OutputFile(path, endings, overwrite=overwrite, name=name).write(content)


def temporary_name(suffix: str = SUFFIX) -> str:
    """Return a new name for a temporary file or folder."""
    return f"{PREFIX}{os.urandom(8).hex()}{suffix}"


def is_temporary_name(name: str, suffix: str = SUFFIX) -> bool:
    """Return whether a name has the form of :func:`temporary_name`."""
    digits = name.removeprefix(PREFIX).removesuffix(suffix)
    return name == f"{PREFIX}{digits}{suffix}" and len(digits) == 16 and set(digits) <= set("0123456789abcdef")


def lock(descriptor: int, *, wait: bool = False) -> bool:
    """Lock an open file or folder for this process, and return whether that succeeded; its end releases the lock.

    Processes that write hold a lock on their temporary file: one that is not locked was left by a killed process.
    """
    try:
        import fcntl  # noqa: PLC0415 - not on Windows, where temporary files of killed processes stay
    except ImportError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:  # locked elsewhere, or a file system without locks
        return False
    return True


def remove_abandoned(folder: Path) -> None:
    """Remove the temporary files that killed processes left in a folder."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if is_temporary_name(entry.name) and entry.is_file(follow_symlinks=False):
                with suppress(OSError):
                    _remove_if_abandoned(folder / entry.name)


def _remove_if_abandoned(file: Path) -> None:
    descriptor = os.open(file, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    try:
        if lock(descriptor):
            file.unlink()
    finally:
        os.close(descriptor)


def sync_folder(folder: StrPath) -> None:
    """Flush the names in a folder to disk: a renamed file keeps its new name after a failure of the machine."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # Windows, which does not open folders
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
