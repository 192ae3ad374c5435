"""Lock of a folder that one process at a time may use."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar
from weakref import WeakSet

if TYPE_CHECKING:
    from pathlib import Path

_held: WeakSet[FolderLock] = WeakSet()


class FolderLock:
    """A lock on a folder: a locked file in it that names the process. The system unlocks it when the process ends.

    Where file systems have no locks, the process in the file is looked for instead.

    Parameters
    ----------
    folder : Path

    Raises
    ------
    BlockingIOError
        If another process, or another lock of this process, holds it.
    OSError
        If the file cannot be written.
    """

    NAME: ClassVar = "lock"

    def __init__(self, folder: Path) -> None:
        self._file = folder / self.NAME
        self._descriptor: int | None = None
        self._acquire()
        _held.add(self)

    def renew(self) -> bool:
        """Acquire the lock again if its file was removed; return whether it was.

        Raises
        ------
        OSError
            If it cannot be acquired, or another process holds it meanwhile.
        """
        if self._descriptor is not None and self._is_at_path(self._descriptor):
            return False
        self.close()
        self._acquire()
        return True

    def release(self) -> None:
        """Remove the file and release the lock; does nothing if it was released."""
        if self._descriptor is not None:
            with suppress(OSError):
                if self._is_at_path(self._descriptor):
                    self._file.unlink()
            self.close()

    def close(self) -> None:
        """Close the file, which stays."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with suppress(OSError):
                os.close(descriptor)

    def _acquire(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        while True:
            descriptor = os.open(self._file, flags, 0o666)
            try:
                self._lock(descriptor)
                if self._is_at_path(descriptor):
                    os.ftruncate(descriptor, 0)
                    os.lseek(descriptor, 0, os.SEEK_SET)
                    os.write(descriptor, f"{os.getpid()} {socket.gethostname()}\n".encode())
                    break
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)  # its owner removed it before it was locked
        self._descriptor = descriptor

    def _lock(self, descriptor: int) -> None:
        is_locked = lock_descriptor(descriptor)
        if is_locked is None:
            is_locked = not _is_held(_content(descriptor))
        if not is_locked:
            process, _, host = _content(descriptor).decode(errors="replace").strip().partition(" ")
            owner = f"process {process} on {host}" if process.isdecimal() else "another process"
            if (process, host) == (str(os.getpid()), socket.gethostname()):
                owner += ", which is this one: close its other CheckpointFolder, or wait until its training ends"
            raise BlockingIOError(errno.EAGAIN, f"it is used by {owner}", str(self._file.parent.parent))

    def _is_at_path(self, descriptor: int) -> bool:
        try:
            at_path = self._file.lstat()
        except FileNotFoundError:
            return False
        return os.path.samestat(at_path, os.fstat(descriptor))


def lock_descriptor(descriptor: int) -> bool | None:
    """Lock an open file or folder; return whether no other process holds it, or None where there are no locks."""
    try:
        import fcntl  # noqa: PLC0415 - not on Windows
    except ImportError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # the latter on some systems
        return False
    except OSError:  # a file system without locks
        return None
    return True


def _content(descriptor: int) -> bytes:
    os.lseek(descriptor, 0, os.SEEK_SET)
    return os.read(descriptor, 1000)


def _is_held(content: bytes) -> bool:
    """Return whether a running process of this machine, or any process of another one, wrote the content."""
    process, _, host = content.decode(errors="replace").strip().partition(" ")
    if not process.isdecimal():
        return False
    if host != socket.gethostname() or os.name != "posix":
        return True
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _after_fork() -> None:
    """Close the descriptors in a forked child, which would keep the locks after the end of their owner."""
    for lock in list(_held):
        lock.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
