"""Read sequences from a table: one row per sequence, or one row per step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from glasscell.data.csv_tables import CsvTable, Row, parse_number, parse_numbers
from glasscell.data.gaps import FILLS, Fill, fill_gaps, is_missing
from glasscell.data.labelled.sequences import LabelledSequences
from glasscell.escaping import one_line
from glasscell.validation import choice, positive_integer

MAX_NAMED = 6  # columns that a description lists


def read_csv(
    path: str | Path,
    *,
    label: str | None = None,
    id: str | None = None,  # noqa: A002 - the usual name of such a column
    time: str | None = None,
    features: Sequence[str] | None = None,
    ignore: Sequence[str] = (),
    per_step: bool = False,
    features_per_step: int = 1,
    ragged: bool = False,
    delimiter: str | None = None,
    header: bool | None = None,
    decimal: Literal[".", ","] = ".",
    fill: Fill = None,
) -> LabelledSequences:
    """Read sequences and their labels from a table.

    Without `id` and `per_step`, each row is a sequence: its label, and its values step by step. With `id`, each row is
    a step, and the rows with the same id are a sequence, in the order of the file. With `per_step` and no `id`, the
    whole file is one sequence.

    Parameters
    ----------
    path : path
        UTF-8, compressed if the name ends in ``.gz``.
    label : str, optional
        Column of the labels, which are text. Columns are named by the header, or by their number from 1 if the file
        has none. Default: no labels.
    id : str, optional
        Column of the sequences' identifiers.
    time : str, optional
        Column whose numbers or ISO dates increase within each sequence; it is checked, and not a feature.
    features : sequence of str, optional
        Columns of the features, in this order. Default: all others, in the order of the file.
    ignore : sequence of str
        Columns that are not read.
    per_step : bool
        Whether there is one label per step. Default: one per sequence, in all of its rows.
    features_per_step : int
        For one row per sequence: a row has the features of the first step, then those of the second one, and so on.
    ragged : bool
        For one row per sequence: whether sequences may end before the last column, with empty cells or no cells.
    delimiter, header
        As in :class:`glasscell.data.csv_tables.CsvTable`. The result's ``source`` states which were detected.
    decimal : {".", ","}
        The decimal separator.
    fill : {"previous", "linear"}, optional
        How missing values (empty, ``?``, ``NA``, ``NaN``) are replaced within each sequence. Default: each is an error.

    Returns
    -------
    LabelledSequences

    Raises
    ------
    ValueError
        If the file does not fit the description; the message names file, line and column.
    """
    choice("decimal", decimal, (".", ","))
    choice("fill", fill, FILLS)
    positive_integer("features_per_step", features_per_step)
    long = id is not None or per_step
    for name, value, default in (("features_per_step", features_per_step, 1), ("ragged", ragged, False)):
        if long and value != default:
            raise ValueError(f"{name} must be left out for one row per step, got {value!r}")
    if not long and time is not None:
        raise ValueError(f"time must be left out for one row per sequence, got {time!r}")
    named = [name for name in (label, id, time, *(features or ()), *ignore) if name is not None]
    _check_different(named)
    if per_step and label is None:
        raise ValueError("label must be passed with per_step=True, got none")
    table = CsvTable(Path(path), delimiter=delimiter, header=header, requested=named, ragged=ragged, decimal=decimal)
    columns = _Columns(table, label, id, time, features, ignore)
    if long:
        return _StepRows(table, columns, fill, per_step=per_step).read()
    return _SequenceRows(table, columns, fill, features_per_step, ragged=ragged).read()


def _check_different(named: Sequence[str]) -> None:
    """Raise ValueError if a column has two uses."""
    for k, name in enumerate(named):
        if name in named[:k]:
            raise ValueError(f"label, id, time, features and ignore must name different columns, got {name!r} twice")


def read_one_sequence(
    path: str | Path,
    *,
    time: str | None = None,
    features: Sequence[str] | None = None,
    ignore: Sequence[str] = (),
    delimiter: str | None = None,
    header: bool | None = None,
    decimal: Literal[".", ","] = ".",
    fill: Fill = None,
) -> LabelledSequences:
    """Read a table without labels whose rows are the steps of one sequence; arguments are those of :func:`read_csv`."""
    named = [name for name in (time, *(features or ()), *ignore) if name is not None]
    _check_different(named)
    table = CsvTable(Path(path), delimiter=delimiter, header=header, requested=named, decimal=decimal)
    columns = _Columns(table, None, None, time, features, ignore)
    return _StepRows(table, columns, fill, per_step=False).read()


class _Columns:
    """Places of the columns."""

    def __init__(
        self,
        table: CsvTable,
        label: str | None,
        identifier: str | None,
        time: str | None,
        features: Sequence[str] | None,
        ignore: Sequence[str],
    ) -> None:
        self.label = None if label is None else table.index("label", label)
        self.id = None if identifier is None else table.index("id", identifier)
        self.time = None if time is None else table.index("time", time)
        ignored = {table.index("ignore", name) for name in ignore}
        others = {self.label, self.id, self.time, *ignored}
        if features is None:
            table.check_names()
            self.features = [k for k in range(len(table.names)) if k not in others]
        else:
            self.features = [table.index("features", name) for name in features]
        if not self.features:
            raise ValueError(f"{table.description} must have a column of features, got none besides label, id and time")
        self.names = [table.names[k] for k in self.features]


class _Reader:
    """Common part of both layouts."""

    def __init__(self, table: CsvTable, columns: _Columns, fill: Fill) -> None:
        self.table, self.columns, self.fill = table, columns, fill
        self.has_gaps = False

    def values(self, row: Row, features: Sequence[int]) -> list[float]:
        """Return the numbers of some columns; NaN for missing values, if they are to be filled."""
        numbers = parse_numbers([row.cells[k] for k in features]) if self.table.decimal == "." else None
        if numbers is not None:
            return numbers
        values = [self.table.number(row, k) for k in features]
        missing = [k for k, value in zip(features, values, strict=True) if math.isnan(value)]
        if missing and self.fill is None:
            self.table.refuse(
                row,
                missing[0],
                f"must be a number, got a missing value{self.hint(row, features, missing)}: "
                "fill='linear' or fill='previous' replaces missing values",
            )
        self.has_gaps = self.has_gaps or bool(missing)
        return values

    def hint(self, row: Row, features: Sequence[int], missing: list[int]) -> str:
        """Return what may have been forgotten."""
        del row, features, missing
        return ""

    def label(self, row: Row, k: int) -> str:
        """Return the label of a row, which is in column k."""
        text = row.cells[k].strip() if k < len(row.cells) else ""
        if not text:
            self.table.refuse(row, k, "must be a label, got an empty cell")
        return text

    def filled(self, sequence: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        """Return a sequence (T, I) with its missing values replaced."""
        if self.fill is None or not np.isnan(sequence).any():
            return sequence
        try:
            return np.stack([fill_gaps(column, self.fill) for column in sequence.T], axis=1)
        except ValueError as error:
            raise ValueError(f"{self.table.path}, {one_line(name):.80}: {error}") from None

    def result(
        self,
        x: list[NDArray[np.float64]],
        labels: list[str] | list[list[str]] | None,
        feature_names: list[str],
        names: list[str],
        layout: str,
    ) -> LabelledSequences:
        """Return the sequences, with a description of how they were read."""
        described = [f"{self.table.description}: {layout}"]
        if self.columns.label is not None:
            described.append(f"label {self.table.names[self.columns.label]!r}")
        shown = ", ".join(map(repr, self.columns.names[:MAX_NAMED]))
        described.append(f"features {shown}{', …' if len(self.columns.names) > MAX_NAMED else ''}")
        if self.has_gaps:
            described.append(f"missing values filled ({self.fill})")
        source = ", ".join(described)
        return LabelledSequences(x, labels, feature_names, names, source, decimal=self.table.decimal)


class _SequenceRows(_Reader):
    """One row per sequence."""

    def __init__(self, table: CsvTable, columns: _Columns, fill: Fill, per_step: int, *, ragged: bool) -> None:
        super().__init__(table, columns, fill)
        self.count, self.ragged = per_step, ragged
        if len(columns.features) % per_step:
            raise ValueError(
                f"features_per_step must divide the {len(columns.features)} columns of features of "
                f"{table.description}, got {per_step}"
            )

    def read(self) -> LabelledSequences:
        """Read the file."""
        x, labels, names = list[NDArray[np.float64]](), list[str](), list[str]()
        for row in self.table.rows():
            features = self._present(row) if self.ragged else self.columns.features
            name = f"line {row.line}"
            sequence = np.array(self.values(row, features)).reshape(-1, self.count)
            x.append(self.filled(sequence, name))
            names.append(name)
            if self.columns.label is not None:
                labels.append(self.label(row, self.columns.label))
        feature_names = ["value"] if self.count == 1 else self.columns.names[: self.count]
        return self.result(x, labels if self.columns.label is not None else None, feature_names, names, self._layout)

    @property
    def _layout(self) -> str:
        return f"one row per sequence, {self.count} feature{'s' * (self.count != 1)} per step"

    def _present(self, row: Row) -> list[int]:
        """Return the columns of a row up to the sequence's end."""
        features = [k for k in self.columns.features if k < len(row.cells)]
        while features and not row.cells[features[-1]].strip():
            features.pop()
        if not features or len(features) % self.count:
            problem = "must have at least one step" if not features else f"must end with a step of {self.count} values"
            raise ValueError(f"{self.table.path}, line {row.line}: {problem}, got {len(features)} values")
        return features

    def hint(self, row: Row, features: Sequence[int], missing: list[int]) -> str:
        """Return that the sequence may end before the last column."""
        at_end = list(features)[-len(missing) :] == missing and all(is_missing(row.cells[k]) for k in missing)
        return " (ragged=True: sequences may end before the last column)" if at_end else ""


class _StepRows(_Reader):
    """One row per step."""

    def __init__(self, table: CsvTable, columns: _Columns, fill: Fill, *, per_step: bool) -> None:
        super().__init__(table, columns, fill)
        self.per_step = per_step

    def read(self) -> LabelledSequences:
        """Read the file."""
        steps, labels, times = dict[str, list[list[float]]](), dict[str, list[str]](), dict[str, float]()
        for row in self.table.rows():
            name = self._identifier(row)
            values = self.values(row, self.columns.features)
            steps.setdefault(name, []).append(values)
            self._check_time(row, name, times)
            if self.columns.label is not None:
                of_sequence = labels.setdefault(name, [])
                label = self.label(row, self.columns.label)
                if of_sequence and not self.per_step and label != of_sequence[0]:
                    self.table.refuse(
                        row,
                        self.columns.label,
                        f"must be {of_sequence[0]!r} as in the sequence's other rows, got {label!r}: "
                        "per_step=True reads one label per step",
                    )
                if self.per_step or not of_sequence:
                    of_sequence.append(label)
        x = [self.filled(np.array(rows), f"sequence {name!r}") for name, rows in steps.items()]
        every = None if self.columns.label is None else [labels[name] for name in steps]
        by_sequence = every if self.per_step or every is None else [entry[0] for entry in every]
        return self.result(x, by_sequence, self.columns.names, list(steps), self._layout)

    @property
    def _layout(self) -> str:
        if self.columns.id is None:
            return "one row per step, one sequence"
        return f"one row per step, sequences by {self.table.names[self.columns.id]!r}"

    def _identifier(self, row: Row) -> str:
        if self.columns.id is None:
            return "the file"
        name = row.cells[self.columns.id].strip()
        if not name:
            self.table.refuse(row, self.columns.id, "must be the identifier of a sequence, got an empty cell")
        return name

    def _check_time(self, row: Row, name: str, times: dict[str, float]) -> None:
        """Raise an error unless the time increases."""
        k = self.columns.time
        if k is None:
            return
        text = row.cells[k].strip()
        value = _time(text, self.table.decimal)
        if math.isnan(value):
            self.table.refuse(row, k, f"must be a number or an ISO date, got {text!r:.40}")
        if name in times and not value > times[name]:
            self.table.refuse(
                row, k, f"must increase within a sequence, got {text:.60}, which is not after the row before"
            )
        times[name] = value


def _time(text: str, decimal: str) -> float:
    """Return a number, or the seconds of an ISO date; NaN if it is neither."""
    number = parse_number(text, decimal)
    if number is not None:
        return number
    try:
        date = datetime.fromisoformat(text)
    except ValueError:
        return math.nan
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
