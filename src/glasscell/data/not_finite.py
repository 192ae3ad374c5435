"""Numbers that are not finite, and their place in a batch."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class NotFiniteError(ValueError):
    """A batch of the training data has a number that is not finite."""


class Place(NamedTuple):
    """A number in an array of a batch.

    Attributes
    ----------
    value : float
    position : tuple of int
    """

    value: float
    position: tuple[int, ...]


def first_not_finite(array: Any, valid: NDArray[np.bool_] | None = None) -> Place | None:
    """Return the first number that is not finite; None if there is none.

    Parameters
    ----------
    array : array
    valid : array of bool, optional
        Broadcasts to the array: False where numbers do not count.
    """
    numbers = np.asarray(array)
    if numbers.dtype.kind != "f":
        return None
    bad = ~np.isfinite(numbers)
    if valid is not None:
        bad = bad & np.broadcast_to(valid, bad.shape)
    if not bad.any():
        return None
    index = tuple(map(int, np.unravel_index(int(bad.argmax()), bad.shape)))
    return Place(float(numbers[index]), index)


def in_batch(
    index: tuple[int, ...], *, has_steps: bool, first_step: int = 0, indices: NDArray[np.integer[Any]] | None = None
) -> str:
    """Return where a number is, by its index in an array (B, T, features), (B, T), (B, features) or (B,).

    Parameters
    ----------
    index : tuple of int
    has_steps : bool
        Whether the second axis is T.
    first_step : int
        Step of the batch that is the first one of the array.
    indices : array (B,) of int, optional
        Number of each sequence in the data.
    """
    sequence, *others = index
    in_data = "" if indices is None else f" (sequence {int(indices[sequence])} of the data)"
    words = [f"sequence {sequence} of the batch{in_data}"]
    if has_steps and others:
        words.append(f"step {others.pop(0) + first_step}")
    return ", ".join(words + [f"feature {number}" for number in others])


def check_finite(name: str, array: NDArray[Any], *, has_steps: bool) -> None:
    """Raise NotFiniteError, which names the place, if an array of a batch has a number that is not finite."""
    place = first_not_finite(array)
    if place is not None:
        raise NotFiniteError(
            f"{name} must be finite, got {place.value} at {in_batch(place.position, has_steps=has_steps)}"
        )
