"""Compare rolling-origin forecasts of real series, 12 steps each, with naive, seasonal naive, AR and Holt-Winters ones.

    python benchmarks/real_data/series.py --seeds 5

Models are fitted once, on the values before the first origin of the test. The settings of each series were chosen by an
evaluation inside the training part, which ``--part training`` repeats: the values of the test are removed before it.
Those of the monthly sunspots were compared on ``--part earlier`` too, which ends 400 values earlier.
Holt-Winters needs statsmodels; its smoothing parameters are fitted again at every origin.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import glasscell as gc
from glasscell.data.series.evaluation import (
    IntervalScores,
    actual_values,
    baseline_forecasts,
    interval_scores,
    mean_absolute_scaled_error,
    rolling_forecasts,
    rolling_origins,
    seasonal_scale,
)
from glasscell.models.forecast import Forecast, Interval

Values = NDArray[np.float64]
HORIZON, LEVEL = 12, 0.8
EARLIER = 400  # values by which the second part for the choice of settings ends earlier


@dataclass(frozen=True)
class Setting:
    """One series: its evaluation, and how it is forecast.

    Attributes
    ----------
    read : callable
        From the folder of the data to the values.
    test, choice, step : int
        Values of the test part, and of that inside the training part on which settings were chosen; steps between
        origins.
    season, order : int
        Of seasonal naive and MASE; of the AR.
    model, windows : dict
        Arguments of `Forecaster` and of `training_data`.
    updates : int
    calibration : int
        Values at the end of the training part for conformal intervals; 0: quantile intervals.
    holt_winters : bool
    """

    read: Callable[[Path], Values]
    test: int
    choice: int
    step: int
    season: int
    order: int
    model: dict[str, Any]
    windows: dict[str, int]
    updates: int
    calibration: int
    holt_winters: bool = False


def monthly_sunspots(folder: Path) -> Values:
    """Read whole years of monthly means, 1749 to 2008."""
    lines = (folder / "sunspots_monthly.dat").read_text("ascii").splitlines()
    years = [line.split()[1:] for line in lines if line[:4].isdigit() and len(line.split()) == 13]
    return np.array(years, np.float64).ravel()


def table(file: str, column: str, time: str, fill: Any = None) -> Callable[[Path], Values]:
    """Return the reader of one column of a CSV file."""
    return lambda folder: gc.data.read_series(folder / file, [column], time=time, fill=fill).values[:, 0]


SETTINGS = {
    "sunspots, monthly": Setting(
        monthly_sunspots,
        *(600, 600, 12, 132, 27),
        model={"hidden_size": 24},
        windows={"window": 96, "burn_in": 32},
        updates=400,
        calibration=120,
    ),
    "CO2, weekly": Setting(
        table("co2_maunaloa_weekly.csv", "co2", "date", "linear"),
        *(343, 343, 4, 52, 53),
        model={"hidden_size": 32, "differences": (1,), "from_last": False},
        windows={"window": 160, "burn_in": 64},
        updates=250,
        calibration=200,
    ),
    "AirPassengers": Setting(
        table("AirPassengers.csv", "Passengers", "Date"),
        *(60, 24, 1, 12, 13),
        model={"hidden_size": 16, "log": True, "differences": (12,)},
        windows={"window": 16, "burn_in": 4},
        updates=80,
        calibration=0,
        holt_winters=True,
    ),
    "sunspots, yearly": Setting(
        table("sunspots_yearly.csv", "SUNACTIVITY", "YEAR"),
        *(103, 60, 1, 11, 9),
        model={"hidden_size": 8, "from_last": False},
        windows={"window": 48, "burn_in": 16},
        updates=300,
        calibration=0,
    ),
    "lynx, yearly": Setting(
        table("Lynx.csv", "0", ""),
        *(38, 24, 1, 10, 11),
        model={"hidden_size": 8, "log": True, "from_last": False},
        windows={"window": 20, "burn_in": 6},
        updates=200,
        calibration=16,
    ),
}


def holt_winters(history: Values, horizon: int, season: int) -> Values:
    """Forecast with additive trend and multiplicative season."""
    from statsmodels.tsa.holtwinters import ExponentialSmoothing

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of convergence
        fitted = ExponentialSmoothing(history, trend="add", seasonal="mul", seasonal_periods=season).fit()
    return np.asarray(fitted.forecast(horizon))


def train(setting: Setting, values: Values, seed: int) -> gc.Forecaster:
    """Return a forecaster trained on the values, of which the last ones calibrate its intervals."""
    model = gc.Forecaster(HORIZON, **setting.model, seed=seed)
    data = model.training_data(values, held_out=setting.calibration, **setting.windows)
    gc.fit(model, data, setting.updates, seed=seed, evaluate_every=setting.updates)
    if setting.calibration:
        model.calibrate(values, setting.calibration)
    return model


def scores_of_intervals(forecast: Forecast, actual: Values) -> IntervalScores:
    """Return coverage and mean width of the intervals of a forecast."""
    if forecast.lower is None or forecast.upper is None:
        raise ValueError(f"forecast must have intervals, got the method {forecast.interval!r}")
    return interval_scores(forecast.lower, forecast.upper, actual)


def evaluate(name: str, setting: Setting, values: Values, seeds: int) -> None:
    """Print the table of one series."""
    first = len(values) - setting.test
    origins = rolling_origins(len(values), first, HORIZON, setting.step)
    actual, scale = actual_values(values, origins, HORIZON), seasonal_scale(values[:first], setting.season)
    print(
        f"\n**{name}**: {len(values)} values; {len(origins)} origins, every {setting.step} of the last {setting.test}; "
        f"season {setting.season}, MASE 1 = {scale:.4g}.\n"
    )
    print(f"| method | MASE | {LEVEL:.0%} interval: coverage | width |\n| --- | --- | --- | --- |")
    forecasts = baseline_forecasts(values, origins, HORIZON, season=setting.season, order=setting.order)
    is_installed = find_spec("statsmodels") is not None
    if setting.holt_winters and is_installed:
        forecasts["Holt-Winters (statsmodels)"] = rolling_forecasts(
            lambda history, horizon: holt_winters(history, horizon, setting.season), values, origins, HORIZON
        )
    for method, result in forecasts.items():
        print(f"| {method} | {mean_absolute_scaled_error(result, actual, scale):.3f} | | |")
    if setting.holt_winters and not is_installed:
        print("| Holt-Winters: statsmodels is not installed | | | |")
    start = time.perf_counter()
    members = [train(setting, values[:first], seed) for seed in range(seeds)]
    seconds = (time.perf_counter() - start) / seeds
    rolled = [member.rolling_forecast(values, origins, level=LEVEL) for member in members]
    errors = [mean_absolute_scaled_error(forecast.values, actual, scale) for forecast in rolled]
    coverage, width = np.median([scores_of_intervals(forecast, actual) for forecast in rolled], axis=0)
    spread = f"{min(errors):.3f} to {max(errors):.3f}"
    print(f"| LSTM, median of {seeds} ({spread}) | {np.median(errors):.3f} | {coverage:.1%} | {width:.4g} |")
    if seeds > 1:
        print_ensemble(setting, members, values, origins, actual, scale)
    print(f"\n{seconds:.0f} s of training per seed; intervals: {rolled[0].interval}.", flush=True)


def print_ensemble(
    setting: Setting, members: list[gc.Forecaster], values: Values, origins: Any, actual: Values, scale: Values
) -> None:
    """Print the row of the mean of all seeds."""
    ensemble = gc.ForecasterEnsemble(members)
    if setting.calibration:
        ensemble.calibrate(values[: len(values) - setting.test], setting.calibration)
    intervals: tuple[Interval, ...] = ("conformal", "ensemble") if setting.calibration else ("quantile",)
    for interval in intervals:
        result = ensemble.rolling_forecast(values, origins, level=LEVEL, interval=interval)
        coverage, width = scores_of_intervals(result, actual)
        error = mean_absolute_scaled_error(result.values, actual, scale)
        print(f"| ensemble of the {len(members)}, {interval} | {error:.3f} | {coverage:.1%} | {width:.4g} |")


def main() -> None:
    """Print the tables of all series."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2].parent / "shared" / "data")
    parser.add_argument("--series", choices=list(SETTINGS), action="append")
    parser.add_argument("--part", choices=("test", "training", "earlier"), default="test")
    options = parser.parse_args()
    for name in options.series or SETTINGS:
        setting = SETTINGS[name]
        values = setting.read(options.data / "series")
        if options.part != "test":
            removed = setting.test + (EARLIER if options.part == "earlier" else 0)
            values, setting = values[:-removed], replace(setting, test=setting.choice)
        evaluate(name, setting, values, options.seeds)


if __name__ == "__main__":
    main()
