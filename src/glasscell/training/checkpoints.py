"""Folder of checkpoints: complete states of one training run, of which the newest complete one is found again.

``FOLDER/checkpoints`` has one file per checkpoint, ``000001500.safetensors`` for that of update 1500, and
``manifest.json``, which lists them. A checkpoint is written under a temporary name, flushed to disk and renamed, then
the folder is flushed, then the manifest is written in the same way, and only then are older checkpoints removed. After
a kill or a failure of the machine at any moment the newest checkpoint is complete, or is the one before it.
"""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from glasscell import checkpoint
from glasscell.atomic_files import OutputFile, StrPath, remove_abandoned, sync_folder
from glasscell.manifest_files import encode_floats
from glasscell.tensor_files import encode_pieces
from glasscell.training import manifest as manifests
from glasscell.training.checkpoint_files import (
    FOLDER,
    KIND,
    StoredTraining,
    check_folder,
    checkpoint_names,
    manifest_of,
    read_checkpoint,
    read_newest,
)
from glasscell.training.folder_lock import FolderLock
from glasscell.training.manifest import STATES, RunState
from glasscell.training.state_encoding import encode_state
from glasscell.validation import choice, positive_integer


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
        The folder of the run, and that of the checkpoints, both absolute.
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
        self.keep = positive_integer("keep", keep)
        self.path = Path(path).absolute()  # also if the working directory changes during the run
        self.folder = self.path / FOLDER
        check_folder(path)
        self._created = [folder for folder in (self.folder, *self.folder.parents) if not folder.exists()]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = FolderLock(self.folder)
        except BaseException:
            self._remove_created()
            raise
        try:
            remove_abandoned(self.folder)
            self.manifest = manifest_of(self.folder)
        except BaseException:
            self.close()
            raise
        self._opened, self._seconds_before = time.monotonic(), self.manifest["seconds"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Read

    def newest(self) -> StoredTraining | None:
        """Return the newest complete checkpoint; None if there is none. Damaged ones are named in a warning."""
        return read_newest(self.path)

    def best(self) -> StoredTraining | None:
        """Return the checkpoint with the best monitored score; None if none has a score.

        Raises
        ------
        ValueError, OSError
            If it is damaged or cannot be read.
        """
        name = self.manifest["best"]
        return None if name is None else read_checkpoint(self.folder / name, self.manifest["run"])

    # Write

    def save(self, training: Any, state: RunState = "running", reason: str = "") -> Path:
        """Write the state of a training, then the manifest, then remove older checkpoints; return the file's path.

        Checkpoints of later updates are removed, too: those of a run that was restored to an earlier one.

        Parameters
        ----------
        training : Training
        state, reason : str
            As in :meth:`set_state`.

        Raises
        ------
        OSError
            If something cannot be written. The checkpoints that were there are unchanged.
        TypeError
            If the state has a value that cannot be stored, such as an object in the state of an optimiser.
        """
        choice("state", state, STATES)
        updates, monitor = training.history.updates, training.options.monitor
        config = {"run": self.manifest["run"], "updates": updates, "description": encode_floats(training.description)}
        config["state"], tensors = encode_state(training.state(copy=False))
        content = encode_pieces(
            checkpoint.HEADER_KEY, {"format": checkpoint.FORMAT_VERSION, "kind": KIND, "config": config}, tensors
        )
        self._prepare()
        file = self.folder / f"{updates:09}.safetensors"
        _write(file, *content)
        score = training.history.rows[-1].get(f"validation_{monitor}", math.nan) if updates else math.nan
        entry: dict[str, Any] = {"name": file.name, "updates": updates}
        size = checksum = 0
        for piece in content:
            size, checksum = size + len(piece), zlib.crc32(piece, checksum)
        entry |= {"size": size, "checksum": f"{checksum:08x}"}
        entry["score"] = float(score) if math.isfinite(score) else None
        names = checkpoint_names(self.folder)
        entries = [old for old in self.manifest["checkpoints"] if old["updates"] < updates and old["name"] in names]
        entries.append(entry)
        best = manifests.best_checkpoint(entries, monitor)
        kept = [entry for entry in entries if entry in entries[-self.keep :] or entry["name"] == best]
        changes = {"checkpoints": kept, "best": best, "description": training.description}
        self._write_manifest(changes | {"state": state, "reason": reason})
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

    def begin_run(self) -> None:
        """Begin another run: its first :meth:`save` removes the checkpoints of the one before."""
        self.manifest = manifests.new_manifest()
        self._opened, self._seconds_before = time.monotonic(), 0.0

    def close(self) -> None:
        """Release the folder. The checkpoints stay; a folder without any, which this object made, is removed."""
        self._lock.release()
        self._remove_created()

    def _remove_created(self) -> None:
        with suppress(OSError):  # not empty
            for folder in self._created:
                folder.rmdir()

    def _prepare(self) -> None:
        """Make a folder that was removed; the checkpoints that were in it are gone."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._lock.renew():
            remove_abandoned(self.folder)

    def _write_manifest(self, changes: Mapping[str, Any]) -> None:
        """Write the manifest, and remove checkpoints that it does not list."""
        seconds = round(self._seconds_before + time.monotonic() - self._opened, 3)
        manifest = self.manifest | {"seconds": seconds} | dict(changes)
        _write(self.folder / manifests.NAME, manifests.encode_manifest(manifest))
        self.manifest = manifest
        listed = {entry["name"] for entry in manifest["checkpoints"]}
        for name in checkpoint_names(self.folder):
            if name not in listed:
                (self.folder / name).unlink(missing_ok=True)


def _write(file: Path, *content: bytes | memoryview) -> None:
    """Write a file whole or not at all, and flush it and its name to disk."""
    OutputFile(file, (file.suffix,)).write(*content)
    sync_folder(file.parent)
