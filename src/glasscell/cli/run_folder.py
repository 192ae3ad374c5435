"""Output folder of a run, which is complete or absent, and is replaced as a whole.

Files are written to a temporary folder, which is renamed when they are complete. A killed run leaves only the temporary
folder, which the next run removes. If the folder cannot be renamed (a mount point, the working directory, a folder with
other files), the files are moved into it one by one.
"""

import itertools
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from glasscell.atomic_files import check_replaceable, is_temporary_name, lock, remove_abandoned, temporary_name
from glasscell.cli.interrupts import deferred

STAGE = ".run"  # ending of the temporary folder
Kinds = Mapping[str, Callable[[bytes], bool]]
REPLACED = re.compile(
    r"\.(.+)\.glasscell-[0-9a-f]{16}\.old"
)  # an old run during its replacement, with the name of its folder


class RunFolder:
    """A folder for the files of a run, reserved before the work. As a context, it removes unpublished files.

    Parameters
    ----------
    requested : Path, optional
        The folder. Default: `default`, or the first of …-2, …-3, … that is free.
    default : Path
    kinds : mapping of str to callable
        Names of the files of a run, with predicates of their first bytes. A folder with one of these files contains a
        run. Other files in it are never changed.
    overwrite : bool
        Whether a run in the folder is replaced.

    Attributes
    ----------
    stage : Path
        The temporary folder, where files are written until :meth:`publish`.
    display_path : Path
        The folder as requested or chosen, for messages.
    published : bool
        Whether the files are in the folder.

    Raises
    ------
    ValueError
        If the folder cannot be written to, is a link, or contains a run and `overwrite` is False.
    ValueError, OSError
        If one of the names is in the folder, but is not a regular, writable file of its kind.
    """

    def __init__(self, requested: Path | None, default: Path, kinds: Kinds, *, overwrite: bool) -> None:
        self._kinds, self._overwrite = kinds, overwrite
        self._created_parents: list[Path] = []
        self.published = False
        self.display_path = requested or default
        if self.display_path.is_symlink():
            raise ValueError(f"--out must be a folder, got {self.display_path}, which is a symbolic link")
        if requested is None and not overwrite:
            self.display_path = self._first_free(default)
        else:
            self._check_run_files(self.display_path)
        files = ", ".join(self.existing_run_files(self.display_path))
        if files and not overwrite:
            raise ValueError(
                f"{self.display_path} contains an earlier run ({files}): choose another --out, or --overwrite"
            )
        try:
            self.folder = self.display_path.resolve()
            self._make_parents()
            _recover(self.folder.parent, kinds)
            for folder in (self.folder.parent, self.folder):
                _remove_abandoned_stages(folder)
            self.stage, self._descriptor = self._make_stage()
        except OSError as error:
            self._remove_parents()
            raise ValueError(f"cannot write to the folder {self.display_path}: {error.strerror}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.stage, ignore_errors=True)
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._remove_parents()

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Name the folder instead of the temporary one in errors of the block, and report that nothing is kept."""
        try:
            yield
        except OSError as error:
            reason = (error.strerror or str(error)).partition("; ")[0]
            raise OSError(error.errno, f"{reason}; nothing is kept", str(self.display_path)) from error

    def publish(self, *, replace: bool = True) -> Path:
        """Give the temporary folder its name, and return it.

        Parameters
        ----------
        replace : bool
            Whether an earlier run may be replaced, if `overwrite` was set. Otherwise, or if another run was written in
            the meantime, the name is the first of …-2, …-3, … that is free.
        """
        with self.naming(), deferred():
            while not self._is_free(self.folder, replace=replace):
                self._set_name(self._first_free(self.display_path))
            try:
                self._publish()
            except OSError:  # the folder was changed during the work
                self._set_name(self._first_free(self.display_path))
                self.stage.rename(self.folder)
            self.published = True
        return self.display_path

    def existing_run_files(self, folder: Path) -> list[str]:
        """Return the names of a run's files that are in a folder."""
        return [name for name in self._kinds if os.path.lexists(folder / name)]

    def _check_run_files(self, folder: Path) -> None:
        """Raise ValueError or OSError if a name of a run's files is in the folder, but not as such a file."""
        for name in self.existing_run_files(folder):
            check_replaceable(folder / name, self._kinds[name], name=f"--out: {name}", kind=f"the {name} of a run")

    def _is_free(self, folder: Path, *, replace: bool) -> bool:
        """Return whether the run may be written to a folder."""
        if not self.existing_run_files(folder):
            return True
        try:
            self._check_run_files(folder)
        except (ValueError, OSError):  # created during the work
            return False
        return self._overwrite and replace

    # How it is reserved

    def _first_free(self, like: Path) -> Path:
        """Return this folder, or the first of …-2, …-3, … that does not exist or is empty."""
        for number in itertools.count(1):
            folder = like if number == 1 else like.with_name(f"{like.name}-{number}")
            if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
                continue
            if not folder.exists() or not any(_content(folder)):
                break
        return folder

    def _set_name(self, path: Path) -> None:
        self.display_path, self.folder = path, path.resolve()

    def _make_parents(self) -> None:
        missing = [folder for folder in self.folder.parents if not folder.exists()]
        for folder in reversed(missing):
            with suppress(FileExistsError):
                folder.mkdir()
                self._created_parents.append(folder)

    def _remove_parents(self) -> None:
        for folder in reversed(self._created_parents):
            with suppress(OSError):  # not empty
                folder.rmdir()

    def _make_stage(self) -> tuple[Path, int | None]:
        """Make the temporary folder next to the folder, or in it if the folder cannot be renamed."""
        if self.folder.exists() and not self.folder.is_dir():
            raise NotADirectoryError(20, "it is a file", str(self.folder))
        neighbour = self.folder.with_name(temporary_name(STAGE))
        if self._can_be_renamed():
            try:
                return neighbour, _make_locked(neighbour)
            except OSError:
                if not self.folder.is_dir():
                    raise
        inside = self.folder / temporary_name(STAGE)
        return inside, _make_locked(inside)

    def _can_be_renamed(self) -> bool:
        if not self.folder.exists():
            return True
        if self._has_content() and not self.existing_run_files(self.folder):
            return False  # its other files stay where they are
        return not self.folder.is_mount() and not self.folder.samefile(Path.cwd())

    # How it is published

    def _has_content(self) -> bool:
        return self.folder.is_dir() and any(_content(self.folder))

    def _publish(self) -> None:
        if self.existing_run_files(self.folder) and self.stage.parent != self.folder:
            self._swap()
        elif self._has_content() or self.stage.parent == self.folder:
            self._move_into()
        else:
            if self.folder.is_dir():  # empty, of the user
                self.stage.chmod(stat.S_IMODE(self.folder.stat().st_mode))
                self.folder.rmdir()
            self.stage.rename(self.folder)

    def _swap(self) -> None:
        """Replace the earlier run by the temporary folder, and move other files of that folder over."""
        old = self.folder.with_name(f".{self.folder.name}{temporary_name('.old')}")
        self.stage.chmod(stat.S_IMODE(self.folder.stat().st_mode))
        with _locked(self.folder):
            self.folder.rename(old)
            try:
                self.stage.rename(self.folder)
            except OSError:
                old.rename(self.folder)
                raise
            _finish(old, self.folder, self._kinds)

    def _move_into(self) -> None:
        """Move the files into the folder one by one, the model last."""
        for name in self._kinds:
            if not (self.stage / name).exists():
                (self.folder / name).unlink(missing_ok=True)  # of the run that is replaced
        for name in reversed([*self._kinds]):
            if (self.stage / name).exists():
                (self.stage / name).replace(self.folder / name)


def _content(folder: Path) -> Iterable[Path]:
    """Yield the content of a folder except temporary folders."""
    return (path for path in folder.iterdir() if not is_temporary_name(path.name, STAGE))


def _make_locked(folder: Path) -> int | None:
    folder.mkdir()
    return _lock(folder)


def _lock(folder: Path) -> int | None:
    """Lock a folder, and return the descriptor that holds the lock; None where folders cannot be opened (Windows)."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    lock(descriptor, wait=True)
    return descriptor


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = _lock(folder)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _remove_abandoned_stages(folder: Path) -> None:
    """Remove the temporary folders and files of killed runs."""
    if not folder.is_dir():
        return
    remove_abandoned(folder)
    for path in list(folder.iterdir()):
        if is_temporary_name(path.name, STAGE) and not path.is_symlink() and path.is_dir() and _is_abandoned(path):
            shutil.rmtree(path, ignore_errors=True)


def _recover(parent: Path, kinds: Kinds) -> None:
    """Complete the replacements by killed runs; one that cannot be completed is unchanged."""
    if not parent.is_dir():
        return
    for old in list(parent.iterdir()):
        match = REPLACED.fullmatch(old.name)
        if match and old.is_dir() and not old.is_symlink() and _is_abandoned(old):
            folder = parent / match[1]
            with suppress(OSError):
                if folder.exists():
                    _finish(old, folder, kinds)
                else:  # the new run was not renamed
                    old.rename(folder)


def _finish(old: Path, folder: Path, kinds: Kinds) -> None:
    """Remove a run that has been replaced, and move the other files of its folder to the new one.

    The new run is complete: errors are ignored, and files that cannot be moved stay in the old folder.
    """
    with suppress(OSError):
        for path in list(old.iterdir()):
            with suppress(OSError):
                if path.name in kinds and _is_run_file(path, kinds[path.name]):
                    path.unlink()
                elif not os.path.lexists(folder / path.name):
                    path.rename(folder / path.name)
    with suppress(OSError):  # not empty
        old.rmdir()


def _is_run_file(path: Path, is_kind: Callable[[bytes], bool]) -> bool:
    try:
        check_replaceable(path, is_kind, name="", kind="")
    except (ValueError, OSError):
        return False
    return True


def _is_abandoned(folder: Path) -> bool:
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return False
    try:
        return lock(descriptor)
    finally:
        os.close(descriptor)
