"""Reservation of the folder of a run: chosen, made and locked before the work."""

from __future__ import annotations

import itertools
import os
from contextlib import suppress
from pathlib import Path

from glasscell.cli import run_files
from glasscell.cli.run_files import CHECKPOINTS, Kinds
from glasscell.cli.run_manifest import MANIFEST_FILE, Manifest


class ReservedFolder:
    """A folder that one run uses.

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
    kinds : mapping of str to callable
        With the manifest.
    manifest : Manifest

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
        self._is_created = self._is_taken = False
        self._descriptor: int | None = None
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
            self.release(remove=not resume)
            if error.strerror is None:  # of a check
                raise
            reason = error.strerror.partition("; ")[0]
            raise ValueError(f"cannot write to the folder {self.display_path}: {reason}") from None
        except BaseException:
            self.release(remove=not resume)
            raise

    # How it is chosen

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
        listed = ", ".join([name for name in names if name != MANIFEST_FILE] or names)
        if self._is_unfinished(folder) and run_files.has_checkpoint(folder):
            return f"{folder} contains an unfinished run: --resume {folder} continues it, --overwrite replaces it"
        return f"{folder} contains an earlier run ({listed}): choose another --out, or --overwrite"

    def _is_unfinished(self, folder: Path) -> bool:
        return self._state(folder) not in (None, "finished")

    def _state(self, folder: Path) -> str | None:
        """Return the state in the manifest of a folder; None if it cannot be read."""
        try:
            return Manifest.read(folder).state
        except (OSError, ValueError):
            return None

    def _take_free(self, like: Path, first: int = 1) -> None:
        """Take this folder, or the first of …-2, …-3, … that is free."""
        for number in itertools.count(first):
            folder = numbered(like, number)
            if self._is_free(folder):
                with suppress(ValueError):  # taken by another run in the meantime
                    self._take(folder)
                    break

    def _take_replacement(self, folder: Path) -> None:
        """Take the first free folder next to one that is to be replaced, or in it if its parent is read-only."""
        resolved = folder.resolve()
        with suppress(OSError):
            if run_files.can_be_renamed(resolved) and folder.name not in ("", ".."):
                self._take_free(folder, 2)
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
        if not found <= {MANIFEST_FILE, "history.csv", CHECKPOINTS} or run_files.has_checkpoint(folder):
            return False
        if not self._is_unfinished(folder) or run_files.is_locked(folder):
            return False
        if self._state(folder) == "failed" and run_files.newest_checkpoint(folder) is not None:
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

    def release(self, *, remove: bool) -> None:
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

    def is_present(self) -> bool:
        """Return whether the folder still is the one that was locked."""
        if self._descriptor is None:
            return self.folder.is_dir()
        try:
            return os.path.samestat(os.fstat(self._descriptor), self.folder.stat())
        except OSError:
            return False

    def renew(self) -> bool:
        """Use a folder that was removed, and that checkpoints have made again; return whether that is possible."""
        found = {*run_files.existing_files(self.folder, self.kinds)}
        if not self.folder.is_dir() or not found <= {CHECKPOINTS, "history.csv"}:
            return False
        replaces = self.manifest.replaces
        self.move_to(self.display_path)
        self.manifest.replaces = replaces
        return self._descriptor is not None

    def move_to(self, folder: Path) -> None:
        """Use another folder from now on; what the present one has stays there."""
        self._unlock()
        self.display_path, self.folder = folder, folder.resolve()
        self._descriptor, _ = run_files.try_lock(self.folder)
        self.manifest.replaces = None


def in_use(folder: Path) -> str:
    """Return the message for a folder that another run has locked."""
    try:
        process = Manifest.read(folder).process
        owner = f" (process {int(process['id'])} on {process['host']})"
    except (OSError, ValueError, KeyError, TypeError):
        owner = ""
    return f"{folder} must be used by one run at a time, and one is in progress{owner}"


def numbered(folder: Path, number: int) -> Path:
    """Return the folder, or the one with the suffix -2, -3, …."""
    return folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
