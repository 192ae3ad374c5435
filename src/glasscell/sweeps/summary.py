"""Median and quartiles over the seeds of each setting of a sweep."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from glasscell.sweeps.rows import Row, key_of


@dataclass(frozen=True)
class ScoreSummary:
    """Quartiles of a score over seeds, with linear interpolation; NaN if a value is.

    Attributes
    ----------
    median, lower, upper : float
        The lower and the upper quartile.
    smallest, largest : float
    count : int
        Finished runs that have the score as a number.
    """

    median: float
    lower: float
    upper: float
    smallest: float
    largest: float
    count: int


@dataclass(frozen=True)
class SettingSummary:
    """The runs of one setting.

    Attributes
    ----------
    setting : dict
    finished, failed : int
        Numbers of runs.
    scores : dict of str to ScoreSummary
        Of each score that is a number in some run; truth values count as 0 and 1.
    seconds : float
        Median of the durations; NaN without a run.
    """

    setting: dict[str, Any]
    finished: int
    failed: int
    scores: dict[str, ScoreSummary]
    seconds: float


def summarize(setting: dict[str, Any], rows: Iterable[Row]) -> SettingSummary:
    """Return the summary of the rows of a setting."""
    rows = list(rows)
    finished = [row for row in rows if row["status"] == "finished"]
    names = {name: None for row in finished for name, value in row["scores"].items() if is_number(value)}
    values = {name: [row["scores"].get(name) for row in finished] for name in names}
    scores = {name: quartiles([float(v) for v in column if is_number(v)]) for name, column in values.items()}
    seconds = quartiles([row["seconds"] for row in rows]).median
    return SettingSummary(setting, len(finished), len(rows) - len(finished), scores, seconds)


def rows_by_setting(settings: Iterable[dict[str, Any]], rows: Iterable[Row]) -> list[tuple[dict[str, Any], list[Row]]]:
    """Return the rows of each setting, in the order of the settings."""
    groups: dict[str, tuple[dict[str, Any], list[Row]]] = {key_of(setting, 0): (setting, []) for setting in settings}
    for row in rows:
        groups[key_of(row["setting"], 0)][1].append(row)
    return list(groups.values())


def is_number(value: object) -> TypeGuard[float]:
    """Return whether a score is a number, or a truth value."""
    return isinstance(value, int | float)


def quartiles(values: Sequence[float]) -> ScoreSummary:
    """Return the quartiles of numbers."""
    if not values or any(math.isnan(value) for value in values):
        return ScoreSummary(math.nan, math.nan, math.nan, math.nan, math.nan, len(values))
    ordered = sorted(values)
    median, lower, upper = (_quantile(ordered, fraction) for fraction in (0.5, 0.25, 0.75))
    return ScoreSummary(median, lower, upper, ordered[0], ordered[-1], len(ordered))


def _quantile(ordered: Sequence[float], fraction: float) -> float:
    """Interpolate between the neighbours, without `inf - inf`."""
    position = fraction * (len(ordered) - 1)
    low = ordered[math.floor(position)]
    high = ordered[math.ceil(position)]
    weight = position - math.floor(position)
    return low if low == high or not weight else (1 - weight) * low + weight * high
