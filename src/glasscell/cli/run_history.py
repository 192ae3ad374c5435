"""The history of a run in progress, in a file to which whole lines are appended."""

from __future__ import annotations

import csv
import io
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glasscell.training.callbacks import TrainingState
    from glasscell.training.history import History

HISTORY_FILE = "history.csv"
SECONDS_BETWEEN_WRITES = 1.0


class HistoryFile:
    """Callback that writes the rows of a history, as :meth:`glasscell.training.History.save` does, every second.

    The first write replaces the file, so that a training that goes on begins with the rows of its checkpoint. It is
    also replaced when a row has another column. All other writes append whole lines. After an error nothing more is
    written, and the training goes on.

    Parameters
    ----------
    file : Path

    Attributes
    ----------
    error : Exception or None
        Why no more rows are written.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.error: Exception | None = None
        self._columns: list[str] = []
        self._written = 0  # rows
        self._next_write = 0.0

    def __call__(self, state: TrainingState) -> None:
        """Write the rows of the last second."""
        if self.error is None and (now := time.monotonic()) >= self._next_write:
            self._next_write = now + SECONDS_BETWEEN_WRITES
            try:
                self._write(state)
            except Exception as error:  # noqa: BLE001 - the training goes on, and the history is written at its end
                self.error = error

    def _write(self, state: TrainingState) -> None:
        history = state.history
        rows = history.rows[self._written :]
        known = {*self._columns}
        if not self._columns or any(row.keys() - known for row in rows):
            history.save(self.file)
            self._columns = history.columns
        else:
            self._append(rows)
        self._written = len(history.rows)

    def _append(self, rows: Sequence[dict[str, float]]) -> None:
        text = io.StringIO()
        csv.DictWriter(text, self._columns, lineterminator="\n").writerows(rows)
        descriptor = os.open(self.file, os.O_WRONLY | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0))
        try:
            content = text.getvalue().encode()
            if os.write(descriptor, content) != len(content):
                raise OSError(28, "the disk is full", str(self.file))
        finally:
            os.close(descriptor)


def best_score(history: History, monitor: str) -> dict[str, Any]:
    """Return name, value and update of the best evaluation; of the last update if nothing was evaluated."""
    name, update = f"validation_{monitor}", history.best_update
    if update is None:
        name, update = "loss", history.updates
    value = history.rows[update - 1][name]
    return {"score": name, "value": value if math.isfinite(value) else None, "update": update}


def last_and_best(file: Path) -> tuple[int, dict[str, Any]]:
    """Return the last update in a history, and the best validation loss: name, value and update, {} if there is none.

    Without evaluations it is the loss of the last update. A last line that is not complete is passed over.
    """
    updates, best, last = 0, dict[str, Any](), dict[str, Any]()
    try:
        with file.open(newline="", encoding="utf-8", errors="replace") as opened:
            for row in csv.DictReader(opened):
                if None in row or None in row.values():
                    continue
                updates = int(row["update"])
                last = {"score": "loss", "value": float(row["loss"]), "update": updates}
                value = float(row.get("validation_loss") or math.nan)
                if value < best.get("value", math.inf):
                    best = {"score": "validation_loss", "value": value, "update": updates}
    except (OSError, ValueError, KeyError, csv.Error):
        pass
    return updates, best or last
