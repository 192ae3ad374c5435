"""Minimise the speed q(s) = ½ ‖F(s) - s‖² from many starts: Newton's method, damped where it does not descend.

With r = F(s) - s and G = ∂F/∂s - 1, a Newton step solves G δ = -r. If q does not decrease by it, the step of Levenberg
(1944) and Marquardt (1963) solves (GᵀG + λ) δ = -Gᵀ r instead, with λ ten times larger after each failure and ten times
smaller after each success.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from glasscell.core.types import Array

ROUNDING = 1e-15  # relative to 1 + ‖s‖: a smaller residual is not pursued
MIN_DECREASE = 1e-4  # of q by a Newton step, relative
MIN_PROGRESS = 1e-6  # of q by a damped step, relative: below it the search has ended at a minimum
FIRST_DAMPING = 1e-3  # λ relative to ‖G‖²/n
MAX_DAMPING = 1e8
MAX_VALUES = 1 << 23  # of the Jacobians that are kept at a time


class Search(NamedTuple):
    """End points of a search: states (N, n) and residuals ‖F(s) - s‖ (N,)."""

    states: Array
    residuals: Array


def minimize_speed(
    step: Callable[[Array], Array], jacobians: Callable[[Array], Array], starts: Array, max_iterations: int
) -> Search:
    """Return the end of a search from each start.

    A search ends if the residual is that of rounding, if no step decreases q any more, or after `max_iterations`.

    Parameters
    ----------
    step, jacobians : callable
        F, from (N, n) to (N, n), and ∂F/∂s, (N, n, n).
    starts : array (N, n)
    max_iterations : int
    """
    N, n = starts.shape
    length = max(1, MAX_VALUES // (n * n))
    blocks = [starts[start : start + length] for start in range(0, N, length)]
    with np.errstate(over="ignore", invalid="ignore"):  # a step that leads there is not taken
        results = [_minimize_block(step, jacobians, block, max_iterations) for block in blocks]
    return Search(*(np.concatenate(arrays) for arrays in zip(*results, strict=True)))


def _minimize_block(
    step: Callable[[Array], Array], jacobians: Callable[[Array], Array], starts: Array, max_iterations: int
) -> Search:
    """Search from starts whose Jacobians are kept together."""
    s = starts.copy()
    n = s.shape[1]
    r, J = step(s) - s, jacobians(s)
    damping = np.zeros(len(s))
    ended = np.zeros(len(s), np.bool_)
    for _ in range(max_iterations):
        ended |= _norms(r) <= ROUNDING * (1 + _norms(s))
        k = np.flatnonzero(~ended)
        if not len(k):
            break
        G = J[k] - np.eye(n)
        scale = np.square(G).sum(axis=(1, 2)) / n + np.finfo(float).tiny
        trial = s[k] + _step(G, r[k], damping[k] * scale)
        r_trial = step(trial) - trial
        ratio = np.square(r_trial).sum(axis=1) / np.square(r[k]).sum(axis=1)
        better = ratio < np.where(damping[k] == 0, 1 - MIN_DECREASE, 1)
        ended[k] |= better & (ratio > 1 - MIN_PROGRESS)
        accepted, rejected = k[better], k[~better]
        s[accepted], r[accepted] = trial[better], r_trial[better]
        if len(accepted):
            J[accepted] = jacobians(s[accepted])
        damping[accepted] = np.where(damping[accepted] <= FIRST_DAMPING, 0, damping[accepted] / 10)
        damping[rejected] = np.maximum(damping[rejected] * 10, FIRST_DAMPING)
        ended[rejected] |= damping[rejected] > MAX_DAMPING
    return Search(s, _norms(r))


def _step(G: Array, r: Array, damping: Array) -> Array:
    """Return the Newton step where `damping` is 0, else that of Levenberg and Marquardt: (N, n)."""
    result = np.empty_like(r)
    newton, damped = np.flatnonzero(damping == 0), np.flatnonzero(damping > 0)
    if len(newton):
        result[newton] = _solve(G[newton], -r[newton])
    if len(damped):
        G_d, transposed = G[damped], G[damped].swapaxes(1, 2)
        A = transposed @ G_d + damping[damped, None, None] * np.eye(G.shape[1])
        result[damped] = _solve(A, -(transposed @ r[damped, :, None])[..., 0])
    return result


def _solve(A: Array, b: Array) -> Array:
    """Return the solutions of A x = b, (N, n); of singular systems the shortest least-squares solutions."""
    try:
        return np.linalg.solve(A, b[..., None])[..., 0]
    except np.linalg.LinAlgError:
        result = np.full_like(b, np.nan)
        for k in np.flatnonzero(np.isfinite(A).all(axis=(1, 2))):
            result[k] = np.linalg.lstsq(A[k], b[k], rcond=None)[0]
        return result


def _norms(vectors: Array) -> Array:
    norms: Array = np.linalg.norm(vectors, axis=1)
    return norms
