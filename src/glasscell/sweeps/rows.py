"""Rows of a sweep: values that JSON can hold exactly, and the lines of a file."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from typing import Any, Literal, NotRequired, TypeAlias, TypedDict

import numpy as np

from glasscell.limits import MemoryBudget, parse_json
from glasscell.manifest_files import decode_floats, encode_floats

Score: TypeAlias = float | int | bool | str | None
MAX_BITS = 1000  # of an integer: it must be a finite float in summaries, and have digits in JSON
MAX_NESTING = 20  # of lists in a value of the grid
CHECKSUM = re.compile(rb'(\{.*), "crc32": "([0-9a-f]{8})"\}', re.DOTALL)


class Row(TypedDict):
    """One run of a sweep.

    Attributes
    ----------
    setting : dict
        Value of each name of the grid.
    seed : int
    status : {"finished", "failed"}
    error : str
        Type and message of the error of a failed run; empty otherwise.
    seconds : float
        Duration of the run.
    scores : dict
        Numbers, texts and None by name; empty for a failed run.
    curve : dict of str to list, optional
        Columns of the history, where the training function returned one.
    """

    setting: dict[str, Any]
    seed: int
    status: Literal["finished", "failed"]
    error: str
    seconds: float
    scores: dict[str, Score]
    curve: NotRequired[dict[str, list[float]]]


def plain(name: str, value: Any, level: int = 0) -> Any:
    """Return a value as one that JSON can hold: a number, a text, a truth value, None, or a list or tuple of these.

    NumPy's numbers become those of Python, with the same value.

    Raises
    ------
    TypeError, ValueError
        If it is anything else, an integer of more than 1000 bits, or a list that is nested too deep.
    """
    if isinstance(value, list | tuple):
        if level == MAX_NESTING:
            raise ValueError(f"{name} must have at most {MAX_NESTING} levels of lists, got more")
        items = [plain(name, item, level + 1) for item in value]
        return items if isinstance(value, list) else tuple(items)
    return plain_scalar(name, value, "a number, text, truth value, None, or a list of these")


def plain_scalar(name: str, value: Any, rule: str = "a number, text, truth value or None") -> Score:
    """Return a number, a text, a truth value or None without NumPy's types.

    Raises
    ------
    TypeError, ValueError
        If it is anything else, or an integer of more than 1000 bits.
    """
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        value = value.item()
    if isinstance(value, np.longdouble) and (value != value or float(value) == value):  # noqa: PLR0124 - NaN
        return float(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise ValueError(f"{name} must be an integer of at most {MAX_BITS} bits, got one of {value.bit_length()} bits")
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    raise TypeError(f"{name} must be {rule}, got {value!r:.100}")


def key_of(setting: Mapping[str, Any], seed: int) -> str:
    """Return what identifies a run: its setting and seed as JSON."""
    return json.dumps(encode_floats([dict(setting), seed]), allow_nan=False, sort_keys=True)


def encode_line(content: Mapping[str, Any]) -> bytes:
    """Return a line of a file: a JSON object that ends with the CRC-32 of what precedes it in the line."""
    body = json.dumps(encode_floats(content), allow_nan=False).encode()[:-1]
    return body + b', "crc32": "%08x"}\n' % zlib.crc32(body)


def decode_line(line: bytes) -> dict[str, Any]:
    """Return the object of a line without its end.

    Raises
    ------
    ValueError
        If it is not one that :func:`encode_line` wrote.
    """
    found = CHECKSUM.fullmatch(line)
    if found is None or int(found[2], 16) != zlib.crc32(found[1]):
        raise ValueError("the line is damaged")
    content = decode_floats(parse_json(found[1] + b"}", MemoryBudget(len(line))))
    if not isinstance(content, dict):
        raise ValueError("the line is damaged")  # noqa: TRY004 - of a file
    return content


def check_row(content: dict[str, Any]) -> Row:
    """Return an object of JSON as a row.

    Raises
    ------
    ValueError
        If it is not one.
    """
    types: dict[str, Any] = {
        "setting": dict,
        "seed": int,
        "status": str,
        "error": str,
        "seconds": float,
        "scores": dict,
    }
    if content.keys() - {"curve"} != types.keys() or not isinstance(content.get("curve", {}), dict):
        raise ValueError("there are other entries than those of a row")
    if not all(isinstance(content[name], kind) for name, kind in types.items()):
        raise ValueError("there are other values than those of a row")
    if content["status"] not in ("finished", "failed"):
        raise ValueError("the status is unknown")
    return content  # type: ignore[return-value] # checked
