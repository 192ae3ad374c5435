"""Tables of the forecasts of a series."""

from __future__ import annotations

import argparse
from pathlib import Path

from glasscell.cli.prediction_table import PredictionTable
from glasscell.data.series import read_series
from glasscell.models.forecast import ForecastingModel


def forecast_table(model: ForecastingModel, path: Path, options: argparse.Namespace) -> PredictionTable:
    """Return the forecast of the values after the end of a series, and its intervals."""
    features = model.features
    for flag, names, count in (
        ("--column", options.column or [], features.targets),
        ("--known", options.known, features.known),
        ("--past", options.past, features.past),
    ):
        if len(names) != count:
            raise ValueError(f"{flag} must name {count} columns of {path}, as many as the model has, got {len(names)}")
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    series = read_series(
        path,
        options.column,
        time=options.time,
        known_exogenous=options.known,
        past_exogenous=options.past,
        missing=options.missing or "error",
        decimal=options.decimal,
        delimiter=options.delimiter,
    )
    level = 0.8 if options.level is None else options.level
    forecast = model.forecast(series, options.horizon, level=level)
    header, columns = [options.time or "step"], []
    for k, name in enumerate(series.names):
        header.append(name)
        columns.append(forecast.values[:, k])
        if forecast.lower is not None and forecast.upper is not None:
            header += [f"{name}_lower", f"{name}_upper"]
            columns += [forecast.lower[:, k], forecast.upper[:, k]]
    rows = [[series.label(len(series) + step), *values] for step, values in enumerate(zip(*columns, strict=True))]
    filled = f", {series.interpolated} interpolated" if series.interpolated else ""
    notes = [f"{path}: {len(series)} values of {', '.join(series.names)}{filled}"]
    if forecast.interval != "none":
        notes.append(f"Intervals: {forecast.interval}, probability {level:g}")
    return PredictionTable(header, rows, notes)
