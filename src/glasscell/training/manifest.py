"""The manifest of a folder of checkpoints: which there are, and how the run is."""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from glasscell.manifest_files import decode_floats, encode_floats, encode_json, parse_manifest
from glasscell.training.evaluation import lower_is_better

if TYPE_CHECKING:
    from pathlib import Path

RunState: TypeAlias = Literal["running", "interrupted", "finished", "failed"]
STATES: tuple[RunState, ...] = ("running", "interrupted", "finished", "failed")
Manifest: TypeAlias = "dict[str, Any]"
"""``format``, ``run``, ``state``, ``reason``, ``start``, ``seconds``, ``description``, ``checkpoints``, ``best``."""

NAME, FORMAT = "manifest.json", 1
TYPES: dict[str, Any] = {"format": int, "run": str, "state": str, "reason": str, "start": str} | {
    "seconds": float,
    "description": dict,
    "checkpoints": list,
    "best": str | None,
}
ENTRY_TYPES: dict[str, Any] = {"name": str, "updates": int, "size": int, "checksum": str, "score": float | None}


def new_manifest() -> Manifest:
    """Return the manifest of a run before its first checkpoint."""
    manifest: Manifest = {"format": FORMAT, "run": os.urandom(8).hex(), "state": "running", "reason": ""}
    manifest |= {"start": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "seconds": 0.0}
    return manifest | {"description": {}, "checkpoints": [], "best": None}


def read_manifest_file(file: Path) -> Manifest | None:
    """Read a manifest; None if there is none.

    Raises
    ------
    ValueError
        If the file is damaged or something else, such as a folder or a FIFO, which is not opened.
    OSError
        If it cannot be read.
    """
    if file.exists() and not file.is_file():
        raise ValueError(f"{file} is no file, and so no manifest of checkpoints")
    try:
        text = file.read_bytes()
    except FileNotFoundError:
        return None
    try:
        content = parse_manifest(text)
        checksum = content.pop("checksum")
        is_whole, content = checksum == _checksum(content), decode_floats(content)
    except (ValueError, AttributeError, KeyError, TypeError):
        raise ValueError(f"{file} is damaged, or no manifest of checkpoints") from None
    if not is_whole or not _has_types(content, TYPES) or content["format"] != FORMAT:
        raise ValueError(f"{file} is damaged, or no manifest of checkpoints")
    if content["state"] not in STATES or not all(_has_types(entry, ENTRY_TYPES) for entry in content["checkpoints"]):
        raise ValueError(f"{file} is damaged, or no manifest of checkpoints")
    return content  # type: ignore[no-any-return] # checked above


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the bytes of a manifest, with its checksum."""
    return encode_json(manifest | {"checksum": _checksum(encode_floats(manifest))})


def best_checkpoint(entries: Sequence[Mapping[str, Any]], monitor: str) -> str | None:
    """Return the name of the checkpoint with the best score, the latest of equal ones; None if none has a score."""
    sign = -1 if lower_is_better(monitor) else 1
    scored = [
        (sign * entry["score"], entry["updates"], entry["name"]) for entry in entries if entry["score"] is not None
    ]
    return max(scored)[2] if scored else None


def _checksum(content: Mapping[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(content, sort_keys=True).encode()):08x}"


def _has_types(content: Any, types: Mapping[str, Any]) -> bool:
    """Return whether a value of JSON is an object of exactly these entries, of these types."""
    return (
        isinstance(content, dict)
        and {*content} == {*types}
        and all(isinstance(content[name], types[name]) for name in types)
    )
