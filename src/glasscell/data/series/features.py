"""Inputs and targets of a forecaster, computed from a series, and forecasts computed from its outputs.

At step t the inputs are the transformed values z_t, z_{t − lag} for each lag, the past exogenous inputs at t, and the
known exogenous inputs at t, t + 1, …, t + h. The targets are the h next values minus their continuation, on the working
scale: see :meth:`SeriesTransformation.continuation`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from glasscell.data.series.series import Series, Values, finite_values
from glasscell.data.series.transformation import SeriesTransformation


class Observations(NamedTuple):
    """A series as arrays.

    Attributes
    ----------
    values : array (T, C)
    known : array (T or more, K)
    past : array (T, J)
    """

    values: Values
    known: Values
    past: Values


@dataclass(frozen=True)
class SeriesFeatures:
    """What a forecaster computes from a series.

    Attributes
    ----------
    horizon : int
        h
    targets, known, past : int
        C, K and J: number of series, and of exogenous inputs known in the future and not.
    transformation : SeriesTransformation
    from_last : bool
        Whether targets are changes from the last transformed value.
    lags : tuple of int
    """

    horizon: int
    targets: int
    known: int
    past: int
    transformation: SeriesTransformation
    from_last: bool
    lags: tuple[int, ...]

    @property
    def first(self) -> int:
        """The first step that has all inputs."""
        return self.transformation.lost + max(self.lags, default=0)

    @property
    def input_size(self) -> int:
        """Return I, the number of inputs at a step."""
        return self.targets * (1 + len(self.lags)) + self.past + self.known * (self.horizon + 1)

    def observations(
        self,
        name: str,
        values: ArrayLike | Series,
        known_exogenous: ArrayLike | None,
        past_exogenous: ArrayLike | None,
        future: int | None = None,
    ) -> Observations:
        """Check a series and its exogenous inputs.

        Parameters
        ----------
        name : str
            Of `values` in errors.
        values : array (T,) or (T, C), or Series
        known_exogenous, past_exogenous : array, optional
            None for a Series, which contains them.
        future : int, optional
            Steps after T at which known exogenous inputs are needed. Default: T rows or more are accepted.
        """
        exact = not isinstance(values, Series) and future is not None  # a Series may have more future rows
        if isinstance(values, Series):
            if known_exogenous is not None or past_exogenous is not None:
                raise ValueError("known_exogenous and past_exogenous must be None for a Series, which contains them")
            known_exogenous = values.known_exogenous if values.known_exogenous.shape[1] else None
            past_exogenous = values.past_exogenous if values.past_exogenous.shape[1] else None
            values = values.values
        array = finite_values(name, values)
        if array.ndim == 1 and self.targets == 1:
            array = array[:, None]
        if array.ndim != 2 or array.shape[1] != self.targets:
            shapes = "(T,) or (T, 1)" if self.targets == 1 else f"(T, C) with C = {self.targets}"
            raise ValueError(f"{name} must have shape {shapes}, got {array.shape}")
        T = len(array)
        known = _exogenous("known_exogenous", known_exogenous, self.known, T + (future or 0), exact=exact)
        past = _exogenous("past_exogenous", past_exogenous, self.past, T, exact=True)
        return Observations(array, known, past)

    def inputs(self, series: Observations) -> Values:
        """Return the inputs of steps `first` to T − 1, (T − first, I); NaN where known exogenous inputs end earlier.

        Raises
        ------
        ValueError
            If the series is too short.
        """
        values, first, T = series.values, self.first, len(series.values)
        if first >= T:
            raise ValueError(f"history must have at least {first + 1} values for these differences and lags, got {T}")
        z = self.transformation.apply(values)
        steps = np.arange(first, T) - self.transformation.lost
        parts = [z[steps], *(z[steps - lag] for lag in self.lags), series.past[first:T]]
        if self.known:
            known = np.full((T + self.horizon, self.known), np.nan)
            rows = min(len(known), len(series.known))
            known[:rows] = series.known[:rows]
            parts += [known[first + k : T + k] for k in range(self.horizon + 1)]
        return np.concatenate(parts, axis=1)

    def corrections(self, series: Observations) -> Values:
        """Return the targets of steps `first` to T − 1, (T − first, h, C); NaN where later values are missing."""
        u = self.transformation.to_working(series.values)
        following = np.full((len(u), self.horizon, self.targets), np.nan)
        for k in range(min(self.horizon, len(u) - 1)):
            following[: len(u) - k - 1, k] = u[k + 1 :]
        return following[self.first :] - self.continuation(series)[self.first :]

    def continuation(self, series: Observations) -> Values:
        """Return the continuation of the series after each step, (T, h, C), on the working scale."""
        u = self.transformation.to_working(series.values)
        return self.transformation.continuation(u, self.horizon, from_last=self.from_last)


def _exogenous(name: str, value: ArrayLike | None, columns: int, rows: int, *, exact: bool) -> Values:
    """Return exogenous inputs (rows, columns), or of at least `rows` rows."""
    if not columns:
        if value is not None:
            raise ValueError(f"{name} must be None for a forecaster without them, got {np.shape(value)}")
        return np.zeros((rows, 0))
    if value is None:
        raise ValueError(f"{name} must be passed: the forecaster has {columns} of them")
    array = finite_values(name, value)
    if array.ndim == 1 and columns == 1:
        array = array[:, None]
    if array.ndim != 2 or array.shape[1] != columns or len(array) < rows or (exact and len(array) > rows):
        raise ValueError(f"{name} must have shape ({rows}, {columns}), got {np.shape(value)}")
    return array
