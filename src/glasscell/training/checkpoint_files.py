"""Find, read and verify the checkpoints in the folder of a run."""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from warnings import warn

from glasscell import checkpoint
from glasscell.atomic_files import StrPath, is_temporary_name
from glasscell.escaping import one_line
from glasscell.manifest_files import decode_floats, size_and_checksum
from glasscell.training import manifest as manifests
from glasscell.training.checkpoint_errors import CheckpointWarning
from glasscell.training.folder_lock import FolderLock
from glasscell.training.manifest import Manifest, read_manifest_file
from glasscell.training.state_encoding import decode_state

FOLDER = "checkpoints"
KIND = "Training"
CONFIG = {"run": str, "updates": int, "description": dict, "state": dict}  # of the header, and the types
NAME = re.compile(r"\d{9,}\.safetensors")


class StoredTraining(NamedTuple):
    """A checkpoint that was read and verified.

    Attributes
    ----------
    path : Path
    run : str
        Identifier of the run that wrote it.
    updates : int
        Number of updates done.
    state : dict
        For :meth:`glasscell.training.Training.restore`.
    description : dict
        Model, data, options and environment of the run: see :mod:`glasscell.training.description`.
    """

    path: Path
    run: str
    updates: int
    state: dict[str, Any]
    description: dict[str, Any]


def check_folder(path: StrPath) -> None:
    """Raise FileExistsError or NotADirectoryError if a path cannot be the folder of a run: it holds something else."""
    folder = Path(path) / FOLDER
    for place in (Path(path), folder):
        if place.exists() and not place.is_dir():
            raise NotADirectoryError(f"checkpoint must be a folder, got {place}, which is a file")
    foreign = sorted(name for name in _names(folder) if not _is_ours(name) or _is_irregular(folder / name))
    if foreign:
        raise FileExistsError(
            f"checkpoint must be a folder whose {FOLDER!r} has checkpoints only, got {folder} with {foreign[0]!r:.100}"
        )
    file = folder / manifests.NAME
    if file.exists() and not checkpoint_names(folder):
        try:
            read_manifest_file(file)
        except ValueError:
            raise FileExistsError(
                f"checkpoint must be a folder of checkpoints, got {folder} with another {file.name}"
            ) from None


def read_newest(path: StrPath) -> StoredTraining | None:
    """Return the newest complete checkpoint in the folder of a run; None if there is none.

    Warns
    -----
    CheckpointWarning
        If newer ones are damaged, which are named.

    Raises
    ------
    ValueError
        If all checkpoints are damaged.
    """
    folder, damage = Path(path) / FOLDER, []
    try:
        manifest = read_manifest_file(folder / manifests.NAME) or manifests.new_manifest() | {"run": None}
    except (ValueError, OSError) as error:
        manifest = manifests.new_manifest() | {"run": None}
        damage.append(str(error))
    for name in reversed(checkpoint_names(folder)):
        try:
            stored = read_checkpoint(folder / name, manifest["run"])
        except (ValueError, OSError) as error:
            damage.append(str(error))
            continue
        if damage:
            text = f"{'; '.join(damage)}; the checkpoint of update {stored.updates} is used"
            warn(text, CheckpointWarning, stacklevel=2)
        return stored
    if damage:
        raise ValueError(f"resume must be a folder with a complete checkpoint, got damaged ones: {'; '.join(damage)}")
    return None


def has_checkpoint(path: StrPath) -> bool:
    """Return whether the folder of a run has a checkpoint to go on from: ``fit(..., resume=has_checkpoint(path))``."""
    return bool(checkpoint_names(Path(path) / FOLDER))


def has_updates(path: StrPath) -> bool:
    """Return whether the folder of a run has a checkpoint of an update."""
    return any(int(name.partition(".")[0]) for name in checkpoint_names(Path(path) / FOLDER))


def read_manifest(path: StrPath) -> Manifest | None:
    """Return the manifest of the folder of a run, also of a running one; None if there is none that is complete."""
    try:
        return read_manifest_file(Path(path) / FOLDER / manifests.NAME)
    except (ValueError, OSError):
        return None


def read_checkpoint(file: Path, run: str | None) -> StoredTraining:
    """Read and verify a checkpoint, of this run unless it is None.

    Raises
    ------
    ValueError, OSError
        If it is damaged or another one; the message names the file.
    """
    header, tensors = checkpoint.read_with_header(file)
    config = (header or {}).get("config")
    if header is None or header.get("kind") != KIND or "checksum" not in header or not isinstance(config, dict):
        raise ValueError(f"{file} is not a checkpoint of a training")
    try:
        checkpoint.check_entries(header, checkpoint.ENTRIES)
        if {*config} != {*CONFIG} or any(type(config[name]) is not kind for name, kind in CONFIG.items()):
            raise ValueError("it has other entries than those of a training")  # noqa: TRY301 - one message for all
        state, description = decode_state(config["state"], tensors), decode_floats(config["description"])
    except ValueError as error:
        raise ValueError(f"{file}: {one_line(error)}") from None
    if file.name != f"{config['updates']:09}.safetensors" or (run is not None and config["run"] != run):
        raise ValueError(f"{file} is a checkpoint of another run or update")
    return StoredTraining(file, config["run"], config["updates"], state, description)


def checkpoint_names(folder: Path) -> list[str]:
    """Return the names of checkpoints in a folder, by their number of updates."""
    return sorted((name for name in _names(folder) if NAME.fullmatch(name)), key=lambda name: (len(name), name))


def _names(folder: Path) -> list[str]:
    """Return the names in a folder; none if it does not exist."""
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        return [entry.name for entry in entries]
    return []


def _is_irregular(path: Path) -> bool:
    """Return whether a path is a link, a folder, a device, a FIFO or a socket."""
    with suppress(FileNotFoundError):
        return not stat.S_ISREG(path.lstat().st_mode)
    return False  # removed meanwhile by the process that uses the folder


def _is_ours(name: str) -> bool:
    return name in (manifests.NAME, FolderLock.NAME) or bool(NAME.fullmatch(name)) or is_temporary_name(name)


def manifest_of(folder: Path) -> Manifest:
    """Return the manifest of a folder; if there is none, or a damaged one, that of its complete checkpoints."""
    with suppress(ValueError):
        manifest = read_manifest_file(folder / manifests.NAME)
        if manifest is not None:
            return manifest
    manifest = manifests.new_manifest()
    for name in checkpoint_names(folder):
        with suppress(ValueError, OSError):
            stored = read_checkpoint(folder / name, None)
            size, crc = size_and_checksum(stored.path)
            entry = {"name": name, "updates": stored.updates, "size": size, "checksum": f"{crc:08x}", "score": None}
            manifest["checkpoints"].append(entry)
            manifest |= {"run": stored.run, "description": stored.description}
    return manifest
