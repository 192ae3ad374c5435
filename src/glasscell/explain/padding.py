"""Pad sequences of different lengths."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glasscell.data.entries import read_entries


def pad_sequences(x: Any, lengths: ArrayLike | None = None) -> tuple[NDArray[Any], ArrayLike | None]:
    """Return sequences as one array, padded with 0 at their ends, and their lengths.

    Parameters
    ----------
    x : array, or list of N arrays (T_n, I) or (T_n,)
    lengths : array (N,) of int, optional
        Of an array, which is returned as it is.

    Raises
    ------
    TypeError, ValueError
        If lengths are passed for a list of different lengths, or its sequences have different numbers of features.
    """
    values, joined = read_entries("x", x)
    if not isinstance(values, list):
        return values, lengths
    if lengths is not None:
        raise ValueError("lengths must be None for a list of sequences")
    if joined is None or joined.ndim not in (1, 2):
        raise ValueError("x must be sequences (T_n, I) of one I, or (T_n,), got several shapes")
    own_lengths = np.fromiter(map(len, values), np.intp, len(values))
    padded = np.zeros((len(values), max(own_lengths), *joined.shape[1:]), joined.dtype)
    for row, entry in zip(padded, values, strict=True):
        row[: len(entry)] = entry
    return padded, own_lengths


def is_ragged(x: Any) -> bool:
    """Return whether x is a list of sequences of different lengths."""
    if not isinstance(x, list | tuple) or not all(isinstance(row, list | tuple) or np.ndim(row) for row in x):
        return False
    return len({len(row) for row in x}) > 1
