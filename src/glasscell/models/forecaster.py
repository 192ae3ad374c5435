"""An LSTM that forecasts a series."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from glasscell.core.quantile_loss import QuantileLoss, check_quantiles
from glasscell.core.types import Array
from glasscell.data.series.features import Observations, SeriesFeatures
from glasscell.data.series.scaling import mean_and_scale, to_scaled
from glasscell.data.series.series import Series, Values
from glasscell.data.series.transformation import SeriesTransformation, check_lags
from glasscell.data.series.windows import WindowData
from glasscell.layers import LSTM, Linear, Seed
from glasscell.layers.dropout import Dropout
from glasscell.models.forecast import ForecastingModel
from glasscell.models.forecaster_files import RESIDUALS, check_residuals, check_scaling, check_sizes
from glasscell.models.sequential import Sequential
from glasscell.validation import as_generator, boolean, non_negative_integer, positive_integer, probability

if TYPE_CHECKING:
    from glasscell.atomic_files import StrPath
    from glasscell.models.forecast_stream import ForecastStream

SCALING = ("input_mean", "input_scale", "target_mean", "target_scale")  # attributes in files
DEFAULT_WINDOW = 64


class Forecaster(ForecastingModel, Sequential):
    """An LSTM that reads a series step by step, with a linear readout that forecasts the next values at every step.

    The LSTM reads transformed values (logarithm, differences), lagged ones, and exogenous inputs. The readout predicts
    corrections to a continuation of the series: its last value or, with differences, its last changes. Both are scaled.
    Forecasts are direct up to the horizon, one output for each step; longer ones are recursive, in blocks.

    Parameters
    ----------
    horizon : int
        h, the number of steps to forecast at once.
    hidden_size, num_layers : int
    targets : int
        C, the number of series that are forecast together.
    known_exogenous, past_exogenous : int
        K and J: numbers of exogenous inputs whose future is known (calendar, prices) and not.
    log : bool
        Model the logarithm of the values.
    differences : sequence of int
        Lags of differences that are taken one after the other: (1,) removes a trend, (12,) the season of monthly data.
    from_last : bool, optional
        Whether outputs are corrections to the last transformed value; otherwise to 0. Default: True, unless 1 is in
        `differences`.
    lags : sequence of int
        Lags of further inputs: transformed values this number of steps earlier.
    quantiles : sequence of float
        Quantiles that are forecast, 0.5 among them; () for the mean.
    dropout : float
        Dropout on the outputs of each LSTM layer.
    dtype : float32 or float64
    seed : int or numpy.random.Generator, optional
        None draws nothing: all weights are 0.

    Attributes
    ----------
    features : SeriesFeatures
        Inputs and targets, computed from a series.
    input_mean, input_scale : array (I,)
    target_mean, target_scale : array (C,)
        Scaling, fitted by :meth:`training_data`.
    residuals : array (n, h, C, Q), or None
        Of :meth:`calibrate`.

    Examples
    --------
    >>> import glasscell as gc
    >>> y = 10 + np.sin(np.arange(200) * 2 * np.pi / 12)
    >>> model = gc.Forecaster(horizon=12, hidden_size=8)
    >>> history = gc.fit(model, model.training_data(y, held_out=40), updates=3)
    >>> model.calibrate(y, steps=40)
    >>> forecast = model.forecast(y)
    >>> forecast.values.shape, forecast.lower.shape, forecast.interval
    ((12,), (12,), 'conformal')
    """

    def __init__(
        self,
        horizon: int,
        hidden_size: int = 32,
        num_layers: int = 1,
        *,
        targets: int = 1,
        known_exogenous: int = 0,
        past_exogenous: int = 0,
        log: bool = False,
        differences: Sequence[int] = (),
        from_last: bool | None = None,
        lags: Sequence[int] = (),
        quantiles: Sequence[float] = (0.1, 0.5, 0.9),
        dropout: float = 0.0,
        dtype: DTypeLike = np.float32,
        seed: Seed | None = 0,
    ) -> None:
        transformation = SeriesTransformation(log, check_lags("differences", differences))
        if from_last is None:
            from_last = 1 not in transformation.differences
        self.features = SeriesFeatures(
            positive_integer("horizon", horizon),
            positive_integer("targets", targets),
            non_negative_integer("known_exogenous", known_exogenous),
            non_negative_integer("past_exogenous", past_exogenous),
            transformation,
            boolean("from_last", from_last),
            check_lags("lags", lags),
        )
        self.quantiles = check_quantiles(quantiles) if len(quantiles) else ()
        if self.quantiles and 0.5 not in self.quantiles:
            raise ValueError(f"quantiles must include 0.5, the median, or be (), got {self.quantiles}")
        self.dropout = probability("dropout", dropout)
        I, C = self.features.input_size, self.features.targets
        H, L = positive_integer("hidden_size", hidden_size), positive_integer("num_layers", num_layers)
        rng = None if seed is None else as_generator(seed)
        lstm = LSTM(I, H, L, dropout=self.dropout if L > 1 else 0.0, dtype=dtype, seed=rng)
        readout = Linear(H, self.features.horizon * C * max(1, len(self.quantiles)), dtype=dtype, seed=rng)
        if self.dropout:
            super().__init__([lstm, Dropout(self.dropout), readout], ["lstm", "dropout", "readout"], seed=None)
        else:
            super().__init__([lstm, readout], ["lstm", "readout"], seed=None)
        self.input_mean, self.input_scale = np.zeros(I), np.ones(I)
        self.target_mean, self.target_scale = np.zeros(C), np.ones(C)

    @property
    def lstm(self) -> LSTM:
        """The LSTM."""
        return self._layers[0]  # type: ignore[return-value] # the constructor puts it there

    @property
    def readout(self) -> Linear:
        """The map from its hidden states to scaled corrections, (h, C, Q) in one vector."""
        return self._layers[-1]  # type: ignore[return-value]

    # Training

    def training_data(
        self,
        series: ArrayLike | Series,
        *,
        window: int | None = None,
        burn_in: int | None = None,
        validation: int = 0,
        held_out: int = 0,
        known_exogenous: ArrayLike | None = None,
        past_exogenous: ArrayLike | None = None,
    ) -> WindowData:
        """Fit the scaling on the training part of a series, and return its windows as data for :func:`glasscell.fit`.

        The series is divided in order of time: the training part, `validation` values, `held_out` values.

        Parameters
        ----------
        series : array (T,) or (T, C), or Series
        window : int, optional
            Steps of a window. Default: the larger of 64 and four horizons, or the training part if that is shorter.
        burn_in : int, optional
            Steps at the beginning of each window whose forecasts do not count. Default: a third of the window.
        validation : int
            Values that are forecast by evaluations during training; 0 or at least the horizon.
        held_out : int
            Values at the end that training does not use, such as those of :meth:`calibrate` and of a test.
        known_exogenous, past_exogenous : array (T, K) and (T, J), optional

        Returns
        -------
        WindowData
            Its loss is the quantile loss, or the squared error of a model of the mean.

        Raises
        ------
        ValueError
            If a part is too short, a series is constant, or a series or exogenous input has NaN or too large values.
        """
        observed = self.features.observations("series", series, known_exogenous, past_exogenous)
        h, first, T = self.features.horizon, self.features.first, len(observed.values)
        validation, held_out = (
            non_negative_integer("validation", validation),
            non_negative_integer("held_out", held_out),
        )
        if 0 < validation < h:
            raise ValueError(f"validation must be 0 or at least the horizon {h}, got {validation}")
        stop = T - validation - held_out  # of the training part
        steps = stop - h - first
        if steps < 2:
            raise ValueError(
                f"series must have at least {first + h + 2} values before the {validation + held_out} of validation "
                f"and held_out, got {max(0, stop)}"
            )
        with np.errstate(over="ignore", invalid="ignore"):  # what is too large is refused below
            inputs, targets = self.features.inputs(observed), self.features.corrections(observed)
        read = steps if self.features.known else stop - first  # known inputs of later steps are after the training part
        self._fit_scaling(observed.values[:stop], inputs[:read], targets[:steps])
        window = min(max(DEFAULT_WINDOW, 4 * h), steps) if window is None else window
        count = T - held_out - h - first
        scaled = to_scaled(targets[:count], self.target_mean, self.target_scale, self.dtype)
        return WindowData(
            self._scaled(inputs[:count]),
            scaled.reshape(count, -1),
            training=steps,
            window=window,
            burn_in=window // 3 if burn_in is None else burn_in,
            validation=validation - h + 1 if validation else 0,
            loss=QuantileLoss(self.quantiles) if self.quantiles else "squared_error",
        )

    def _fit_scaling(self, values: Values, inputs: Values, targets: Values) -> None:
        """Set means and standard deviations; 1 for what does not vary after the transformation."""
        constant = np.flatnonzero(np.ptp(values, axis=0) == 0)
        if len(constant):
            raise ValueError(f"series must vary in the training part, got {values[0, constant[0]]:g} at every step")
        scalings = mean_and_scale(inputs), mean_and_scale(targets.reshape(-1, self.features.targets))
        (self.input_mean, self.input_scale), (self.target_mean, self.target_scale) = scalings
        self.residuals = None

    def _scaled(self, inputs: Values) -> Array:
        return to_scaled(inputs, self.input_mean, self.input_scale, self.dtype)

    @property
    def training_defaults(self) -> dict[str, Any]:
        """Arguments of :func:`glasscell.fit`, if they are not passed."""
        from glasscell.core.optimizers import Adam  # noqa: PLC0415 - only training needs it

        return {"updates": 400, "batch_size": 32, "optimizer": Adam(0.01), "schedule": "linear"}

    # Forecasts

    def inputs(
        self,
        history: ArrayLike | Series,
        *,
        known_exogenous: ArrayLike | None = None,
        past_exogenous: ArrayLike | None = None,
    ) -> Array:
        """Return what the LSTM reads of a history, (T − first, I): scaled inputs, for `trace` and other methods.

        Parameters
        ----------
        history, known_exogenous, past_exogenous
            As in :meth:`forecast`.
        """
        observed = self.features.observations("history", history, known_exogenous, past_exogenous, self.horizon)
        return self._scaled(self.features.inputs(observed))

    @property
    def _weights_dtype(self) -> np.dtype[np.floating]:
        return self.dtype

    def _members_from(self, series: Observations, origins: NDArray[np.intp], horizon: int) -> Values:
        """Return the outputs from each origin, (1, n, horizon, C, Q): one pass, unless the horizon needs several."""
        if horizon > self.horizon:
            return np.stack([self._recursive(series, int(origin), horizon) for origin in origins])[None]
        used = int(origins[-1])
        observed = Observations(series.values[:used], series.known, series.past[:used])
        inputs = self.features.inputs(observed)
        last = origins - 1
        outputs = self(self._scaled(inputs)[None])[0]
        return self.to_working(outputs[last - self.features.first], self.features.continuation(observed)[last])[
            None, :, :horizon
        ]

    def _recursive(self, series: Observations, origin: int, horizon: int) -> Values:
        """Return the outputs from one origin, (horizon, C, Q), in blocks that read the forecasts of earlier ones."""
        h, T = self.horizon, origin
        if self.features.past:
            raise ValueError(f"horizon must be at most {h} with past_exogenous, whose future is unknown, got {horizon}")
        values, states, blocks, start = series.values[:T], None, list[Values](), 0
        while len(blocks) * h < horizon:
            observed = Observations(values, series.known, np.zeros((len(values), 0)))
            inputs = self._scaled(self.features.inputs(observed)[start:])
            outputs, states, _ = self.forward(inputs[None], states)
            blocks.append(self.to_working(outputs[0, -1:], self.features.continuation(observed)[-1:])[0])
            following = self.features.transformation.from_working(blocks[-1][..., self._point])
            start, values = start + len(inputs), np.concatenate([values, following])
        return np.concatenate(blocks)[:horizon]

    def to_working(self, outputs: Array, continuation: Values) -> Values:
        """Return outputs of the readout (n, h · C · Q) as ordered quantiles (n, h, C, Q) on the working scale."""
        h, C = self.features.horizon, self.features.targets
        corrections = outputs.astype(np.float64).reshape(len(outputs), h, C, -1)
        corrections = corrections * self.target_scale[:, None] + self.target_mean[:, None]
        values: Values = np.sort(corrections + continuation[..., None], axis=-1)
        return values

    def forecast_stream(self) -> ForecastStream:
        """Return a stream that takes one observation at a time and returns the forecast from it.

        Its forecasts are those of :meth:`forecast` with all observations so far as the history, to rounding.
        """
        from glasscell.models.forecast_stream import ForecastStream  # noqa: PLC0415 - only where it is used

        return ForecastStream(self, self.stream(), self._scaled, self.to_working)

    # Files

    @property
    def config(self) -> dict[str, Any]:
        """Sizes, options and scaling, as in files."""
        features = self.features
        sizes = {"horizon": features.horizon, "hidden_size": self.lstm.hidden_size, "num_layers": self.lstm.num_layers}
        counts = {"targets": features.targets, "known_exogenous": features.known, "past_exogenous": features.past}
        transformation = {"log": features.transformation.log, "differences": list(features.transformation.differences)}
        options = {"from_last": features.from_last, "lags": list(features.lags), "quantiles": list(self.quantiles)}
        scaling = {"scaling": {name: getattr(self, name).tolist() for name in SCALING}}
        return {**sizes, **counts, **transformation, **options, "dropout": self.dropout, **scaling}

    def save(self, path: StrPath) -> None:
        """Write the model with its scaling and calibration; see :func:`glasscell.checkpoint.save`."""
        from glasscell import checkpoint  # noqa: PLC0415 - not paid for by `import glasscell`

        residuals = {} if self.residuals is None else {RESIDUALS: self.residuals.astype(self.dtype)}
        checkpoint.save(checkpoint.Checkpoint(type(self).__name__, self.config, self.to_torch() | residuals), path)

    @classmethod
    def from_weights(cls, config: Mapping[str, Any], weights: Mapping[str, Array]) -> Self:
        """Return the model that :attr:`config` and the weights of a file describe."""
        options, weights = dict(config), dict(weights)
        scaling, residuals = options.pop("scaling"), weights.pop(RESIDUALS, None)
        check_sizes(options, weights)
        model = cls(**options, dtype=next(iter(weights.values())).dtype, seed=None)
        model._load_named_weights(weights)
        I, C = model.features.input_size, model.features.targets
        sizes = dict(zip(SCALING, (I, I, C, C), strict=True))
        for name, array in check_scaling(scaling, sizes).items():
            setattr(model, name, array)
        if residuals is not None:
            model.residuals = check_residuals(residuals, model)
        return model

    def __repr__(self) -> str:
        options = {name: value for name, value in self.config.items() if name != "scaling"}
        return f"Forecaster({', '.join(f'{name}={value!r}' for name, value in options.items())}, dtype={self.dtype})"
