"""Options of ``glasscell forecast`` for the model."""

from __future__ import annotations

import argparse

from glasscell.cli.parser import add_on_failure


def add_model_options(model: argparse._ArgumentGroup) -> None:
    """Add the options of the model and its training."""
    model.add_argument("--horizon", type=int, default=12, metavar="H", help="values to forecast (default 12)")
    model.add_argument("--log", action="store_true", help="model the logarithm of the values")
    model.add_argument(
        "--differences",
        type=_integers,
        metavar="LAGS",
        help="lags of differences, such as 12 or 12,1; 0 for none (default: the season, if --season is passed)",
    )
    model.add_argument("--lags", type=_integers, default=(), metavar="LAGS", help="lags of further inputs")
    model.add_argument("--hidden-size", type=int, default=32, metavar="H", help="hidden units (default 32)")
    model.add_argument("--num-layers", type=int, default=1, metavar="L", help="LSTM layers (default 1)")
    model.add_argument("--members", type=int, default=1, metavar="M", help="forecasters whose mean is used (default 1)")
    model.add_argument("--window", type=int, metavar="T", help="steps of a training window (default 64, or 4 horizons)")
    model.add_argument("--updates", type=int, default=400, metavar="N", help="updates (default 400)")
    model.add_argument("--batch-size", type=int, default=32, metavar="B", help="windows per update (default 32)")
    model.add_argument(
        "--learning-rate",
        type=float,
        default=0.01,
        metavar="RATE",
        help="initial learning rate of Adam, which decreases to 0 (default 0.01)",
    )
    model.add_argument("--seed", type=int, default=0, help="seed of weights and windows (default 0)")
    add_on_failure(model)


def _integers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be integers such as 12,1, got {text!r}") from None


def differences(options: argparse.Namespace) -> tuple[int, ...]:
    """Return the lags of differences; without --differences, the season."""
    if options.differences is None:
        return (options.season,) if options.season > 1 else ()
    return () if options.differences == (0,) else options.differences
