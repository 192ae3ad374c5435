"""Tables in text files: delimiter, header, rows, with the line of every error."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple, NoReturn

from glasscell.data.gaps import is_missing
from glasscell.data.lines import lines_of
from glasscell.escaping import one_line

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar", " ": "spaces"}
DETECTED = (",", ";", "\t", "|")
ROWS_FOR_DETECTION = 20


class Row(NamedTuple):
    """Cells of a row, and the line of the file on which it ends."""

    line: int
    cells: list[str]


class CsvTable:
    """A table in a text file, whose rows are read once.

    Parameters
    ----------
    path : path
        UTF-8, compressed if the name ends in ``.gz``.
    delimiter : str, optional
        One of comma, semicolon, tab, bar; or a space for any number of spaces. Default: the only one of the first four
        that divides the first 20 lines into equally many cells, more than one; a comma if none occurs. A decimal comma
        is no delimiter: then the default is a semicolon.
    header : bool, optional
        Whether the first row has the names of the columns. Default: yes if it has one of the names in `requested`, or
        text in a column whose second row is a number.
    requested : sequence of str
        Names of columns that will be used.
    ragged : bool
        Whether rows may have fewer cells than the first one.
    decimal : str
        The decimal separator, a point or a comma.
    blank_rows : bool
        Whether rows with empty cells only are rows. Lines without any cell never are.

    Attributes
    ----------
    names : list of str
        Of the columns; their numbers from 1 if there is no header.

    Raises
    ------
    ValueError
        If the file is empty, or the delimiter or the header is ambiguous.
    """

    def __init__(
        self,
        path: Path,
        *,
        delimiter: str | None = None,
        header: bool | None = None,
        requested: Sequence[str] = (),
        ragged: bool = False,
        decimal: str = ".",
        blank_rows: bool = False,
    ) -> None:
        if delimiter is not None and delimiter not in DELIMITERS:
            raise ValueError(f"delimiter must be one of {', '.join(map(repr, DELIMITERS))}, got {delimiter!r:.100}")
        self.path, self.ragged, self.decimal, self._blank_rows = path, ragged, decimal, blank_rows
        lines = lines_of(path)
        first_lines = list(islice(lines, ROWS_FOR_DETECTION))
        self.delimiter = self._detected_delimiter(first_lines) if delimiter is None else delimiter
        rows = self._parsed(chain(first_lines, lines))
        first = next(rows, None)
        if first is None:
            raise ValueError(f"{path} must have at least one row, got blank lines only")
        second = next(rows, None)
        following = () if second is None else (second,)
        self.has_header = self._detected_header(first, second, requested) if header is None else header
        names = [cell.strip() for cell in first.cells]
        self.names = names if self.has_header else [str(k) for k in range(1, len(names) + 1)]
        self._header_line = first.line
        self._rows = chain(following, rows) if self.has_header else chain((first,), following, rows)

    @property
    def description(self) -> str:
        """The file, its delimiter and header, for output."""
        header = "a header" if self.has_header else "no header"
        return f"{self.path} ({DELIMITERS[self.delimiter]}, {header})"

    def rows(self) -> Iterator[Row]:
        """Yield the rows after the header; raise ValueError for one with another number of cells."""
        width, empty = len(self.names), True
        for row in self._rows:
            empty = False
            count = len(row.cells)
            if count > width or (count < width and not self.ragged):
                raise ValueError(f"{self.path}, line {row.line}: must have {width} cells, got {count}")
            yield row
        if empty:
            raise ValueError(f"{self.path} must have a row after the header, got none")

    def index(self, argument: str, name: str) -> int:
        """Return the place of a column.

        Raises
        ------
        ValueError
            If there is none of this name, or more than one.
        """
        if self.names.count(name) > 1:
            self._refuse_second(name)
        if name in self.names:
            return self.names.index(name)
        names = ", ".join(f"{name!r:.60}" for name in self.names[:8]) + (", …" if len(self.names) > 8 else "")
        kind = "name a column of" if self.has_header else "be the number of a column of"
        raise ValueError(f"{argument} must {kind} {self.description}, {one_line(names)}, got {name!r:.100}")

    def check_names(self) -> None:
        """Raise ValueError if a column has no name, or two have the same."""
        found = set[str]()
        for k, name in enumerate(self.names):
            if not name:
                raise ValueError(
                    f"{self.path}, line {self._header_line}: column {k + 1} must have a name, got an empty cell"
                )
            if name in found:
                self._refuse_second(name)
            found.add(name)

    def number(self, row: Row, k: int) -> float:
        """Return the number in a cell; NaN if it is missing."""
        text = row.cells[k]
        if is_missing(text):
            return math.nan
        value = parse_number(text, self.decimal)
        if value is None:
            hint = "; decimal=',' reads decimal commas" if parse_number(text, ",") is not None else ""
            self.refuse(row, k, f"must be a number, got {text.strip()!r:.60}{hint}")
        return value

    def refuse(self, row: Row, k: int, problem: str) -> NoReturn:
        """Raise a ValueError that names the file, line and column of a cell."""
        name = f"{self.names[k]!r:.60}" if self.has_header else self.names[k]
        raise ValueError(f"{self.path}, line {row.line}, column {name}: {one_line(problem)}")

    def _parsed(self, lines: Iterator[str]) -> Iterator[Row]:
        """Yield the rows that are not blank."""
        if self.delimiter == " ":
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield Row(number, line.split())
            return
        reader = csv.reader(lines, delimiter=self.delimiter, strict=True)
        while True:
            try:
                cells = next(reader, None)
            except csv.Error as error:
                raise ValueError(
                    f"{self.path}, line {reader.line_num}: must be a CSV file: {one_line(error)}"
                ) from None
            if cells is None:
                return
            if any(cell.strip() for cell in cells) or (cells and self._blank_rows):
                yield Row(reader.line_num, cells)

    def _detected_delimiter(self, lines: list[str]) -> str:
        widths = {delimiter: _widths(lines, delimiter) for delimiter in DETECTED if delimiter != self.decimal}
        occurring = [delimiter for delimiter, counts in widths.items() if max(counts, default=1) > 1]
        equal = [delimiter for delimiter in occurring if len(set(widths[delimiter])) == 1]
        chosen = equal or occurring
        if len(chosen) > 1:
            names = " and ".join(DELIMITERS[delimiter] for delimiter in chosen)
            raise ValueError(f"{self.path}: delimiter must be passed, got several that are possible, {names}")
        return chosen[0] if chosen else next(iter(widths))

    def _detected_header(self, first: Row, second: Row | None, requested: Sequence[str]) -> bool:
        names = [cell.strip() for cell in first.cells]
        if any(name in names and not self._is_number(name) for name in requested):
            return True
        if second is None:
            return not any(map(self._is_number, first.cells))
        pairs = list(zip(first.cells, second.cells, strict=False))
        return any(
            not is_missing(above) and not self._is_number(above) and self._is_number(below) for above, below in pairs
        )

    def _is_number(self, text: str) -> bool:
        return parse_number(text, self.decimal) is not None

    def _refuse_second(self, name: str) -> NoReturn:
        first = self.names.index(name)
        raise ValueError(
            f"{self.path}, line {self._header_line}: columns must have different names, "
            f"got {name!r:.60} for columns {first + 1} and {self.names.index(name, first + 1) + 1}"
        )


def _widths(lines: list[str], delimiter: str) -> list[int]:
    """Return the number of cells of each line; an empty list if the lines cannot be parsed."""
    try:
        return [len(cells) for cells in csv.reader(lines, delimiter=delimiter) if any(map(str.strip, cells))]
    except csv.Error:
        return []


def parse_number(text: str, decimal: str = ".") -> float | None:
    """Return the number that a cell has; None if it has none. "nan", "inf" and "1_000" are none."""
    try:
        value = float(text if decimal == "." else text.replace(".", "x").replace(decimal, "."))
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None


def parse_numbers(texts: Sequence[str]) -> list[float] | None:
    """Return the numbers of cells with decimal points; None if one of them may have none: see :func:`parse_number`."""
    try:
        values = list(map(float, texts))
    except ValueError:
        return None
    return values if math.isfinite(sum(values)) and "_" not in "".join(texts) else None
