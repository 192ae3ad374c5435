"""Missing values of files: refused, or filled as the user chooses."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Fill: TypeAlias = "Literal['previous', 'linear'] | None"
FILLS = (None, "previous", "linear")
MISSING = frozenset({"", "?", "na", "n/a", "nan", "null", "none"})  # lower case


def is_missing(text: str) -> bool:
    """Return whether a cell has no value."""
    return text.strip().lower() in MISSING


def fill_gaps(values: NDArray[np.float64], fill: Literal["previous", "linear"]) -> NDArray[np.float64]:
    """Return the steps of one feature with its NaN replaced.

    Parameters
    ----------
    values : array (T,)
    fill : {"previous", "linear"}
        The value before, or the line between the values before and after. Before the first value, and with "linear"
        after the last one, the nearest value.

    Raises
    ------
    ValueError
        If there is no value at all.
    """
    valid = np.flatnonzero(~np.isnan(values))
    if not len(valid):
        raise ValueError("a feature must have at least one value in every sequence, got none")
    steps = np.arange(len(values))
    if fill == "linear":
        return np.interp(steps, valid, values[valid])
    last = valid[np.maximum(np.searchsorted(valid, steps, side="right") - 1, 0)]
    return values[last]
