"""Folder of a run: reserved and locked before the work, complete once its manifest is written, never lost before.

A run works in its folder from the beginning. Where the folder holds an earlier run that is to be replaced, the new run
works in the next free folder, and takes the place of the earlier one when it is complete. A killed run stays where it
is, and can be continued if it has a checkpoint.
"""

from __future__ import annotations

import errno
import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from glasscell.atomic_files import sync_folder, temporary_name
from glasscell.checkpoint import MODEL_FILE
from glasscell.cli import run_files
from glasscell.cli.continuation import message_of
from glasscell.cli.interrupts import deferred
from glasscell.cli.run_files import RESERVED
from glasscell.cli.run_manifest import MANIFEST_FILE, State
from glasscell.cli.run_reservation import ReservedFolder, numbered

REMOVED = "the folder was removed or replaced"


class RunFolder(ReservedFolder):
    """A folder for the files of a run. As a context, it removes a new run of which nothing is worth keeping.

    The parameters are those of :class:`glasscell.cli.run_reservation.ReservedFolder`.

    Attributes
    ----------
    is_finished : bool
        Whether the run is complete.
    keeps_first_checkpoint : bool
        Whether a checkpoint before the first update is worth keeping: that of a training that failed.
    num_ranks : int
        Number of processes that train together, for the manifest of a run that is continued.
    """

    num_ranks = 1
    is_finished = False
    keeps_first_checkpoint = False
    _is_in_progress = False  # a run that is continued, whose manifest says so
    _has_ended = False  # with its state in the manifest, whole
    _reserved: Path | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        with deferred():
            self.release_space()
            if not (self._is_unchanged or self._has_ended):
                was_interrupted = kind is not None and issubclass(kind, KeyboardInterrupt)
                with suppress(OSError):
                    self.end("interrupted" if was_interrupted or error is None else "failed", error)
            self.release(remove=not (self.is_finished or self._is_resumed or self.keeps_something))

    @property
    def _is_unchanged(self) -> bool:
        """Whether this is an earlier run whose work was not continued yet."""
        return self._is_resumed and not self._is_in_progress

    @property
    def keeps_something(self) -> bool:
        """Whether the folder has the model or a checkpoint of the run."""
        if MODEL_FILE in self._written() or run_files.has_checkpoint(self.folder):
            return True
        return self.keeps_first_checkpoint and run_files.newest_checkpoint(self.folder) is not None

    # Work

    def begin(self) -> None:
        """State in the manifest of a run that is continued that it is in progress."""
        if self._is_unchanged:
            self._is_in_progress = True
            self.manifest.continue_run(self.manifest.elapsed(self.folder), self.num_ranks)
            self.manifest.write(self.folder)

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Name the folder instead of a temporary file in errors of the block, and report what is kept."""
        try:
            yield
        except OSError as error:
            reason = (error.strerror or str(error)).partition("; ")[0]
            kept = "the checkpoints are kept" if run_files.has_checkpoint(self.folder) else "nothing is kept"
            raise OSError(error.errno, f"{reason}; {kept}", str(self.display_path)) from error

    def reserve_space(self, write: Callable[[Path], object]) -> None:
        """Write a file of the size of the model: an error before the work if there is no space."""
        self._reserved = self.folder / temporary_name(RESERVED)
        with self.naming():
            write(self._reserved)

    def release_space(self) -> None:
        """Remove the file that reserves space."""
        if self._reserved is not None:
            with suppress(OSError):
                self._reserved.unlink(missing_ok=True)
            self._reserved = None

    def write_error(self) -> str | None:
        """Return why no file can be written to the folder; None if one can."""
        file = self.folder / temporary_name()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            os.close(os.open(file, os.O_CREAT | os.O_WRONLY | os.O_EXCL))
            file.unlink()
        except OSError as error:
            return _reason(error, self.display_path)
        return None

    def save(self, write: Callable[[Path], object], name: str) -> str | None:
        """Write a file that must not be lost: to the folder or, if that fails, to another one.

        Parameters
        ----------
        write : callable
            Writes the file of a path.
        name : str

        Returns
        -------
        str or None
            Why the file is in another folder, which is that of the run from now on.

        Raises
        ------
        OSError
            If the file could be written nowhere.
        """
        self.release_space()  # it was reserved for this file
        was_removed = not self.is_present()
        try:
            if was_removed and not self.renew():
                raise FileNotFoundError(errno.ENOENT, REMOVED, str(self.display_path))
            write(self.folder / name)
        except (OSError, ValueError) as error:
            for folder in self._fallbacks():
                if _is_written(write, folder, name):
                    reason = _reason(error, self.display_path)
                    self.move_to(folder)
                    return reason
            with self.naming():
                raise
        return f"{self.display_path}: {REMOVED}" if was_removed else None

    def _fallbacks(self) -> Iterator[Path]:
        """Yield free folders: with the same name, in the working directory, in that of temporary files."""
        name = self.display_path.name or self.folder.name
        for like in (self.display_path.with_name(name) if self.display_path.name else self.folder, Path(name)):
            folders = (numbered(like, number) for number in itertools.count(1))
            yield next(folder for folder in folders if not os.path.lexists(folder))
        yield Path(tempfile.mkdtemp(prefix=f"glasscell-{name}-"))

    # End

    def _written(self) -> list[str]:
        names = [name for name in self.kinds if name != MANIFEST_FILE]
        return [name for name in names if run_files.is_run_file(self.folder / name, self.kinds[name])]

    def end(self, state: State, error: BaseException | None = None) -> None:
        """Write the manifest with the state and the checksums of all files."""
        message = (
            None
            if error is None or state == "interrupted"
            else message_of(error, self.manifest.command) or type(error).__name__
        )
        self.manifest.end(state, self.folder, self._written(), message)
        self.manifest.write(self.folder)
        self._has_ended = True

    def finish(self) -> Path:
        """Complete the run: write its manifest, remove its checkpoints, and replace the earlier run; return the folder.

        Raises
        ------
        OSError
            If the earlier run cannot be replaced. The new one is complete where it is.
        """
        self.release_space()
        with deferred():
            self.end("finished")
            self.is_finished = True
            self.complete()
        return self.display_path

    def complete(self) -> None:
        """Remove the checkpoints of a finished run, and replace the earlier one."""
        run_files.remove_checkpoints(self.folder)
        if self.manifest.replaces is None:
            return
        target = Path(self.manifest.replaces)
        if target != self.folder:  # otherwise it was killed after the replacement
            run_files.check_files(target, self.kinds)
            descriptor, is_in_use = run_files.try_lock(target)
            try:
                if is_in_use:
                    raise BlockingIOError(errno.EAGAIN, "another run uses it", str(target))
                if target.exists():
                    run_files.replace_run(self.folder, target, self.kinds)
                else:
                    self.folder.rename(target)
                sync_folder(target.parent)
            finally:
                if descriptor is not None:
                    os.close(descriptor)
            self.display_path, self.folder = _as_displayed(target), target
        self.manifest.replaces = None
        self.manifest.write(self.folder)


def _is_written(write: Callable[[Path], object], folder: Path, name: str) -> bool:
    """Write a file to a new folder, and return whether that succeeded."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write(folder / name)
    except (OSError, ValueError):
        with suppress(OSError):
            folder.rmdir()
        return False
    return True


def _reason(error: Exception, folder: Path) -> str:
    """Return the name of a file that could not be written, and why."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or folder}: {error.strerror.partition('; ')[0]}"
    return f"{folder}: {error}"


def _as_displayed(folder: Path) -> Path:
    """Return a path relative to the working directory, if it is in it."""
    try:
        return folder.relative_to(Path.cwd())
    except ValueError:
        return folder
