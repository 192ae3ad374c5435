"""Laws on real series, of ../shared/data: they are read whole, and forecast better than by seasonal naive forecasts."""

from pathlib import Path

import numpy as np
import pytest

import glasscell as gc
from glasscell.data.series import evaluation

FOLDER = Path(__file__).parents[2].parent / "shared" / "data" / "series"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="../shared/data/series is not there")


def test_weeks_with_gaps_are_read():
    path = FOLDER / "co2_maunaloa_weekly.csv"
    with pytest.raises(
        ValueError, match="line 8, column 'co2': must have a value in every row, got 59 of 2284 without"
    ):
        gc.data.read_series(path, ["co2"], time="date")
    series = gc.data.read_series(path, ["co2"], time="date", fill="linear")
    assert (len(series), series.filled, series.label(2284)) == (2284, 59, "20020105")
    assert series.times.description == "7 days"


def test_a_forecaster_is_better_than_seasonal_naive():
    """The settings are those of benchmarks/real_data/series.py; the bar there is 0.85."""
    series = gc.data.read_series(FOLDER / "AirPassengers.csv", ["Passengers"], time="Date")
    y = series.values[:, 0]
    model = gc.Forecaster(12, hidden_size=16, log=True, differences=(12,))
    gc.fit(model, model.training_data(y[:84], window=16, burn_in=4), 80, evaluate_every=80)
    origins = evaluation.rolling_origins(len(y), 84, 12, 1)
    actual, scale = evaluation.actual_values(y, origins, 12), evaluation.seasonal_scale(y[:84], 12)
    baselines = evaluation.baseline_forecasts(y, origins, 12, season=12, order=13)
    scores = {name: evaluation.mean_absolute_scaled_error(f, actual, scale) for name, f in baselines.items()}
    np.testing.assert_allclose(list(scores.values()), [2.512, 1.375, 0.532], atol=1e-3)
    assert evaluation.mean_absolute_scaled_error(model.rolling_forecast(y, origins).values, actual, scale) < 0.9
