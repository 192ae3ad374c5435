"""A series of observations at equal steps of time, and the reader of a CSV file with one."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glasscell.atomic_files import StrPath
from glasscell.data.csv_tables import CsvTable
from glasscell.data.gaps import FILLS, Fill, fill_gaps
from glasscell.data.series.times import TimeAxis, time_axis
from glasscell.validation import choice, finite_array

Values = NDArray[np.float64]

MAX_STEPS_PER_ROW, MAX_GAP = 10, 100_000  # of a series whose gaps are filled


def finite_values(name: str, values: ArrayLike) -> Values:
    """Return real and finite numbers as an array of float64; one that is passed is not copied."""
    return finite_array(name, values, np.dtype(np.float64)).astype(np.float64, copy=False)


@dataclass(frozen=True, eq=False)
class Series:
    """Observations at equal steps of time.

    Attributes
    ----------
    values : array (T, C)
        The C series that are forecast.
    names : tuple of str
        Of the columns of `values`.
    known_exogenous : array (T + F, K)
        Exogenous inputs whose values are known F steps into the future.
    past_exogenous : array (T, J)
        Exogenous inputs that are known up to the present.
    times : TimeAxis, optional
        Of T + F steps.
    filled : int
        Number of values that were missing in the file.
    """

    values: Values
    names: tuple[str, ...]
    known_exogenous: Values
    past_exogenous: Values
    times: TimeAxis | None = None
    filled: int = 0

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        parts = [f"{len(self)} values of {', '.join(map(repr, self.names))}"]
        if self.times is not None:
            parts.append(f"{self.label(0)} to {self.label(len(self) - 1)}")
        K, J = self.known_exogenous.shape[1], self.past_exogenous.shape[1]
        parts += [f"{K} known exogenous, future steps: {self.future_steps}"] * bool(K)
        parts += [f"{J} past exogenous"] * bool(J)
        parts += [f"missing values filled: {self.filled}"] * bool(self.filled)
        return f"Series({'; '.join(parts)})"

    @property
    def future_steps(self) -> int:
        """F, the number of steps after the last observation for which exogenous inputs are known."""
        return len(self.known_exogenous) - len(self.values)

    def head(self, length: int) -> Series:
        """Return the first `length` observations; exogenous inputs known later than that are removed."""
        return replace(
            self,
            values=self.values[:length],
            known_exogenous=self.known_exogenous[:length],
            past_exogenous=self.past_exogenous[:length],
        )

    def label(self, index: int) -> str:
        """Return the time of a step as in the file, also of a future one; its number without a time column."""
        return str(index) if self.times is None else self.times.label(index)


def read_series(
    path: StrPath,
    columns: Sequence[str],
    *,
    time: str | None = None,
    known_exogenous: Sequence[str] = (),
    past_exogenous: Sequence[str] = (),
    fill: Fill = None,
    decimal: Literal[".", ","] = ".",
    delimiter: str | None = None,
) -> Series:
    """Read a series from a CSV file with column names in its first line.

    Parameters
    ----------
    path : path
        UTF-8, with or without a byte order mark; compressed if the name ends in ``.gz``.
    columns : sequence of str
        Columns to forecast.
    time : str, optional
        Column of times: numbers, YYYY-MM, YYYY-MM-DD, YYYYMMDD or ISO 8601 date-times, which must increase in equal
        steps. Dates with one day of the month, or the last of each, have steps of months. Default: the rows have equal
        steps.
    known_exogenous, past_exogenous : sequence of str
        Columns of exogenous inputs. Rows at the end without values in `columns` are the future of `known_exogenous`.
    fill : {"previous", "linear"}, optional
        How empty cells (also ?, NA, N/A, NaN, null, None) and gaps in the times are filled: with the value before, or
        the line between the values before and after. Default: they are errors.
    decimal : {".", ","}
        Decimal mark. Thousands separators are not supported.
    delimiter : str, optional
        Default: detected, as by :class:`glasscell.data.csv_tables.CsvTable`.

    Returns
    -------
    Series

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        With file, line and column: an empty file, a missing column, text in a column, a value that is not finite, times
        out of order or with unequal steps, missing values.
    """
    choice("fill", fill, FILLS)
    choice("decimal", decimal, (".", ","))
    if isinstance(columns, str) or not columns:
        raise TypeError(f"columns must be a list of at least one name, got {columns!r}")
    requested = {"columns": columns, "known_exogenous": known_exogenous, "past_exogenous": past_exogenous}
    names = [name for group in requested.values() for name in group]
    if len({*names, time}) <= len(names):
        raise ValueError(f"columns must be different, got {', '.join(map(repr, [*names, *[time] * bool(time)]))}")
    table = CsvTable(Path(path), delimiter=delimiter, header=True, decimal=decimal, blank_rows=True)
    places = [table.index(argument, name) for argument, group in requested.items() for name in group]
    rows = _Rows(table, places, None if time is None else table.index("time", time))
    axis = None if time is None else rows.place_on_axis(time, fill)
    return _series(rows, axis, list(columns), list(known_exogenous), list(past_exogenous), fill)


def _series(
    rows: _Rows,
    axis: TimeAxis | None,
    columns: list[str],
    known: list[str],
    past: list[str],
    fill: Fill,
) -> Series:
    """Separate observations, exogenous inputs and their future; fill missing values."""
    numbers = rows.numbers
    C, K, length = len(columns), len(known), len(numbers)
    if known:  # rows at the end without observations
        observed = np.flatnonzero(np.isfinite(numbers[:, :C]).any(axis=1))
        length = int(observed[-1]) + 1 if len(observed) else 0
    filled = 0
    for k, name in enumerate([*columns, *known, *past]):
        stop = len(numbers) if C <= k < C + K else length
        absent = np.flatnonzero(np.isnan(numbers[:stop, k]))
        if not len(absent):
            continue
        if len(absent) == stop:
            raise ValueError(f"{rows.column(name)}: must have values, got none")
        place = rows.place_of(int(absent[0]), name)
        if fill is None:
            raise ValueError(
                f"{place}: must have a value in every row, got {len(absent)} of {stop} without; "
                "fill='linear' or fill='previous' fills them"
            )
        if absent[0] == 0 or (absent[-1] == stop - 1 and fill == "linear"):
            hint = ""
            if absent[0]:  # the values at the end are missing: name the first row of these
                place = rows.place_of(int(absent[np.flatnonzero(np.diff(absent, prepend=-2) > 1)[-1]]), name)
                hint = "" if known else "; rows without observations at the end are for known_exogenous columns"
            ends = "begin and end" if fill == "linear" else "begin"
            raise ValueError(f"{place}: must {ends} with a value for fill={fill!r}{hint}")
        numbers[:stop, k] = fill_gaps(numbers[:stop, k], fill)
        filled += len(absent)
    values, exogenous = numbers[:length, :C], numbers[:, C : C + K]
    return Series(values, tuple(columns), exogenous, numbers[:length, C + K :], axis, filled)


class _Rows:
    """Numbers of the columns, and the lines that they come from.

    Attributes
    ----------
    numbers : array (T, columns)
        NaN for missing values.
    steps : array, optional
        Step of each row on the time axis.
    """

    def __init__(self, table: CsvTable, places: list[int], time: int | None) -> None:
        self._table = table
        lines, times, numbers = array("q"), list[str](), array("d")
        for row in table.rows():
            lines.append(row.line)
            numbers.extend([table.number(row, place) for place in places])
            if time is not None:
                times.append(row.cells[time].strip())
        self.numbers: Values = np.frombuffer(numbers).reshape(-1, len(places))
        self.steps: NDArray[np.intp] | None = None
        self._lines, self._times = lines, times

    def place_on_axis(self, time: str, fill: Fill) -> TimeAxis:
        """Find the step of each row; steps without a row get missing values."""
        axis, self.steps = time_axis(self._times, self._line)
        if len(self.steps) < axis.length and fill is None:
            gap = int(np.flatnonzero(np.diff(self.steps) > 1)[0]) + 1
            raise ValueError(
                f"{self._table.path}, line {self._lines[gap]}, column {time!r}: must have a row for every step of "
                f"{axis.description}, got a gap before {self._times[gap]!r}; fill='linear' or fill='previous' fills it"
            )
        if axis.length > MAX_STEPS_PER_ROW * len(self.steps) + MAX_GAP:
            raise ValueError(
                f"{self._table.path}, column {time!r}: must have at most {MAX_STEPS_PER_ROW} steps of "
                f"{axis.description} per row and {MAX_GAP:,} more to fill, got {axis.length:,} steps and "
                f"{len(self.steps)} rows"
            )
        numbers = np.full((axis.length, self.numbers.shape[1]), np.nan)
        numbers[self.steps] = self.numbers
        self.numbers = numbers
        return axis

    def _line(self, row: int) -> str:
        """Return file and line of a row."""
        return f"{self._table.path}, line {self._lines[row]}"

    def place_of(self, step: int, name: str) -> str:
        """Return file, line and column of a step, or of the first row after it if the step is in a gap."""
        row = step if self.steps is None else int(np.searchsorted(self.steps, step))
        return f"{self._table.path}, line {self._lines[row]}, column {name!r}"

    def column(self, name: str) -> str:
        """Return file and column, for messages."""
        return f"{self._table.path}, column {name!r}"
