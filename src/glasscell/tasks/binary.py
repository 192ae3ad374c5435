"""Integers in binary."""

import operator
from collections.abc import Iterable
from typing import TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

Bits: TypeAlias = NDArray[np.integer]
Integers: TypeAlias = NDArray[np.uint64]

MAX_WIDTH = 64


def encode(integers: int | Iterable[int], width: int) -> Bits:
    """Integers in binary, most significant bit first.

    Parameters
    ----------
    integers : int or sequence of int
        From 0 to 2**width - 1.
    width : int
        Bits each, 1 to 64.

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
    """The integers that :func:`encode` encoded.

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
        raise ValueError(f"bits have shape {array.shape}; expected (width,) or (n, width)")
    check_width("the number of bits", array.shape[-1])
    places = np.left_shift(np.uint64(1), np.arange(array.shape[-1], dtype=np.uint64)[::-1])
    integers = (array.astype(np.uint64) * places).sum(axis=-1, dtype=np.uint64)
    return int(integers) if array.ndim == 1 else cast("Integers", integers)


def check_width(name: str, width: int) -> int:
    """The width, if it is an integer from 1 to 64."""
    if isinstance(width, bool) or not isinstance(width, int | np.integer):
        raise TypeError(f"{name} must be an integer, and is {width!r}")
    if not 1 <= width <= MAX_WIDTH:
        raise ValueError(f"{name} must be from 1 to {MAX_WIDTH}, and is {width}")
    return int(width)


def validate_bits(name: str, bits: ArrayLike) -> Bits:
    """The value as an array of 0 and 1, if it is that."""
    try:
        given = np.asarray(bits)
    except ValueError:
        raise ValueError(f"{name} must be an array, and are sequences of different lengths") from None
    if given.size and given.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be 0 and 1, and have dtype {given.dtype}")
    bad = (given != 0) & (given != 1)
    if bad.any():
        where = tuple(int(k) for k in np.argwhere(bad)[0])
        raise ValueError(f"{name} must be 0 and 1; {given[where]} stands at index {where}")
    return given.astype(np.int64)


def _integer(value: int, width: int) -> int:
    try:
        integer = operator.index(value)
    except TypeError:
        raise TypeError(f"{value!r} is not an integer") from None
    if integer < 0:
        raise ValueError(f"{integer} is negative; the copy task takes integers from 0 to 2^{width} - 1")
    if integer >> width:
        raise ValueError(f"{integer} does not fit in {width} bits; the largest that does is {(1 << width) - 1}")
    return integer


def to_bits(integers: Integers, width: int) -> Bits:
    """:func:`encode` without its checks: (n,) → (n, width)."""
    shifts = np.arange(width - 1, -1, -1, dtype=np.uint64)
    return ((integers[:, None] >> shifts) & np.uint64(1)).astype(np.int64)
