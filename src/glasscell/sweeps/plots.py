"""Figures of a sweep: a score over a name of the grid, and learning curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from glasscell.sweeps.rows import Row, key_of
from glasscell.sweeps.summary import SettingSummary, quartiles
from glasscell.sweeps.tables import text_of
from glasscell.trace.figures.style import escape_mathtext, get_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Grid: TypeAlias = Mapping[str, Sequence[Any]]
BAND = 0.25  # opacity
MAX_LABEL = 40  # characters of a value
OFFSET = 0.08  # between points of one category


def plot_score(grid: Grid, summaries: Sequence[SettingSummary], score: str, over: str | None, ax: Axes | None) -> Axes:
    """Draw a score over the values of a name; see :meth:`glasscell.sweeps.SweepResult.plot`."""
    ax = get_axes(ax)
    values = [] if over is None else list(grid[over])
    is_axis = bool(values) and all(map(_is_position, values))
    positions = sorted(map(float, values)) if is_axis else range(max(1, len(values)))
    order = sorted(range(len(values)), key=values.__getitem__) if is_axis else range(max(1, len(values)))
    lines: dict[str, tuple[str, list[Any]]] = {}
    for summary in summaries:
        others = {name: value for name, value in summary.setting.items() if name != over}
        lines.setdefault(key_of(others, 0), (_label(grid, others), []))[1].append(summary.scores.get(score))
    for number, (label, found) in enumerate(lines.values()):
        if is_axis:
            _draw(ax, list(positions), [found[k] for k in order], label)
        else:
            offset = (number - (len(lines) - 1) / 2) * OFFSET
            _draw_points(ax, [position + offset for position in positions], found, label)
    if values and not is_axis:
        ax.set_xticks(list(positions), [escape_mathtext(_short(value)) for value in values])
    _finish(ax, over or "", score, several=len(lines) > 1)
    return ax


def plot_curves(grid: Grid, groups: Sequence[tuple[dict[str, Any], list[Row]]], score: str, ax: Axes | None) -> Axes:
    """Draw a column of the histories over the updates, one line per setting."""
    names = {name: None for _, rows in groups for row in rows for name in row.get("curve", ()) if name != "update"}
    groups = [(setting, _with_curve(rows, score)) for setting, rows in groups]
    groups = [(setting, rows) for setting, rows in groups if rows]
    if not groups:
        known = ", ".join(names) or "none, because train returned no History"
        raise ValueError(f"score must be a column of the histories ({known}), got {score!r:.100}")
    ax = get_axes(ax)
    for setting, rows in groups:
        columns: dict[float, list[float]] = {}
        for row in rows:
            for update, value in zip(row["curve"]["update"], row["curve"][score], strict=True):
                if not math.isnan(value):
                    columns.setdefault(update, []).append(value)
        updates = sorted(columns)
        _draw(ax, updates, [quartiles(columns[update]) for update in updates], _label(grid, setting), marker="")
    _finish(ax, "update", score, several=len(groups) > 1)
    return ax


def _with_curve(rows: Sequence[Row], score: str) -> list[Row]:
    return [row for row in rows if score in row.get("curve", ())]


def _label(grid: Grid, setting: dict[str, Any]) -> str:
    """Return the values of a setting that vary in the sweep."""
    label = ", ".join(f"{name} {_short(value)}" for name, value in setting.items() if len(grid[name]) > 1)
    return escape_mathtext(f" {label}" if label.startswith("_") else label)  # Matplotlib hides labels with _ first


def _short(value: Any) -> str:
    """Return a value as text of limited length: axes leave no space for the drawing otherwise."""
    text = text_of(value)
    return text if len(text) <= MAX_LABEL else f"{text[: MAX_LABEL - 1]}…"


def _is_position(value: Any) -> bool:
    """Return whether a value of the grid is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _draw(ax: Axes, positions: Sequence[float], summaries: Sequence[Any], label: str, marker: str = "o") -> None:
    """Draw a median line and the band between the quartiles; settings without the score are left out."""
    points = _finite(positions, summaries)
    x = [position for position, _ in points]
    (line,) = ax.plot(x, [s.median for _, s in points], marker=marker, markersize=3, linewidth=1.2, label=label)
    lower, upper = [s.lower for _, s in points], [s.upper for _, s in points]
    ax.fill_between(x, lower, upper, color=line.get_color(), alpha=BAND, linewidth=0)


def _draw_points(ax: Axes, positions: Sequence[float], summaries: Sequence[Any], label: str) -> None:
    """Draw medians as points, and bars between the quartiles."""
    points = _finite(positions, summaries)
    x, medians = [position for position, _ in points], [s.median for _, s in points]
    bars = [[s.median - s.lower for _, s in points], [s.upper - s.median for _, s in points]]
    ax.errorbar(x, medians, bars, marker="o", markersize=4, linestyle="", capsize=3, linewidth=1.2, label=label)


def _finite(positions: Sequence[float], summaries: Sequence[Any]) -> list[tuple[float, Any]]:
    """Return the positions and summaries whose median is finite."""
    pairs = zip(positions, summaries, strict=True)
    return [(x, summary) for x, summary in pairs if summary is not None and math.isfinite(summary.median)]


def _finish(ax: Axes, horizontal: str, vertical: str, *, several: bool) -> None:
    ax.set_xlabel(escape_mathtext(horizontal))
    ax.set_ylabel(escape_mathtext(vertical))
    ax.spines[["top", "right"]].set_visible(False)
    if several:
        ax.legend(fontsize="small", frameon=False)
