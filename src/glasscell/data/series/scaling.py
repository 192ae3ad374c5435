"""Scaling of what a forecaster reads and predicts: columns minus their mean, divided by their standard deviation."""

from __future__ import annotations

import numpy as np

from glasscell.core.types import Array
from glasscell.data.series.series import Values

SMALLEST_SCALE = 1e-12  # of the largest value: a smaller deviation is rounding


def mean_and_scale(columns: Values) -> tuple[Values, Values]:
    """Return the mean and the standard deviation of each column (n, I); 1 for one that varies by rounding alone.

    Raises
    ------
    ValueError
        If a column has values so large that its mean or its deviation is no number.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        mean, deviations = columns.mean(axis=0), columns.std(axis=0)
        constant = deviations <= SMALLEST_SCALE * np.abs(columns).max(axis=0)
    scale = np.where(constant, 1.0, deviations)
    wrong = np.flatnonzero(~np.isfinite(mean) | ~np.isfinite(scale))
    if len(wrong):
        largest = np.abs(columns[:, wrong[0]]).max()
        raise ValueError(
            "series and exogenous inputs must have values whose variance is a number, "
            f"got {largest:.3g} as the largest one: change its unit"
        )
    return mean, scale


def to_scaled(columns: Values, mean: Values, scale: Values, dtype: np.dtype[np.floating]) -> Array:
    """Return scaled columns in this dtype; NaN stays NaN.

    Raises
    ------
    ValueError
        If a value is too large for the dtype.
    """
    with np.errstate(over="ignore"):
        scaled: Array = ((columns - mean) / scale).astype(dtype)
    too_large = np.isinf(scaled)
    if too_large.any():
        largest = np.abs(columns[too_large]).max()
        raise ValueError(
            f"series and exogenous inputs must have values that are finite in {np.dtype(dtype)} after scaling, "
            f"got {largest:.3g}, where the largest deviation of the training part is {np.max(scale):.3g}"
        )
    return scaled
