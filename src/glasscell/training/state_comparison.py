"""Compare the state in a checkpoint with that of the training that it is for, before anything is restored.

A checksum detects accidents. A file that was changed on purpose, checksum included, must be an error as well, and not
fail somewhere in an update.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

# Entries that are None or like another one; and those whose form depends on the data, which are checked in use.
OPTIONAL = {"best_weights": "weights", "failures.weights": "weights", "_replay_rng": "rng"}
UNKNOWN = ("last_batch", "states")


def check_state(state: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Raise ValueError unless a state has the entries, types, shapes and dtypes of another one.

    Parameters
    ----------
    state : dict
        Of a file.
    expected : dict
        Of the training, at any update.
    """
    stored = state["rng"].get("bit_generator") if isinstance(state.get("rng"), dict) else None
    if isinstance(stored, str) and stored != expected["rng"]["bit_generator"]:
        return  # another generator, which `Training.restore` names
    _compare("", state, expected, expected)


def _compare(name: str, value: Any, expected: Any, root: Mapping[str, Any]) -> None:
    if name in UNKNOWN or (name in OPTIONAL and value is None):
        return
    if name in OPTIONAL:
        expected = root[OPTIONAL[name]]
    if isinstance(expected, float):
        is_like = _is_number(value)
    elif isinstance(expected, np.ndarray):
        _compare_arrays(name, value, expected)
        return
    else:
        is_like = expected is None or type(value) is type(expected)
    if not is_like:
        raise ValueError(f"{name or 'state'} must be a {type(expected).__name__}, got a {type(value).__name__}")
    if isinstance(value, slice) and {*map(type, (value.start, value.stop, value.step))} - {int, type(None)}:
        raise ValueError(f"{name} must be a slice of integers, got {value!r:.100}")
    if isinstance(expected, dict | list | tuple):
        _compare_items(name, value, expected, root)


def _compare_items(name: str, value: Any, expected: Any, root: Mapping[str, Any]) -> None:
    keys = [*expected] if isinstance(expected, dict) else [*range(len(expected))]
    if (value.keys() != expected.keys()) if isinstance(expected, dict) else len(value) != len(expected):
        raise ValueError(f"{name or 'state'} must have the entries {', '.join(map(str, keys))}, got others")
    for key in keys:
        _compare(f"{name}.{key}".removeprefix("."), value[key], expected[key], root)


def _compare_arrays(name: str, value: Any, expected: np.ndarray[Any, Any]) -> None:
    if not isinstance(value, np.ndarray) or (value.dtype, value.shape) != (expected.dtype, expected.shape):
        got = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
        raise ValueError(f"{name} must be {expected.dtype} {expected.shape}, got {got}")
    if not np.isfinite(value).all():
        raise ValueError(f"{name} must be finite, got NaN or infinite values")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
