"""Files of runs for mutation: checkpoints of a training, their manifest, and the manifest and history of a run."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import glasscell as gc
from glasscell.training import checkpoint_files, manifest
from glasscell.training.failures import TrainingError
from torture.fuzzing.models import H, I, T
from torture.fuzzing.values import Generator, change_bytes, changed_json, json_text

UPDATES = 2


def _fit(updates: int, **options: Any) -> Any:
    rng = np.random.default_rng(0)
    data = rng.normal(size=(6, T, I)), rng.normal(size=(6, T, H))
    model = gc.LSTM(I, H, seed=1, engine="numpy")
    return gc.fit(
        model, data, updates=updates, loss="squared_error", validation=data, evaluate_every=1, seed=2, **options
    )


def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        _fit(UPDATES, checkpoint=folder)
        yield Path(folder) / checkpoint_files.FOLDER


def checkpoints(_: Path) -> list[bytes]:
    """Return the content of a checkpoint."""
    [content] = [(folder / f"{UPDATES:09}.safetensors").read_bytes() for folder in _folder()]
    return [content]


def manifests(_: Path) -> list[bytes]:
    """Return the content of a manifest of checkpoints."""
    [content] = [(folder / manifest.NAME).read_bytes() for folder in _folder()]
    return [content]


def _make(folder: Path) -> None:
    if not folder.is_dir():
        folder.mkdir(parents=True)


def read_checkpoint(path: Path) -> object:
    """Read a checkpoint under the name that it must have."""
    file = path.parent / "run of none" / f"{UPDATES:09}.safetensors"
    _make(file.parent)
    file.write_bytes(path.read_bytes())
    try:
        return checkpoint_files.read_checkpoint(file, None)
    except ValueError as error:
        raise ValueError(str(error).replace(file.name, path.name)) from None


def resume(path: Path) -> object:
    """Go on with the training of a checkpoint."""
    folder = path.parent / "run of a training" / checkpoint_files.FOLDER
    _make(folder)
    file = folder / f"{UPDATES:09}.safetensors"
    file.write_bytes(path.read_bytes())
    try:
        with warnings.catch_warnings(action="ignore"):  # of another environment, which is documented
            return _fit(UPDATES + 1, resume=folder.parent)
    except TrainingError as error:  # the state of the optimiser is finite, and absurd: documented for every training
        raise ValueError(f"{path}: {error}") from None
    except ValueError as error:
        if str(error).startswith("data must repeat batch"):  # it is of the data, and names no file
            raise ValueError(f"{path}: {error}") from None
        raise ValueError(str(error).replace(file.name, path.name)) from None


def change_manifest(content: bytes, rng: Generator) -> bytes:
    """Change a manifest; its checksum is mostly right."""
    document = json.loads(content)
    document.pop("checksum")
    for _ in range(int(rng.choice([1, 1, 2, 4]))):
        document = changed_json(document, rng)
    if isinstance(document, dict) and rng.random() < 0.8:
        text = json.dumps(document, sort_keys=True).encode()
        document["checksum"] = f"{zlib.crc32(text):08x}"
    return json_text(document, rng) if rng.random() < 0.9 else change_bytes(content, rng)


def read_manifest(path: Path) -> object:
    """Read a manifest, and the newest checkpoint of its folder, of which there is none."""
    folder = path.parent / "run of a manifest" / checkpoint_files.FOLDER
    _make(folder)
    (folder / manifest.NAME).write_bytes(path.read_bytes())
    with warnings.catch_warnings(action="ignore"):
        checkpoint_files.manifest_of(folder)
        checkpoint_files.read_manifest(folder.parent)
    return manifest.read_manifest_file(path)


# Runs of commands


def run_manifests(path: Path) -> list[bytes]:
    """Return manifests of finished and of running runs."""
    from glasscell.cli.run_manifest import MANIFEST_FILE, Manifest

    contents = []
    for state in ("finished", "running", "failed"):
        made = Manifest("copy", ["--hidden", "3"], folder="/tmp", state=state, started=1.0, continued=1.0)  # noqa: S108
        made.best, made.versions = {"score": "accuracy", "value": 0.5, "update": 3}, {"glasscell": "0.1.0"}
        made.files, made.inputs = {"history.csv": {"bytes": 3, "crc32": 5}}, {"a.csv": {"bytes": 1, "crc32": 2}}
        made.write(path.parent)
        contents.append((path.parent / MANIFEST_FILE).read_bytes())
        (path.parent / MANIFEST_FILE).unlink()
    return contents


def list_runs(name: str, path: Path) -> object:
    """Run `glasscell runs` on a folder with this file; raise ValueError with the line that it prints."""
    from glasscell.cli import main

    folder = path.parent / f"run of a command with {name}"
    if not folder.is_dir():
        folder.mkdir()
        (folder / "manifest.json").write_bytes(run_manifests(path)[1])
    (folder / name).write_bytes(path.read_bytes())
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(["runs", "--check", str(folder)])
            code = max(code or 0, main(["runs", "--json", str(folder)]) or 0)
        except SystemExit as stopped:
            code = stopped.code
    if code in (0, 1):
        return out
    if code != 2:
        raise RuntimeError(f"exit code {code}: {err.getvalue()}")
    raise ValueError(f"{path.name}: {err.getvalue().strip()}")
