"""Gradient clipping, in place, and the norm of a gradient."""

from math import inf, isnan, sqrt

import numpy as np

from glasscell.core.blocking import norms, sum_of_squares
from glasscell.core.types import Array


@np.errstate(over="ignore", under="ignore")
def clip_by_global_norm(gradient: Array, max_norm: float) -> float:
    """Scale the gradient, in place, so that its norm is at most `max_norm`: Pascanu et al. (2013).

    The factor is min(1, max_norm / (norm + 1e-6)), as in PyTorch.

    Returns
    -------
    float
        The norm before clipping.
    """
    if not 0 <= max_norm < inf:
        raise ValueError(f"max_norm must be finite and 0 or more, got {max_norm!r}")
    norm = _norm(gradient)
    if norm + 1e-6 > max_norm:
        np.multiply(gradient, np.array(max_norm / (norm + 1e-6), gradient.dtype), out=gradient)
    return norm


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
    return float(norms(gradient))
