"""Weights of sequences and of steps in a loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from glasscell.data.batch import AnyArray
from glasscell.validation import check_not_masked


def is_vector(value: Any) -> bool:
    """Return whether there is one number per entry."""
    if isinstance(value, np.ndarray):
        return value.ndim == 1 and value.dtype != object
    return not isinstance(value, Sequence) or not any(np.ndim(entry) for entry in value)


def check_sample_weights(value: ArrayLike, count: int, name: str = "sample_weights") -> AnyArray:
    """Return one weight per sequence, (count,).

    Raises
    ------
    TypeError, ValueError
        If they are not finite numbers of 0 or more, or all are 0.
    """
    check_not_masked(name, value)
    try:
        weights = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be {count} numbers, got {value!r:.100}") from None
    if weights.shape != (count,) or not np.isfinite(weights).all() or (weights < 0).any():
        bad = weights[~(np.isfinite(weights) & (weights >= 0))]
        value = f"shape {weights.shape}" if weights.shape != (count,) else f"{bad.flat[0]}"
        raise ValueError(f"{name} must be {count} finite numbers of 0 or more, got {value}")
    if not weights.any():  # in words that the checks of scikit-learn expect
        raise ValueError(f"{name} must have at least one above zero, got zero for all")
    return weights


def check_step_weights(
    weights: AnyArray | list[AnyArray], lengths: AnyArray, x: AnyArray | list[AnyArray]
) -> AnyArray | list[AnyArray]:
    """Return one weight per step: (N, T) for an array x, or a list of arrays (T_n,)."""
    expected = [(x.shape[1],)] * len(x) if isinstance(x, np.ndarray) else [(length,) for length in lengths.tolist()]
    shapes = [entry.shape for entry in weights]
    if shapes != expected:
        n = next((k for k, (a, b) in enumerate(zip(shapes, expected, strict=False)) if a != b), None)
        got = (
            f"{len(shapes)} entries"
            if n is None
            else f"shape {shapes[n]} for the {expected[n][0]} steps of sequence {n}"
        )
        raise ValueError(f"sample_weights must have one number per sequence or per step, got {got}")
    flat = weights.ravel() if isinstance(weights, np.ndarray) else np.concatenate(weights)
    check_sample_weights(flat, len(flat))
    if isinstance(weights, np.ndarray):
        return weights.astype(np.float64)
    return [entry.astype(np.float64) for entry in weights]


def with_axes_of(weights: AnyArray, y: AnyArray) -> AnyArray:
    """Return weights that broadcast to the targets."""
    return weights.reshape(weights.shape + (1,) * (y.ndim - weights.ndim))
