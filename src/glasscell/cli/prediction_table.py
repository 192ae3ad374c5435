"""The table that ``glasscell predict`` writes."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any, NamedTuple


class PredictionTable(NamedTuple):
    """Rows of a CSV file, and notes about them.

    Attributes
    ----------
    header : list of str
    rows : list of rows
        Text and numbers.
    notes : list of str
        How the file was read, and scores.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[Any]]
    notes: Sequence[str]

    def csv(self) -> str:
        """Return the content of the file; each number has the shortest text that is equal to it in its dtype."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.header)
        writer.writerows([[str(cell) for cell in row] for row in self.rows])
        return text.getvalue()
