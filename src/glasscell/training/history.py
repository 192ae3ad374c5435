"""Measurements of every update."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from glasscell.atomic_files import OutputFile, StrPath


@dataclass(repr=False)
class History:
    """Measurements of a training run, one row per update.

    Attributes
    ----------
    rows : list of dict
        ``update`` (from 1), ``epoch`` (from 1, where data have an end), ``loss`` of the batch, ``gradient_norm`` before
        clipping, ``learning_rate``, and at evaluations ``validation_loss`` and the other scores.
    target_reached : bool
        Whether training ended because `stop_at` was reached.
    stopped_early : bool
        Whether training ended because the monitored score stopped improving.
    best_update : int or None
        The update with the best monitored score.
    failures : list of dict
        Failures after which the training continued: ``update``, ``message`` and ``action``.
    """

    rows: list[dict[str, float]] = field(default_factory=list)
    target_reached: bool = False
    stopped_early: bool = False
    best_update: int | None = None
    failures: list[dict[str, int | str]] = field(default_factory=list)

    @property
    def updates(self) -> int:
        """Number of updates done."""
        return len(self.rows)

    @property
    def was_evaluated(self) -> bool:
        """Whether the last update was evaluated."""
        return bool(self.rows) and any(name.startswith("validation_") for name in self.rows[-1])

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        """Return one column; missing values are NaN."""
        if not any(name in row for row in self.rows):
            raise KeyError(f"{name!r} was not recorded; recorded are {self.columns}")
        return np.array([row.get(name, math.nan) for row in self.rows])

    def __iter__(self) -> Iterator[dict[str, float]]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list({name: None for row in self.rows for name in row})

    def save(self, path: StrPath) -> None:
        """Write a file ``….csv`` with one row per update; missing values are empty. An existing file is replaced."""
        import csv  # noqa: PLC0415 - not paid for by `import glasscell`
        import io  # noqa: PLC0415

        file = OutputFile(path, (".csv",))
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        file.write(text.getvalue().encode())

    def __repr__(self) -> str:
        if not self.rows:
            return "History(0 updates)"
        scores = {name: self[name] for name in self.columns if name == "loss" or name.startswith("validation_")}
        last = ", ".join(f"{name} {_last(column):.4g}" for name, column in scores.items())
        return f"History({self.updates} updates: {last})"


def _last(column: NDArray[np.float64]) -> float:
    """Return the last measured value."""
    measured = column[~np.isnan(column)]
    return float(measured[-1]) if len(measured) else math.nan
