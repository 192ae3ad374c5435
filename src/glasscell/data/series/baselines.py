"""Simple forecasts to compare with: naive, seasonal naive, and an autoregression by least squares."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from glasscell.data.series.series import Values, finite_values
from glasscell.validation import positive_integer


class SeasonalNaive:
    """Repeat the last season; with a season of 1 the last value.

    Parameters
    ----------
    season : int
        Number of steps of a season.
    """

    def __init__(self, season: int = 1) -> None:
        self.season = positive_integer("season", season)

    def forecast(self, history: ArrayLike, horizon: int) -> Values:
        """Return the forecast of the next values.

        Parameters
        ----------
        history : array (T,) or (T, C)
        horizon : int

        Returns
        -------
        array (horizon,) or (horizon, C)
        """
        horizon, values = positive_integer("horizon", horizon), _finite("history", history)
        if len(values) < self.season:
            raise ValueError(f"history must have at least a season of {self.season} values, got {len(values)}")
        last: Values = values[len(values) - self.season :]
        return last[np.arange(horizon) % self.season]


class LeastSquaresAR:
    """Autoregression y_t = a + Σ w_k y_{t−k}, k = 1 … p, for each series alone, by least squares; recursive forecasts.

    Parameters
    ----------
    values : array (T,) or (T, C)
        The training part, of more than 2 p + 1 values.
    order : int
        p

    Attributes
    ----------
    weights : array (p + 1, C)
        w_1 … w_p, then a.
    """

    def __init__(self, values: ArrayLike, order: int) -> None:
        self.order = p = positive_integer("order", order)
        series = _columns("values", values)
        if len(series) < 2 * p + 2:
            raise ValueError(f"order must be at most {(len(series) - 2) // 2} for {len(series)} values, got {p}")
        lagged = np.lib.stride_tricks.sliding_window_view(series[:-1], p, axis=0)[..., ::-1]  # (T - p, C, p)
        solutions = [
            np.linalg.lstsq(np.column_stack([lagged[:, c], np.ones(len(lagged))]), series[p:, c], rcond=None)[0]
            for c in range(series.shape[1])
        ]
        self.weights = np.stack(solutions, axis=1)

    def forecast(self, history: ArrayLike, horizon: int) -> Values:
        """Return the forecast of the next values; see :meth:`SeasonalNaive.forecast`."""
        horizon, series, p = positive_integer("horizon", horizon), _columns("history", history), self.order
        if len(series) < p:
            raise ValueError(f"history must have at least {p} values, got {len(series)}")
        values = np.empty((p + horizon, series.shape[1]))
        values[:p] = series[len(series) - p :]
        for t in range(p, p + horizon):
            values[t] = (values[t - p : t][::-1] * self.weights[:p]).sum(axis=0) + self.weights[p]
        return values[p:].reshape(horizon, *np.shape(history)[1:])


def _columns(name: str, values: ArrayLike) -> Values:
    """Return the values with an axis of series, (T, C)."""
    array = _finite(name, values)
    return array.reshape(len(array), -1)


def _finite(name: str, values: ArrayLike) -> Values:
    """Return finite values (T,) or (T, C)."""
    array = finite_values(name, values)
    if array.ndim not in (1, 2):
        raise ValueError(f"{name} must have shape (T,) or (T, C), got {array.shape}")
    return array
