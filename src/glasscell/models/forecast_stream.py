"""A forecaster as a stream: one observation in, one forecast out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from glasscell.core.types import Array
from glasscell.data.series.series import Values, finite_values
from glasscell.models.forecast import Forecast, ForecastingModel, Interval, part_of
from glasscell.stream import Stream


class ForecastStream:
    """A forecaster that takes one observation per call. ``forecaster.forecast_stream()`` creates it.

    The weights are read when the stream is created; scaling and calibration at every push. Memory and time of a push do
    not grow: the stream keeps the state of the LSTM, and as many observations as differences and lags need.

    Parameters
    ----------
    model : Forecaster
    stream : Stream
        Of its layers.
    scaled, to_working : callable
        From inputs to scaled ones, and from outputs and a continuation to values on the working scale.

    Examples
    --------
    >>> import glasscell as gc
    >>> stream = gc.Forecaster(horizon=3, hidden_size=8, differences=(1,)).forecast_stream()
    >>> stream.push(5.0) is None  # a difference needs two observations
    True
    >>> stream.push(5.5).values.shape
    (3,)
    """

    def __init__(
        self,
        model: ForecastingModel,
        stream: Stream[Any],
        scaled: Callable[[Values], Array],
        to_working: Callable[[Array, Values], Values],
    ) -> None:
        self._model, self._stream, self._scaled, self._to_working = model, stream, scaled, to_working
        self._no_outputs = np.zeros((1, 1, model.horizon, model.features.targets, max(1, len(model.quantiles))))
        self._checked: tuple[object, ...] = ()  # level, method and calibration of intervals that are possible
        self.reset()

    @property
    def state(self) -> dict[str, Any]:
        """A copy of all that a push changes: state of the layers, and the observations that are kept.

        It can be set to a state of a stream of the same model, such as one that was pickled. If the value does not fit,
        an error is raised and the state is unchanged.
        """
        return {"layers": self._stream.state, "values": self._values.copy(), "past_exogenous": self._past.copy()}

    @state.setter
    def state(self, state: Mapping[str, Any]) -> None:
        features = self._model.features
        arrays = []
        for name, columns in (("values", features.targets), ("past_exogenous", features.past)):
            array = finite_values(f"state[{name!r}]", state[name]).copy()
            if array.ndim != 2 or array.shape[1] != columns or len(array) != len(state["values"]):
                raise ValueError(f"state[{name!r}] must have shape (n, {columns}), got {array.shape}")
            arrays.append(array)
        self._stream.state = state["layers"]
        self._values, self._past = arrays

    def _check_interval(self, level: float, interval: Interval | None) -> None:
        """Raise the errors of an interval before the state changes."""
        calibration = self._model.residuals
        if self._checked[:2] != (level, interval) or self._checked[2] is not calibration:
            self._model._with_interval(self._no_outputs, level, interval)  # noqa: SLF001 - a part of the model
            self._checked = level, interval, calibration

    def reset(self) -> None:
        """Forget all observations."""
        features = self._model.features
        self._values = np.empty((0, features.targets))
        self._known, self._past = np.empty((0, features.known)), np.empty((0, features.past))
        self._stream.reset()

    def push(
        self,
        observation: ArrayLike,
        *,
        known_exogenous: ArrayLike | None = None,
        past_exogenous: ArrayLike | None = None,
        level: float = 0.8,
        interval: Interval | None = None,
    ) -> Forecast | None:
        """Take an observation, and forecast the values that follow it.

        Parameters
        ----------
        observation : float or array (C,)
        known_exogenous : array (horizon + 1, K), optional
            Exogenous inputs now and at the steps that are forecast.
        past_exogenous : array (J,), optional
        level, interval
            As in :meth:`Forecaster.forecast`.

        Returns
        -------
        Forecast, or None
            (h,) for a number, (h, C) for an array; None while there are fewer observations than differences and lags
            need.

        Raises
        ------
        TypeError, ValueError
            If a value is not finite or has the wrong shape. The state is unchanged.
        """
        features = self._model.features
        known = None if known_exogenous is None else np.reshape(known_exogenous, (-1, features.known or 1))
        past = None if past_exogenous is None else np.reshape(past_exogenous, (1, -1))
        new = features.observations("observation", np.reshape(observation, (1, -1)), known, past, features.horizon)
        start = max(0, len(self._values) - features.first)
        values = np.concatenate([self._values[start:], new.values])
        past_rows = np.concatenate([self._past[start:], new.past])
        # Earlier rows of known inputs are not read again: only the number of rows before the last one counts.
        known_rows = np.concatenate([np.zeros((len(values) - 1, features.known)), new.known])
        if len(values) <= features.first:
            features.transformation.to_working(new.values)
            self._values, self._past = values, past_rows
            return None
        series = new._replace(values=values, known=known_rows, past=past_rows)
        self._check_interval(level, interval)
        outputs = self._stream.push(self._scaled(features.inputs(series)[-1]))
        self._values, self._past = values, past_rows
        working = self._to_working(outputs[None], features.continuation(series)[-1:])
        result = self._model._with_interval(working[None], level, interval)  # noqa: SLF001
        return part_of(result, 0 if np.ndim(observation) else (0, slice(None), 0))
