"""Invertible transformations of a series: logarithm and differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glasscell.core.types import Array
from glasscell.validation import boolean, positive_integer


@dataclass(frozen=True)
class SeriesTransformation:
    """Logarithm, then differences: z = (1 − B^a)(1 − B^b)… log y, B the shift by one step.

    Parameters
    ----------
    log : bool
        Take the logarithm; all values must be above 0.
    differences : sequence of int
        Lags: (1,) for changes, (12,) for changes from the same month of the year before, (12, 1) for both.

    Examples
    --------
    >>> yearly = SeriesTransformation(differences=(4,))
    >>> y = np.array([1.0, 2, 3, 4, 2, 3, 4, 6])
    >>> yearly.apply(y)
    array([1., 1., 1., 2.])
    >>> yearly.invert([1.0, 1.0], y)
    array([3., 4.])
    """

    log: bool = False
    differences: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        boolean("log", self.log)
        object.__setattr__(self, "differences", check_lags("differences", self.differences))

    @property
    def lost(self) -> int:
        """Number of values at the beginning that the differences use up."""
        return sum(self.differences)

    def to_working(self, y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return log y, or y without `log`: the scale on which differences are taken.

        Raises
        ------
        ValueError
            If `log` and a value is not above 0.
        """
        if not self.log:
            return y
        if y.size and not y.min() > 0:
            raise ValueError(f"log needs values above 0, got {y.min():g}")
        result: NDArray[np.float64] = np.log(y)
        return result

    def from_working(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return e^u, or u without `log`."""
        if not self.log:
            return u
        result: NDArray[np.float64] = np.exp(u)
        return result

    def apply(self, y: ArrayLike) -> NDArray[np.float64]:
        """Return the transformed series, (T − lost,) or (T − lost, C).

        Raises
        ------
        ValueError
            If the series has no more values than the differences use up, or `log` and a value is not above 0.
        """
        z = self.to_working(np.asarray(y, np.float64))
        if len(z) <= self.lost:
            raise ValueError(f"differences {self.differences} need more than {self.lost} values, got {len(z)}")
        with np.errstate(over="ignore", invalid="ignore"):  # of values that cannot be scaled, which is an error there
            for lag in self.differences:
                z = z[lag:] - z[:-lag]
        return z

    def invert(self, z: ArrayLike, history: ArrayLike) -> NDArray[np.float64]:
        """Return the values (k,) or (k, C) whose transformation after a history is z.

        Parameters
        ----------
        z : array (k,) or (k, C)
        history : array (T,) or (T, C)
            The values before, at least `lost` of them.
        """
        u = self.to_working(np.asarray(history, np.float64))
        if len(u) < self.lost:
            raise ValueError(f"history must have at least {self.lost} values, got {len(u)}")
        values, polynomial = list(u), self._polynomial
        for change in np.asarray(z, np.float64):
            values.append(change - sum(polynomial[j] * values[-j] for j in np.flatnonzero(polynomial)[1:]))
        return self.from_working(np.array(values[len(u) :]))

    def continuation(self, u: NDArray[np.float64], horizon: int, *, from_last: bool) -> NDArray[np.float64]:
        """Return the values that follow each step if the transformed series stays at 0, or at its last value.

        Parameters
        ----------
        u : array (T, C)
            On the working scale.
        horizon : int
            h
        from_last : bool
            Whether it stays at its last value.

        Returns
        -------
        array (T, h, C)
            NaN at steps with fewer values so far than the differences (one more with `from_last`) need.
        """
        polynomial = self._polynomial
        if from_last:
            polynomial = np.convolve(polynomial, [1.0, -1.0])
        order, (T, C) = len(polynomial) - 1, u.shape
        if not order:
            return np.zeros((T, horizon, C))
        result = np.full((T, horizon, C), np.nan)
        if order > T:
            return result
        lags = [int(j) for j in np.flatnonzero(polynomial)[1:]]
        rows = result[order - 1 :]  # of steps with enough values so far

        def value(k: int) -> NDArray[np.float64]:
            """Return the value k steps after each of these steps; k may be 0 or less."""
            return rows[:, k - 1] if k > 0 else u[order - 1 + k : T + k]

        for k in range(1, horizon + 1):
            rows[:, k - 1] = -sum(polynomial[j] * value(k - j) for j in lags)
        return result

    @property
    def _polynomial(self) -> Array:
        """Coefficients of Π (1 − B^lag)."""
        polynomial = np.array([1.0])
        for lag in self.differences:
            factor = np.zeros(lag + 1)
            factor[0], factor[lag] = 1, -1
            polynomial = np.convolve(polynomial, factor)
        return polynomial


def check_lags(name: str, lags: Sequence[int]) -> tuple[int, ...]:
    """Return lags as a tuple of positive integers."""
    if not isinstance(lags, list | tuple):
        raise TypeError(f"{name} must be a list of positive integers, got {lags!r}")
    return tuple(positive_integer(f"each of {name}", lag) for lag in lags)
