"""Files of a run in its folder: recognised, removed, and moved to the place of an earlier run.

Files of the user in the same folder are never changed.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from glasscell.atomic_files import check_replaceable, is_temporary_name, remove_abandoned, temporary_name
from glasscell.cli.run_manifest import MANIFEST_FILE, is_manifest
from glasscell.training.folder_lock import lock_descriptor

Kinds = Mapping[str, Callable[[bytes], bool]]
CHECKPOINTS = "checkpoints"
TRAINING = re.compile(r"training-[0-9]{1,9}")  # checkpoints of the second training of a run, and of further ones
NUMBERED_FILE = re.compile(r"[0-9]{9,}\.safetensors")  # with the number of updates
CHECKPOINT_FILE = re.compile(r"[0-9]{9,}\.safetensors|manifest\.json|lock")
RESERVED = ".safetensors"  # ending of the temporary name of a file that reserves space
# Name of an earlier run during its replacement, with the name of its folder.
REPLACED = re.compile(r"\.(.+)\.glasscell-[0-9a-f]{16}\.old")


def with_manifest(kinds: Kinds) -> Kinds:
    """Return the names of all files of a run."""
    return {**kinds, MANIFEST_FILE: is_manifest}


def existing_files(folder: Path, kinds: Kinds) -> list[str]:
    """Return the names of a run that are in a folder."""
    names = [name for name in kinds if os.path.lexists(folder / name)]
    return names + [CHECKPOINTS] * bool(checkpoint_folders(folder))


def check_files(folder: Path, kinds: Kinds) -> None:
    """Raise ValueError or OSError if a name of a run is in the folder, but not as such a file."""
    for name in kinds:
        if os.path.lexists(folder / name):
            check_replaceable(folder / name, kinds[name], name=f"--out: {name}", kind=f"the {name} of a run")
    for path in checkpoint_folders(folder):
        if foreign := _foreign_entry(path):
            raise ValueError(f"--out: {path} must be the checkpoints of a run, got a folder with {foreign}")


def checkpoint_folders(folder: Path) -> list[Path]:
    """Return the folders of checkpoints in a folder."""
    trainings = [path for path in _entries(folder) if TRAINING.fullmatch(path.name) and path.is_dir()]
    candidates = [folder / CHECKPOINTS, *(path / CHECKPOINTS for path in trainings)]
    return [path for path in candidates if path.is_dir() and not path.is_symlink()]


def has_checkpoint(folder: Path) -> bool:
    """Return whether a folder has a checkpoint of a run, not counting those before the first update."""
    return any(newest_checkpoint(path.parent) for path in checkpoint_folders(folder))


def newest_checkpoint(folder: Path) -> int | None:
    """Return the number of updates of the newest checkpoint in the folder of a training; None if there is none."""
    names = [entry.name for entry in _entries(folder / CHECKPOINTS)]
    updates = [int(name.partition(".")[0]) for name in names if NUMBERED_FILE.fullmatch(name)]
    return max(updates, default=None)


def _foreign_entry(folder: Path) -> str | None:
    """Return the name of an entry that is not of a folder of checkpoints, if any."""
    for entry in _entries(folder):
        if not (CHECKPOINT_FILE.fullmatch(entry.name) or is_temporary_name(entry.name)) or not entry.is_file():
            return entry.name
    return None


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:  # missing, or not a folder
        return []


def content(folder: Path) -> Iterator[Path]:
    """Yield the content of a folder except temporary files."""
    for path in folder.iterdir():
        if not (is_temporary_name(path.name) or is_temporary_name(path.name, RESERVED)):
            yield path


# Removal


def remove_checkpoints(folder: Path) -> None:
    """Remove the checkpoints of a run; what is not one of them stays."""
    for path in checkpoint_folders(folder):
        for entry in _entries(path):
            if CHECKPOINT_FILE.fullmatch(entry.name) or is_temporary_name(entry.name):
                with suppress(OSError):
                    entry.unlink()
        with suppress(OSError):  # something else is in it
            path.rmdir()
            if path.parent != folder:
                path.parent.rmdir()


def remove_temporary_files(folder: Path) -> None:
    """Remove the temporary files of killed runs from the locked folder of a run."""
    remove_abandoned(folder)
    for path in _entries(folder):
        if is_temporary_name(path.name, RESERVED) and path.is_file() and not path.is_symlink():
            with suppress(OSError):
                path.unlink()


def remove_files(folder: Path, kinds: Kinds) -> None:
    """Remove the files of a run, the manifest last; what is not such a file stays."""
    remove_checkpoints(folder)
    for name in sorted(kinds, key=MANIFEST_FILE.__eq__):
        with suppress(OSError):
            if is_run_file(folder / name, kinds[name]):
                (folder / name).unlink()
    remove_temporary_files(folder)


def is_run_file(path: Path, is_kind: Callable[[bytes], bool]) -> bool:
    """Return whether a path is a regular, writable file of this kind."""
    try:
        return check_replaceable(path, is_kind, name="", kind="") is not None
    except (ValueError, OSError):
        return False


# Locks


def try_lock(folder: Path) -> tuple[int | None, bool]:
    """Lock a folder; return the descriptor that holds the lock, if any, and whether another process has locked it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # missing, or on Windows
        return None, False
    is_locked = lock_descriptor(descriptor)
    if is_locked:
        return descriptor, False
    os.close(descriptor)
    return None, is_locked is False


def is_locked(folder: Path) -> bool:
    """Return whether a process has locked a folder."""
    descriptor, is_in_use = try_lock(folder)
    if descriptor is not None:
        os.close(descriptor)
    return is_in_use


# Replacement of an earlier run


def replace_run(new: Path, folder: Path, kinds: Kinds) -> None:
    """Replace the run in a folder by a complete one in another folder; both are locked.

    The folder is renamed, and its other files are moved to the new one. If it cannot be renamed (a mount point, the
    working directory), the files are moved into it one by one, the model before the manifest, which is the last one.
    """
    if not can_be_renamed(folder) or new.parent == folder:
        _move_into(new, folder, kinds)
        return
    old = folder.with_name(f".{folder.name}{temporary_name('.old')}")
    new.chmod(stat.S_IMODE(folder.stat().st_mode))
    folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        old.rename(folder)
        raise
    _finish_replacement(old, folder, kinds)


def can_be_renamed(folder: Path) -> bool:
    """Return whether a folder is neither a mount point nor the working directory."""
    return not folder.is_mount() and not folder.samefile(Path.cwd())


def _move_into(new: Path, folder: Path, kinds: Kinds) -> None:
    names = [name for name in reversed([*kinds]) if name != MANIFEST_FILE] + [MANIFEST_FILE]
    if not (new / MANIFEST_FILE).exists():
        raise FileNotFoundError(errno.ENOENT, "it is not complete", str(new))
    (folder / MANIFEST_FILE).unlink(missing_ok=True)  # what is there is no complete run until the last file is moved
    remove_checkpoints(folder)
    for name in names:
        if (new / name).exists():
            (new / name).replace(folder / name)
        elif is_run_file(folder / name, kinds[name]):
            (folder / name).unlink()  # of the run that is replaced
    with suppress(OSError):
        remove_files(new, kinds)
        new.rmdir()


def recover(parent: Path, kinds: Kinds) -> None:
    """Complete the replacements by killed runs; one that cannot be completed is unchanged."""
    for old in _entries(parent):
        match = REPLACED.fullmatch(old.name)
        if match and old.is_dir() and not old.is_symlink() and not is_locked(old):
            folder = parent / match[1]
            with suppress(OSError):
                if folder.exists():
                    _finish_replacement(old, folder, kinds)
                else:  # the new run was not renamed
                    old.rename(folder)


def _finish_replacement(old: Path, folder: Path, kinds: Kinds) -> None:
    """Remove a run that has been replaced, and move the other files of its folder to the new one.

    The new run is complete: errors are ignored, and files that cannot be moved stay in the old folder.
    """
    with suppress(OSError):
        remove_files(old, kinds)
        for path in list(old.iterdir()):
            with suppress(OSError):
                if not os.path.lexists(folder / path.name):
                    path.rename(folder / path.name)
    with suppress(OSError):  # not empty
        old.rmdir()
