"""Tables of a sweep: text, Markdown and CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from typing import Any

from glasscell.escaping import escape
from glasscell.sweeps.summary import ScoreSummary, SettingSummary

QUARTILES = ("median", "lower", "upper")
MISSING = "–"


def format_rows(summaries: Sequence[SettingSummary], names: list[str], scores: list[str], kind: str) -> str:
    """Return a table with one line per setting.

    Parameters
    ----------
    summaries : sequence of SettingSummary
    names, scores : list of str
        Columns.
    kind : {"text", "markdown", "csv"}
    """
    if kind == "csv":
        return _csv(summaries, names, scores)
    has_failures = any(summary.failed for summary in summaries)
    header = [*names, "runs", *["failed"] * has_failures, *scores, "seconds"]
    lines = [header]
    for summary in summaries:
        cells = [text_of(summary.setting[name]) for name in names] + [str(summary.finished)]
        cells += [str(summary.failed)] * has_failures
        cells += [_quartiles(summary.scores.get(score)) for score in scores]
        lines.append([*cells, MISSING if math.isnan(summary.seconds) else f"{summary.seconds:.3g}"])
    lines = [[escape(cell) for cell in line] for line in lines]
    return _markdown(lines) if kind == "markdown" else _aligned(lines)


def text_of(value: Any) -> str:
    """Return a value of the grid as text; lists have commas."""
    if isinstance(value, list | tuple):
        return ",".join(map(text_of, value))
    return str(value)


def _quartiles(score: ScoreSummary | None) -> str:
    if score is None:
        return MISSING
    if score.count == 1 or score.lower == score.upper or math.isnan(score.median):
        return f"{score.median:.4g}"
    return f"{score.median:.4g} ({score.lower:.4g} to {score.upper:.4g})"


def _aligned(lines: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "".join(
        "   ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() + "\n"
        for line in lines
    )


def _markdown(lines: list[list[str]]) -> str:
    rows = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines]
    return "".join([rows[0], "|" + " --- |" * len(lines[0]) + "\n", *rows[1:]])


def _csv(summaries: Iterable[SettingSummary], names: list[str], scores: list[str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = [f"{score} {part}" for score in scores for part in QUARTILES]
    writer.writerow([*names, "runs", "failed", *columns, "seconds"])
    for summary in summaries:
        found = [summary.scores.get(score) for score in scores]
        cells = ["" if score is None else repr(getattr(score, part)) for score in found for part in QUARTILES]
        setting = [text_of(summary.setting[name]) for name in names]
        writer.writerow([*setting, summary.finished, summary.failed, *cells, repr(summary.seconds)])
    return text.getvalue()
