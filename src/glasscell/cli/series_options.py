"""Options of ``glasscell forecast`` and ``glasscell predict`` for a series, and its reader."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glasscell.data.series.series import Series

FORECASTERS = ("Forecaster", "ForecasterEnsemble")
SERIES_OPTIONS: dict[str, Any] = {"known": [], "past": [], "horizon": None, "level": None}
# Of sequence_options.py, those that series do not have; with their defaults, as above.
SEQUENCE_OPTIONS: dict[str, Any] = dict.fromkeys(("label", "id", "rows", "features_per_step", "header"))
SEQUENCE_OPTIONS |= {"ignore_column": [], "ragged": False}

OPTIONS_OF_ARGUMENTS = {  # in messages of read_series
    "fill='linear'": "--fill linear",
    "fill='previous'": "--fill previous",
    "decimal=','": "--decimal ,",
    "columns must name": "--column must name",
    "time must name": "--time must name",
    "known_exogenous": "--known",
    "past_exogenous": "--past",
}


def add_series_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a forecaster, in addition to --column, --time, --decimal and --delimiter."""
    group = parser.add_argument_group(
        "series in a .csv file, for a forecaster; --column names the series, and --time the column of times"
    )
    add_exogenous_options(group)
    group.add_argument(
        "--horizon", type=int, metavar="H", help="values to forecast (default: the horizon of the model)"
    )
    group.add_argument("--level", type=float, help="probability of the intervals (default 0.8)")


def add_exogenous_options(group: argparse._ArgumentGroup) -> None:
    """Add the options of exogenous columns."""
    group.add_argument(
        *("--known",),
        action="append",
        default=[],
        metavar="NAME",
        help="exogenous column whose future values are in the file; repeatable",
    )
    group.add_argument(
        *("--past",),
        action="append",
        default=[],
        metavar="NAME",
        help="exogenous column whose future values are unknown; repeatable",
    )


def read_series_of(path: Path, options: argparse.Namespace) -> Series:
    """Read a series as the options state."""
    from glasscell.data.series.series import read_series  # noqa: PLC0415

    try:
        return read_series(
            path,
            options.column,
            time=options.time,
            known_exogenous=options.known,
            past_exogenous=options.past,
            fill=options.fill,
            decimal=options.decimal,
            delimiter=options.delimiter,
        )
    except ValueError as error:
        message = str(error)
        for argument, option in OPTIONS_OF_ARGUMENTS.items():
            message = message.replace(argument, option)
        raise ValueError(message) from None


def filled_cells(series: Series) -> str:
    """Format the number of values that were filled."""
    n = series.filled
    return f", {n} missing {'value' if n == 1 else 'values'} filled" if n else ""


def check_series_options(options: argparse.Namespace, kind: str) -> None:
    """Raise ValueError for an option that a model of this kind does not use."""
    is_series = kind in FORECASTERS
    for name, default in (SEQUENCE_OPTIONS if is_series else SERIES_OPTIONS).items():
        if getattr(options, name) != default:
            flag, models = f"--{name.replace('_', '-')}", "models of sequences" if is_series else "forecasters"
            raise ValueError(f"{flag} is for {models}, got a {kind}")
