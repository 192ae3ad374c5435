"""JSON of manifests and checkpoints, and checksums of the files that they list.

JSON has no NaN and no infinite numbers: here they are objects such as ``{"$": "float", "value": "inf"}``. An object
with these two names is the value of ``{"$": "object", "value": …}``.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from glasscell.limits import MemoryBudget, parse_json

KIND = "$"  # entry of an object that is a value which JSON does not have
ENCODED = {KIND, "value"}  # all entries of such an object
FLOATS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
BLOCK = 1 << 20  # bytes read at a time


def encode_json(content: Mapping[str, Any]) -> bytes:
    """Return the content of a JSON file; its floats may be NaN or infinite."""
    import json  # noqa: PLC0415 - not paid for by `import glasscell`

    return json.dumps(encode_floats(content), indent=1, allow_nan=False).encode() + b"\n"


def parse_manifest(text: bytes) -> Any:
    """Return the JSON of a file of unknown origin as it is in the file, for :func:`decode_floats`.

    Raises
    ------
    ValueError
        If it is not JSON, is nested too deep, or needs too much memory.
    """
    return parse_json(text, MemoryBudget(len(text)))


def encode_floats(value: Any) -> Any:
    """Return a value of JSON in which floats that are not finite are objects."""
    if isinstance(value, float) and not math.isfinite(value):
        return {KIND: "float", "value": repr(float(value))}
    encoded = _with_items(value, encode_floats)
    return {KIND: "object", "value": encoded} if isinstance(value, Mapping) and value.keys() == ENCODED else encoded


def decode_floats(value: Any) -> Any:
    """Return the value that :func:`encode_floats` encoded.

    Raises
    ------
    ValueError
        If it is nested too deep.
    """
    try:
        return _decode_floats(value)
    except RecursionError:
        raise ValueError("JSON is nested too deep") from None


def _decode_floats(value: Any) -> Any:
    if isinstance(value, dict) and value.keys() == ENCODED:
        kind, content = value[KIND], value["value"]
        if kind == "float":
            return FLOATS[content] if isinstance(content, str) and content in FLOATS else value
        if kind == "object" and isinstance(content, dict):
            return _with_items(content, _decode_floats)
    return _with_items(value, _decode_floats)


def finite_or_none(value: Any) -> Any:
    """Return a value of JSON with None for floats that are not finite."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return _with_items(value, finite_or_none)


def _with_items(value: Any, convert: Callable[[Any], Any]) -> Any:
    """Return a copy of an object or a list with converted items; any other value as it is."""
    if isinstance(value, Mapping):
        return {key: convert(item) for key, item in value.items()}
    return [convert(item) for item in value] if isinstance(value, list | tuple) else value


def size_and_checksum(file: Path) -> tuple[int, int]:
    """Return size and CRC-32 of a file."""
    size = crc = 0
    with file.open("rb") as opened:
        while block := opened.read(BLOCK):
            size, crc = size + len(block), zlib.crc32(block, crc)
    return size, crc
