"""Divide the columns and lines of a terminal between heat maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from glasscell.trace.display import HeatMap, LabelledRow
from glasscell.trace.terminal.text import ColorDepth, text_width

ASCII_SHADES = " .:-=+*#%@"  # from low to high
BARS = "▁▂▃▄▅▆▇█"
MAX_STEP_COLUMNS = 4
MAX_TITLE_COLUMNS = 24  # for which a heat map is padded
GAP = 3  # columns between heat maps


class Layout(NamedTuple):
    """The division of a drawing.

    Attributes
    ----------
    width : int
        Columns in total.
    depth : {"24 bit", "256"}, optional
        Of colors; None for ASCII.
    margin : int
        Columns for names, on the left.
    cell : int
        Columns per step, or per block of steps.
    steps, units : int
        Size of a block; a cell is the mean of a block.
    maps_per_row : int
        Heat maps side by side.
    columns : int
        Blocks of steps.
    panel : int
        Columns of a heat map with its title.
    """

    width: int
    depth: ColorDepth | None
    margin: int
    cell: int
    steps: int
    units: int
    maps_per_row: int
    columns: int
    panel: int

    @property
    def map_width(self) -> int:
        """Columns of a heat map without its title."""
        return self.cell * self.columns

    def gradient_label(self, state: str) -> str:
        """Return the name of the line with the norm of the gradient on a state."""
        return f"‖∂L/∂{state}‖" if self.depth else f"|dL/d{state}|"

    @property
    def bars(self) -> str:
        """The characters of a bar chart, from low to high."""
        return BARS if self.depth else ASCII_SHADES

    @property
    def units_per_line(self) -> int:
        """Rows of a heat map per line: a half block shows two."""
        return 2 if self.depth else 1


def make_layout(
    T: int,
    maps: Sequence[HeatMap],
    rows: Sequence[LabelledRow],
    width: int,
    height: int,
    depth: ColorDepth | None,
) -> Layout:
    """Return the layout of heat maps of T steps in a width and a height: the widest cells with all maps in one row."""
    margin = max(text_width(name) for name in [*(row.name for row in rows), "|dL/dc|", "123,123"])
    margin = min(margin, width // 4)
    available = width - margin - 2
    steps = -(-T // available) if available < T else 1
    columns = -(-T // steps)
    num_rows = max(len(m.values) for m in maps)
    units = max(1, -(-num_rows // (height * (2 if depth else 1))))
    texts = [text for row in rows for text in row.texts or ()] if steps == 1 else []
    cell = _cell_width(texts, columns, len(maps), available)
    titles = [len(f"{m.symbol}: {m.name}") for m in maps]
    panel = max([cell * columns, *(n for n in titles if n <= MAX_TITLE_COLUMNS)])
    if len(maps) * (panel + GAP) - GAP > available:
        panel = cell * columns
    maps_per_row = max(1, (available + GAP) // (panel + GAP))
    return Layout(width, depth, margin, cell, steps, units, min(maps_per_row, len(maps)), columns, panel)


def _cell_width(texts: Sequence[str], columns: int, num_maps: int, available: int) -> int:
    """Return the columns of a step: the most that fit, but not fewer than the texts need if one map has them."""
    longest = max(map(text_width, texts), default=1)
    for cell in range(min(MAX_STEP_COLUMNS, max(2, longest)), 1, -1):
        if num_maps * (cell * columns + GAP) - GAP <= available or (cell <= longest and cell * columns <= available):
            return cell
    return 1
