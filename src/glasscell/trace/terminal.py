"""Heat maps of a trace as text: in colour where the terminal has colour, in ASCII elsewhere."""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np

from glasscell.core.blocking import norms
from glasscell.core.types import Array
from glasscell.trace.colormaps import Colors, rgb, to_xterm256
from glasscell.trace.data import LayerTrace, TraceData
from glasscell.trace.display import (
    ColorScale,
    HeatMap,
    LabelledRow,
    get_values,
    heat_map_of,
    input_rows,
    output_rows,
    printable,
    resolve_layer,
    scale_of,
    select_units,
    symbol_name,
)

ColorDepth = Literal["24 bit", "256"]

SHADES = " .:-=+*#%@"  # shut to open, or small to large
SIGNED = "%=- +*#"  # what has a sign: strokes that lie are below zero
BARS = "▁▂▃▄▅▆▇█"
UPPER_HALF_BLOCK = "▀"
RESET, DIM, BOLD, WRONG = "\x1b[0m", "\x1b[2m", "\x1b[1m", "\x1b[1;31m"

FALLBACK = (100, 48)  # columns and lines where there is no terminal to ask
ROWS_AT_MOST = 8  # of features of the input, and of the output
VECTOR_AT_MOST = 8  # numbers of an output that is not of steps
WIDEST = 4  # columns of a step
TITLE_AT_MOST = 24  # columns for which a heat map gets more columns than it needs
GAP = 3  # columns between heat maps


def render(
    trace: TraceData,
    *,
    symbols: Sequence[str] = ("i", "f", "o", "g", "c"),
    layer: int = -1,
    width: int | None = None,
    height: int | None = None,
    color: bool | None = None,
    units: Sequence[int] | None = None,
) -> str:
    """Heat maps of a layer as text, units by steps, with the input above and the output below.

    Parameters
    ----------
    trace : TraceData
        Of one sequence.
    symbols : sequence of str
        Such as ``f``, ``c``, ``d_c``, or ``z_f`` for the forget gate's rows of z. A heat map each, side by side.
    layer : int
        From the end if it is negative.
    width, height : int, optional
        Columns in all, and lines of a heat map, at most; without them what the terminal has. What is larger is
        summarised, by means of blocks, and a line says so.
    color : bool, optional
        Default: if standard output is a terminal and ``NO_COLOR`` (https://no-color.org) is not set. Without colour,
        and where the encoding has no half blocks, in ASCII. In names, characters that the encoding lacks are "?".
    units : sequence of int, optional
        Which, and in which order. Default: all, by the step at which their cell is largest.

    Returns
    -------
    str
        Lines, without a newline at the end.
    """
    of = resolve_layer(trace, layer)
    depth = color_depth(color)
    size = shutil.get_terminal_size(FALLBACK) if sys.stdout.isatty() else os.terminal_size(FALLBACK)
    columns = _at_least("width", 20, width, size.columns)
    lines = _at_least("height", 1, height, max(8, size.lines - 12))
    if not symbols:
        raise ValueError("there is no symbol to draw")
    order = select_units(of, units)
    maps = [heat_map_of(of, symbol, order) for symbol in symbols]
    above, below = input_rows(trace), output_rows(trace)
    sheet = _sheet(of, maps, [*above, *below], columns, lines, depth)
    maps = [each._replace(values=summary(each.values, sheet.units, sheet.steps)) for each in maps]
    bands = [maps[k : k + sheet.maps_per_row] for k in range(0, len(maps), sheet.maps_per_row)]
    parts = [*_head(trace, of, sheet, by_peak=units is None)]
    for band in bands:
        parts += ["", *_render_band(of, band, above, below, sheet)]
    return _writable("\n".join([*(part.rstrip() for part in parts), "", *_legend(of, maps, sheet)]))


def color_depth(color: bool | None) -> ColorDepth | None:
    """How many colours to use: none if the output is no terminal, or ``NO_COLOR`` is set and not empty."""
    if color is None:
        color = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        color = color and _names_colors()
    if not color or not can_write(UPPER_HALF_BLOCK + BARS + "·‖∂−×"):
        return None
    return "24 bit" if os.environ.get("COLORTERM") in ("truecolor", "24bit") else "256"


def can_write(characters: str) -> bool:
    """Whether standard output can show these."""
    try:
        characters.encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def _writable(text: str) -> str:
    """Return the text with question marks, as wide, for what standard output cannot show: names, never numbers."""
    if can_write(text):
        return text
    return "".join(c if can_write(c) else "?" * _width_of(c) for c in text)


def _names_colors() -> bool:
    terminal = os.environ.get("TERM", "")
    return os.environ.get("COLORTERM") in ("truecolor", "24bit") or "256" in terminal


def _at_least(name: str, least: int, given: int | None, otherwise: int) -> int:
    if given is not None and given < least:
        raise ValueError(f"{name} must be at least {least}, and is {given}")
    return otherwise if given is None else given


# The sheet: what goes where


class Layout(NamedTuple):
    """How a drawing is divided.

    Attributes
    ----------
    width : int
        Columns in all.
    depth : {"24 bit", "256"}, optional
        Of colours; None for ASCII.
    margin : int
        Columns for names, on the left.
    cell : int
        Columns of a step, or of a block of steps.
    steps, units : int
        In a block, of which the mean is shown.
    maps_per_row : int
        Heat maps side by side.
    columns : int
        Blocks of steps.
    panel : int
        Characters of a line of a heat map, and of its title.
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
    def drawn(self) -> int:
        """Characters of a line of a heat map alone."""
        return self.cell * self.columns

    @property
    def gradient(self) -> str:
        """What the line of the gradient is called."""
        return "‖∂L/∂c‖" if self.depth else "|dL/dc|"

    @property
    def rows(self) -> int:
        """Rows of a heat map in a line."""
        return 2 if self.depth else 1


def _sheet(
    of: LayerTrace,
    maps: Sequence[HeatMap],
    rows: Sequence[LabelledRow],
    width: int,
    height: int,
    depth: ColorDepth | None,
) -> Layout:
    margin = max(_width_of(name) for name in [*(row.name for row in rows), "|dL/dc|", "123,123"])
    margin = min(margin, width // 4)
    available = width - margin - 2
    steps = -(-of.T // available) if available < of.T else 1
    columns = -(-of.T // steps)
    most = max(len(each.values) for each in maps)
    units = max(1, -(-most // (height * (2 if depth else 1))))
    texts = [text for row in rows for text in row.texts or ()] if steps == 1 else []
    wanted = min(WIDEST, max([2, *map(_width_of, texts)]))
    cell = 1
    for columns_of_step in range(wanted, 0, -1):
        cell = columns_of_step
        needed = len(maps) * (cell * columns + GAP) - GAP
        if needed <= available or (
            columns_of_step <= max(map(_width_of, texts), default=1) and cell * columns <= available
        ):
            break
    panel = max([cell * columns, *(len(_title(each)) for each in maps if len(_title(each)) <= TITLE_AT_MOST)])
    if len(maps) * (panel + GAP) - GAP > available:
        panel = cell * columns
    maps_per_row = max(1, (available + GAP) // (panel + GAP))
    return Layout(width, depth, margin, cell, steps, units, min(maps_per_row, len(maps)), columns, panel)


def _head(trace: TraceData, of: LayerTrace, sheet: Layout, *, by_peak: bool) -> Iterator[str]:
    title = _end_styled(printable(str(trace.about.get("title", "An LSTM"))), sheet.width)
    loss = "" if trace.loss is None else f"; loss {trace.loss:.4g}"
    yield _styled(title, BOLD, sheet)
    order = ", sorted by when their cell is largest" if by_peak else ""
    yield f"layer {printable(of.name)}: {of.T} steps, {of.H} units{order}{loss}"
    if sheet.steps > 1 or sheet.units > 1:
        blocks = [_count(sheet.units, "unit")] * (sheet.units > 1) + [_count(sheet.steps, "step")] * (sheet.steps > 1)
        yield f"too large to draw one by one: a cell is the mean of {' and '.join(blocks)}"
    if trace.about.get("timeless"):
        yield f"output: {_vector(trace.outputs)}" + (
            "" if trace.targets is None else f"; target {_vector(trace.targets)}"
        )


def _vector(values: Array) -> str:
    """Some numbers, and how many more there are."""
    numbers = np.atleast_1d(values)
    more = f" and {len(numbers) - VECTOR_AT_MOST} more" if len(numbers) > VECTOR_AT_MOST else ""
    return " ".join(f"{number:.3g}" for number in numbers[:VECTOR_AT_MOST]) + more


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number > 1)}"


def _render_band(
    of: LayerTrace,
    band: Sequence[HeatMap],
    above: Sequence[LabelledRow],
    below: Sequence[LabelledRow],
    sheet: Layout,
) -> Iterator[str]:
    """Heat maps side by side, with the input above each and the output below."""
    count = len(band)
    titles = [_fit(_title(each), sheet.panel, each.symbol) for each in band]
    yield _line("", [_styled(title, BOLD, sheet) for title in titles], sheet, [_width_of(title) for title in titles])
    yield from _rows_drawn(above, count, sheet)
    yield from _render_maps(band, sheet)
    yield from _rows_drawn(below, count, sheet)
    yield _line("step", [_axis(of.T, sheet)] * count, sheet)
    if of.has_gradients:
        yield _line(sheet.gradient, [_sparkline(_norms(of), sheet)] * count, sheet)


def _title(each: HeatMap) -> str:
    return f"{each.symbol}: {symbol_name(each.symbol)}"


def _render_maps(band: Sequence[HeatMap], sheet: Layout) -> Iterator[str]:
    drawn = [_paint(each.values, each.scale, sheet) for each in band]
    labels = _labels(band, sheet)
    for k in range(max(map(len, drawn), default=0)):
        blank = " " * sheet.drawn
        yield _line(labels[k] if k < len(labels) else "", [d[k] if k < len(d) else blank for d in drawn], sheet)


def _labels(band: Sequence[HeatMap], sheet: Layout) -> list[str]:
    """The numbers of the units in each line, if all heat maps have the same, and a cell is one unit."""
    numbers = band[0].rows
    if sheet.units > 1 or any(not np.array_equal(each.rows, numbers) for each in band):
        return []
    lines = [numbers[k : k + sheet.rows] for k in range(0, len(numbers), sheet.rows)]
    return [",".join(map(str, line)) for line in lines]


def summary(values: Array, rows: int, columns: int) -> Array:
    """Means of blocks of rows and columns; those at the ends may be smaller."""
    for axis, size in ((0, rows), (1, columns)):
        if size > 1 and values.shape[axis]:
            starts = np.arange(0, values.shape[axis], size)
            counts = np.diff([*starts, values.shape[axis]])
            counts = counts.reshape(-1, *[1] * (1 - axis))
            with np.errstate(invalid="ignore"):  # of infinite values
                values = np.add.reduceat(values.astype(np.float64), starts, axis=axis) / counts
    return values


# Painting


def _paint(grid: Array, scale: ColorScale, sheet: Layout) -> list[str]:
    """A heat map's lines: half blocks of two colours, or shades."""
    if sheet.depth is None:
        return ["".join(shade * sheet.cell for shade in line) for line in shades(grid, scale)]
    colors = rgb(grid, scale)
    lines = []
    for top in range(0, len(grid), 2):
        pair = colors[top : top + 2]
        lines.append("".join(_half_blocks(pair[:, t], sheet) for t in range(grid.shape[1])) + RESET)
    return lines


def shades(grid: Array, scale: ColorScale) -> list[list[str]]:
    """An ASCII character for each value, from :data:`SHADES`, or :data:`SIGNED` for what has a sign."""
    characters = SHADES if scale.kind == "open and shut" else SIGNED
    index = np.minimum((scale.share(grid) * len(characters)).astype(np.int64), len(characters) - 1)
    return [[characters[k] for k in line] for line in index]


def _half_blocks(pair: Colors, sheet: Layout) -> str:
    """One cell of two rows: the upper is what is written, the lower the ground; at the end there may be one alone."""
    fore = _code(pair[0], "38", sheet)
    ground = _code(pair[1], "48", sheet) if len(pair) == 2 else "49"
    return f"\x1b[{fore};{ground}m{UPPER_HALF_BLOCK * sheet.cell}"


def _code(color: Colors, which: str, sheet: Layout) -> str:
    if sheet.depth == "24 bit":
        return f"{which};2;{';'.join(map(str, color))}"
    return f"{which};5;{to_xterm256(color)}"


def _rows_drawn(rows: Sequence[LabelledRow], count: int, sheet: Layout) -> Iterator[str]:
    """Lines of the input or the output, the same in front of every heat map."""
    if len(rows) > ROWS_AT_MOST:  # features without texts: means of some
        block = -(-len(rows) // ROWS_AT_MOST)
        values = summary(np.array([row.values for row in rows]), block, 1)
        names = [f"{rows[k].name}…" if sheet.depth else f"{rows[k].name}.." for k in range(0, len(rows), block)]
        rows = [LabelledRow(name, line) for name, line in zip(names, values, strict=True)]
    for row in rows:
        if row.texts is not None and sheet.steps == 1:
            yield _line(row.name, [_written(row, sheet)] * count, sheet)
            if row.wrong is not None and row.wrong.any():
                yield _line("target", [_written(LabelledRow("", row.values, row.expected), sheet)] * count, sheet)
                marks = "".join(("^" if wrong else " ").ljust(sheet.cell) for wrong in row.wrong)
                yield _line("wrong", [_styled(marks, WRONG, sheet)] * count, sheet)
        elif np.isfinite(row.values).any():
            yield _line(row.name, [_strip(row, sheet)] * count, sheet)


def _written(row: LabelledRow, sheet: Layout) -> str:
    texts = [_truncate(printable(text), sheet.cell) for text in row.texts or ()]
    if sheet.depth is None:
        return "".join(text.replace("·", ".") for text in texts)
    wrong = row.wrong if row.wrong is not None else np.zeros(len(texts), np.bool_)
    return "".join(
        f"{WRONG}{text}{RESET}" if bad else f"{DIM}{text}{RESET}" if text.strip() == "·" else text
        for text, bad in zip(texts, wrong, strict=True)
    )


def _strip(row: LabelledRow, sheet: Layout) -> str:
    """Numbers as one line of colours; blank where there is none."""
    there = np.isfinite(row.values)
    sums, counts = (summary(part[None], 1, sheet.steps)[0] for part in (np.where(there, row.values, 0), there))
    means = sums / np.where(counts > 0, counts, 1)
    probable = row.texts is not None and bool((row.values[there] >= 0).all())
    scale = ColorScale(0.0, 1.0, "open and shut") if probable else scale_of("x", row.values)
    if sheet.depth is None:
        cells = shades(means[None], scale)[0]
    else:
        cells = [f"\x1b[{_code(color, '48', sheet)}m " for color in rgb(means, scale)]
    blank, end = ("", "") if sheet.depth is None else (RESET, RESET)
    drawn = (
        cell + cell[-1] * (sheet.cell - 1) if n else blank + " " * sheet.cell
        for cell, n in zip(cells, counts, strict=True)
    )
    return "".join(drawn) + end


def _sparkline(values: Array, sheet: Layout) -> str:
    """Heights of a line of numbers from 0."""
    means = summary(values[None], 1, sheet.steps)[0]
    bars = BARS if sheet.depth else SHADES
    most = float(means[np.isfinite(means)].max(initial=0))
    index = np.minimum(ColorScale(0, most or 1, "open and shut").share(means) * len(bars), 99)
    return "".join(bars[min(int(k), len(bars) - 1)] * sheet.cell for k in index)


def _axis(T: int, sheet: Layout) -> str:
    """The numbers of some steps, below their columns."""
    line, every = [" "] * sheet.drawn, max(1, -(-(len(str(T)) + 1) // sheet.cell))
    every = next(n for n in (1, 2, 5, 10, 20, 50, 100, 200, 500, 10**9) if n >= every)
    for column in range(0, sheet.columns, every):
        text = str(column * sheet.steps)
        if column * sheet.cell + len(text) <= len(line):
            line[column * sheet.cell : column * sheet.cell + len(text)] = text
    return "".join(line)


def _legend(of: LayerTrace, maps: Sequence[HeatMap], sheet: Layout) -> Iterator[str]:
    """The numbers that the colours stand for; symbols of the same range together."""
    by_scale: dict[ColorScale, list[str]] = {}
    for each in maps:
        by_scale.setdefault(each.scale, []).append(each.symbol)
    names = {scale: ", ".join(symbols) for scale, symbols in by_scale.items()}
    margin = max(map(len, [*names.values(), sheet.gradient]))
    for scale, name in names.items():
        yield f"{name:>{margin}}  {_ramp(scale, sheet)}"
    if of.has_gradients:
        bars, sizes = BARS if sheet.depth else SHADES, _norms(of)
        finite = sizes[np.isfinite(sizes)]
        most = _short(finite.max(initial=0))
        yield f"{sheet.gradient:>{margin}}  {0:>5} '{bars[0]}' to {most} '{bars[-1]}', at each step"
        if len(finite) < of.T:
            yield f"the gradient is not finite at {of.T - len(finite)} of {of.T} steps: it leaves {of.d_c.dtype}"


def _ramp(scale: ColorScale, sheet: Layout) -> str:
    if sheet.depth is None:
        characters = SHADES if scale.kind == "open and shut" else SIGNED
        return f"{_short(scale.low):>5} '{characters}' {_short(scale.high)}, in equal parts"
    grid = np.linspace(scale.low, scale.high, 24)[None]
    colors = "".join(f"\x1b[{_code(color, '48', sheet)}m " for color in rgb(grid, scale)[0])
    middle = "" if scale.kind == "open and shut" else " (white is 0)"
    return f"{_short(scale.low):>5} {colors}{RESET} {_short(scale.high)}{middle}"


def _short(value: float) -> str:
    return f"{value + 0.0:.2g}"


def _norms(of: LayerTrace) -> Array:
    """Of dL/dc, step by step; infinite where it is not finite."""
    found = norms(get_values(of, "d_c"))
    return np.where(np.isnan(found), np.inf, found)


# Text in columns


def _line(name: str, panels: Sequence[str], sheet: Layout, widths: Sequence[int] | None = None) -> str:
    """A name in the margin, and panels that are as wide as the sheet says, or as they say."""
    label = _truncate(printable(name), sheet.margin)
    label = " " * (sheet.margin - _width_of(label.strip())) + label.strip()
    padded = [
        panel + " " * (sheet.panel - (sheet.drawn if widths is None else widths[k])) for k, panel in enumerate(panels)
    ]
    return f"{_styled(label, DIM, sheet)}  {(' ' * GAP).join(padded)}"


def _fit(text: str, width: int, otherwise: str) -> str:
    return text if len(text) <= width else _truncate(otherwise, width).strip()


def _end_styled(text: str, width: int) -> str:
    """The text, or its beginning and three dots."""
    return text if _width_of(text) <= width else _truncate(text, width - 3).rstrip() + "..."


def _styled(text: str, style: str, sheet: Layout) -> str:
    return f"{style}{text}{RESET}" if sheet.depth and text.strip() else text


def _truncate(text: str, width: int) -> str:
    """Return the text, padded with spaces to a number of columns."""
    kept, used = "", 0
    for character in text:
        wide = _width_of(character)
        if used + wide > width:
            break
        kept, used = kept + character, used + wide
    return kept + " " * (width - used)


def _width_of(text: str) -> int:
    """Columns that a terminal needs for it."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in ("W", "F") else 1 for c in text
    )
