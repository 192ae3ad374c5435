"""The folder of a run: complete or absent, and replaced as a whole.

Its files are written to a temporary folder, which is renamed once they are complete. A killed run leaves only that
temporary folder, which the next one removes. Only where the folder cannot be renamed (a mount point, the working
directory, a folder with other files) they are moved into it one by one.
"""

import itertools
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from glasscell.atomic_files import is_temporary_name, lock, remove_abandoned, temporary_name
from glasscell.cli.interrupts import deferred

STAGE = ".run"  # ending of the temporary folder
REPLACED = re.compile(r"\.(.+)\.glasscell-[0-9a-f]{16}\.old")  # of a run that is being replaced, with its folder's name


class RunFolder:
    """A folder for the files of a run, reserved before the work; used as a context, which removes what is not kept.

    Parameters
    ----------
    wanted : Path, optional
        The folder. Default: `default`, or the first of …-2, …-3, … that is free.
    default : Path
    names : tuple of str
        The files of a run. A folder that has one of them holds a run; other files in it are never touched.
    overwrite : bool
        Whether a run in the folder is replaced.

    Attributes
    ----------
    stage : Path
        The temporary folder, where files are written until :meth:`publish`.
    shown : Path
        The folder, as it was given or chosen.
    published : bool
        Whether the files are in the folder.

    Raises
    ------
    ValueError
        If the folder cannot be written to, is a link, or holds a run that may not be replaced.
    """

    def __init__(self, wanted: Path | None, default: Path, names: tuple[str, ...], *, overwrite: bool) -> None:
        self._names, self._overwrite = names, overwrite
        self._made: list[Path] = []
        self.published = False
        self.shown = wanted or default
        if self.shown.is_symlink():
            raise ValueError(f"--out must be a folder, got {self.shown}, which is a symbolic link")
        if wanted is None and not overwrite:
            self.shown = self._first_free(default)
        elif self.earlier(self.shown) and not overwrite:
            files = ", ".join(self.earlier(self.shown))
            raise ValueError(f"{self.shown} holds an earlier run ({files}): give another --out, or --overwrite")
        try:
            self.folder = self.shown.resolve()
            self._make_parents()
            _recover(self.folder.parent, names)
            for place in (self.folder.parent, self.folder):
                _remove_abandoned_stages(place)
            self.stage, self._descriptor = self._make_stage()
        except OSError as error:
            self._remove_parents()
            raise ValueError(f"cannot write to the folder {self.shown}: {error.strerror}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.stage, ignore_errors=True)
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._remove_parents()

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Name the folder instead of the temporary one in errors of the block, and say that nothing is kept."""
        try:
            yield
        except OSError as error:
            reason = (error.strerror or str(error)).partition("; ")[0]
            raise OSError(error.errno, f"{reason}; nothing is kept", str(self.shown)) from error

    def publish(self, *, replace: bool = True) -> Path:
        """Give the temporary folder its name, and return it.

        Parameters
        ----------
        replace : bool
            Whether an earlier run may be replaced, if `overwrite` was set. If not, or if a run came in between, the
            name is the first of …-2, …-3, … that is free.
        """
        with self.naming(), deferred():
            while self.earlier(self.folder) and not (self._overwrite and replace):
                self._set_name(self._first_free(self.shown))
            try:
                self._publish()
            except OSError:  # whatever became of that folder during the work
                self._set_name(self._first_free(self.shown))
                self.stage.rename(self.folder)
            self.published = True
        return self.shown

    def earlier(self, folder: Path) -> list[str]:
        """Return the files of a run that are in a folder."""
        return [name for name in self._names if os.path.lexists(folder / name)]

    # How it is reserved

    def _first_free(self, like: Path) -> Path:
        """Return this folder, or the first of …-2, …-3, … that does not exist or is empty."""
        for number in itertools.count(1):
            folder = like if number == 1 else like.with_name(f"{like.name}-{number}")
            if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
                continue
            if not folder.exists() or not any(_others(folder)):
                break
        return folder

    def _set_name(self, shown: Path) -> None:
        self.shown, self.folder = shown, shown.resolve()

    def _make_parents(self) -> None:
        missing = [folder for folder in self.folder.parents if not folder.exists()]
        for folder in reversed(missing):
            with suppress(FileExistsError):
                folder.mkdir()
                self._made.append(folder)

    def _remove_parents(self) -> None:
        for folder in reversed(self._made):
            with suppress(OSError):  # not empty
                folder.rmdir()

    def _make_stage(self) -> tuple[Path, int | None]:
        """Make the temporary folder: beside the folder, or in it where that cannot be renamed."""
        if self.folder.exists() and not self.folder.is_dir():
            raise NotADirectoryError(20, "it is a file", str(self.folder))
        beside = self.folder.with_name(temporary_name(STAGE))
        if self._can_be_renamed():
            try:
                return beside, _make_locked(beside)
            except OSError:
                if not self.folder.is_dir():
                    raise
        inside = self.folder / temporary_name(STAGE)
        return inside, _make_locked(inside)

    def _can_be_renamed(self) -> bool:
        if not self.folder.exists():
            return True
        if self._has_content() and not self.earlier(self.folder):
            return False  # its other files stay where they are
        return not self.folder.is_mount() and not self.folder.samefile(Path.cwd())

    # How it is published

    def _has_content(self) -> bool:
        return self.folder.is_dir() and any(_others(self.folder))

    def _publish(self) -> None:
        if self.earlier(self.folder) and self.stage.parent != self.folder:
            self._swap()
        elif self._has_content() or self.stage.parent == self.folder:
            self._move_into()
        else:
            if self.folder.is_dir():  # empty, of the user
                self.stage.chmod(stat.S_IMODE(self.folder.stat().st_mode))
                self.folder.rmdir()
            self.stage.rename(self.folder)

    def _swap(self) -> None:
        """Put the temporary folder in the place of the earlier run, and move other files of that folder over."""
        old = self.folder.with_name(f".{self.folder.name}{temporary_name('.old')}")
        self.stage.chmod(stat.S_IMODE(self.folder.stat().st_mode))
        with _locked(self.folder):
            self.folder.rename(old)
            try:
                self.stage.rename(self.folder)
            except OSError:
                old.rename(self.folder)
                raise
            _finish(old, self.folder, self._names)

    def _move_into(self) -> None:
        """Move the files into the folder one by one; the model, which makes it a run, last."""
        for name in self._names:
            if not (self.stage / name).exists():
                (self.folder / name).unlink(missing_ok=True)  # of the run that is replaced
        for name in reversed(self._names):
            if (self.stage / name).exists():
                (self.stage / name).replace(self.folder / name)


def _others(folder: Path) -> Iterable[Path]:
    """The content of a folder but for temporary folders."""
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


def _recover(parent: Path, names: tuple[str, ...]) -> None:
    """Finish replacements during which a run was killed."""
    if not parent.is_dir():
        return
    for old in list(parent.iterdir()):
        found = REPLACED.fullmatch(old.name)
        if found and old.is_dir() and not old.is_symlink() and _is_abandoned(old):
            _finish(old, parent / found[1], names)


def _finish(old: Path, folder: Path, names: tuple[str, ...]) -> None:
    """Remove a run that has been replaced; other files of its folder are moved to the new one."""
    if not folder.exists():  # the new one did not get its name
        old.rename(folder)
        return
    for path in list(old.iterdir()):
        if path.name in names:
            path.unlink()
        elif not os.path.lexists(folder / path.name):
            path.rename(folder / path.name)
    with suppress(OSError):  # not empty
        old.rmdir()


def _is_abandoned(folder: Path) -> bool:
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return False
    try:
        return lock(descriptor)
    finally:
        os.close(descriptor)
