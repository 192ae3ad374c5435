"""Validate arguments, and convert user arrays (B, T, features) to and from feature-major ones (T, features, B)."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from glasscell.core.types import Array

BLOCK_BYTES = 1 << 15  # transposed per block: all sequences then read the same lines of the first-level cache


def positive_integer(name: str, value: int) -> int:
    """Return the value, if it is an integer ≥ 1."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be an integer, got {value!r:.100}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
    return int(value)


def non_negative_integer(name: str, value: int) -> int:
    """Return the value, if it is an integer of at least 0."""
    if integer(name, value) < 0:
        raise ValueError(f"{name} must be at least 0, got {value}")
    return int(value)


def positive_number(name: str, value: float) -> float:
    """Return the value, if it is a finite number above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name} must be a number, got {value!r:.100}")
    if not (value > 0 and np.isfinite(value)):
        raise ValueError(f"{name} must be finite and above 0, got {value}")
    return float(value)


def non_negative_number(name: str, value: float) -> float:
    """Return the value, if it is a finite number of at least 0."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name} must be a number, got {value!r:.100}")
    if not (value >= 0 and np.isfinite(value)):
        raise ValueError(f"{name} must be finite and at least 0, got {value}")
    return float(value)


def integer(name: str, value: int) -> int:
    """Return the value, if it is an integer."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be an integer, got {value!r:.100}")
    return int(value)


def finite_number(name: str, value: float) -> float:
    """Return the value, if it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name} must be a number, got {value!r:.100}")
    if not np.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}")
    return float(value)


def probability(name: str, value: float) -> float:
    """Return the value, if it is a probability below 1."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name} must be a number, got {value!r:.100}")
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be at least 0 and below 1, got {value}")
    return float(value)


def boolean(name: str, value: object) -> bool:
    """Return the value, if it is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {value!r:.100}")
    return bool(value)


def choice(name: str, value: object, choices: Sequence[object]) -> None:
    """Raise ValueError unless the value is one of the choices."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r:.100}")


def type_name(value: object) -> str:
    """Return the name of the type of a value with its article, such as "an int"."""
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' or name.startswith(('LSTM', 'RNN')) else 'a'} {name}"


def as_generator(seed: object) -> np.random.Generator:
    """Return the generator, or a new one of this seed."""
    if isinstance(seed, np.random.Generator):
        return seed
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"seed must be an integer of 0 or more, or a numpy.random.Generator, got {seed!r:.100}")
    return np.random.default_rng(int(seed))


def float_dtype(dtype: DTypeLike) -> np.dtype[np.floating]:
    """Return the dtype, if it is float32 or float64."""
    result: np.dtype[Any] = np.dtype(dtype)
    if result not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise TypeError(f"dtype must be float32 or float64, got {result}")
    return result


def check_not_masked(name: str, value: object) -> None:
    """Raise ValueError for a masked array of NumPy with masked values, which `np.asarray` would take as they are."""
    if type(value) is not np.ndarray and isinstance(value, np.ndarray):
        masked = np.count_nonzero(getattr(value, "mask", False))
        if masked:
            raise ValueError(f"{name} must have no masked values, got {masked}: fill them or leave their steps out")


def as_array(name: str, value: Any) -> NDArray[Any]:
    """Return an array, if all its rows have the same length and no value is masked."""
    check_not_masked(name, value)
    try:
        return np.asarray(value)
    except ValueError:
        raise ValueError(f"{name} must be an array, got sequences of different lengths") from None


def real_array(name: str, value: ArrayLike, dtype: np.dtype[np.floating]) -> tuple[Array, NDArray[Any]]:
    """Return an array of real numbers in this dtype, and in its original dtype."""
    check_not_masked(name, value)
    try:
        original = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} must be an array of real numbers, got {error}") from None
    if original.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be an array of real numbers, got dtype {original.dtype}")
    if original.dtype == dtype:
        return original, original
    with np.errstate(over="ignore"):  # values too large for float32 become infinite, which is reported
        return original.astype(dtype), original


def check_finite(name: str, array: Array, original: NDArray[Any]) -> None:
    """Raise ValueError for values that are not finite; `original` is the array before conversion."""
    if 0 not in np.isfinite(array.ravel("K")).tobytes():  # half the time of a reduction
        return
    bad = ~np.isfinite(array)
    index = tuple(int(k) for k in np.argwhere(bad)[0])
    value = f"{original[index]} at index {index}, {bad.sum()} such values in all"
    raise ValueError(f"{name} must be finite in {array.dtype}, got {value}")


def finite_array(name: str, value: ArrayLike, dtype: np.dtype[np.floating]) -> Array:
    """Return the value as an array of this dtype, if it is real and finite."""
    array, original = real_array(name, value, dtype)
    check_finite(name, array, original)
    return array


def validate_bits(name: str, bits: ArrayLike) -> NDArray[np.integer]:
    """Return the value as an array of integers, if it contains only 0 and 1."""
    array = as_array(name, bits)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be an array of the numbers 0 and 1, got {bits!r:.100}")
    bad = (array != 0) & (array != 1)
    if bad.any():
        index = tuple(int(k) for k in np.argwhere(bad)[0])
        raise ValueError(f"{name} must be 0 and 1, got {array[index]} at index {index}")
    return array.astype(np.int64)


def to_feature_major(
    name: str,
    value: ArrayLike,
    features: int,
    feature_symbol: str,
    dtype: np.dtype[np.floating],
    expected: tuple[int, int, bool] | None = None,
    *,
    finite: bool = True,
) -> tuple[Array, bool]:
    """Check sequences (B, T, features) or (T, features), and return them feature-major, (T, features, B), as a view.

    Parameters
    ----------
    features, feature_symbol : int, str
        Number of features, and its feature_symbol in messages.
    expected : (B, T, single), optional
        Required shape. Default: any.
    finite : bool
        Whether NaN and infinite values raise an error.

    Returns
    -------
    array, and whether it was a single sequence
    """
    array, original = real_array(name, value, dtype)
    single = array.ndim == 2
    if array.ndim not in (2, 3) or array.shape[-1] != features:
        letters = f"(B, T, {feature_symbol}) or (T, {feature_symbol})"
        raise ValueError(
            f"{name} must have shape {letters} with {feature_symbol} = {features} features, got {array.shape}"
        )
    if expected is not None:
        B, T, must_be_single = expected
        shape = (T, features) if must_be_single else (B, T, features)
        if array.shape != shape:
            letters = f"(T, {feature_symbol})" if must_be_single else f"(B, T, {feature_symbol})"
            raise ValueError(f"{name} must have shape {letters} = {shape}, got {array.shape}")
    if finite:
        check_finite(name, array, original)
    return (array[:, :, None] if single else array.transpose(1, 2, 0)), single


def from_feature_major(array: Array, *, single: bool) -> Array:
    """Return a copy, batch first or without a batch axis, of an array (T, features, B), (T, B), (features, B) or (B,).

    The inverse of :func:`to_feature_major`.
    """
    if single:
        return array[..., 0].copy()
    if array.ndim < 3:
        return array.T.copy()
    batch_first = array.transpose(2, 0, 1)
    if array.nbytes <= BLOCK_BYTES or batch_first.flags.c_contiguous:
        return batch_first.copy()
    sequences = np.empty(batch_first.shape, array.dtype)
    T, features, B = array.shape
    rows = max(1, BLOCK_BYTES // (B * array.itemsize))
    steps = max(1, rows // features)
    for t in range(0, T, steps):
        for k in range(0, features, rows):
            block = slice(None), slice(t, t + steps), slice(k, k + rows)
            sequences[block] = batch_first[block]
    return sequences


def step_mask(
    lengths: ArrayLike | None, mask: ArrayLike | None, B: int, T: int, *, single: bool
) -> NDArray[np.bool_] | None:
    """Return which steps are valid, (T, B); None if all are.

    `lengths` are (B,), or a number for a single sequence; `mask` is (B, T) or (T,), True for valid steps.
    """
    if lengths is not None and mask is not None:
        raise ValueError("lengths and mask must not be passed together")
    if lengths is not None:
        numbers = np.asarray(lengths)
        if numbers.dtype.kind not in "iu" and numbers.size:
            raise TypeError(f"lengths must be integers, got dtype {numbers.dtype}")
        if numbers.shape != (() if single else (B,)):
            shape = "()" if single else f"(B,) = ({B},)"
            raise ValueError(f"lengths must have shape {shape}, got {numbers.shape}")
        if ((numbers < 0) | (numbers > T)).any():
            raise ValueError(f"lengths must be from 0 to T = {T}, got {numbers.tolist()}")
        valid = np.arange(T)[:, None] < numbers.reshape(-1)
    elif mask is not None:
        steps = np.asarray(mask)
        if steps.dtype != np.bool_:
            raise TypeError(f"mask must be an array of bool, got dtype {steps.dtype}")
        if steps.shape != ((T,) if single else (B, T)):
            shape = f"(T,) = ({T},)" if single else f"(B, T) = ({B}, {T})"
            raise ValueError(f"mask must have shape {shape}, got {steps.shape}")
        valid = steps.reshape(-1, T).T if steps.size else np.ones((T, B), np.bool_)
    else:
        return None
    return None if valid.all() else valid


def prepare_inputs(
    x: ArrayLike,
    lengths: ArrayLike | None,
    mask: ArrayLike | None,
    size: int | None,
    dtype: np.dtype[np.floating],
    kind: str = "features",
    *,
    copy: bool = False,
) -> tuple[Any, NDArray[np.bool_] | None, bool]:
    """Validate the inputs of a layer or model, and return them in core's layout.

    Parameters
    ----------
    x, lengths, mask
        As in :meth:`glasscell.Sequential.forward`.
    size : int, optional
        Number of features. Default: any.
    dtype : float32 or float64
    kind : {"features", "numbers", "ids"}
        Whether x has an axis of features, or contains numbers or integers (B, T).
    copy : bool
        Whether the result must be independent of x.

    Returns
    -------
    x : array (T, I, B), or (T, B)
        0 at invalid steps.
    mask : array (T, B) of bool, or None
        None: all steps are valid.
    single : bool
        Whether there was no batch axis.
    """
    array: NDArray[Any]
    array, original = (np.asarray(x), None) if kind == "ids" else real_array("x", x, dtype)
    time = array.shape[:-1] if kind == "features" else array.shape
    if len(time) not in (1, 2) or (kind == "features" and size not in (None, array.shape[-1])):
        shapes = "(B, T, I) or (T, I)" if kind == "features" else "(B, T) or (T,)"
        features = f" with I = {size} features" if size is not None and kind == "features" else ""
        raise ValueError(f"x must have shape {shapes}{features}, got {array.shape}")
    single = len(time) == 1
    valid = step_mask(lengths, mask, 1 if single else time[0], time[-1], single=single)
    columns = array[..., None] if single else array.transpose(*range(1, array.ndim), 0)
    if valid is not None:
        columns = np.where(valid[:, None] if kind == "features" else valid, columns, array.dtype.type(0))
        array = columns[..., 0] if single else columns.transpose(-1, *range(columns.ndim - 1))
    if original is not None:
        check_finite("x", array, original)
    return np.array(columns, order="C") if copy else columns, valid, single
