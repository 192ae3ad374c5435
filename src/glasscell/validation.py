"""Checks of arguments, and conversions between batch-first arrays and core's columns."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from glasscell.core.types import Array

BLOCK_BYTES = 1 << 15  # transposed at a time: every sequence reads the same lines of the first cache


def positive_integer(name: str, value: int) -> int:
    """Return the value, if it is an integer ≥ 1."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be an integer, and is {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, and is {value}")
    return int(value)


def positive_number(name: str, value: float) -> float:
    """Return the value, if it is a finite number above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name} must be a number, and is {value!r}")
    if not (value > 0 and np.isfinite(value)):
        raise ValueError(f"{name} must be finite and above 0, and is {value}")
    return float(value)


def non_negative_number(name: str, value: float) -> float:
    """Return the value, if it is a finite number of at least 0."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not (value >= 0 and np.isfinite(value)):
        raise ValueError(f"{name} must be finite and at least 0, got {value}")
    return float(value)


def integer(name: str, value: int) -> int:
    """Return the value, if it is an integer."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    return int(value)


def finite_number(name: str, value: float) -> float:
    """Return the value, if it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not np.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}")
    return float(value)


def probability(name: str, value: float) -> float:
    """Return the value, if it is a probability below 1."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name} must be a number, and is {value!r}")
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be at least 0 and below 1, and is {value}")
    return float(value)


def boolean(name: str, value: object) -> bool:
    """Return the value, if it is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, and is {value!r}")
    return bool(value)


def choice(name: str, value: object, choices: Sequence[object]) -> None:
    """Refuse a value that is none of the choices."""
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; known are {', '.join(map(repr, choices))}")


def as_generator(seed: object) -> np.random.Generator:
    """Return the generator, or a new one of this seed."""
    if isinstance(seed, np.random.Generator):
        return seed
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"seed must be an integer of 0 or more, or a numpy.random.Generator, and is {seed!r}")
    return np.random.default_rng(int(seed))


def float_dtype(dtype: DTypeLike) -> np.dtype[np.floating]:
    """Return the dtype, if it is float32 or float64."""
    given: np.dtype[Any] = np.dtype(dtype)
    if given not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise TypeError(f"dtype must be float32 or float64, and is {given}")
    return given


def real_array(name: str, value: ArrayLike, dtype: np.dtype[np.floating]) -> tuple[Array, NDArray[Any]]:
    """Return the value as an array of this dtype, if it is one of real numbers; and as it was given."""
    try:
        given = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} is not an array of numbers: {error}") from None
    if given.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be an array of real numbers, and has dtype {given.dtype}")
    if given.dtype == dtype:
        return given, given
    with np.errstate(over="ignore"):  # too large for float32: infinite then, and reported as such
        return given.astype(dtype), given


def check_finite(name: str, array: Array, given: NDArray[Any]) -> None:
    """Refuse values that are not finite; `given` is the array before it was converted."""
    if 0 not in np.isfinite(array.ravel("K")).tobytes():  # to look for a byte is half of what a reduction costs
        return
    bad = ~np.isfinite(array)
    where = tuple(int(k) for k in np.argwhere(bad)[0])
    raise ValueError(
        f"{name} must be finite in {array.dtype}: {given[where]} at index {where}, {bad.sum()} such values in all"
    )


def finite_array(name: str, value: ArrayLike, dtype: np.dtype[np.floating]) -> Array:
    """Return the value as an array of this dtype, if it is real and finite."""
    array, given = real_array(name, value, dtype)
    check_finite(name, array, given)
    return array


def to_feature_major(
    name: str,
    value: ArrayLike,
    features: int,
    letter: str,
    dtype: np.dtype[np.floating],
    expected: tuple[int, int, bool] | None = None,
    *,
    finite: bool = True,
) -> tuple[Array, bool]:
    """Check sequences (B, T, features) or (T, features), and turn them into columns (T, features, B), a view.

    `letter` is what the number of features is called; `expected` is (B, T, single) where that is already settled;
    without `finite`, NaN and infinite values pass. Also returns whether it was a single sequence.
    """
    array, given = real_array(name, value, dtype)
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
    if finite:
        check_finite(name, array, given)
    return (array[:, :, None] if single else array.transpose(1, 2, 0)), single


def from_feature_major(columns: Array, *, single: bool) -> Array:
    """Return columns as a copy (B, T, features) or (T, features): the inverse of :func:`to_feature_major`."""
    if single:
        return columns[:, :, 0].copy()
    given = columns.transpose(2, 0, 1)
    if columns.nbytes <= BLOCK_BYTES or given.flags.c_contiguous:
        return given.copy()
    sequences = np.empty(given.shape, columns.dtype)
    T, features, B = columns.shape
    rows = max(1, BLOCK_BYTES // (B * columns.itemsize))
    steps = max(1, rows // features)
    for t in range(0, T, steps):
        for k in range(0, features, rows):
            block = slice(None), slice(t, t + steps), slice(k, k + rows)
            sequences[block] = given[block]
    return sequences


def step_mask(
    lengths: ArrayLike | None, mask: ArrayLike | None, B: int, T: int, *, single: bool
) -> NDArray[np.bool_] | None:
    """Return which steps belong to the sequences: (T, B), or None where all do.

    `lengths` are (B,), or a number for a single sequence; `mask` is (B, T), or (T,), True where there is a step.
    """
    if lengths is not None and mask is not None:
        raise ValueError("give lengths or mask, not both")
    if lengths is not None:
        numbers = np.asarray(lengths)
        if numbers.dtype.kind not in "iu" and numbers.size:
            raise TypeError(f"lengths must be integers, and have dtype {numbers.dtype}")
        if numbers.shape != (() if single else (B,)):
            expected = "one number" if single else f"(B,) = ({B},)"
            raise ValueError(f"lengths has shape {numbers.shape}; expected {expected}")
        if ((numbers < 0) | (numbers > T)).any():
            raise ValueError(f"lengths must be from 0 to T = {T}, and are {numbers.tolist()}")
        valid = np.arange(T)[:, None] < numbers.reshape(-1)
    elif mask is not None:
        given = np.asarray(mask)
        if given.dtype != np.bool_:
            raise TypeError(f"mask must be an array of bool, and has dtype {given.dtype}")
        if given.shape != ((T,) if single else (B, T)):
            expected = f"(T,) = ({T},)" if single else f"(B, T) = ({B}, {T})"
            raise ValueError(f"mask has shape {given.shape}; expected {expected}")
        valid = given.reshape(-1, T).T if given.size else np.ones((T, B), np.bool_)
    else:
        return None
    return None if valid.all() else valid
