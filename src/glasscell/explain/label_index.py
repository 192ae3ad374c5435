"""Validate numbers and names that select an entry of a result."""

from __future__ import annotations

from glasscell.validation import choice, integer


def label_index(name: str, value: int | str, names: tuple[str, ...]) -> int:
    """Return the number of a label, of its name or its number; negative numbers count from the end.

    Raises
    ------
    TypeError, ValueError
        If there is no such label.
    """
    if isinstance(value, str):
        choice(name, value, names)
        return names.index(value)
    return entry_index(name, value, len(names))


def entry_index(name: str, value: int, size: int) -> int:
    """Return the number of one of `size` entries; negative numbers count from the end.

    Raises
    ------
    TypeError, ValueError
        If there is no such entry.
    """
    if not -size <= integer(name, value) < size:
        raise ValueError(f"{name} must be from {-size} to {size - 1}, got {value}")
    return int(value) % size
