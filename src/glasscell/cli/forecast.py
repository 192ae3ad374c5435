"""Implement ``glasscell forecast``: train an LSTM on a series of a CSV file, evaluate it, and forecast the future."""

import argparse
import shlex
import time
from collections.abc import Callable
from functools import partial
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from glasscell import __version__
from glasscell.atomic_files import KINDS
from glasscell.checkpoint import MODEL_FILE
from glasscell.cli.forecast_options import add_model_options, differences
from glasscell.cli.forecast_report import (
    EVALUATION_HEADER,
    Evaluation,
    evaluate,
    evaluation_csv,
    figure,
    forecast_csv,
    print_evaluation,
    print_forecast,
)
from glasscell.cli.outputs import check_matplotlib, path_argument, picture
from glasscell.cli.parser import add_run_folder
from glasscell.cli.run_history import HISTORY_FILE
from glasscell.cli.run_settings import SETTINGS_FILE, options_of, write_settings
from glasscell.cli.sequence_options import add_fill, option_of
from glasscell.cli.series_options import add_exogenous_options, filled_cells, read_series_of
from glasscell.cli.sizes import BYTES_PER_HISTORY_ROW, check_layers, check_memory, training_bytes
from glasscell.cli.terminal import counted, program_name
from glasscell.cli.training_run import TrainingRun
from glasscell.core.optimizers import Adam
from glasscell.data.series.series import Series
from glasscell.escaping import escape
from glasscell.models.forecast import Forecast
from glasscell.models.forecaster import Forecaster
from glasscell.models.forecaster_ensemble import MAX_MEMBERS, ForecasterEnsemble
from glasscell.training.fitting import fit
from glasscell.training.history import History
from glasscell.validation import positive_integer, positive_number

if TYPE_CHECKING:
    from argparse import _SubParsersAction

EVALUATION_FILE, FORECAST_FILE, PICTURE_FILE = "evaluation.csv", "forecast.csv", "forecast.png"
FILES = {  # names of the files of a run, and predicates of their first bytes
    MODEL_FILE: KINDS[".safetensors"],
    HISTORY_FILE: lambda head: head.startswith(b"update,"),
    SETTINGS_FILE: KINDS[".json"],
    EVALUATION_FILE: lambda head: head.startswith(EVALUATION_HEADER.encode()),
    FORECAST_FILE: lambda head: b"_lower" in head,
    PICTURE_FILE: KINDS[".png"],
}
DEFAULT_FOLDER = Path("runs/forecast")


class Split(NamedTuple):
    """Numbers of values of the parts of a series, in order of time."""

    training: int
    calibration: int
    test: int


def add_to(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "forecast",
        help="forecast a series of a CSV file",
        description="Train an LSTM on the first part of a series, compare its forecasts of the last part with those of "
        "simple methods, and forecast the values after the end.",
    )
    parser.add_argument(
        "file", metavar="FILE", type=path_argument, help="a CSV file with column names in its first line"
    )
    data = parser.add_argument_group("series")
    data.add_argument("--column", action="append", required=True, metavar="NAME", help="column to forecast; repeatable")
    data.add_argument("--time", metavar="NAME", help="column of times, which must have equal steps")
    add_exogenous_options(data)
    data.add_argument(
        "--decimal", choices=(".", ","), default=".", metavar="MARK", help="decimal mark, '.' or ',' (default '.')"
    )
    data.add_argument("--delimiter", metavar="C", help="delimiter of the table (default: detected)")
    add_fill(data)
    data.add_argument(
        "--season",
        type=int,
        default=1,
        metavar="S",
        help="steps of a season: of seasonal naive, MASE and differences (default 1)",
    )
    add_model_options(parser.add_argument_group("model"))
    split = parser.add_argument_group("evaluation")
    split.add_argument(
        "--test-values", type=int, metavar="N", help="values at the end to hold out for the test (default: a fifth)"
    )
    split.add_argument(
        "--calibration-values",
        type=int,
        metavar="N",
        help="values before the test part, for the intervals (default: a tenth)",
    )
    split.add_argument("--origin-step", type=int, default=1, metavar="N", help="steps between origins (default 1)")
    split.add_argument(
        "--ar-order",
        type=int,
        metavar="P",
        help="order of the autoregression to compare with (default: season + 1, at least 12)",
    )
    split.add_argument("--level", type=float, default=0.8, help="probability of the intervals (default 0.8)")
    output = parser.add_argument_group("output")
    output.add_argument("--plot", action="store_true", help=f"draw {PICTURE_FILE}")
    add_run_folder(output, str(DEFAULT_FOLDER), path_argument)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Train, evaluate and write the model, and only then print and draw the forecast."""
    if options.plot:
        check_matplotlib("--plot")
    series = read_series_of(options.file, options)
    split, members = _split(options, len(series)), _make_members(options)
    _check(options, series, split, members)
    with TrainingRun(options, FILES, DEFAULT_FOLDER, [options.file]) as training_run:
        _run(series, split, members, training_run)
        return training_run.end()


def _run(series: Series, split: Split, members: list[Forecaster], training_run: TrainingRun) -> None:
    """Train, write the model, print and draw."""
    options = training_run.options
    training_run.reserve_space(members[0])
    _print_split(options, series, split)
    start = time.perf_counter()
    model, history = _train(series, split, members, training_run)
    seconds = time.perf_counter() - start
    fitted = split.training + split.calibration
    if split.calibration:
        model.calibrate(series.head(fitted), split.calibration)
    settings = {"command": "forecast", "version": __version__, "options": options_of(options)}
    training_run.save(model, history, {SETTINGS_FILE: partial(write_settings, settings)})
    print(f"{counted(history.updates, 'update')} in {seconds:.1f} s.\n")
    evaluation = None
    if split.test:
        evaluation = evaluate(model, series, fitted, options)
        print_evaluation(evaluation, series, options)
    forecast = model.forecast(series, level=options.level)
    print_forecast(forecast, series)
    _write_results(training_run, series, evaluation, forecast)
    print(training_run.finish())
    words = ["predict", str(training_run.folder.display_path), str(options.file)]  # reads settings.json
    print(f"Forecast again, when the file has more values: {program_name()} {shlex.join(words)}")


def _split(options: argparse.Namespace, length: int) -> Split:
    """Return the parts of the series."""
    horizon = positive_integer("--horizon", options.horizon)
    test = max(horizon, length // 5) if options.test_values is None else options.test_values
    if not 0 < options.level < 1:
        raise ValueError(f"--level must be between 0 and 1, got {options.level}")
    calibration = options.calibration_values
    if calibration is None:
        calibration = max(2 * horizon, length // 10, _smallest_calibration(options))
    for name, value in (("test", test), ("calibration", calibration)):
        if value and value < horizon:
            raise ValueError(f"--{name}-values must be 0 or at least the horizon {horizon}, got {value}")
    training = length - calibration - test
    if training < 1:
        raise ValueError(
            f"{options.file} must have more values than the {test} of --test-values and "
            f"{calibration} of --calibration-values, got {length}; their defaults depend on --horizon {horizon}"
        )
    return Split(training, calibration, test)


def _smallest_calibration(options: argparse.Namespace) -> int:
    """Return the number of values with as many origins as conformal intervals of the level need."""
    origins: int = ceil(options.level / (1 - options.level) - 1e-9)
    return origins + int(options.horizon) - 1


def _make_members(options: argparse.Namespace) -> list[Forecaster]:
    names = ("season", "updates", "batch_size", "members", "origin_step", "num_layers", "hidden_size")
    for name in (*names, *["ar_order"] * (options.ar_order is not None)):
        positive_integer(option_of(name), getattr(options, name))
    if options.members > MAX_MEMBERS:
        raise ValueError(f"--members must be at most {MAX_MEMBERS}, got {options.members}")
    positive_number("--learning-rate", options.learning_rate)
    check_layers("--num-layers", options.num_layers)
    H = options.hidden_size
    inputs = len(options.column) * (1 + len(options.lags)) + len(options.past)
    inputs += len(options.known) * (options.horizon + 1)
    T = options.window or max(64, 4 * options.horizon)
    check_memory("this training", training_bytes(inputs, H, options.num_layers, T, options.batch_size))
    check_memory(f"the history of {options.updates} updates", options.updates * BYTES_PER_HISTORY_ROW)
    return [
        Forecaster(
            options.horizon,
            H,
            options.num_layers,
            targets=len(options.column),
            known_exogenous=len(options.known),
            past_exogenous=len(options.past),
            log=options.log,
            differences=differences(options),
            lags=options.lags,
            quantiles=[round(q, 12) for q in ((1 - options.level) / 2, 0.5, (1 + options.level) / 2)],
            seed=options.seed + k,
        )
        for k in range(options.members)
    ]


def _check(options: argparse.Namespace, series: Series, split: Split, members: list[Forecaster]) -> None:
    """Raise the errors of later stages before the training."""
    if options.known and series.future_steps < options.horizon:
        raise ValueError(
            f"{options.file}: --known columns must have values for the {options.horizon} steps after the last "
            f"observation, got {series.future_steps}"
        )
    if options.season >= split.training:
        raise ValueError(f"--season must be less than {split.training}, the training part, got {options.season}")
    origins = split.calibration - options.horizon + 1
    if split.calibration and ceil((origins + 1) * options.level) > origins:
        raise ValueError(
            f"--calibration-values must be 0 or at least {_smallest_calibration(options)} for a --level of "
            f"{options.level}, got {split.calibration}"
        )
    untrained = members[0]
    untrained.training_data(series.head(split.training), window=options.window)  # fits the scaling
    with np.errstate(over="ignore", invalid="ignore"):  # values of the other parts that are too large are refused
        untrained.inputs(series)
        if split.calibration:
            untrained.calibrate(series.head(split.training + split.calibration), split.calibration)


def _train(
    series: Series, split: Split, members: list[Forecaster], training_run: TrainingRun
) -> tuple[Forecaster | ForecasterEnsemble, History]:
    """Train the members, and return the model of those that were trained."""
    options = training_run.options
    training, done = series.head(split.training), list[Forecaster]()
    for k, member in enumerate(members):
        last_history = training_run.train(
            fit,
            member,
            member.training_data(training, window=options.window),
            options.updates,
            batch_size=options.batch_size,
            optimizer=Adam(options.learning_rate),
            number=k + 1,
            progress=True,
            seed=options.seed + k,
        )
        if training_run.has_ended() and done:
            break  # the member that was interrupted, or failed, is left out
        done.append(member)
        history = last_history
        if training_run.has_ended():
            break
    return (done[0] if len(done) == 1 else ForecasterEnsemble(done)), history


def _print_split(options: argparse.Namespace, series: Series, split: Split) -> None:
    step = "" if series.times is None else f", step {series.times.description}"
    print(
        f"{options.file}: {len(series)} values of {', '.join(map(escape, series.names))}{step}{filled_cells(series)}."
    )
    parts, first = [], 0
    for name, length in zip(Split._fields, split, strict=True):
        if length:
            parts.append(f"{name} {series.label(first)} to {series.label(first + length - 1)} ({length} values)")
        first += length
    print(f"Split: {'; '.join(parts)}.", flush=True)


def _write_results(
    training_run: TrainingRun, series: Series, evaluation: Evaluation | None, forecast: Forecast
) -> None:
    """Write the tables and the picture."""
    options = training_run.options
    contents: dict[str, Callable[[], bytes]] = {FORECAST_FILE: lambda: forecast_csv(forecast, series, options.time)}
    if evaluation is not None:
        contents[EVALUATION_FILE] = partial(evaluation_csv, evaluation)
    if options.plot:
        contents[PICTURE_FILE] = lambda: picture(
            lambda: figure(forecast, evaluation, series, options.season), ".png", dpi=120
        )
    training_run.write_results(contents)
