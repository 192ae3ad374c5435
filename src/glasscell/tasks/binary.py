"""Integers in binary."""

import operator
from collections.abc import Iterable
from typing import TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glasscell.validation import validate_bits

Bits: TypeAlias = NDArray[np.integer]
Integers: TypeAlias = NDArray[np.uint64]

MAX_WIDTH = 64


def encode(integers: int | Iterable[int], width: int) -> Bits:
    """Encode integers in binary, most significant bit first.

    Parameters
    ----------
    integers : int or sequence of int
        From 0 to 2**width - 1.
    width : int
        Number of bits, 1 to 64.

    Returns
    -------
    array of int, (width,) or (n, width)

    Examples
    --------
    >>> encode(25, width=8)
    array([0, 0, 0, 1, 1, 0, 0, 1])
    """
    width = check_width("width", width)
    if np.ndim(cast("ArrayLike", integers)) == 0:
        return cast("Bits", encode([cast("int", integers)], width)[0])
    return to_bits(np.array([_integer(value, width) for value in cast("Iterable[int]", integers)], np.uint64), width)


def decode(bits: ArrayLike) -> int | Integers:
    """Return the integers that :func:`encode` encoded.

    Parameters
    ----------
    bits : array of 0 and 1, (width,) or (n, width)

    Returns
    -------
    int, or array (n,) of uint64

    Examples
    --------
    >>> decode([0, 0, 0, 1, 1, 0, 0, 1])
    25
    """
    array = validate_bits("bits", bits)
    if array.ndim not in (1, 2):
        raise ValueError(f"bits must have shape (width,) or (n, width), got {array.shape}")
    check_width("the number of bits", array.shape[-1])
    places = np.left_shift(np.uint64(1), np.arange(array.shape[-1], dtype=np.uint64)[::-1])
    integers = (array.astype(np.uint64) * places).sum(axis=-1, dtype=np.uint64)
    return int(integers) if array.ndim == 1 else cast("Integers", integers)


def check_width(name: str, width: int) -> int:
    """Return the width, if it is an integer from 1 to 64."""
    if isinstance(width, bool) or not isinstance(width, int | np.integer):
        raise TypeError(f"{name} must be an integer, got {width!r}")
    if not 1 <= width <= MAX_WIDTH:
        raise ValueError(f"{name} must be from 1 to {MAX_WIDTH}, got {width}")
    return int(width)


def _integer(value: int, width: int) -> int:
    try:
        integer = operator.index(value)
    except TypeError:
        raise TypeError(f"integers must be integers, got {value!r}") from None
    if integer < 0:
        raise ValueError(f"integers must be from 0 to 2^{width} - 1, got the negative {integer}")
    if integer >> width:
        raise ValueError(f"integers must fit in {width} bits, from 0 to {(1 << width) - 1}, got {integer}")
    return integer


def to_bits(integers: Integers, width: int) -> Bits:
    """Encode integers without checks: (n,) → (n, width)."""
    shifts = np.arange(width - 1, -1, -1, dtype=np.uint64)
    return ((integers[:, None] >> shifts) & np.uint64(1)).astype(np.int64)
