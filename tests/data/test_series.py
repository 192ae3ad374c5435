"""Laws of series as data: transformations invert, windows keep the parts apart, simple forecasts are exact."""

import numpy as np
import pytest
from case_loops import loop_over

from glasscell.data import LeastSquaresAR, SeasonalNaive, SeriesTransformation, WindowData
from glasscell.data.series import evaluation
from glasscell.data.series.features import Observations, SeriesFeatures


@loop_over("log", [False, True])
@loop_over("differences", [(), (1,), (7,), (7, 1), (1, 1), (3, 2, 1)])
def test_differences_invert(rng, log, differences):
    y = np.exp(rng.normal(size=(40, 2)))
    transformation = SeriesTransformation(log, differences)
    z = transformation.apply(y)
    assert len(z) == 40 - transformation.lost
    np.testing.assert_allclose(transformation.invert(z[-15:], y[:-15]), y[-15:], rtol=1e-9)
    np.testing.assert_allclose(transformation.invert(z[-15:, 0], y[:-15, 0]), y[-15:, 0], rtol=1e-9)


@pytest.mark.parametrize("differences", [(), (1,), (5,), (5, 1)])
@pytest.mark.parametrize("from_last", [False, True])
def test_the_continuation_keeps_the_transformed_series_at_0_or_at_its_last_value(rng, differences, from_last):
    y = rng.normal(size=(30, 2))
    transformation = SeriesTransformation(False, differences)
    continuation = transformation.continuation(y, 8, from_last=from_last)
    needed = transformation.lost + from_last
    assert np.isnan(continuation[: max(0, needed - 1)]).all()
    for t in (needed, 20, 29):
        longer = np.concatenate([y[: t + 1], continuation[t]])
        z = transformation.apply(longer)
        expected = z[-9] if from_last else 0
        np.testing.assert_allclose(z[-8:], np.broadcast_to(expected, (8, 2)), atol=1e-9)


def features(**options):
    values = {"horizon": 3, "targets": 2, "known": 1, "past": 1, "from_last": True, "lags": (2,)}
    return SeriesFeatures(**(values | {"transformation": SeriesTransformation(differences=(4,))} | options))


def test_inputs_use_the_present_and_the_past_and_known_inputs_of_the_horizon(rng):
    y, known, past = rng.normal(size=(20, 2)), rng.normal(size=(23, 1)), rng.normal(size=(20, 1))
    made = features()
    inputs = made.inputs(Observations(y, known, past))
    assert inputs.shape == (20 - made.first, made.input_size) == (14, 9)
    t = 11
    z = y[4:] - y[:-4]
    expected = [*z[t - 4], *z[t - 6], *past[t], *known[t : t + 4, 0]]
    np.testing.assert_array_equal(inputs[t - made.first], expected)


def test_corrections_and_continuation_give_the_values_back(rng):
    y = rng.normal(size=(20, 2))
    series = Observations(y, np.zeros((20, 1)), np.zeros((20, 1)))
    corrections = features().corrections(series)
    assert np.isfinite(corrections[:-3]).all()
    assert np.isnan(corrections[-3:]).any(axis=(1, 2)).all()
    values = corrections + features().continuation(series)[6:]
    np.testing.assert_allclose(values[4], y[11:14])


def test_windows_stay_in_the_training_part_and_validation_targets_in_theirs(rng):
    steps = np.arange(50.0)[:, None]
    data = WindowData(steps, steps + 1, training=30, window=8, burn_in=3, validation=12, loss="squared_error")
    starts = set()
    batches = data.batches(5, rng, np.float64)
    for _ in range(60):
        batch = next(batches)
        np.testing.assert_array_equal(batch.targets, batch.inputs + 1)
        np.testing.assert_array_equal(np.diff(batch.inputs, axis=1), 1)
        assert batch.inputs.max() < 30
        np.testing.assert_array_equal(batch.weights[:, :, 0], np.tile([0] * 3 + [1] * 5, (5, 1)))
        starts |= set(batch.inputs[:, 0, 0])
    assert starts == set(range(23))
    (validation,) = data.validation(5, np.float64)
    np.testing.assert_array_equal(validation.inputs[0, :, 0], np.arange(30, 50))
    np.testing.assert_array_equal(validation.inputs[0, validation.weights[0, :, 0] > 0, 0], np.arange(38, 50))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 31}, "window must be at most 30, the steps of the training part, got 31"),
        ({"burn_in": 8}, "burn_in must be from 0 to window - 1 = 7, got 8"),
        ({"validation": 21}, "validation must be from 0 to 20 steps, got 21"),
    ],
)
def test_parts_that_do_not_fit(options, message):
    values = {"training": 30, "window": 8, "burn_in": 3, "loss": "squared_error"} | options
    with pytest.raises(ValueError, match=message):
        WindowData(np.zeros((50, 1)), np.zeros((50, 1)), **values)


# Simple forecasts


def test_seasonal_naive_repeats_the_last_season():
    history = np.array([9.0, 1, 2, 3])
    np.testing.assert_array_equal(SeasonalNaive(3).forecast(history, 7), [1, 2, 3, 1, 2, 3, 1])
    np.testing.assert_array_equal(SeasonalNaive().forecast(history[:, None], 2), [[3], [3]])
    with pytest.raises(ValueError, match="history must have at least a season of 5 values, got 4"):
        SeasonalNaive(5).forecast(history, 1)


def test_an_autoregression_is_found_exactly(rng):
    """Two series that follow different recursions without noise, forecast recursively to the end."""
    y = rng.normal(size=(60, 2))
    for t in range(2, 60):
        y[t] = [0.3 + 1.6 * y[t - 1, 0] - 0.9 * y[t - 2, 0], -1 + 0.5 * y[t - 1, 1] - 0.8 * y[t - 2, 1]]
    model = LeastSquaresAR(y[:40], 2)
    np.testing.assert_allclose(model.weights, [[1.6, 0.5], [-0.9, -0.8], [0.3, -1]], atol=1e-8)
    np.testing.assert_allclose(model.forecast(y[:45], 15), y[45:], atol=1e-6)
    np.testing.assert_allclose(LeastSquaresAR(y[:40, 0], 2).forecast(y[:45, 0], 15), y[45:, 0], atol=1e-6)
    with pytest.raises(ValueError, match="order must be at most 19 for 40 values, got 20"):
        LeastSquaresAR(y[:40], 20)


# Evaluation


def test_rolling_origins_end_within_the_series():
    assert evaluation.rolling_origins(20, 10, 3).tolist() == [10, 13, 16]
    assert evaluation.rolling_origins(20, 17, 3, 1).tolist() == [17]
    with pytest.raises(ValueError, match="horizon must be at most the 3 values after the first origin 17, got 4"):
        evaluation.rolling_origins(20, 17, 4)


def test_a_forecast_sees_nothing_after_its_origin(rng):
    y, origins = rng.normal(size=30), [20, 22]
    seen = []
    evaluation.rolling_forecasts(lambda history, h: seen.append(history.tolist()) or np.zeros(h), y, origins, 4)
    assert seen == [y[:20].tolist(), y[:22].tolist()]
    before = evaluation.baseline_forecasts(y, origins, 4, season=5, order=3)
    y[22:] = rng.normal(size=8)
    after = evaluation.baseline_forecasts(y, origins, 4, season=5, order=3)
    assert list(before) == ["naive", "seasonal naive", "AR(3)"]
    for name, forecasts in before.items():
        np.testing.assert_array_equal(forecasts, after[name])


def test_scores_are_their_definitions():
    values = np.array([1.0, 2, 4, 7, 11, 16])
    assert evaluation.seasonal_scale(values, 2) == np.mean([3, 5, 7, 9])
    assert evaluation.mean_absolute_scaled_error([[1, 5]], [[2, 2]], 4) == 0.5
    assert evaluation.mean_absolute_error([[1, 5]], [[2, 2]]) == 2
    assert evaluation.interval_scores([0, 0, 3], [1, 4, 4], [1, 5, 3.5]) == (2 / 3, 2)
    with pytest.raises(ValueError, match="values must change over a season of 1 steps, got a constant series"):
        evaluation.seasonal_scale(np.ones(9), 1)
    with pytest.raises(ValueError, match="season must be less than the 6 values of the training part, got 6"):
        evaluation.seasonal_scale(values, 6)


def test_scores_of_arrays_of_other_shapes_are_errors(rng):
    """NumPy would repeat one of them, and the score would be another one."""
    actual, other = rng.normal(size=(5, 3, 1)), rng.normal(size=(5, 3))
    for score in (
        lambda: evaluation.mean_absolute_error(other, actual),
        lambda: evaluation.mean_absolute_scaled_error(other, actual, 1.0),
        lambda: evaluation.interval_scores(other, actual, actual),
        lambda: evaluation.interval_scores(actual, other, actual),
    ):
        with pytest.raises(ValueError, match=r"must have the shape of the actual values, \(5, 3, 1\), got \(5, 3\)$"):
            score()
    with pytest.raises(ValueError, match=r"scale must have shape \(\) or \(\), one for each series, got \(3,\)"):
        evaluation.mean_absolute_scaled_error(other, other, np.ones(3))
    with pytest.raises(ValueError, match=r"scale must have shape \(\) or \(1,\), one for each series, got \(3,\)"):
        evaluation.mean_absolute_scaled_error(actual, actual, np.ones(3))


@pytest.mark.parametrize("model", [SeasonalNaive(2), LeastSquaresAR([1.0, 2, 4, 3, 5], 1)])
def test_baselines_refuse_what_they_cannot_use(model):
    with pytest.raises(ValueError, match="horizon must be at least 1, got 0"):
        model.forecast([1.0, 2.0], 0)
    with pytest.raises(ValueError, match="history must be finite"):
        model.forecast([1.0, np.nan], 3)
    with pytest.raises(ValueError, match=r"history must have shape \(T,\) or \(T, C\), got \(1, 2, 1\)"):
        model.forecast([[[1.0], [2.0]]], 3)
    with pytest.raises(ValueError, match="values must be finite"):
        LeastSquaresAR([1.0, np.inf, 2, 3, 4, 5], 1)
