"""Time columns of a series: parse times, check that their steps are equal, and continue them."""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from glasscell.data.csv_tables import parse_number

FORMATS = "numbers, YYYY-MM, YYYY-MM-DD, YYYYMMDD or ISO 8601 date-times"
PATTERNS = {  # of dates, and how they are written
    r"\d{4}-\d{2}": "%Y-%m",
    r"\d{4}/\d{2}": "%Y/%m",
    r"\d{4}-\d{2}-\d{2}": "%Y-%m-%d",
    r"\d{4}/\d{2}/\d{2}": "%Y/%m/%d",
    r"(1[0-9]|2[0-9])\d{2}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])": "%Y%m%d",
}
Unit = Literal["number", "month", "second"]
MAX_STEPS = 2.0**53  # integers up to it are exact


@dataclass(frozen=True)
class TimeAxis:
    """Equally spaced times.

    Attributes
    ----------
    first : str
        The first time as it is in the file.
    step : float
        In units.
    unit : {"number", "month", "second"}
        Months if all dates have the same day of the month, or all are the last of their months.
    length : int
        T
    format : str
        Of `strftime`; "iso" for date-times, "" for numbers.
    month_ends : bool
        Whether times are the last days of months, of different lengths.
    """

    first: str
    step: float
    unit: Unit
    length: int
    format: str
    month_ends: bool = False

    def label(self, index: int) -> str:
        """Return the time of a step as text in the file's format; an index of `length` or more is in the future.

        Dates that have no text, after the year 9999, are "?".
        """
        amount = self.step * index
        if self.unit == "number":
            value = float(self.first) + amount
            return f"{value:.0f}" if float(self.first).is_integer() and self.step.is_integer() else f"{value:.10g}"
        start = _parse(self.first, self.format)
        try:
            if self.unit == "second":
                moment = start + timedelta(seconds=amount)
            else:
                moment = _add_months(start, round(amount), to_end=self.month_ends)
        except (OverflowError, ValueError):
            return "?"
        return _iso(moment, self.first) if self.format == "iso" else _date(moment, self.format)

    @property
    def description(self) -> str:
        """The step in words: "1 month", "7 days"."""
        if self.unit == "number":
            return f"{self.step:.10g}"
        names = {"month": [(1, "month")], "second": [(86400, "day"), (3600, "hour"), (60, "minute"), (1, "second")]}
        size, name = next((s, n) for s, n in names[self.unit] if self.step % s == 0 or s == 1)
        count = self.step / size
        return f"{count:.10g} {name}{'' if count == 1 else 's'}"


def time_axis(texts: Sequence[str], place: Callable[[int], str]) -> tuple[TimeAxis, NDArray[np.intp]]:
    """Return the axis, and the step of each row on it; steps without a row are gaps.

    Parameters
    ----------
    texts : sequence of str
        The times, one per row.
    place : callable
        Returns file and line of a row, for errors.

    Raises
    ------
    ValueError
        If a time cannot be parsed, is not later than the one before, or the steps are not multiples of the smallest.
    """
    unit, format_, amounts = _amounts(texts, place)
    with np.errstate(over="ignore"):
        steps = np.diff(amounts)
    if len(amounts) == 1:
        return TimeAxis(texts[0], 1.0, unit, 1, format_), np.zeros(1, np.intp)
    for k in np.flatnonzero(~(steps > 0))[:1]:
        raise ValueError(f"{place(k + 1)}: times must increase, got {texts[k + 1]!r} after {texts[k]!r}")
    step = float(steps.min())
    with np.errstate(over="ignore"):
        counts = steps / step
    for k in np.flatnonzero(~(counts.cumsum() < MAX_STEPS))[:1]:
        raise ValueError(
            f"{place(k + 1)}: times must be at most {MAX_STEPS:g} of the smallest step, {step:g}, after the first, "
            f"got {texts[k + 1]!r:.60} after {texts[k]!r:.60}"
        )
    wrong = np.flatnonzero(np.abs(counts - np.round(counts)) > 1e-6)
    days = {_parse(text, format_).day for text in texts} if unit == "month" else set()
    axis = TimeAxis(texts[0], step, unit, 1, format_, len(days) > 1)
    for k in wrong[:1]:
        raise ValueError(
            f"{place(k + 1)}: times must have equal steps, of {axis.description} here, got {texts[k + 1]!r} "
            f"after {texts[k]!r}"
        )
    rows = np.concatenate([[0], np.cumsum(np.round(counts))]).astype(np.intp)
    return replace(axis, length=int(rows[-1]) + 1), rows


def _amounts(texts: Sequence[str], place: Callable[[int], str]) -> tuple[Unit, str, NDArray[np.float64]]:
    """Return unit and format of the times, and the time of each row in units."""
    fitting = [f for pattern, f in PATTERNS.items() if all(re.fullmatch(pattern, text) for text in texts)]
    format_ = fitting[0] if fitting else "iso"
    if not fitting:
        numbers = [parse_number(text) for text in texts]
        if all(number is not None for number in numbers):
            return "number", "", np.array(numbers, np.float64)
    moments = []
    for k, text in enumerate(texts):
        try:
            moments.append(_parse(text, format_))
        except ValueError:
            raise ValueError(f"{place(k)}: times must be {FORMATS}, one format in a file, got {text!r:.60}") from None
    if len({moment.tzinfo is None for moment in moments}) > 1:
        raise ValueError(f"{place(0)}: times must all have a time zone, or none")
    if _is_monthly(moments):
        return "month", format_, np.array([12.0 * moment.year + moment.month for moment in moments])
    epoch = datetime(1970, 1, 1, tzinfo=None if moments[0].tzinfo is None else UTC)
    return "second", format_, np.array([(moment - epoch).total_seconds() for moment in moments])


def _is_monthly(moments: Sequence[datetime]) -> bool:
    """Return whether all moments have one day of the month and time, or are the last days of their months."""
    if len({(moment.hour, moment.minute, moment.second, moment.microsecond) for moment in moments}) > 1:
        return False
    months = {(moment.year, moment.month) for moment in moments}
    return len(months) == len(moments) and (
        len({moment.day for moment in moments}) == 1 or all(map(_is_last_day, moments))
    )


def _is_last_day(moment: datetime) -> bool:
    return moment.day == calendar.monthrange(moment.year, moment.month)[1]


def _add_months(moment: datetime, months: int, *, to_end: bool) -> datetime:
    """Return the same day of a later month, or its last day if it has no such day or with `to_end`."""
    year, month = divmod(12 * moment.year + moment.month - 1 + months, 12)
    last = calendar.monthrange(year, month + 1)[1]
    return moment.replace(year=year, month=month + 1, day=last if to_end else min(moment.day, last))


def _date(moment: datetime, format_: str) -> str:
    """Return a date as text, with a year of four digits, which strftime has from the year 1000 on."""
    return moment.strftime(format_.replace("%Y", f"{moment.year:04d}"))


def _iso(moment: datetime, like: str) -> str:
    """Return a date-time as text with the separator, the precision and the mark of UTC of another one."""
    parts = re.fullmatch(r"\d{4}-\d{2}-\d{2}(.)\d{2}:\d{2}(:\d{2})?.*?(Z?)", like)
    if parts is None:
        return moment.isoformat()
    separator, seconds, utc = parts.groups()
    precise = seconds is not None or moment.second or moment.microsecond
    text = moment.isoformat(separator, "auto" if precise else "minutes")
    return text.removesuffix("+00:00") + "Z" if utc else text


def _parse(text: str, format_: str) -> datetime:
    if format_ == "iso":
        return datetime.fromisoformat(text)
    return datetime.strptime(text, format_)
