"""Forecasts with prediction intervals, and what all forecasting models share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import ceil
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glasscell.data.series.features import Observations, SeriesFeatures
from glasscell.data.series.series import Series, Values
from glasscell.validation import choice, positive_integer

Interval: TypeAlias = Literal["conformal", "quantile", "ensemble", "none"]
INTERVALS = ("conformal", "quantile", "ensemble", "none")
MAX_CALIBRATION_ORIGINS = 1000


class Forecast(NamedTuple):
    """A forecast of the next values, (h,), or (h, C) if the history had an axis of series; of n origins (n, h, …).

    Attributes
    ----------
    values : array
        Medians of a model with quantiles, otherwise means.
    lower, upper : array, or None
        Bounds of the prediction interval.
    level : float
        Probability that a value is within its interval.
    interval : {"conformal", "quantile", "ensemble", "none"}
        Method of the intervals.
    """

    values: Values
    lower: Values | None
    upper: Values | None
    level: float
    interval: Interval


def part_of(forecast: Forecast, index: Any) -> Forecast:
    """Return the values at an index of a forecast, with their bounds."""
    lower, upper = (None if bound is None else bound[index] for bound in (forecast.lower, forecast.upper))
    return forecast._replace(values=forecast.values[index], lower=lower, upper=upper)


class ForecastingModel(ABC):
    """Forecasts, calibration and intervals of a forecaster or an ensemble of them.

    Attributes
    ----------
    features : SeriesFeatures
    quantiles : tuple of float
        Empty for a model of the mean.
    residuals : array (n, h, C, Q), or None
        Of the calibration, on the working scale.
    """

    features: SeriesFeatures
    quantiles: tuple[float, ...]
    residuals: Values | None = None

    @property
    def horizon(self) -> int:
        """Number of steps that the model forecasts at once."""
        return self.features.horizon

    @property
    @abstractmethod
    def _weights_dtype(self) -> np.dtype[np.floating]:
        """Dtype of the weights, in which files have the residuals."""

    @abstractmethod
    def _members_from(self, series: Observations, origins: NDArray[np.intp], horizon: int) -> Values:
        """Return the outputs of each member from each origin, (M, n, horizon, C, Q), on the working scale."""

    def forecast(
        self,
        history: ArrayLike | Series,
        horizon: int | None = None,
        *,
        known_exogenous: ArrayLike | None = None,
        past_exogenous: ArrayLike | None = None,
        level: float = 0.8,
        interval: Interval | None = None,
    ) -> Forecast:
        """Forecast the values that follow a history.

        Parameters
        ----------
        history : array (T,) or (T, C), or Series
            All past observations; the model reads them from the first one.
        horizon : int, optional
            Number of steps. Default: that of the model. More steps are forecast in blocks: the model reads its own
            forecast of a block as if it were observed, and forecasts the next one.
        known_exogenous : array (T + horizon, K), optional
            Exogenous inputs of the history and of the future, up to the end of a block.
        past_exogenous : array (T, J), optional
        level : float
            Probability that a value is within its interval.
        interval : {"conformal", "quantile", "ensemble", "none"}, optional
            Method of the intervals. Default: "conformal" after :meth:`calibrate`, otherwise "quantile" if the model has
            the quantiles (1 ± level) / 2, otherwise "none".

        Returns
        -------
        Forecast
        """
        steps = self.horizon if horizon is None else positive_integer("horizon", horizon)
        series = self.features.observations("history", history, known_exogenous, past_exogenous, self._known(steps))
        result = self._forecast(series, np.array([len(series.values)]), steps, level, interval)
        return part_of(result, 0 if _has_series_axis(history) else (0, slice(None), 0))

    def rolling_forecast(
        self,
        series: ArrayLike | Series,
        origins: Sequence[int] | NDArray[np.intp],
        horizon: int | None = None,
        *,
        known_exogenous: ArrayLike | None = None,
        past_exogenous: ArrayLike | None = None,
        level: float = 0.8,
        interval: Interval | None = None,
    ) -> Forecast:
        """Forecast from several origins of one series; the forecast from origin t uses the first t values.

        Parameters
        ----------
        series : array (T,) or (T, C), or Series
        origins : sequence of int
            Increasing numbers of observations, at most T.
        horizon, known_exogenous, past_exogenous, level, interval
            As in :meth:`forecast`.

        Returns
        -------
        Forecast
            (n, horizon), or (n, horizon, C) if the series has an axis of series.
        """
        steps = self.horizon if horizon is None else positive_integer("horizon", horizon)
        places = self._origins(origins)
        observed = self.features.observations("series", series, known_exogenous, past_exogenous)
        if len(observed.values) < places[-1]:
            raise ValueError(f"origins must be at most {len(observed.values)}, got {places[-1]}")
        self._check_known(observed, int(places[-1]), steps)
        result = self._forecast(observed, places, steps, level, interval)
        return result if _has_series_axis(series) else part_of(result, (..., 0))

    def calibrate(
        self,
        series: ArrayLike | Series,
        steps: int,
        horizon: int | None = None,
        *,
        known_exogenous: ArrayLike | None = None,
        past_exogenous: ArrayLike | None = None,
    ) -> None:
        """Measure the errors of forecasts on the end of a series, which training must not use, for conformal intervals.

        Split conformal prediction: an interval is as wide as the errors at its step of the horizon were. A model with
        the quantiles of an interval widens these by the errors (Romano et al. 2019), and never narrows them. Coverage
        is at least `level` for exchangeable errors, and approximate for those of a series, which depend on each other.

        Parameters
        ----------
        series : array (T,) or (T, C), or Series
        steps : int
            Number of values at the end, at least the horizon. Each step from the one before them on whose forecast ends
            within them is an origin; of more than 1,000 the last ones are used.
        horizon : int, optional
            Largest horizon of intervals. Default: that of the model.
        known_exogenous, past_exogenous : array, optional
            As in :meth:`forecast`.
        """
        h = self.horizon if horizon is None else positive_integer("horizon", horizon)
        steps = positive_integer("steps", steps)
        observed = self.features.observations("series", series, known_exogenous, past_exogenous)
        T = len(observed.values)
        if not h <= steps < T - self.features.first:
            raise ValueError(
                f"steps must be from the horizon {h} to {T - self.features.first - 1} for a series of {T}, got {steps}"
            )
        self._check_known(observed, T - h, h)
        origins = np.arange(T - steps, T - h + 1)[-MAX_CALIBRATION_ORIGINS:]
        outputs = self._members_from(observed, origins, h).mean(axis=0)
        u = self.features.transformation.to_working(observed.values)
        residuals = u[origins[:, None] + np.arange(h)][..., None] - outputs
        largest, dtype = np.abs(residuals).max(), self._weights_dtype
        if not largest <= np.finfo(dtype).max:
            raise ValueError(
                f"series must have values whose errors are finite in {dtype}, got an error of {largest:.3g}"
            )
        self.residuals = residuals

    def _origins(self, origins: Sequence[int] | NDArray[np.intp]) -> NDArray[np.intp]:
        places = np.asarray(origins)
        if places.ndim != 1 or not places.size or places.dtype.kind not in "iu" or (np.diff(places) <= 0).any():
            raise ValueError(f"origins must be increasing integers, got {origins!r:.100}")
        if places[0] <= self.features.first:
            raise ValueError(f"origins must be at least {self.features.first + 1} for this model, got {places[0]}")
        return places.astype(np.intp)

    def _known(self, horizon: int) -> int:
        """Return the number of future steps at which known exogenous inputs are needed: whole blocks."""
        return ceil(horizon / self.horizon) * self.horizon

    def _check_known(self, series: Observations, origin: int, horizon: int) -> None:
        """Raise ValueError if the known exogenous inputs end before the last block of a forecast."""
        needed = origin + self._known(horizon)
        if self.features.known and len(series.known) < needed:
            raise ValueError(f"known_exogenous must have at least {needed} rows, got {len(series.known)}")

    def _forecast(
        self, series: Observations, origins: NDArray[np.intp], horizon: int, level: float, interval: Interval | None
    ) -> Forecast:
        """Return the forecasts (n, horizon, C) and their intervals."""
        return self._with_interval(self._members_from(series, origins, horizon), level, interval)

    def _with_interval(self, members: Values, level: float, interval: Interval | None) -> Forecast:
        """Return the mean of the members' outputs (M, n, horizon, C, Q) as a forecast with its intervals."""
        if not 0 < level < 1:
            raise ValueError(f"level must be between 0 and 1, got {level}")
        method = self._default_interval(level, members.shape[2]) if interval is None else interval
        choice("interval", method, INTERVALS)
        outputs = members.mean(axis=0)
        bounds = self._bounds(members, outputs, level, method)
        back = self.features.transformation.from_working
        lower, upper = (None, None) if bounds is None else map(back, bounds)
        return Forecast(back(outputs[..., self._point]), lower, upper, level, method)

    @property
    def _point(self) -> int:
        """Index of the median among the quantiles; 0 for a model of the mean."""
        return self.quantiles.index(0.5) if self.quantiles else 0

    def _pair(self, level: float) -> tuple[int, int] | None:
        """Return the indices of the quantiles (1 ± level) / 2; None if there are none."""
        indices = []
        for target in ((1 - level) / 2, (1 + level) / 2):
            close = [k for k, q in enumerate(self.quantiles) if abs(q - target) < 1e-9]
            indices += close
        return (indices[0], indices[1]) if len(indices) == 2 else None

    def _default_interval(self, level: float, horizon: int) -> Interval:
        if self.residuals is not None and self.residuals.shape[1] >= horizon:
            return "conformal"
        return "quantile" if self._pair(level) is not None and horizon <= self.horizon else "none"

    def _bounds(self, members: Values, outputs: Values, level: float, method: Interval) -> tuple[Values, Values] | None:
        """Return the bounds (n, horizon, C), on the working scale."""
        horizon = outputs.shape[1]
        if method == "none":
            return None
        if method == "quantile":
            pair = self._pair(level)
            if pair is None:
                raise ValueError(
                    f"level must have its quantiles (1 ± level) / 2 among {self.quantiles} for quantile intervals, "
                    f"got {level}"
                )
            if horizon > self.horizon:
                raise ValueError(f"horizon must be at most {self.horizon} for quantile intervals, got {horizon}")
            return outputs[..., pair[0]], outputs[..., pair[1]]
        residuals = self._residuals(horizon)
        if method == "ensemble":
            return _ensemble_bounds(members[..., self._point], residuals[..., self._point], level)
        return self._conformal_bounds(outputs, residuals, level)

    def _residuals(self, horizon: int) -> Values:
        if self.residuals is None:
            raise ValueError("interval must be 'quantile' or 'none' before calibrate()")
        if horizon > self.residuals.shape[1]:
            raise ValueError(
                f"horizon must be at most {self.residuals.shape[1]}, that of calibrate(), for intervals, got {horizon}"
            )
        return self.residuals[:, :horizon]

    def _conformal_bounds(self, outputs: Values, residuals: Values, level: float) -> tuple[Values, Values]:
        pair, n = self._pair(level), len(residuals)
        rank = ceil((n + 1) * level)
        if rank > n:
            raise ValueError(f"level must be at most {n / (n + 1):.4g} for {n} origins of calibrate(), got {level}")
        if pair is None:
            low = high = outputs[..., self._point]
            scores = np.abs(residuals[..., self._point])
        else:
            low, high = outputs[..., pair[0]], outputs[..., pair[1]]
            scores = np.maximum(-residuals[..., pair[0]], residuals[..., pair[1]])
        width = np.maximum(np.sort(scores, axis=0)[rank - 1], 0)  # errors of a calm time must not narrow them
        return low - width, high + width


def _has_series_axis(values: ArrayLike | Series) -> bool:
    """Return whether a series is (T, C), and not (T,)."""
    return isinstance(values, Series) or np.ndim(values) > 1


def _ensemble_bounds(members: Values, residuals: Values, level: float) -> tuple[Values, Values]:
    """Return normal bounds: variance between the members (M, n, h, C), plus the mean squared residual per step."""
    from statistics import NormalDist  # noqa: PLC0415 - only where it is used

    if len(members) < 2:
        raise ValueError("interval must be 'conformal', 'quantile' or 'none' for a single forecaster, got 'ensemble'")
    variance = members.var(axis=0, ddof=1) + np.square(residuals).mean(axis=0)
    half = NormalDist().inv_cdf((1 + level) / 2) * np.sqrt(variance)
    mean = members.mean(axis=0)
    return mean - half, mean + half
