"""Norms in float64, and gradient clipping, in place."""

from math import inf, isnan, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glasscell.core import blocking
from glasscell.core.blocking import BLOCK_SIZE, parts
from glasscell.core.products import for_each
from glasscell.core.types import Array


@np.errstate(over="ignore", under="ignore")
def clip_by_global_norm(gradient: Array, max_norm: float) -> float:
    """Scale the gradient, in place, so that its norm is at most `max_norm`: Pascanu et al. (2013).

    The factor is min(1, max_norm / (norm + 1e-6)), as in PyTorch; 1 if the norm is not finite.

    Returns
    -------
    float
        The norm before clipping.
    """
    if not 0 <= max_norm < inf:
        raise ValueError(f"max_norm must be finite and 0 or more, got {max_norm!r}")
    norm = _norm(gradient)
    if max_norm < norm + 1e-6 < inf:
        ratio = max_norm / (norm + 1e-6)
        # A subnormal factor has few digits: its root, twice, has all of them.
        factors = [ratio] if ratio >= np.finfo(gradient.dtype).tiny or not ratio else [sqrt(ratio)] * 2
        for factor in np.array(factors, gradient.dtype):
            _scale(gradient, factor)
    return norm


def _scale(vector: Array, factor: Any) -> None:
    if len(vector) < blocking.SHORT_VECTOR:
        np.multiply(vector, factor, out=vector)
    else:
        for_each(lambda part: np.multiply(vector[part], factor, out=vector[part]), parts(len(vector)))


def clip_by_value(gradient: Array, limit: float) -> None:
    """Clip every component to [-limit, limit], in place."""
    if not 0 < limit < inf:
        raise ValueError(f"limit must be finite and above 0, got {limit!r}")
    np.clip(gradient, -limit, limit, out=gradient)


@np.errstate(over="ignore", under="ignore")
def global_norm(gradient: Array) -> float:
    """Return the Euclidean norm of the gradient, even if its square overflows or underflows."""
    return _norm(gradient)


def _norm(gradient: Array) -> float:
    square, double = sum_of_squares(gradient), np.finfo(np.float64)
    if isnan(square) or double.tiny / double.eps < square < inf:
        return sqrt(square)
    return float(vector_norms(gradient))


def all_finite(vector: Array) -> bool:
    """Return whether all numbers are finite, in the time of a sum of squares.

    Call it with overflow and invalid operations ignored, as in ``np.errstate``: it is as fast as their setting.
    """
    total = np.dot(vector, vector) if len(vector) <= BLOCK_SIZE else _sum_of_squares(vector)
    return bool(total < inf) or bool(np.isfinite(vector).all())


def sum_of_squares(vector: Array) -> float:
    """Return Σ v², in float64.

    Each block is summed in its own dtype, by BLAS, which adds up many sums side by side; if squares leave the range of
    float32, once more in float64.
    """
    total = _sum_of_squares(vector)
    limits = np.finfo(vector.dtype)
    if vector.dtype == np.float64 or isnan(total) or limits.tiny / limits.eps < total < inf:
        return total
    return sum(
        _sum_of_squares(vector[k : k + BLOCK_SIZE].astype(np.float64)) for k in range(0, len(vector), BLOCK_SIZE)
    )


@np.errstate(over="ignore", under="ignore")
def _sum_of_squares(vector: Array) -> float:
    if len(vector) < blocking.SHORT_VECTOR:
        return _sum_by_blocks(vector)
    parts_of_vector = parts(len(vector))
    sums = np.zeros(len(parts_of_vector))

    def add_squares(k: int) -> None:
        sums[k] = _sum_by_blocks(vector[parts_of_vector[k]])

    for_each(add_squares, range(len(sums)))
    return float(sums.sum())


def _sum_by_blocks(vector: Array) -> float:
    total = 0.0
    for start in range(0, len(vector), BLOCK_SIZE):
        block = vector[start : start + BLOCK_SIZE]
        total += float(np.dot(block, block))
    return total


@np.errstate(under="ignore", over="ignore", invalid="ignore")
def vector_norms(array: Array) -> NDArray[np.float64]:
    """Return Euclidean norms along the last axis, in float64, also where squares leave its range; NaN where a value is.

    Parameters
    ----------
    array : array (..., n)

    Returns
    -------
    array (...) of float64
    """
    values = np.abs(array.astype(np.float64))
    largest = values.max(axis=-1, initial=0)
    scale = np.where((largest > 0) & (largest < inf), largest, 1.0)
    result: NDArray[np.float64] = scale * np.sqrt(np.square(values / scale[..., None]).sum(axis=-1))
    return result
