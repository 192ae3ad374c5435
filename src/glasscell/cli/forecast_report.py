"""Tables and the picture of ``glasscell forecast``."""

from __future__ import annotations

import argparse
import csv
import io
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glasscell.data.series.evaluation import (
    IntervalScores,
    actual_values,
    baseline_forecasts,
    interval_scores,
    mean_absolute_error,
    mean_absolute_scaled_error,
    rolling_origins,
    seasonal_scale,
)
from glasscell.data.series.series import Series
from glasscell.escaping import escape
from glasscell.models.forecast import Forecast, ForecastingModel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EVALUATION_HEADER = "method,mase,mae,coverage,width"
SHORTEST_AR = 12  # default order at least
MAX_LABELS = 7  # of the time axis


class Row(NamedTuple):
    """Scores of one method."""

    method: str
    mase: float
    mae: float
    intervals: IntervalScores | None


class Evaluation(NamedTuple):
    """Rolling-origin evaluation of the model and of simple methods.

    Attributes
    ----------
    rows : list of Row
    forecast : Forecast
        Of the model, (n, h, C).
    origins : array (n,) of int
    scale : array (C,)
        Unit of MASE.
    omitted : list of str
        Methods that could not be computed, with the reason.
    """

    rows: list[Row]
    forecast: Forecast
    origins: NDArray[np.intp]
    scale: NDArray[np.float64]
    omitted: list[str]


def evaluate(model: ForecastingModel, series: Series, first: int, options: argparse.Namespace) -> Evaluation:
    """Forecast from the origins of the test part, which begins at `first`, with the model and with simple methods."""
    horizon, season = model.horizon, options.season
    origins = rolling_origins(len(series), first, horizon, options.origin_step)
    actual, scale = actual_values(series.values, origins, horizon), seasonal_scale(series.values[:first], season)
    order = max(SHORTEST_AR, season + 1) if options.ar_order is None else options.ar_order
    forecasts = baseline_forecasts(series.values, origins, horizon, season=season, order=order)
    omitted = [] if f"AR({order})" in forecasts else [f"AR({order}) needs {2 * order + 2} values before the test part"]
    result = model.rolling_forecast(series, origins, level=options.level)
    rows = [
        Row(name, mean_absolute_scaled_error(values, actual, scale), mean_absolute_error(values, actual), None)
        for name, values in forecasts.items()
    ]
    intervals = (
        None if result.lower is None or result.upper is None else interval_scores(result.lower, result.upper, actual)
    )
    mase, mae = (
        mean_absolute_scaled_error(result.values, actual, scale),
        mean_absolute_error(result.values, actual),
    )
    return Evaluation([*rows, Row("LSTM", mase, mae, intervals)], result, origins, scale, omitted)


def print_evaluation(evaluation: Evaluation, series: Series, options: argparse.Namespace) -> None:
    """Print the scores."""
    origins, forecast = evaluation.origins, evaluation.forecast
    units = ", ".join(f"{scale:.4g}" for scale in np.atleast_1d(evaluation.scale))
    print(
        f"Test: {len(origins)} origins, every {options.origin_step} from {series.label(int(origins[0]))}, "
        f"{forecast.values.shape[1]} steps each. MASE 1 = {units}, the mean change over {options.season} "
        f"step{'' if options.season == 1 else 's'} before the test part.\n"
    )
    kind = f"{forecast.level:.0%} interval ({forecast.interval}): coverage, width"
    print(f"  {'':<16}{'MASE':>8}{'MAE':>12}   {kind}")
    for row in evaluation.rows:
        text = "" if row.intervals is None else f"   {row.intervals.coverage:.0%}, {row.intervals.width:.4g}"
        print(f"  {row.method:<16}{row.mase:>8.3f}{row.mae:>12.4g}{text}")
    for reason in evaluation.omitted:
        print(f"  {reason}.")
    print()


def print_forecast(forecast: Forecast, series: Series) -> None:
    """Print the forecast and its intervals."""
    bounded = forecast.lower is not None and forecast.upper is not None
    label = f"{forecast.level:.0%} interval, {forecast.interval}" if bounded else "without intervals"
    print(f"Forecast ({label}):\n")
    width = max(len(series.label(len(series) + k)) for k in range(len(forecast.values)))
    several = len(series.names) > 1
    for c, name in enumerate(series.names):
        if several:
            print(f"  {escape(name)}")
        for k, value in enumerate(forecast.values[:, c]):
            line = f"  {series.label(len(series) + k):<{width}}  {value:>12.6g}"
            if forecast.lower is not None and forecast.upper is not None:
                line += f"   {forecast.lower[k, c]:.6g} to {forecast.upper[k, c]:.6g}"
            print(line)
        print()


def forecast_csv(forecast: Forecast, series: Series, time: str | None) -> bytes:
    """Return a table with one row per step: time, and for each series forecast, lower and upper bound."""
    names = [f"{name}{part}" for name in series.names for part in ("", "_lower", "_upper")]
    rows = []
    for k, values in enumerate(forecast.values):
        row: list[object] = [series.label(len(series) + k)]
        for c, value in enumerate(values):
            bounds = (None if bound is None else float(bound[k, c]) for bound in (forecast.lower, forecast.upper))
            row += [float(value), *bounds]
        rows.append(row)
    return _csv([time or "step", *names], rows)


def evaluation_csv(evaluation: Evaluation) -> bytes:
    """Return a table with one row per method."""
    rows: list[list[object]] = [
        [row.method, row.mase, row.mae, *(row.intervals or ("", ""))] for row in evaluation.rows
    ]
    return _csv(EVALUATION_HEADER.split(","), rows)


def _csv(header: list[str], rows: list[list[object]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue().encode()


def figure(forecast: Forecast, evaluation: Evaluation | None, series: Series, season: int) -> Figure:
    """Draw the end of each series, forecasts of the test part that do not overlap, and the forecast of the future."""
    from glasscell.trace.figures.style import new_figure  # noqa: PLC0415 - Matplotlib is optional

    C = len(series.names)
    drawn = new_figure(8, 1 + 2.8 * C)
    for c, ax in enumerate(np.atleast_1d(drawn.subplots(C, 1, sharex=True))):
        _draw(ax, forecast, evaluation, series, c, season)
    return drawn


def _draw(ax: Axes, forecast: Forecast, evaluation: Evaluation | None, series: Series, c: int, season: int) -> None:
    from glasscell.trace.figures.style import BLUE, INK, ORANGE, style_axes  # noqa: PLC0415

    T, h = len(series), len(forecast.values)
    tested = T if evaluation is None else int(evaluation.origins[0])
    first = max(0, min(tested - 2 * h, T - 6 * h))
    steps = np.arange(first, T)
    ax.plot(steps, series.values[first:, c], color=INK, linewidth=1, label="observed")
    for n, place in enumerate(_apart(evaluation, h)):
        assert evaluation is not None  # noqa: S101
        parts = [None if part is None else part[place, :, c] for part in evaluation.forecast[:3]]
        origin = int(evaluation.origins[place])
        _draw_forecast(ax, np.arange(origin, origin + h), parts, ORANGE, "test forecasts" if n == 0 else None)
    parts = [None if part is None else part[:, c] for part in forecast[:3]]
    _draw_forecast(ax, np.arange(T, T + h), parts, BLUE, f"forecast, {forecast.level:.0%} interval")
    ticks = labelled_steps(first, T + h, season)
    ax.set_xticks(ticks, [series.label(tick) for tick in ticks])
    ax.set_ylabel(escape(series.names[c]).replace("$", r"\$"))
    ax.legend(loc="best", frameon=False, fontsize="small")
    style_axes(ax)


def labelled_steps(first: int, end: int, season: int) -> range:
    """Return at most MAX_LABELS steps at equal distances, of whole seasons where two or more are drawn."""
    distance = -(-(end - first) // MAX_LABELS)
    if end - first > 2 * season:
        distance = -(-distance // season) * season
    return range(first, end, distance)


def _apart(evaluation: Evaluation | None, horizon: int) -> list[int]:
    """Return the indices of origins whose forecasts do not overlap."""
    places: list[int] = []
    for k, origin in enumerate([] if evaluation is None else evaluation.origins):
        if not places or origin >= evaluation.origins[places[-1]] + horizon:  # type: ignore[union-attr] # not empty
            places.append(k)
    return places


def _draw_forecast(
    ax: Axes, steps: NDArray[np.intp], parts: list[NDArray[np.float64] | None], color: str, label: str | None
) -> None:
    values, lower, upper = parts
    assert values is not None  # noqa: S101
    ax.plot(steps, values, color=color, linewidth=1.5, label=label)
    if lower is not None and upper is not None:
        ax.fill_between(steps, lower, upper, color=color, alpha=0.2, linewidth=0)
