"""A series of observations at equal steps of time, and the reader of a CSV file with one."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glasscell.atomic_files import StrPath
from glasscell.data.csv_tables import parse_number
from glasscell.data.gaps import FILLS, Fill, fill_gaps, is_missing
from glasscell.data.lines import lines_of
from glasscell.data.series.times import TimeAxis, time_axis
from glasscell.escaping import one_line
from glasscell.validation import choice, finite_array

Values = NDArray[np.float64]


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
        Default: a comma, or a semicolon if `decimal` is a comma.

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
    table = _Table(path, delimiter or (";" if decimal == "," else ","))
    names = [*columns, *known_exogenous, *past_exogenous]
    if len({*names, time}) <= len(names):
        raise ValueError(f"columns must be different, got {', '.join(map(repr, [*names, *[time] * bool(time)]))}")
    numbers = np.stack([table.numbers(name, decimal) for name in names], axis=1)
    axis = None
    if time is not None:
        axis, rows = time_axis([text.strip() for text in table.column(time)], table.places)
        if len(rows) < axis.length and fill is None:
            gap = int(np.flatnonzero(np.diff(rows) > 1)[0])
            raise ValueError(
                f"{table.places[gap + 1]}: column {time!r} must have a row for every step of {axis.description}, got a "
                f"gap before {table.column(time)[gap + 1]!r}; fill='linear' or fill='previous' fills it"
            )
        complete = np.full((axis.length, len(names)), np.nan)
        complete[rows] = numbers
        numbers, table.rows = complete, rows
    return _series(table, numbers, axis, list(columns), list(known_exogenous), list(past_exogenous), fill)


def _series(
    table: _Table,
    numbers: Values,
    axis: TimeAxis | None,
    columns: list[str],
    known: list[str],
    past: list[str],
    fill: Fill,
) -> Series:
    """Separate observations, exogenous inputs and their future; fill missing values."""
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
            raise ValueError(f"{table.path}: column {name!r} must have values, got none")
        place = table.place_of(int(absent[0]))
        if fill is None:
            raise ValueError(
                f"{place}: column {name!r} must have a value in every row, got {len(absent)} of {stop} without; "
                "fill='linear' or fill='previous' fills them"
            )
        if absent[0] == 0 or (absent[-1] == stop - 1 and fill == "linear"):
            hint = ""
            if absent[0]:  # the values at the end are missing: name the first row of these
                place = table.place_of(int(absent[np.flatnonzero(np.diff(absent, prepend=-2) > 1)[-1]]))
                hint = "" if known else "; rows without observations at the end are for known_exogenous columns"
            ends = "begin and end" if fill == "linear" else "begin"
            raise ValueError(f"{place}: column {name!r} must {ends} with a value for fill={fill!r}{hint}")
        numbers[:stop, k] = fill_gaps(numbers[:stop, k], fill)
        filled += len(absent)
    values, exogenous = numbers[:length, :C], numbers[:, C : C + K]
    return Series(values, tuple(columns), exogenous, numbers[:length, C + K :], axis, filled)


class _Table:
    """The cells of a CSV file as text.

    Attributes
    ----------
    path : str
    places : list of str
        File and line of each row.
    rows : array, optional
        Step of each row on the time axis.
    """

    def __init__(self, path: StrPath, delimiter: str) -> None:
        self.path = str(path)
        self.rows: NDArray[np.intp] | None = None
        if len(delimiter) != 1:
            raise ValueError(f"delimiter must be one character, got {delimiter!r}")
        lines = self._lines(delimiter)
        _, self.header = next(lines, (0, []))
        if not self.header:
            raise ValueError(f"{self.path} must have a line of column names, got blank lines only")
        self.cells: list[list[str]] = []
        self.places: list[str] = []
        for number, row in lines:
            if len(row) != len(self.header):
                raise ValueError(
                    f"{self.path}, line {number}: must have {len(self.header)} cells separated by {delimiter!r}, "
                    f"got {len(row)}"
                )
            self.cells.append(row)
            self.places.append(f"{self.path}, line {number}")
        if not self.cells:
            raise ValueError(f"{self.path} must have rows after its column names, got none")

    def _lines(self, delimiter: str) -> Iterator[tuple[int, list[str]]]:
        """Yield number and cells of each line that is not empty."""
        try:
            reader = csv.reader(lines_of(Path(self.path)), delimiter=delimiter, strict=True)
            for row in reader:
                if row:
                    yield reader.line_num, row
        except csv.Error as error:
            raise ValueError(f"{self.path} must be a CSV file: {one_line(str(error))}") from None

    def column(self, name: str) -> list[str]:
        """Return the cells of a column."""
        if self.header.count(name) != 1:
            problem = "must be in the file once" if name in self.header else "must be in the file"
            raise ValueError(f"{self.path}: column {name!r} {problem}, got {', '.join(map(repr, self.header))[:300]}")
        k = self.header.index(name)
        return [row[k] for row in self.cells]

    def numbers(self, name: str, decimal: str) -> Values:
        """Return the numbers of a column, NaN for missing ones."""
        numbers = np.full(len(self.cells), np.nan)
        for k, cell in enumerate(self.column(name)):
            if is_missing(cell):
                continue
            value = parse_number(cell, decimal)
            if value is None:
                hint = "; decimal=',' reads decimal commas" if parse_number(cell, ",") is not None else ""
                raise ValueError(f"{self.places[k]}: column {name!r} must be numbers, got {cell!r:.100}{hint}")
            numbers[k] = value
        return numbers

    def place_of(self, step: int) -> str:
        """Return file and line of a step, or of the first row after it if the step is in a gap."""
        row = step if self.rows is None else int(np.searchsorted(self.rows, step))
        return self.places[row]
