"""Forecast a series, with prediction intervals, and compare the forecast with the simplest one.

    python examples/series.py [TABLE.csv COLUMN]

A row of TABLE.csv is one step of time; 24 steps are held out for the comparison. Without a file, the series is
generated: 20 years of months with a trend, a season and noise.
"""

import sys

import numpy as np

import glasscell as gc

SEASON, HORIZON, TEST = 12, 12, 24

if len(sys.argv) > 1:
    y = gc.data.read_series(sys.argv[1], [sys.argv[2]]).values[:, 0]
else:
    months = np.arange(240)
    noise = np.random.default_rng(0).normal(size=240)
    y = 50 + 0.2 * months + 10 * np.sin(2 * np.pi * months / SEASON) + noise

# The model reads changes from the same month of the year before. At the end of the series, CALIBRATION values that
# training does not use determine the width of the intervals, and TEST values are left for the comparison.
known, test = y[:-TEST], y[-TEST:]
calibration = max(2 * HORIZON, len(known) // 8)
model = gc.Forecaster(HORIZON, hidden_size=16, differences=(SEASON,), seed=0)
history = gc.fit(model, model.training_data(known, window=36, held_out=calibration), updates=100)
model.calibrate(known, steps=calibration)

forecast = model.forecast(known)
inside = (forecast.lower <= test[:HORIZON]) & (test[:HORIZON] <= forecast.upper)
print(f"{'step':>4} {'value':>8} {'forecast':>8}   80 % interval")
for k in range(HORIZON):
    print(f"{k + 1:4} {test[k]:8.1f} {forecast.values[k]:8.1f}   {forecast.lower[k]:.1f} to {forecast.upper[k]:.1f}")

error = np.abs(forecast.values - test[:HORIZON]).mean()
error_of_last_year = np.abs(known[-SEASON:][:HORIZON] - test[:HORIZON]).mean()
print(f"mean absolute error: {error:.2f}, of the values of the year before {error_of_last_year:.2f}")
print(f"{inside.sum()} of {HORIZON} values are inside the interval")

# Online: one observation at a time, a forecast after each.
stream = model.forecast_stream()
for value in y:
    forecast = stream.push(value)
print("the next value:", forecast.values[0].round(1))
