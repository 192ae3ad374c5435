"""Tables of the forecasts of a series."""

from __future__ import annotations

import argparse
from pathlib import Path

from glasscell.cli.prediction_table import PredictionTable
from glasscell.cli.run_settings import complete_series_options
from glasscell.cli.series_options import filled_cells, read_series_of
from glasscell.models.forecast import ForecastingModel


def forecast_table(model: ForecastingModel, path: Path, options: argparse.Namespace) -> PredictionTable:
    """Return the forecast of the values after the end of a series, and its intervals."""
    features, completed = model.features, complete_series_options(options)
    for flag, names, count in (
        ("--column", options.column or [], features.targets),
        ("--known", options.known, features.known),
        ("--past", options.past, features.past),
    ):
        if len(names) != count:
            columns = "column" if count == 1 else "columns"
            raise ValueError(
                f"{flag} must name {count} {columns} of {path}, as many as the model has, got {len(names)}"
            )
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    series = read_series_of(path, options)
    level = 0.8 if options.level is None else options.level
    forecast = model.forecast(series, options.horizon, level=level)
    header, table = [options.time or "step"], []
    for k, name in enumerate(series.names):
        header.append(name)
        table.append(forecast.values[:, k])
        if forecast.lower is not None and forecast.upper is not None:
            header += [f"{name}_lower", f"{name}_upper"]
            table += [forecast.lower[:, k], forecast.upper[:, k]]
    rows = [[series.label(len(series) + step), *values] for step, values in enumerate(zip(*table, strict=True))]
    notes = [f"{path}: {len(series)} values of {', '.join(series.names)}{filled_cells(series)}"]
    notes += [completed] * bool(completed)
    if forecast.interval != "none":
        notes.append(f"Intervals: {forecast.interval}, probability {level:g}")
    return PredictionTable(header, rows, notes)
