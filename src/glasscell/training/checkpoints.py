"""Folder of checkpoints: complete states of one training run, of which the newest complete one is found again.

``FOLDER/checkpoints`` has one file per checkpoint, ``000001500.safetensors`` for that of update 1500, and
``manifest.json``, which lists them. A checkpoint is written under a temporary name, flushed to disk and renamed, then
the folder is flushed, then the manifest is written in the same way, and only then are older checkpoints removed. After
a kill or a failure of the machine at any moment the newest checkpoint is complete, or is the one before it.
"""

from __future__ import annotations

import os
import re
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self, TypeAlias
from warnings import warn

from glasscell.atomic_files import OutputFile, StrPath, is_temporary_name, remove_abandoned, sync_folder
from glasscell.training.folder_lock import FolderLock
from glasscell.validation import choice, positive_integer

if TYPE_CHECKING:
    from pathlib import Path

RunState: TypeAlias = Literal["running", "interrupted", "finished", "failed"]
STATES: tuple[RunState, ...] = ("running", "interrupted", "finished", "failed")

FOLDER, MANIFEST = "checkpoints", "manifest.json"
KIND, FORMAT = "Training", 1
NAME = re.compile(r"\d{9,}\.safetensors")
ENTRIES = {"format", "run", "state", "reason", "start", "seconds", "description", "checkpoints", "best", "checksum"}


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


class CheckpointFolder:
    """Checkpoints of one training run in a folder, which one process at a time may use. A context manager.

    Parameters
    ----------
    path : path
        Folder of the run. The checkpoints are in its folder ``checkpoints``, which is made if it does not exist.
    keep : int
        Number of checkpoints to keep; the one with the best monitored score is kept in addition.

    Attributes
    ----------
    path, folder : Path
        The folder of the run, and that of the checkpoints.
    keep : int
    manifest : dict
        Content of ``manifest.json``: see docs/checkpoints.md.

    Raises
    ------
    BlockingIOError
        If another process uses the folder; the message names it.
    FileExistsError
        If the folder has other files than checkpoints.
    OSError
        If the folder cannot be made or written to.

    Examples
    --------
    >>> with CheckpointFolder("runs/own_loop") as folder:  # doctest: +SKIP
    ...     if stored := folder.newest():
    ...         training.restore(stored.state)
    ...     while training.history.updates < 1000:
    ...         training.step()
    ...         if training.history.updates % 100 == 0:
    ...             folder.save(training)
    ...     folder.set_state("finished")
    """

    def __init__(self, path: StrPath, keep: int = 2) -> None:
        from pathlib import Path  # noqa: PLC0415 - takes longer to load than a model

        self.keep = positive_integer("keep_checkpoints", keep)
        self.path = Path(path)
        self.folder = self.path / FOLDER
        check_folder(path)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = FolderLock(self.folder)
        try:
            remove_abandoned(self.folder)
            self.manifest = _manifest_of(self.folder)
        except BaseException:
            self._lock.release()
            raise
        self._seconds_before, self._opened = float(self.manifest["seconds"]), time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Read

    def newest(self) -> StoredTraining | None:
        """Return the newest complete checkpoint; None if there is none. Damaged ones are named in a warning."""
        return read_newest(self.path)

    def best(self) -> StoredTraining | None:
        """Return the checkpoint with the best monitored score; None if there is none, or it is damaged."""
        name = self.manifest["best"]
        return None if name is None else _read_checkpoint(self.folder / name, None)

    # Write

    def save(self, training: Any) -> Path:
        """Write the state of a training, then the manifest, then remove older checkpoints; return the file's path.

        Raises
        ------
        OSError
            If something cannot be written. The checkpoints that were there are unchanged.
        TypeError
            If the state has a value that cannot be stored, such as an object in the state of an optimiser.
        """
        from glasscell.training.description import describe  # noqa: PLC0415 - only where it is used

        self._prepare()
        updates = training.history.updates
        description = describe(training)
        content = _encode(self.manifest["run"], updates, training.state(), description)
        file = self.folder / f"{updates:09}.safetensors"
        _write(file, content)
        entry = {"name": file.name, "updates": updates, "size": len(content), "checksum": f"{zlib.crc32(content):08x}"}
        score = training.history.rows[-1].get(f"validation_{training.options.monitor}") if updates else None
        entries = [other for other in self.manifest["checkpoints"] if other["name"] != file.name]
        entries = sorted([*entries, entry | {"score": _finite(score)}], key=lambda entry: entry["updates"])
        best = _best(entries, training.options.monitor)
        kept = [entry for entry in entries if entry in entries[-self.keep :] or entry["name"] == best]
        self._write_manifest({"checkpoints": kept, "best": best, "description": description})
        return file

    def set_state(self, state: RunState, reason: str = "") -> None:
        """Record in the manifest how the run is: "running", "interrupted", "finished" or "failed", and why.

        Raises
        ------
        OSError
            If the manifest cannot be written.
        """
        choice("state", state, STATES)
        self._prepare()
        self._write_manifest({"state": state, "reason": reason})

    def close(self) -> None:
        """Release the folder. The checkpoints stay."""
        self._lock.release()

    def _prepare(self) -> None:
        """Make a folder that was removed again; the checkpoints that were in it are gone."""
        if not self.folder.is_dir():
            self.folder.mkdir(parents=False) if self.path.is_dir() else self.folder.mkdir(parents=True)
        if self._lock.renew():
            self.manifest |= {"checkpoints": [], "best": None}

    def _write_manifest(self, changes: Mapping[str, Any]) -> None:
        seconds = round(self._seconds_before + time.monotonic() - self._opened, 3)
        manifest = self.manifest | {"seconds": seconds} | dict(changes)
        _write(self.folder / MANIFEST, _encode_manifest(manifest))
        self.manifest = manifest
        names = {entry["name"] for entry in manifest["checkpoints"]}
        for name in _checkpoint_names(self.folder):
            if name not in names:
                (self.folder / name).unlink(missing_ok=True)


def check_folder(path: StrPath) -> None:
    """Raise FileExistsError or NotADirectoryError if a path cannot be the folder of a run: it holds something else."""
    from pathlib import Path  # noqa: PLC0415 - takes longer to load than a model

    for folder in (Path(path), Path(path) / FOLDER):
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(f"checkpoint must be a folder, got {folder}, which is a file")
    folder = Path(path) / FOLDER
    foreign = sorted(name for name in _names(folder) if not _is_ours(name))
    if foreign:
        raise FileExistsError(
            f"checkpoint must be a folder whose {FOLDER!r} has checkpoints only, got {folder} with {foreign[0]!r:.100}"
        )


def read_newest(path: StrPath) -> StoredTraining | None:
    """Return the newest complete checkpoint in the folder of a run; None if there is none.

    Warns
    -----
    RuntimeWarning
        If newer ones are damaged, which are named.

    Raises
    ------
    ValueError
        If all checkpoints are damaged.
    """
    from pathlib import Path  # noqa: PLC0415 - takes longer to load than a model

    folder, damage = Path(path) / FOLDER, []
    manifest = _manifest_of(folder)
    checksums = {entry["name"]: entry["checksum"] for entry in manifest["checkpoints"]}
    for name in reversed(_checkpoint_names(folder)):
        try:
            stored = _read_checkpoint(folder / name, checksums.get(name))
        except (ValueError, OSError) as error:
            damage.append(str(error))
            continue
        if damage:
            warn(f"the newest checkpoint is damaged, {stored.path} is used: {'; '.join(damage)}", stacklevel=2)
        return stored
    if damage:
        raise ValueError(f"no checkpoint in {folder} is complete: {'; '.join(damage)}")
    return None


def has_checkpoint(path: StrPath) -> bool:
    """Return whether the folder of a run has a checkpoint to go on from: ``fit(..., resume=has_checkpoint(path))``."""
    return bool(_checkpoint_names(os.path.join(path, FOLDER)))  # noqa: PTH118 - pathlib takes longer to load


def read_manifest(path: StrPath) -> dict[str, Any] | None:
    """Return the manifest of the folder of a run; None if there is none that is complete."""
    from pathlib import Path  # noqa: PLC0415 - takes longer to load than a model

    return _read_manifest(Path(path) / FOLDER / MANIFEST)


# Files


def _encode(run: str, updates: int, state: Mapping[str, Any], description: Mapping[str, Any]) -> bytes:
    from glasscell.checkpoint import HEADER_KEY  # noqa: PLC0415 - only where it is used
    from glasscell.tensor_files import encode  # noqa: PLC0415
    from glasscell.training.state_encoding import encode_state  # noqa: PLC0415

    content, tensors = encode_state(state)
    config = {"run": run, "updates": updates, "description": description, "state": content}
    return encode(HEADER_KEY, {"format": FORMAT, "kind": KIND, "config": config}, tensors)


def _read_checkpoint(file: Path, checksum: str | None) -> StoredTraining:
    """Read and verify a checkpoint; raise ValueError or OSError if it is damaged."""
    from glasscell import checkpoint  # noqa: PLC0415 - only where it is used
    from glasscell.training.state_encoding import decode_state  # noqa: PLC0415

    header, tensors = checkpoint.read_with_header(file)
    config = (header or {}).get("config")
    if header is None or header.get("kind") != KIND or "checksum" not in header or not isinstance(config, dict):
        raise ValueError(f"{file} is not a checkpoint of a training")
    checkpoint.check_entries(header, checkpoint.ENTRIES)
    if set(config) != {"run", "updates", "description", "state"} or file.name != f"{config['updates']:09}.safetensors":
        raise ValueError(f"{file} is not the checkpoint of its name")
    if checksum is not None and f"{zlib.crc32(file.read_bytes()):08x}" != checksum:
        raise ValueError(f"{file} is not the checkpoint that the manifest lists")
    try:
        state = decode_state(config["state"], tensors)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    return StoredTraining(file, config["run"], config["updates"], state, config["description"])


def _write(file: Path, content: bytes) -> None:
    """Write a file whole or not at all, and flush it and its name to disk."""
    OutputFile(file, (file.suffix,)).write(content)
    sync_folder(file.parent)


def _checkpoint_names(folder: StrPath) -> list[str]:
    """Return the names of checkpoints in a folder, by their number of updates."""
    return sorted((name for name in _names(folder) if NAME.fullmatch(name)), key=lambda name: (len(name), name))


def _names(folder: StrPath) -> list[str]:
    """Return the names in a folder; none if it does not exist."""
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        return [entry.name for entry in entries]
    return []


def _is_ours(name: str) -> bool:
    return name in (MANIFEST, FolderLock.NAME) or bool(NAME.fullmatch(name)) or is_temporary_name(name)


# Manifest


def _manifest_of(folder: Path) -> dict[str, Any]:
    """Return the manifest of a folder; without one, or with a damaged one, that of its complete checkpoints."""
    manifest = _read_manifest(folder / MANIFEST)
    if manifest is not None:
        return manifest
    manifest = {"format": FORMAT, "run": os.urandom(8).hex(), "state": "running", "reason": "", "seconds": 0.0}
    manifest |= {"start": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "description": {}, "checkpoints": [], "best": None}
    entries = []
    for stored, content in _complete(folder):
        manifest |= {"run": stored.run, "description": stored.description}
        checksum = f"{zlib.crc32(content):08x}"
        entry = {"name": stored.path.name, "updates": stored.updates, "size": len(content), "checksum": checksum}
        entries.append(entry | {"score": None})
    return manifest | {"checkpoints": entries}


def _complete(folder: Path) -> Iterator[tuple[StoredTraining, bytes]]:
    """Yield the complete checkpoints of a folder, and the bytes of their files."""
    for name in _checkpoint_names(folder):
        with suppress(ValueError, OSError):
            yield _read_checkpoint(folder / name, None), (folder / name).read_bytes()


def _encode_manifest(manifest: Mapping[str, Any]) -> bytes:
    import json  # noqa: PLC0415 - not paid for by `import glasscell`

    content = {name: value for name, value in manifest.items() if name != "checksum"}
    checksum = f"{zlib.crc32(json.dumps(content, sort_keys=True).encode()):08x}"
    return json.dumps(content | {"checksum": checksum}, indent=1).encode() + b"\n"


def _read_manifest(file: Path) -> dict[str, Any] | None:
    """Return the content of a manifest; None if it does not exist, is damaged, or is something else."""
    import json  # noqa: PLC0415 - not paid for by `import glasscell`

    from glasscell.limits import MemoryBudget, parse_json  # noqa: PLC0415

    try:
        text = file.read_bytes()
        manifest = parse_json(text, MemoryBudget(len(text)))
    except (OSError, ValueError):
        return None
    if not isinstance(manifest, dict) or set(manifest) != ENTRIES or manifest["format"] != FORMAT:
        return None
    content = {name: value for name, value in manifest.items() if name != "checksum"}
    digits = f"{zlib.crc32(json.dumps(content, sort_keys=True).encode()):08x}"
    return manifest if digits == manifest["checksum"] else None


def _best(entries: list[dict[str, Any]], monitor: str) -> str | None:
    """Return the name of the checkpoint with the best score; None if none has one."""
    from glasscell.training.evaluation import lower_is_better  # noqa: PLC0415 - only where it is used

    scored = [entry for entry in entries if entry["score"] is not None]
    if not scored:
        return None
    sign = -1 if lower_is_better(monitor) else 1
    return str(max(scored, key=lambda entry: sign * entry["score"])["name"])


def _finite(score: Any) -> float | None:
    import math  # noqa: PLC0415

    return None if score is None or not math.isfinite(score) else float(score)
