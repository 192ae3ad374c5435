"""Rolling-origin evaluation: forecasts from many origins of the test part, and their scores.

An origin t is the number of observations that a forecast uses: it forecasts the values t, t + 1, …, t + horizon − 1.
Models are fitted once, on the values before the first origin.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glasscell.data.series.baselines import LeastSquaresAR, SeasonalNaive
from glasscell.data.series.series import Values
from glasscell.validation import positive_integer


class IntervalScores(NamedTuple):
    """Scores of prediction intervals.

    Attributes
    ----------
    coverage : float
        Fraction of the values within their intervals.
    width : float
        Mean width, in the units of the series.
    """

    coverage: float
    width: float


def rolling_origins(length: int, first: int, horizon: int, step: int | None = None) -> NDArray[np.intp]:
    """Return the origins first, first + step, … whose forecasts end within a series.

    Parameters
    ----------
    length : int
        Number of values of the series.
    first : int
    horizon : int
    step : int, optional
        Default: the horizon, so that forecasts do not overlap.

    Raises
    ------
    ValueError
        If the horizon is longer than the values after the first origin.
    """
    horizon = positive_integer("horizon", horizon)
    step = horizon if step is None else positive_integer("step", step)
    if not 1 <= first <= length - horizon:
        raise ValueError(
            f"horizon must be at most the {max(0, length - first)} values after the first origin {first}, got {horizon}"
        )
    return np.arange(first, length - horizon + 1, step)


def actual_values(values: ArrayLike, origins: Sequence[int] | NDArray[np.intp], horizon: int) -> Values:
    """Return the values that follow each origin, (n, horizon) or (n, horizon, C)."""
    return np.asarray(values, np.float64)[np.asarray(origins)[:, None] + np.arange(horizon)]


def rolling_forecasts(
    forecast: Callable[[Values, int], ArrayLike],
    values: ArrayLike,
    origins: Sequence[int] | NDArray[np.intp],
    horizon: int,
) -> Values:
    """Return the forecast ``forecast(history, horizon)`` from each origin, (n, horizon) or (n, horizon, C)."""
    array = np.asarray(values, np.float64)
    return np.stack([np.asarray(forecast(array[:origin], horizon), np.float64) for origin in origins])


def baseline_forecasts(
    values: ArrayLike, origins: Sequence[int] | NDArray[np.intp], horizon: int, *, season: int, order: int
) -> dict[str, Values]:
    """Return the forecasts of the baselines from each origin: naive, seasonal naive, and a least-squares AR(order).

    The AR is fitted on the values before the first origin. Seasonal naive is left out if the season is 1, and the AR if
    there are too few values for its order.
    """
    array, first = np.asarray(values, np.float64), int(origins[0])
    models: dict[str, SeasonalNaive | LeastSquaresAR] = {"naive": SeasonalNaive(1)}
    if season > 1:
        models["seasonal naive"] = SeasonalNaive(season)
    if first >= 2 * order + 2:
        models[f"AR({order})"] = LeastSquaresAR(array[:first], order)
    return {name: rolling_forecasts(model.forecast, array, origins, horizon) for name, model in models.items()}


def seasonal_scale(values: ArrayLike, season: int) -> Values:
    """Return the mean absolute change over a season in the training part, () or (C,): the unit of MASE.

    Raises
    ------
    ValueError
        If the values are no more than a season, or never change over one.
    """
    array = np.asarray(values, np.float64)
    season = positive_integer("season", season)
    if len(array) <= season:
        raise ValueError(f"season must be less than the {len(array)} values of the training part, got {season}")
    scale: Values = np.abs(array[season:] - array[:-season]).mean(axis=0)
    if not np.min(scale) > 0:
        raise ValueError(f"values must change over a season of {season} steps, got a constant series")
    return scale


def mean_absolute_scaled_error(forecasts: ArrayLike, actual: ArrayLike, scale: ArrayLike) -> float:
    """Return the mean of |forecast − actual| / scale: MASE, Hyndman & Koehler (2006).

    Parameters
    ----------
    forecasts, actual : array (n, horizon) or (n, horizon, C)
    scale : array () or (C,)
        Of :func:`seasonal_scale`.
    """
    difference, unit = _difference(forecasts, actual), np.asarray(scale, np.float64)
    if unit.shape not in ((), difference.shape[2:]):
        raise ValueError(f"scale must have shape () or {difference.shape[2:]}, one for each series, got {unit.shape}")
    return float((np.abs(difference) / unit).mean())


def mean_absolute_error(forecasts: ArrayLike, actual: ArrayLike) -> float:
    """Return the mean of |forecast − actual|: MAE."""
    return float(np.abs(_difference(forecasts, actual)).mean())


def interval_scores(lower: ArrayLike, upper: ArrayLike, actual: ArrayLike) -> IntervalScores:
    """Return coverage and mean width of intervals."""
    low, high, values = (np.asarray(array, np.float64) for array in (lower, upper, actual))
    _check_shape("lower", low, values)
    _check_shape("upper", high, values)
    return IntervalScores(float(((low <= values) & (values <= high)).mean()), float((high - low).mean()))


def _difference(forecasts: ArrayLike, actual: ArrayLike) -> Values:
    predicted, values = np.asarray(forecasts, np.float64), np.asarray(actual, np.float64)
    _check_shape("forecasts", predicted, values)
    difference: Values = predicted - values
    return difference


def _check_shape(name: str, array: Values, actual: Values) -> None:
    """Raise ValueError unless an array has the shape of the actual values; NumPy would repeat it along an axis."""
    if array.shape != actual.shape:
        raise ValueError(f"{name} must have the shape of the actual values, {actual.shape}, got {array.shape}")
