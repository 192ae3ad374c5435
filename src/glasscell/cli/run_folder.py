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

from glasscell.atomic_files import temporary_name
from glasscell.checkpoint import MODEL_FILE
from glasscell.cli import run_files
from glasscell.cli.interrupts import deferred
from glasscell.cli.run_files import CHECKPOINTS, RESERVED, Kinds
from glasscell.cli.run_manifest import Manifest, State, sync_folder


class RunFolder:
    """A folder for the files of a run. As a context, it removes a new run of which nothing is worth keeping.

    Parameters
    ----------
    requested : Path, optional
        The folder. Default: `default`, or the first of …-2, …-3, … that is free.
    default : Path
    kinds : mapping of str to callable
        Names of the files of a run, with predicates of their first bytes. A folder with one of these files contains a
        run. Other files in it are never changed.
    manifest : Manifest
    overwrite : bool
        Whether a run in the folder is replaced, once this one is finished.
    resume : bool
        Whether the run in the requested folder is continued, of which `manifest` was read.

    Attributes
    ----------
    folder : Path
        The folder, absolute, where files are written.
    display_path : Path
        The folder as requested or chosen, for messages.
    is_finished : bool
        Whether the run is complete.

    Raises
    ------
    ValueError
        If the folder cannot be written to, is a link, contains a run and `overwrite` is False, or is in use.
    ValueError, OSError
        If one of the names is in the folder, but is not a regular, writable file of its kind.
    """

    def __init__(
        self,
        requested: Path | None,
        default: Path,
        kinds: Kinds,
        manifest: Manifest,
        *,
        overwrite: bool = False,
        resume: bool = False,
    ) -> None:
        self.kinds, self.manifest, self._is_resumed = run_files.with_manifest(kinds), manifest, resume
        self._created_parents: list[Path] = []
        self._is_created = self._is_taken = self.is_finished = False
        self._is_active = not resume
        self._descriptor: int | None = None
        self._reserved: Path | None = None
        self.display_path = requested or default
        self._check_link(self.display_path)
        try:
            self._reserve(requested, overwrite=overwrite)
            run_files.remove_temporary_files(self.folder)
            if resume:
                self.manifest = Manifest.read(self.folder)
            else:
                manifest.write(self.folder)
        except OSError as error:
            self._release(remove=not resume)
            reason = (error.strerror or str(error)).partition("; ")[0]
            raise ValueError(f"cannot write to the folder {self.display_path}: {reason}") from None
        except BaseException:
            self._release(remove=not resume)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        with deferred():
            self.release_space()
            if self._is_active and self.manifest.state == "running":
                was_interrupted = kind is not None and issubclass(kind, KeyboardInterrupt)
                with suppress(OSError):
                    self.end("interrupted" if was_interrupted or error is None else "failed", error)
            self._release(remove=not (self.is_finished or self._is_resumed or self.keeps_something))

    @property
    def keeps_something(self) -> bool:
        """Whether the folder has the model or a checkpoint of the run."""
        return MODEL_FILE in self._written() or run_files.has_checkpoint(self.folder)

    # Reservation

    def _reserve(self, requested: Path | None, *, overwrite: bool) -> None:
        """Choose, make and lock the folder."""
        wanted = self.display_path
        if self._is_resumed:
            self._take(wanted)
            return
        run_files.recover(wanted.resolve().parent, self.kinds)
        if requested is None and not overwrite:
            self._take_free(wanted)
            return
        if wanted.exists() and not wanted.is_dir():
            raise NotADirectoryError(20, "it is a file", str(wanted))
        run_files.check_files(wanted, self.kinds)
        found = run_files.existing_files(wanted, self.kinds)
        if found and run_files.is_locked(wanted):
            raise ValueError(in_use(wanted))
        if not found or self._clear_remains(wanted):
            self._take(wanted)
        elif not overwrite:
            raise ValueError(self._occupied(wanted, found))
        else:
            self.manifest.replaces = str(wanted.resolve())
            self._take_replacement(wanted)

    def _occupied(self, folder: Path, names: list[str]) -> str:
        listed = ", ".join(name for name in names if name != "manifest.json")
        if self._is_unfinished(folder) and run_files.has_checkpoint(folder):
            return f"{folder} contains an unfinished run: --resume {folder} continues it, --overwrite replaces it"
        return f"{folder} contains an earlier run ({listed}): choose another --out, or --overwrite"

    def _is_unfinished(self, folder: Path) -> bool:
        try:
            return Manifest.read(folder).state != "finished"
        except (OSError, ValueError):
            return False

    def _take_free(self, like: Path) -> None:
        """Take this folder, or the first of …-2, …-3, … that is free."""
        for number in itertools.count(1):
            folder = _numbered(like, number)
            if self._is_free(folder):
                with suppress(ValueError):  # taken by another run in the meantime
                    return self._take(folder)

    def _take_replacement(self, folder: Path) -> None:
        """Take the first free folder next to one that is to be replaced, or in it if its parent is read-only."""
        resolved = folder.resolve()
        with suppress(OSError):
            if run_files.can_be_renamed(resolved) and folder.name not in ("", ".."):
                self._take_free(_numbered(folder, 2))
                return
        self._take_free(folder / "new-run")

    def _is_free(self, folder: Path) -> bool:
        """Return whether a folder does not exist, is empty, or has nothing but the remains of a killed run."""
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            return False
        if not folder.exists() or not any(run_files.content(folder)):
            return True
        return self._clear_remains(folder) and not any(run_files.content(folder))

    def _clear_remains(self, folder: Path) -> bool:
        """Remove a killed run that has neither a model nor a checkpoint; return whether it was one."""
        found = {*run_files.existing_files(folder, self.kinds)}
        if not found <= {"manifest.json", "history.csv", CHECKPOINTS} or run_files.has_checkpoint(folder):
            return False
        if not self._is_unfinished(folder) or run_files.is_locked(folder):
            return False
        run_files.remove_files(folder, self.kinds)
        return True

    def _take(self, path: Path) -> None:
        """Make and lock a folder.

        Raises
        ------
        ValueError
            If another run has locked it.
        """
        self.display_path, self.folder = path, path.resolve()
        self._make_parents()
        with suppress(FileExistsError):
            self.folder.mkdir()
            self._is_created = True
        self._descriptor, is_in_use = run_files.try_lock(self.folder)
        is_lost = self._descriptor is not None and not self.is_present()
        is_taken = not self._is_resumed and run_files.existing_files(self.folder, self.kinds)
        if is_in_use or is_lost or is_taken:  # by another run, in the meantime
            self._unlock()
            self._is_created = False
            raise ValueError(in_use(path))
        self._is_taken = True

    def _make_parents(self) -> None:
        missing = [folder for folder in self.folder.parents if not folder.exists()]
        for folder in reversed(missing):
            with suppress(FileExistsError):
                folder.mkdir()
                self._created_parents.append(folder)

    def _check_link(self, path: Path) -> None:
        if path.is_symlink():
            option = "--resume" if self._is_resumed else "--out"
            raise ValueError(f"{option} must be a folder, got {path}, which is a symbolic link")

    def _release(self, *, remove: bool) -> None:
        """Unlock the folder, and remove it if nothing in it is kept."""
        if remove and self._is_taken:
            run_files.remove_files(self.folder, self.kinds)
            if self._is_created:
                with suppress(OSError):  # not empty
                    self.folder.rmdir()
        for folder in reversed(self._created_parents):
            with suppress(OSError):  # not empty
                folder.rmdir()
        self._unlock()

    def _unlock(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    # Work

    def begin(self) -> None:
        """State in the manifest of a run that is continued that it is in progress."""
        if not self._is_active:
            self._is_active = True
            self.manifest.continue_run(self.manifest.elapsed(self.folder))
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

    def is_present(self) -> bool:
        """Return whether the folder still is the one that was locked."""
        if self._descriptor is None:
            return self.folder.is_dir()
        try:
            return os.path.samestat(os.fstat(self._descriptor), self.folder.stat())
        except OSError:
            return False

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
        try:
            if not self.is_present():
                raise FileNotFoundError(2, "the folder was removed", str(self.display_path))
            write(self.folder / name)
        except (OSError, ValueError) as error:
            for folder in self._fallbacks():
                if _is_written(write, folder, name):
                    reason = _reason(error, self.display_path)
                    self._move_to(folder)
                    return reason
            with self.naming():
                raise
        return None

    def _fallbacks(self) -> Iterator[Path]:
        """Yield free folders: with the same name, in the working directory, in that of temporary files."""
        name = self.display_path.name or self.folder.name
        for like in (self.display_path.with_name(name) if self.display_path.name else self.folder, Path(name)):
            folders = (_numbered(like, number) for number in itertools.count(1))
            yield next(folder for folder in folders if not os.path.lexists(folder))
        yield Path(tempfile.mkdtemp(prefix=f"glasscell-{name}-"))

    def _move_to(self, folder: Path) -> None:
        """Continue in another folder; what the present one has stays there."""
        self._unlock()
        self.display_path, self.folder = folder, folder.resolve()
        self._descriptor, _ = run_files.try_lock(self.folder)
        self.manifest.replaces = None

    # End

    def _written(self) -> list[str]:
        names = [name for name in self.kinds if name != "manifest.json"]
        return [name for name in names if run_files.is_run_file(self.folder / name, self.kinds[name])]

    def end(self, state: State, error: BaseException | None = None) -> None:
        """Write the manifest with the state and the checksums of all files."""
        message = None if error is None or state == "interrupted" else str(error) or type(error).__name__
        self.manifest.end(state, self.folder, self._written(), message)
        self.manifest.write(self.folder)

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


def in_use(folder: Path) -> str:
    """Return the message for a folder that another run has locked."""
    try:
        process = Manifest.read(folder).process
        owner = f" (process {int(process['id'])} on {process['host']})"
    except (OSError, ValueError, KeyError, TypeError):
        owner = ""
    return f"{folder} must be used by one run at a time, and one is in progress{owner}"


def _numbered(folder: Path, number: int) -> Path:
    """Return the folder, or the one with the suffix -2, -3, …."""
    return folder if number == 1 else folder.with_name(f"{folder.name}-{number}")


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
