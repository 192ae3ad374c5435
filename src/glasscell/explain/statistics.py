"""Tests of differences and their correction for the number of tests, without SciPy."""

from __future__ import annotations

from math import lgamma
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glasscell.core.types import Array

Correction: TypeAlias = Literal["benjamini-hochberg", "bonferroni"]
CORRECTIONS: tuple[Correction, ...] = ("benjamini-hochberg", "bonferroni")

MAX_TERMS = 10_000  # of the continued fraction: it needs O(√max(a, b))
TINY = 1e-300  # replaces a denominator of 0


def regularized_beta(x: ArrayLike, a: ArrayLike, b: ArrayLike) -> Array:
    """Return the regularised incomplete beta function I_x(a, b), of arrays that broadcast.

    The continued fraction of DLMF 8.17.22, https://dlmf.nist.gov/8.17.E22, by the modified Lentz algorithm.

    Parameters
    ----------
    x : array, from 0 to 1
    a, b : array, above 0
    """
    x, a, b = (np.array(value, np.float64) for value in np.broadcast_arrays(x, a, b))
    mirrored = x > (a + 1) / (a + b + 2)  # the fraction converges fast below: I_x(a, b) = 1 - I_{1-x}(b, a)
    x, a, b = np.where(mirrored, 1 - x, x), np.where(mirrored, b, a), np.where(mirrored, a, b)
    with np.errstate(divide="ignore", under="ignore"):
        front = np.exp(a * np.log(x) + b * np.log1p(-x) - _log_beta(a, b)) / a
        result = np.where(x > 0, front * _beta_fraction(x, a, b), 0.0)
    return np.where(mirrored, 1 - result, result)


def _beta_fraction(x: Array, a: Array, b: Array) -> Array:
    """Return 1 / (1 + d_1 / (1 + d_2 / (1 + …))), the fraction of DLMF 8.17.22."""
    c, d = np.ones_like(x), _nonzero(1 - (a + b) * x / (a + 1))
    d = 1 / d
    value = d
    for m in range(1, MAX_TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        factor = np.ones_like(x)
        for term in (even, odd):
            d, c = 1 / _nonzero(1 + term * d), _nonzero(1 + term / c)
            factor = factor * d * c
        value = value * factor
        if np.all(np.abs(factor - 1) < 1e-15):
            break
    return value


def _nonzero(value: Array) -> Array:
    return np.where(np.abs(value) < TINY, TINY, value)


def _log_beta(a: Array, b: Array) -> Array:
    log_gamma = np.frompyfunc(lgamma, 1, 1)
    result: Array = np.asarray(log_gamma(a) + log_gamma(b) - log_gamma(a + b), np.float64)
    return result


def t_test_p(t: ArrayLike, degrees: ArrayLike) -> Array:
    """Return the two-sided p-value of Student's t: I_{ν / (ν + t²)}(ν/2, 1/2)."""
    square, degrees = np.square(np.asarray(t, np.float64)), np.asarray(degrees, np.float64)
    return regularized_beta(degrees / (degrees + square), degrees / 2, 0.5)


def share_p(share: ArrayLike, explained: ArrayLike, residual: ArrayLike) -> Array:
    """Return the p-value of an explained share η² of a variance, that of F: I_{1 - η²}(residual/2, explained/2).

    Parameters
    ----------
    share : array, from 0 to 1
    explained, residual : array
        Degrees of freedom: classes - 1 and N - classes.
    """
    share, explained, residual = (np.asarray(value, np.float64) for value in (share, explained, residual))
    return regularized_beta(1 - share, residual / 2, explained / 2)


def adjust_p(p: NDArray[np.float64], correction: Correction) -> NDArray[np.float64]:
    """Return p-values adjusted for their number; NaN is no test.

    "benjamini-hochberg" controls the false discovery rate, the expected share of false ones among the significant
    ones, of tests that are independent or positively dependent: Benjamini & Hochberg (1995). "bonferroni" controls the
    probability of one or more false ones, whatever the dependence.
    """
    tests = p[~np.isnan(p)]
    m = len(tests)
    if correction == "bonferroni":
        return np.minimum(p * m, 1.0)
    order = np.argsort(tests)
    ranked = tests[order] * m / np.arange(1, m + 1)
    adjusted = np.empty(m)
    adjusted[order] = np.minimum(np.minimum.accumulate(ranked[::-1])[::-1], 1.0)
    result = np.full(p.shape, np.nan)
    result[~np.isnan(p)] = adjusted
    return result
