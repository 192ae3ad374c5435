"""Options of ``glasscell predict`` for the series of a forecaster."""

from __future__ import annotations

import argparse
from typing import Any

FORECASTERS = ("Forecaster", "ForecasterEnsemble")
SERIES_OPTIONS: dict[str, Any] = {"known": [], "past": [], "missing": None, "horizon": None, "level": None}
# Of sequence_options.py, those that series do not have; with their defaults, as above.
SEQUENCE_OPTIONS: dict[str, Any] = dict.fromkeys(("label", "id", "rows", "features_per_step", "header", "fill"))
SEQUENCE_OPTIONS |= {"ignore_column": [], "ragged": False}


def add_series_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a forecaster, in addition to --column, --time, --decimal and --delimiter."""
    group = parser.add_argument_group(
        "series in a .csv file, for a forecaster; --column names the series, and --time the column of times"
    )
    group.add_argument(
        "--known", action="append", default=[], metavar="NAME", help="exogenous column whose future is in the file"
    )
    group.add_argument(
        "--past", action="append", default=[], metavar="NAME", help="exogenous column whose future is not known"
    )
    group.add_argument(
        "--missing", choices=("error", "interpolate"), help="what to do with empty cells and gaps (default error)"
    )
    group.add_argument(
        "--horizon", type=int, metavar="H", help="values to forecast (default: the horizon of the model)"
    )
    group.add_argument("--level", type=float, help="probability of the intervals (default 0.8)")


def check_series_options(options: argparse.Namespace, kind: str) -> None:
    """Raise ValueError for an option that a model of this kind does not use."""
    is_series = kind in FORECASTERS
    for name, default in (SEQUENCE_OPTIONS if is_series else SERIES_OPTIONS).items():
        if getattr(options, name) != default:
            flag, models = f"--{name.replace('_', '-')}", "models of sequences" if is_series else "forecasters"
            raise ValueError(f"{flag} is for {models}, got a {kind}")
