"""Entries of data in memory: an array, or a list of arrays whose first axes differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from glasscell.data.batch import AnyArray
from glasscell.data.not_finite import first_not_finite
from glasscell.validation import check_not_masked


class Entries(NamedTuple):
    """Entries that have been checked.

    Attributes
    ----------
    values : array, or list of arrays
        One entry for each sequence.
    joined : array or None
        The entries of a list one after the other, if they differ in their first axis only.
    """

    values: AnyArray | list[AnyArray]
    joined: AnyArray | None = None


def as_entries(
    name: str, value: Any, axes: Sequence[str] = ("sequence", "step", "feature")
) -> AnyArray | list[AnyArray]:
    """Return an array, or a list of arrays whose first axes differ; `axes` are their names in errors."""
    return read_entries(name, value, axes).values


def read_entries(name: str, value: Any, axes: Sequence[str] = ("sequence", "step", "feature")) -> Entries:
    """Return :func:`as_entries`, and the array that all entries of a list are joined to, which the checks need."""
    if isinstance(value, str | bytes | dict):
        raise TypeError(f"{name} must be an array or a list of arrays, got a {type(value).__name__}")
    check_not_masked(name, value)
    if hasattr(value, "__array__") and np.asarray(value).dtype != object:
        entries = Entries(np.asarray(value))
    else:
        entries = _join(_arrays(name, value))
        if isinstance(entries.values, list) and not entries.values:
            return entries
    for dtype in {array.dtype for array in _parts(entries)}:
        if dtype.kind not in "biuf":
            raise TypeError(f"{name} must be real numbers, got dtype {dtype}")
    if isinstance(entries.values, np.ndarray) and entries.values.ndim == 0:
        raise ValueError(f"{name} must have one entry for each sequence, got a number")
    _check_finite(name, entries, axes)
    return entries


def _arrays(name: str, value: Any) -> list[AnyArray]:
    """Return the entries of a list as arrays."""
    try:
        listed = list(value)
        if set(map(type, listed)) == {np.ndarray}:
            return listed
        arrays = [np.asarray(entry) for entry in listed]
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be an array or a list of arrays of numbers, got {error}") from None
    for entry in listed:
        check_not_masked(name, entry)
    return arrays


def _join(arrays: list[AnyArray]) -> Entries:
    """Return arrays of one shape as an array, and others in the dtype that holds the values of all."""
    shapes = {array.shape for array in arrays}
    if len(shapes) == 1:
        return Entries(np.stack(arrays))
    arrays = _to_common_dtype(arrays)
    is_joinable = () not in shapes and len({shape[1:] for shape in shapes}) == 1
    if is_joinable and len({array.dtype for array in arrays}) == 1:
        return Entries(arrays, np.concatenate(arrays))
    return Entries(arrays)


def _parts(entries: Entries) -> list[AnyArray]:
    """Return arrays that hold all numbers."""
    if entries.joined is not None:
        return [entries.joined]
    return [entries.values] if isinstance(entries.values, np.ndarray) else entries.values


def _check_finite(name: str, entries: Entries, axes: Sequence[str]) -> None:
    """Raise ValueError, which names the first place, if a number is not finite."""
    values = entries.values
    if all(part.dtype.kind != "f" or np.isfinite(part).all() for part in _parts(entries)):
        return
    for n, entry in enumerate(values):
        place = first_not_finite(entry)
        if place is not None:
            has_steps = name != "y" or isinstance(values, list) or values.ndim != 2
            names = axes if has_steps else (axes[0], *axes[2:])
            position = (n, *place.position)
            words = [f"{axis} {index}" for axis, index in zip(names, position, strict=False)]
            words += [f"feature {index}" for index in position[len(names) :]]
            raise ValueError(f"{name} must be finite, got {place.value} at {', '.join(words)}")


def _to_common_dtype(arrays: list[AnyArray]) -> list[AnyArray]:
    """Return the arrays in the dtype that holds the values of all, as `np.stack` does; empty ones do not count."""
    if len({array.dtype for array in arrays}) <= 1:
        return arrays
    dtypes = {array.dtype for array in arrays if array.size}
    if any(dtype.kind not in "biuf" for dtype in dtypes):
        return arrays  # refused by the caller, by its dtype
    dtype = np.result_type(*dtypes) if dtypes else np.result_type(*arrays)
    return [array.astype(dtype, copy=False) for array in arrays]
