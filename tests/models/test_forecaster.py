"""Laws of forecasters: nothing after the origin is read, all ways to forecast agree, files keep everything."""

import copy
import pickle
import re
from functools import partial

import numpy as np
import pytest
from case_loops import loop_over

import glasscell as gc
from glasscell import checkpoint
from glasscell.data.series.evaluation import actual_values, interval_scores
from glasscell.models import Forecast

OPTIONS = {
    "plain": {},
    "log and seasons": {"log": True, "differences": (6,), "lags": (2, 5)},
    "twice": {"differences": (6, 1), "dropout": 0.2, "num_layers": 2},
    "mean": {"differences": (1,), "quantiles": (), "dtype": np.float64},
    "around 0": {"from_last": False, "quantiles": (0.05, 0.25, 0.5, 0.75, 0.95)},
}
each_kind = pytest.mark.parametrize("options", OPTIONS.values(), ids=list(OPTIONS))


@pytest.fixture
def y(rng):
    """A positive series with a season of 6 and a trend."""
    t = np.arange(90)
    return 20 + 0.1 * t + 5 * np.sin(t * 2 * np.pi / 6) + rng.normal(size=90)


def trained(y, updates=6, horizon=4, held_out=20, **options):
    model = gc.Forecaster(horizon, 6, **options)
    gc.fit(model, model.training_data(y, window=24, held_out=held_out), updates)
    return model


def assert_equal_forecasts(one, other, **tolerance):
    for a, b in zip(one[:3], other[:3], strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_allclose(a, b, **({"rtol": 0, "atol": 0} | tolerance))
    assert one[3:] == other[3:]


# Forecasts


@each_kind
def test_rolling_stream_and_single_forecasts_agree(y, options):
    model = trained(y, **options)
    model.calibrate(y, 20)
    stream, first = model.forecast_stream(), model.features.first
    pushed = {t + 1: stream.push(value) for t, value in enumerate(y)}
    assert [t for t, forecast in pushed.items() if forecast is None] == list(range(1, first + 1))
    origins = np.arange(first + 1, 91, 7)
    rolled = model.rolling_forecast(y, origins)
    for k, origin in enumerate(origins):
        single = model.forecast(y[:origin])
        assert single.values.shape == single.lower.shape == (4,)
        assert_equal_forecasts(
            single, rolled._replace(**{f: getattr(rolled, f)[k] for f in rolled._fields[:3]}), rtol=1e-5
        )
        assert_equal_forecasts(single, pushed[origin], rtol=1e-5)
    stream.reset()
    assert stream.push(y[0]) is None or first == 0


@each_kind
def test_longer_forecasts_read_their_own_blocks(y, options):
    model = trained(y, **options)
    long = model.forecast(y, 10, interval="none").values
    history = y
    for start in (0, 4, 8):
        block = model.forecast(history, interval="none").values
        np.testing.assert_allclose(long[start : start + 4], block[: 10 - start], rtol=1e-5)
        history = np.concatenate([history, long[start : start + 4]])


@each_kind
def test_a_forecast_of_a_shifted_or_scaled_series_is_shifted_or_scaled(y, options):
    """The scaling, fitted on the training part, and the logarithm remove the units."""
    if options.get("log"):
        forecasts = [trained(scale * y, **options).forecast(scale * y).values / scale for scale in (1, 1000)]
    else:
        forecasts = [(trained(100 * y + 7, **options).forecast(100 * y + 7).values - 7) / 100]
        forecasts.append(trained(y, **options).forecast(y).values)
    np.testing.assert_allclose(*forecasts, rtol=1e-3)


def test_nothing_after_the_parts_is_read(y, rng):
    """Neither scaling, training, calibration nor a forecast changes with values that come later."""
    changed = y.copy()
    changed[60:] = rng.normal(size=30) + 50
    models = [trained(series, held_out=30, differences=(6,)) for series in (y, changed)]
    np.testing.assert_array_equal(models[0].parameters.vector, models[1].parameters.vector)
    for name in ("input_mean", "input_scale", "target_mean", "target_scale"):
        np.testing.assert_array_equal(getattr(models[0], name), getattr(models[1], name))
    for model, series in zip(models, (y, changed), strict=True):
        model.calibrate(series[:60], 20)
    assert_equal_forecasts(models[0].forecast(y[:60]), models[1].forecast(changed[:60]))
    rolled = [model.rolling_forecast(series, [50, 60]) for model, series in zip(models, (y, changed), strict=True)]
    assert_equal_forecasts(*rolled)


def test_exogenous_inputs_after_the_training_part_do_not_change_its_scaling(y, rng):
    known, past = rng.normal(size=(94, 2)), rng.normal(size=(90, 1))
    models = []
    for later in (known[60:], rng.normal(size=(34, 2)) + 50):
        model = gc.Forecaster(4, 6, known_exogenous=2, past_exogenous=1, differences=(6,))
        inputs = {"known_exogenous": np.concatenate([known[:60], later]), "past_exogenous": past}
        gc.fit(model, model.training_data(y, window=20, held_out=20, validation=10, **inputs), 3)
        models.append(model)
    assert models[0].config == models[1].config
    np.testing.assert_array_equal(models[0].parameters.vector, models[1].parameters.vector)


def test_targets_of_the_training_part_end_within_it(y):
    """The last target of training is the last value before validation; those of validation are exactly its values."""
    t = np.arange(90.0)
    model = gc.Forecaster(4, 6, differences=(1,), quantiles=(), dtype=np.float64)
    data = model.training_data(y, window=20, validation=15, held_out=10)
    last_step = model.features.first + data.training - 1
    assert last_step + 4 == 90 - 25 - 1
    (batch,) = data.validation(8, np.float64)
    counted = batch.targets[0, batch.weights[0, :, 0] > 0] * model.target_scale + model.target_mean
    steps = np.arange(64, 64 + len(counted))
    np.testing.assert_allclose(counted, y[steps[:, None] + np.arange(1, 5)] - y[steps, None])
    assert steps[-1] + 4 == 90 - 10 - 1
    assert t[steps[0] + 1] == 65


def test_a_learnable_series_is_learned(rng):
    t = np.arange(400)
    y = np.sin(t * 2 * np.pi / 9) + 0.05 * rng.normal(size=400)
    model = gc.Forecaster(6, 12)
    gc.fit(model, model.training_data(y[:300], window=40), 120)
    origins = np.arange(300, 395)
    forecast = model.rolling_forecast(y, origins)
    actual = actual_values(y, origins, 6)
    assert np.abs(forecast.values - actual).mean() < 0.12
    assert 0.6 < interval_scores(forecast.lower, forecast.upper, actual).coverage < 0.95


def test_several_series_with_exogenous_inputs(rng):
    """One series follows a known input of the future, the other a past input of the step before."""
    known, past = rng.normal(size=(306, 1)), rng.normal(size=300)
    y = np.stack([known[:300, 0], np.concatenate([[0], past[:-1]])], axis=1) + 5
    inputs = {"known_exogenous": known[:300], "past_exogenous": past}
    model = gc.Forecaster(2, 16, targets=2, known_exogenous=1, past_exogenous=1, from_last=False)
    gc.fit(model, model.training_data(y, window=20, held_out=60, **inputs), 250, evaluate_every=250)
    rolled = model.rolling_forecast(y, np.arange(240, 298), **inputs)
    errors = np.abs(rolled.values - actual_values(y, np.arange(240, 298), 2)).mean(axis=0)
    assert errors[:, 0].max() < 0.25
    assert errors[0, 1] < 0.25
    assert errors[1, 1] > 0.5
    forecast = model.forecast(y, known_exogenous=known[:302], past_exogenous=past)
    assert forecast.values.shape == (2, 2)
    stream = model.forecast_stream()
    for t in range(300):
        pushed = stream.push(y[t], known_exogenous=known[t : t + 3], past_exogenous=past[t])
    assert_equal_forecasts(forecast, pushed, rtol=1e-4)
    with pytest.raises(
        ValueError, match="horizon must be at most 2 with past_exogenous, whose future is unknown, got 3"
    ):
        model.forecast(y, 3, known_exogenous=known[:304], past_exogenous=past)


def test_longer_forecasts_read_known_inputs_of_all_blocks(rng):
    known = rng.normal(size=(306, 1))
    y = known[:300] + 5
    model = gc.Forecaster(2, 12, known_exogenous=1, from_last=False)
    gc.fit(model, model.training_data(y, window=20, known_exogenous=known[:300]), 150, evaluate_every=150)
    forecast = model.forecast(y, 5, known_exogenous=known)
    np.testing.assert_allclose(forecast.values, known[300:305] + 5, atol=0.6)
    with pytest.raises(ValueError, match=re.escape("known_exogenous must have shape (306, 1), got (305, 1)")):
        model.forecast(y, 5, known_exogenous=known[:305])
    model.calibrate(y, 50, horizon=5, known_exogenous=known)
    rolled = model.rolling_forecast(y, [290, 300], 5, known_exogenous=known)
    assert_equal_forecasts(
        model.forecast(y, 5, known_exogenous=known), Forecast(*(part[1] for part in rolled[:3]), 0.8, "conformal")
    )
    for call in (
        lambda: model.calibrate(y, 50, horizon=5, known_exogenous=known[:300]),
        lambda: model.rolling_forecast(y, [295], 5, known_exogenous=known[:300]),
    ):
        with pytest.raises(ValueError, match="known_exogenous must have at least 301 rows, got 300"):
            call()


# Intervals


def test_conformal_intervals_cover_independent_errors_at_their_level(rng):
    """White noise, whose forecast is a constant: coverage is the level to a few standard errors, per step."""
    y = rng.normal(size=1500)
    model = gc.Forecaster(2, 4, quantiles=(), from_last=False)
    gc.fit(model, model.training_data(y[:500], window=20), 5)
    model.calibrate(y[:1000], 480)
    for level in (0.5, 0.8, 0.95):
        forecast = model.rolling_forecast(y, np.arange(1000, 1499), level=level)
        inside = (forecast.lower <= actual_values(y, np.arange(1000, 1499), 2)) & (
            actual_values(y, np.arange(1000, 1499), 2) <= forecast.upper
        )
        np.testing.assert_allclose(inside.mean(axis=0), level, atol=0.07)


def test_conformal_width_is_a_rank_of_the_errors(y):
    model = trained(y, quantiles=())
    model.calibrate(y, 13)  # 10 origins
    errors = np.sort(np.abs(model.residuals[..., 0, 0]), axis=0)
    forecast = model.forecast(y, level=0.8)  # rank ⌈11 · 0.8⌉ = 9
    np.testing.assert_allclose(forecast.upper - forecast.values, errors[8])
    np.testing.assert_allclose(forecast.values - forecast.lower, errors[8])
    with pytest.raises(ValueError, match=r"level must be at most 0.9091 for 10 origins of calibrate\(\), got 0.95"):
        model.forecast(y, level=0.95)


def test_conformal_quantiles_are_never_narrowed(y):
    model = trained(y)
    quantiles = model.forecast(y)
    assert quantiles.interval == "quantile"
    assert (quantiles.lower <= quantiles.values).all()
    assert (quantiles.values <= quantiles.upper).all()
    model.calibrate(y, 20)
    widened = model.forecast(y)
    assert widened.interval == "conformal"
    assert (widened.lower <= quantiles.lower).all()
    assert (widened.upper >= quantiles.upper).all()
    assert model.forecast(y, 9).interval == "none"  # longer than the calibration
    model.calibrate(y, 20, horizon=9)
    assert model.forecast(y, 9).interval == "conformal"


def test_too_wide_quantiles_stay_as_they_are(y):
    model = trained(y, quantiles=(0.1, 0.5, 0.9))
    model.readout.parameters["bias"].reshape(4, 3)[:] += [-50, 0, 50]
    quantiles = model.forecast(y)
    model.calibrate(y, 20)
    widened = model.forecast(y)
    np.testing.assert_array_equal([widened.lower, widened.upper], [quantiles.lower, quantiles.upper])


def test_an_ensemble_is_the_mean_of_its_members(y, tmp_path):
    members = [trained(y, seed=seed, differences=(6,) if seed else ()) for seed in range(3)]
    ensemble = gc.ForecasterEnsemble(members)
    forecast = ensemble.forecast(y, 6, interval="none")
    mean = np.mean([member.forecast(y, 6, interval="none").values for member in members], axis=0)
    np.testing.assert_allclose(forecast.values, mean)
    ensemble.calibrate(y, 20)
    bounds = ensemble.forecast(y, level=0.8, interval="ensemble")
    spread = np.std([member.forecast(y).values for member in members], axis=0, ddof=1)
    noise = np.sqrt(np.square(ensemble.residuals[..., 0, 1]).mean(axis=0))
    np.testing.assert_allclose(bounds.upper - bounds.values, 1.2815516 * np.hypot(spread, noise), rtol=1e-6)
    ensemble.save(tmp_path / "e.safetensors")
    loaded = gc.load(tmp_path / "e.safetensors")
    assert isinstance(loaded, gc.ForecasterEnsemble)
    for interval in ("quantile", "conformal", "ensemble"):
        assert_equal_forecasts(
            loaded.forecast(y, interval=interval), ensemble.forecast(y, interval=interval), rtol=1e-6
        )
    with pytest.raises(ValueError, match="holds a ForecasterEnsemble of several models: save one"):
        gc.convert.load(tmp_path / "e.safetensors")
    with pytest.raises(TypeError, match="got ForecasterEnsemble"):
        gc.convert.save(ensemble, tmp_path / "e.onnx")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"level": 0.9, "interval": "quantile"}, "level must have its quantiles .* among .*, got 0.9"),
        ({"horizon": 5, "interval": "quantile"}, "horizon must be at most 4 for quantile intervals, got 5"),
        ({"interval": "conformal"}, r"interval must be 'quantile' or 'none' before calibrate\(\)"),
        ({"interval": "ensemble"}, r"interval must be 'quantile' or 'none' before calibrate\(\)"),
        ({"interval": "wide"}, "interval must be one of 'conformal', 'quantile', 'ensemble', 'none', got 'wide'"),
        ({"level": 1}, "level must be between 0 and 1, got 1"),
        ({"horizon": 0}, "horizon must be at least 1, got 0"),
    ],
)
def test_intervals_that_do_not_exist(y, arguments, message):
    model = gc.Forecaster(4, 6)
    with pytest.raises(ValueError, match=message):
        model.forecast(y, **arguments)


def test_a_calibrated_single_model_has_no_ensemble_interval(y):
    model = gc.Forecaster(4, 6)
    model.calibrate(y, 20)
    with pytest.raises(ValueError, match="for a single forecaster, got 'ensemble'"):
        model.forecast(y, interval="ensemble")
    with pytest.raises(ValueError, match=r"horizon must be at most 4, that of calibrate\(\), for intervals, got 5"):
        model.forecast(y, 5, interval="conformal")


# Files, copies and other views


@each_kind
def test_files_and_copies_keep_everything(y, options, tmp_path):
    model = trained(y, **options)
    model.calibrate(y, 20)
    model.save(tmp_path / "f.safetensors")
    expected = model.forecast(y)
    for other in (gc.load(tmp_path / "f.safetensors"), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):  # noqa: S301
        assert isinstance(other, gc.Forecaster)
        assert other.config == model.config
        assert repr(other) == repr(model)
        assert_equal_forecasts(other.forecast(y), expected, rtol=1e-6)
        other.parameters.vector[:] = 0
    assert_equal_forecasts(model.forecast(y), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 10**9}, "weight_hh_l0"),
        ({"num_layers": 10**9}, "there are weights for 1 layers"),
        ({"horizon": 10**9}, "there are weights for 1 inputs and 12 outputs"),
        ({"targets": 2}, "there are weights for 1 inputs and 12 outputs, expected 2 and 24"),
        ({"quantiles": [0.1, 0.5]}, "expected 1 and 8"),
        ({"quantiles": [0.1, 0.2, 0.3]}, "quantiles must include 0.5"),
        ({"differences": [0]}, "each of differences must be at least 1, got 0"),
        ({"lags": "1"}, "there are weights for 1 inputs"),
        ({"log": 1}, "log must be True or False"),
        ({"dropout": 2}, "dropout must"),
        ({"scaling": {}}, "scaling must have input_mean"),
        ({"seed": 1}, "seed"),
    ],
)
def test_files_whose_configuration_does_not_fit(y, change, message, tmp_path):
    model = trained(y)
    path = tmp_path / "f.safetensors"
    checkpoint.save(checkpoint.Checkpoint("Forecaster", model.config | change, model.to_torch()), path)
    with pytest.raises(ValueError, match=f"does not fit together: .*{re.escape(message)}"):
        gc.load(path)


@pytest.mark.parametrize("scale", [[0.0], [-1.0], [1.0, 1.0], ["a"]])
def test_scalings_that_do_not_fit(y, scale, tmp_path):
    model = trained(y)
    scaling = model.config["scaling"] | {"input_scale": scale}
    checkpoint.save(
        checkpoint.Checkpoint("Forecaster", model.config | {"scaling": scaling}, model.to_torch()),
        tmp_path / "f.safetensors",
    )
    with pytest.raises(ValueError, match="input_scale"):
        gc.load(tmp_path / "f.safetensors")


def test_residuals_of_another_shape(y, tmp_path):
    model = trained(y)
    weights = model.to_torch() | {"calibration.residuals": np.zeros((3, 4, 1, 2), np.float32)}
    checkpoint.save(checkpoint.Checkpoint("Forecaster", model.config, weights), tmp_path / "f.safetensors")
    with pytest.raises(
        ValueError, match=re.escape("calibration.residuals must have shape (n, h, 1, 3), got (3, 4, 1, 2)")
    ):
        gc.load(tmp_path / "f.safetensors")


def test_layers_are_traced_converted_and_streamed(y, tmp_path):
    model = trained(y, lags=(3,))
    x = model.inputs(y)
    assert x.shape == (87, 2)
    outputs = model(x)
    trace = model.trace(x, np.zeros_like(outputs))
    np.testing.assert_allclose(trace.layer[0].h, model.lstm(x), rtol=1e-5, atol=1e-6)
    stream = model.stream()
    np.testing.assert_allclose([stream.push(step).copy() for step in x], outputs, rtol=1e-4, atol=1e-5)
    assert "readout" in str(model.summary())
    sequential = model.as_sequential()
    assert type(sequential) is gc.Sequential
    np.testing.assert_array_equal(sequential(x), outputs)
    path = tmp_path / "f.pt"
    gc.convert.save(model, path)
    read = gc.convert.load(path, architecture="lstm,readout")
    np.testing.assert_allclose(read(x), outputs, rtol=1e-5, atol=1e-6)


def test_onnx_files_contain_the_layers(y, tmp_path):
    pytest.importorskip("onnx")
    model = trained(y)
    gc.convert.save(model, tmp_path / "f.onnx")
    x = model.inputs(y)[None]
    np.testing.assert_allclose(gc.convert.load(tmp_path / "f.onnx")(x), model(x), rtol=1e-4, atol=1e-5)


# Bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y: y[:6], "series must have at least 12 values before the 0 of validation and held_out, got 6"),
        (lambda y: np.full(90, 5.0), "series must vary in the training part, got 5 at every step"),
        (
            lambda y: np.where(np.arange(90) == 3, np.nan, y),
            r"series must be finite in float64, got nan at index \(3,\)",
        ),
        (lambda y: y - 100, "log needs values above 0, got -"),
        (lambda y: np.stack([y, y], axis=1), r"series must have shape \(T,\) or \(T, 1\), got \(90, 2\)"),
    ],
)
def test_series_that_cannot_be_used(y, change, message):
    model = gc.Forecaster(4, 6, log=True, differences=(6,))
    with pytest.raises(ValueError, match=message):
        model.training_data(change(y))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda m, y: m.training_data(y, window=200),
            "window must be at most 80, the steps of the training part, got 200",
        ),
        (lambda m, y: m.training_data(y, validation=2), "validation must be 0 or at least the horizon 4, got 2"),
        (lambda m, y: m.training_data(y, held_out=-1), "held_out must be at least 0, got -1"),
        (lambda m, y: m.calibrate(y, 3), "steps must be from the horizon 4 to 83 for a series of 90, got 3"),
        (lambda m, y: m.calibrate(y, 84), "steps must be from the horizon 4 to 83 for a series of 90, got 84"),
        (lambda m, y: m.forecast(y[:6]), "history must have at least 7 values for these differences and lags, got 6"),
        (lambda m, y: m.rolling_forecast(y, [6, 9]), "origins must be at least 7 for this model, got 6"),
        (lambda m, y: m.rolling_forecast(y, [9, 91]), "origins must be at most 90, got 91"),
        (lambda m, y: m.rolling_forecast(y, [9, 9]), r"origins must be increasing integers, got \[9, 9\]"),
        (lambda m, y: m.forecast(y, known_exogenous=y), r"known_exogenous must be None for a forecaster without them"),
        (lambda m, y: m.forecast_stream().push([1.0, 2.0]), r"observation must have shape \(T,\) or \(T, 1\)"),
        (lambda m, y: m.forecast_stream().push(np.nan), "observation must be finite in float64, got nan"),
    ],
)
def test_calls_that_do_not_fit(y, call, message):
    with pytest.raises(ValueError, match=message):
        call(gc.Forecaster(4, 6, differences=(6,)), y)


@pytest.mark.parametrize("large", [1e300, -1.7e308])
def test_values_too_large_to_be_scaled_are_refused_where_they_enter(y, large):
    """In each part of a series, and in its exogenous inputs: also where the variance of the training part is small."""

    def with_large(place):
        return np.where(np.arange(len(y)) == place, large, y)

    exogenous = {"known_exogenous": np.arange(94.0), "past_exogenous": y}
    makers = [
        gc.Forecaster,
        partial(gc.Forecaster, differences=(6, 1)),
        partial(gc.Forecaster, dtype=np.float64),
        partial(gc.Forecaster, lags=(2,), quantiles=()),
    ]
    for make in makers:
        model = make(4, 6)
        scaling = model.config["scaling"]
        for place in (0, 20, 40):
            with pytest.raises(ValueError, match=r"whose variance is a number, got (inf|.*e.30)"):
                model.training_data(with_large(place), validation=10, held_out=12)
        assert model.config["scaling"] == scaling
    model = gc.Forecaster(4, 6)
    text = "series and exogenous inputs must have values that are finite in float32 after scaling, got .*e.30"
    with pytest.raises(ValueError, match=text):
        model.training_data(with_large(70), validation=10, held_out=12)  # of the validation part
    model.training_data(with_large(80), validation=10, held_out=12)  # not used
    for call in (model.forecast, model.inputs, lambda series: model.calibrate(series, 12)):
        with pytest.raises(ValueError, match=text):
            call(with_large(80))
    for forecaster in (model, gc.ForecasterEnsemble([model, gc.Forecaster(4, 6, seed=1)])):
        with pytest.raises(ValueError, match=r"errors are finite in float32, got an error of .*e.30"):
            forecaster.calibrate(with_large(89), 12)  # a value that is only compared
        assert forecaster.residuals is None
    with pytest.raises(ValueError, match=text):
        model.forecast_stream().push(large)
    for name, values in exogenous.items():
        changed = exogenous | {name: np.where(np.arange(len(values)) == 20, large, values)}
        with pytest.raises(ValueError, match="variance is a number"):
            gc.Forecaster(4, 6, known_exogenous=1, past_exogenous=1).training_data(y, held_out=8, **changed)


def test_exogenous_inputs_of_the_wrong_length(y):
    model = gc.Forecaster(4, 6, known_exogenous=1, past_exogenous=1)
    good = {"known_exogenous": np.arange(94.0), "past_exogenous": y}
    assert model.forecast(y, **good).values.shape == (4,)
    for name, value, shape in (
        ("known_exogenous", np.arange(90.0), "(94, 1), got (90,)"),
        ("known_exogenous", np.arange(95.0), "(94, 1), got (95,)"),
        ("past_exogenous", y[:-1], "(90, 1), got (89,)"),
        ("past_exogenous", np.ones((90, 2)), "(90, 1), got (90, 2)"),
    ):
        with pytest.raises(ValueError, match=re.escape(f"{name} must have shape {shape}")):
            model.forecast(y, **(good | {name: value}))
    with pytest.raises(ValueError, match="past_exogenous must be passed: the forecaster has 1 of them"):
        model.forecast(y, known_exogenous=np.arange(94.0))


def test_a_failed_push_changes_nothing(y):
    model = trained(y, differences=(6,))
    stream, other = model.forecast_stream(), model.forecast_stream()
    for value in y[:20]:
        stream.push(value), other.push(value)
    for bad in ({"level": 0.9, "interval": "quantile"}, {"interval": "wide"}):
        with pytest.raises(ValueError, match="must"):
            stream.push(y[20], **bad)
    with pytest.raises(ValueError, match="finite"):
        stream.push(np.inf)
    model.calibrate(y, 20)
    stream.push(y[20], level=0.9), other.push(y[20])
    model.calibrate(y, 6)  # of too few origins for this level; memory of the first calibration is free again
    with pytest.raises(ValueError, match="level must be at most"):
        stream.push(y[21], level=0.9)
    model.calibrate(y, 20)
    assert_equal_forecasts(stream.push(y[20]), other.push(y[20]))


def test_a_perfect_trend_has_no_scale_and_is_forecast(y):
    del y
    line = 3 + 2.0 * np.arange(60)
    model = gc.Forecaster(4, 6, differences=(1,))
    gc.fit(model, model.training_data(line, window=20), 3)
    np.testing.assert_allclose(model.target_mean, 5)  # the mean of 2, 4, 6, 8
    assert np.isfinite(model.forecast(line).values).all()


@each_kind
def test_a_stream_continues_from_its_state_in_another_process(y, options):
    model = trained(y, **options)
    stream, other = model.forecast_stream(), model.forecast_stream()
    for value in y[:4]:
        stream.push(value)
    other.push(3.0)
    other.state = pickle.loads(pickle.dumps(stream.state))  # noqa: S301
    for value in y[4:30]:
        one, two = stream.push(value), other.push(value)
        assert (one is None) == (two is None)
    assert_equal_forecasts(one, two)
    state = stream.state
    with pytest.raises(ValueError, match=re.escape("state['values'] must have shape (n, 1), got (2, 3)")):
        stream.state = state | {"values": np.zeros((2, 3))}
    with pytest.raises(ValueError, match=re.escape("state['past_exogenous'] must have shape (n, 0), got (1, 0)")):
        stream.state = state | {"values": np.zeros((2, 1)), "past_exogenous": np.zeros((1, 0))}
    assert_equal_forecasts(stream.push(5.0), other.push(5.0))


@loop_over(
    ("arguments", "error", "message"),
    [
        ({"horizon": 0}, ValueError, "horizon must be at least 1, got 0"),
        ({"horizon": 2.0}, TypeError, "horizon must be an integer, got 2.0"),
        ({"horizon": 2, "targets": 0}, ValueError, "targets must be at least 1, got 0"),
        ({"horizon": 2, "known_exogenous": -1}, ValueError, "known_exogenous must be at least 0, got -1"),
        ({"horizon": 2, "differences": 12}, TypeError, "differences must be a list of positive integers, got 12"),
        ({"horizon": 2, "quantiles": (0.1, 0.9)}, ValueError, r"quantiles must include 0.5, the median, or be \(\)"),
        ({"horizon": 2, "from_last": 1}, TypeError, "from_last must be True or False, got 1"),
    ],
)
def test_arguments_out_of_range(arguments, error, message):
    with pytest.raises(error, match=message):
        gc.Forecaster(**arguments)


def test_members_that_differ():
    with pytest.raises(ValueError, match="members must have equal horizons"):
        gc.ForecasterEnsemble([gc.Forecaster(2, 4), gc.Forecaster(3, 4)])
    with pytest.raises(TypeError, match="members must be a list of at least two Forecasters"):
        gc.ForecasterEnsemble([gc.Forecaster(2, 4)])
    with pytest.raises(ValueError, match="members must be at most 1000 Forecasters, got 1001"):
        gc.ForecasterEnsemble([gc.Forecaster(2, 1, quantiles=())] * 1001)  # a file of them could not be read
