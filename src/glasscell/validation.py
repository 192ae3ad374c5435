"""What is checked at the doors of the library, and the way between people's arrays and core's columns."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from glasscell.core.typing import Array


def positive_integer(name: str, value: int) -> int:
    """The value, if it is an integer ≥ 1."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be an integer, and is {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, and is {value}")
    return int(value)


def generator(seed: object) -> np.random.Generator:
    """The generator, or a new one of this seed."""
    if isinstance(seed, np.random.Generator):
        return seed
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"seed must be an integer of 0 or more, or a numpy.random.Generator, and is {seed!r}")
    return np.random.default_rng(int(seed))


def float_type(dtype: DTypeLike) -> np.dtype[np.floating]:
    """The dtype, if it is float32 or float64."""
    given: np.dtype[Any] = np.dtype(dtype)
    if given not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise TypeError(f"dtype must be float32 or float64, and is {given}")
    return given


def finite_array(name: str, value: ArrayLike, dtype: np.dtype[np.floating]) -> Array:
    """The value as an array of this dtype, if it is real and finite."""
    try:
        given = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} is not an array of numbers: {error}") from None
    if given.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be an array of real numbers, and has dtype {given.dtype}")
    with np.errstate(over="ignore"):  # too large for float32: reported as infinite, below
        array = given.astype(dtype, copy=False)
    bad = ~np.isfinite(array)
    if bad.any():
        where = tuple(int(k) for k in np.argwhere(bad)[0])
        raise ValueError(
            f"{name} must be finite in {dtype}: {given[where]} at index {where}, {bad.sum()} such values in all"
        )
    return array


def to_columns(
    name: str,
    value: ArrayLike,
    features: int,
    letter: str,
    dtype: np.dtype[np.floating],
    expected: tuple[int, int, bool] | None = None,
) -> tuple[Array, bool]:
    """Check sequences (B, T, features) or (T, features), and turn them into columns (T, features, B), a view.

    `letter` is what the number of features is called; `expected` is (B, T, single) where that is already settled.
    Also returns whether it was a single sequence.
    """
    array = finite_array(name, value, dtype)
    single = array.ndim == 2
    if array.ndim not in (2, 3) or array.shape[-1] != features:
        letters = f"(B, T, {letter}) or (T, {letter})"
        raise ValueError(f"{name} has shape {array.shape}; expected {letters} with {letter} = {features} features")
    if expected is not None:
        B, T, must_be_single = expected
        shape = (T, features) if must_be_single else (B, T, features)
        if array.shape != shape:
            letters = f"(T, {letter})" if must_be_single else f"(B, T, {letter})"
            raise ValueError(f"{name} has shape {array.shape}; expected {letters} = {shape}")
    return (array[:, :, None] if single else array.transpose(1, 2, 0)), single


def from_columns(columns: Array, *, single: bool) -> Array:
    """The way back: a copy, (B, T, features) or (T, features)."""
    return columns[:, :, 0].copy() if single else columns.transpose(2, 0, 1).copy()
