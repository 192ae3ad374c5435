"""Read the ``.ts`` format of sktime and aeon: time series with class labels."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from glasscell.core.cached import cached_property
from glasscell.data.csv_tables import parse_number, parse_numbers
from glasscell.data.gaps import Fill, fill_gaps, is_missing
from glasscell.data.labelled.labels import Label
from glasscell.data.labelled.sequences import LabelledSequences
from glasscell.data.lines import lines_of
from glasscell.escaping import one_line

FLAGS = {"timestamps", "missing", "univariate", "equallength", "targetlabel"}
NAMES = {"problemname", "dimension", "dimensions", "serieslength", "classlabel", "data", *FLAGS}


def read_ts(path: str | Path, *, fill: Fill = None) -> LabelledSequences:
    """Read a ``.ts`` file: univariate or multivariate, of equal or unequal lengths.

    Parameters
    ----------
    path : path
        May be compressed, ``.ts.gz``.
    fill : {"previous", "linear"}, optional
        How missing values, ``?`` or ``NaN``, are replaced. Default: they are an error.

    Returns
    -------
    LabelledSequences
        Labels are text, classes in the order of ``@classLabel``; numbers with ``@targetLabel true``.

    Raises
    ------
    ValueError
        If the file is not of this format, has timestamps, or a value is missing; the message names file and line.
    """
    return _Reader(Path(path), fill).read()


class _Reader:
    """State of reading one file."""

    def __init__(self, path: Path, fill: Fill) -> None:
        self.path, self.fill, self.line = path, fill, 0
        self.header: dict[str, str] = {}
        self.dimensions: int | None = None
        self.x: list[NDArray[np.float64]] = []
        self.labels: list[str] = []
        self.names: list[str] = []

    def read(self) -> LabelledSequences:
        in_data = False
        for number, text in enumerate(lines_of(self.path), start=1):
            if text == "\n":  # most of a text may be blank lines
                continue
            self.line, entry = number, text.strip()
            if not entry or entry.startswith(("#", "%")):
                continue
            if in_data:
                self._series(entry)
            elif entry.startswith("@"):
                in_data = self._declare(entry)
            else:
                self._refuse(f"must start with @ before @data, got {entry:.40}")
        if not in_data:
            raise ValueError(f"{self.path} must have a line @data, got none")
        if not self.x:
            raise ValueError(f"{self.path} must have at least one sequence after @data, got none")
        I = self.x[0].shape[1]
        return LabelledSequences(
            self.x,
            self.labels if self._has_labels else None,
            [f"dimension {k}" for k in range(1, I + 1)],
            self.names,
            str(self.path),
            self._classes,
        )

    def _refuse(self, problem: str) -> NoReturn:
        raise ValueError(f"{self.path}, line {self.line}: {one_line(problem)}")

    def _declare(self, entry: str) -> bool:
        """Read a line of the header; return whether it is the last one."""
        name, _, value = entry[1:].partition(" ")
        name, value = name.lower(), value.strip()
        if name not in NAMES:
            self._refuse(f"must be one of the declarations of a .ts file, got @{name}")
        if name in self.header:
            self._refuse(f"@{name} must be declared once, got it again")
        if name in FLAGS and value.lower() not in ("true", "false"):
            self._refuse(f"@{name} must be true or false, got {value!r}")
        if name == "timestamps" and value.lower() == "true":
            self._refuse("@timeStamps must be false, got true: sequences with timestamps are not supported")
        if name == "classlabel":
            self._check_class_declaration(value)
        self.header[name] = value
        if name != "data":
            return False
        self.dimensions = self._declared_dimensions()
        return True

    def _check_class_declaration(self, value: str) -> None:
        flag, *classes = value.split() or [""]
        if flag.lower() not in ("true", "false") or (flag.lower() == "true") != bool(classes):
            self._refuse(f"@classLabel must be false, or true and the labels, got {value!r}")
        if len(set(classes)) != len(classes):
            self._refuse(f"@classLabel must have different labels, got {value!r}")

    def _declared_dimensions(self) -> int | None:
        text = self.header.get("dimensions", self.header.get("dimension"))
        if text is None:
            return 1 if self.header.get("univariate", "").lower() == "true" else None
        if not text.isdecimal() or len(text) > 9 or not int(text):
            self._refuse(f"@dimensions must be a positive integer, got {text!r:.40}")
        return int(text)

    @cached_property  # the header is complete when the first sequence is read
    def _classes(self) -> list[Label] | None:
        flag, *classes = self.header.get("classlabel", "false").split()
        return [*classes] if flag.lower() == "true" else None

    @cached_property
    def _class_names(self) -> frozenset[Label]:
        return frozenset(self._classes or ())

    @property
    def _has_labels(self) -> bool:
        return self._classes is not None or self.header.get("targetlabel", "false").lower() == "true"

    def _series(self, entry: str) -> None:
        """Read one line of data: dimensions separated by colons, and the label."""
        parts = entry.split(":")
        if self._has_labels:
            label = parts.pop().strip()
            if self._classes is not None and label not in self._class_names:
                self._refuse(
                    f"the label must be one of @classLabel, {' '.join(map(str, self._classes)):.200}, got {label!r:.40}"
                )
            self.labels.append(label)
        if not parts:
            self._refuse(f"must have values and a label, got {entry:.40}")
        if self.dimensions is None:
            self.dimensions = len(parts)
        if len(parts) != self.dimensions:
            self._refuse(f"must have {self.dimensions} dimensions, got {len(parts)}")
        columns = [self._values(k, part) for k, part in enumerate(parts, start=1)]
        lengths = [len(column) for column in columns]
        if len(set(lengths)) != 1:
            self._refuse(f"dimensions must have one length, got {', '.join(map(str, lengths))}")
        if self.header.get("equallength", "").lower() == "true" and self.x and lengths[0] != len(self.x[0]):
            self._refuse(f"must have {len(self.x[0])} steps, as @equalLength true declares, got {lengths[0]}")
        self.x.append(np.array(columns).T.copy())
        self.names.append(f"line {self.line}")

    def _values(self, dimension: int, text: str) -> list[float] | NDArray[np.float64]:
        entries = text.split(",")
        numbers = parse_numbers(entries)
        if numbers is not None:
            return numbers
        if "(" in text:
            self._refuse("values must be numbers, got timestamps in parentheses, which are not supported")
        try:
            values = [math.nan if is_missing(entry) else float(entry) for entry in entries]
            wrong = next((entry for entry in entries if "_" in entry), None)
        except ValueError:
            wrong = next(entry for entry in entries if not is_missing(entry) and parse_number(entry) is None)
        if wrong is not None:
            self._refuse(f"dimension {dimension} must be numbers, got {wrong.strip()!r:.40}")
        array = np.array(values)
        if np.isinf(array).any():
            step = int(np.flatnonzero(np.isinf(array))[0]) + 1
            self._refuse(f"dimension {dimension}, value {step}: must be finite, got {entries[step - 1].strip()}")
        if not np.isnan(array).any():
            return array
        step = int(np.flatnonzero(np.isnan(array))[0]) + 1
        if self.fill is None:
            self._refuse(
                f"dimension {dimension}, value {step}: must be a number, got a missing value: "
                "fill='linear' or fill='previous' replaces missing values"
            )
        try:
            return fill_gaps(array, self.fill)
        except ValueError as error:
            self._refuse(f"dimension {dimension}: {error}")
