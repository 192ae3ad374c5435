"""Heat maps of a trace as text: coloured half blocks where the terminal supports them, ASCII otherwise.

:mod:`~glasscell.trace.terminal.layout` divides the columns and lines, :mod:`~glasscell.trace.terminal.painting` turns
values into characters, and :mod:`~glasscell.trace.terminal.text` counts the columns of text; all three are private.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Sequence

import numpy as np

from glasscell.core.norms import vector_norms
from glasscell.core.types import Array
from glasscell.trace.data import TraceData
from glasscell.trace.display import (
    ColorScale,
    HeatMap,
    LabelledRow,
    block_means,
    escape_control_characters,
    get_values,
    heat_map_of,
    input_rows,
    output_rows,
    resolve_layer,
    select_units,
    symbol_name,
)
from glasscell.trace.layer_trace import LayerTrace
from glasscell.trace.terminal.layout import GAP, Layout, make_layout
from glasscell.trace.terminal.painting import (
    BOLD,
    DIM,
    WRONG,
    paint,
    paint_bars,
    paint_row,
    paint_texts,
    scale_legend,
    styled,
)
from glasscell.trace.terminal.text import color_depth, pad, text_width, truncate, writable

__all__ = ["color_depth", "render"]

FALLBACK_SIZE = (100, 48)  # columns and lines, if standard output is no terminal
RESERVED_LINES = 12  # of the terminal, for everything but a heat map
MAX_FEATURE_ROWS = 8  # of the input, and of the output
MAX_VECTOR_NUMBERS = 8  # of an output without a time axis


def render(
    trace: TraceData,
    *,
    symbols: Sequence[str] | None = None,
    layer: int = -1,
    width: int | None = None,
    height: int | None = None,
    color: bool | None = None,
    units: Sequence[int] | None = None,
) -> str:
    """Return heat maps of a layer as text, units by steps, with the input above and the output below.

    Parameters
    ----------
    trace : TraceData
        Of one sequence.
    symbols : sequence of str, optional
        Such as ``f``, ``c``, ``d_c``, or ``z_f`` for the rows of z of the forget gate. One heat map per symbol.
        Default: gates, candidate and cell state of an LSTM; gates, candidate and hidden state of a GRU; pre-activation
        and hidden state of an RNN.
    layer : int
        Negative values count from the last layer.
    width, height : int, optional
        Maximum number of columns in total, at least 20, and of lines per heat map. Default: those of the terminal.
        Larger heat maps are reduced to means of blocks, and a line states the size of the blocks.
    color : bool, optional
        Default: if standard output is a terminal and ``NO_COLOR`` (https://no-color.org) is not set. Without color,
        and if the encoding does not support half blocks, the text is ASCII, except names. Characters of names that
        the encoding does not support become "?".
    units : sequence of int, optional
        Selected units, in this order. Default: all, by the step at which their cell state is largest.

    Returns
    -------
    str
        Lines, without a newline at the end.

    Raises
    ------
    ValueError
        If the trace is not of one sequence with at least one step, or a symbol, the width or the height is invalid.
    IndexError
        If the layer or a unit is out of range.
    """
    layer_trace = resolve_layer(trace, layer)
    size = shutil.get_terminal_size(FALLBACK_SIZE) if sys.stdout.isatty() else os.terminal_size(FALLBACK_SIZE)
    width = _at_least("width", 20, width, size.columns)
    height = _at_least("height", 1, height, max(8, size.lines - RESERVED_LINES))
    symbols = layer_trace.default_symbols if symbols is None else symbols
    if not symbols:
        raise ValueError("symbols must have at least one entry, got none")
    order = select_units(layer_trace, units)
    maps = [heat_map_of(layer_trace, symbol, order) for symbol in symbols]
    inputs, outputs = input_rows(trace), output_rows(trace)
    layout = make_layout(layer_trace.T, maps, [*inputs, *outputs], width, height, color_depth(color))
    maps = [m._replace(values=block_means(m.values, layout.units, layout.steps)) for m in maps]
    lines = [*_render_head(trace, layer_trace, layout, by_peak=units is None)]
    for k in range(0, len(maps), layout.maps_per_row):
        lines += ["", *_render_map_row(layer_trace, maps[k : k + layout.maps_per_row], inputs, outputs, layout)]
    return writable("\n".join([*(line.rstrip() for line in lines), "", *_render_legend(layer_trace, maps, layout)]))


def _at_least(name: str, minimum: int, value: int | None, default: int) -> int:
    if value is not None and value < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {value}")
    return default if value is None else value


def _render_head(trace: TraceData, layer_trace: LayerTrace, layout: Layout, *, by_peak: bool) -> Iterator[str]:
    title = escape_control_characters(str(trace.about.get("title", "An LSTM")))
    if text_width(title) > layout.width:
        title = truncate(title, layout.width - 3).rstrip() + "..."
    yield styled(title, BOLD, layout)
    state = symbol_name(layer_trace.state)
    order = f", sorted by the step of the largest {state}" if by_peak else ""
    loss = "" if trace.loss is None else f"; loss {trace.loss:.4g}"
    name = escape_control_characters(layer_trace.name)
    yield f"layer {name}: {layer_trace.T} steps, {layer_trace.H} units{order}{loss}"
    if layout.steps > 1 or layout.units > 1:
        blocks = [f"{n} {unit}s" for n, unit in ((layout.units, "unit"), (layout.steps, "step")) if n > 1]
        yield f"each cell is the mean of {' and '.join(blocks)}"
    if trace.about.get("timeless"):
        target = "" if trace.targets is None else f"; target {_format_vector(trace.targets)}"
        yield f"output: {_format_vector(trace.outputs)}{target}"


def _format_vector(values: Array) -> str:
    """Return the first numbers, and the count of the others."""
    numbers = np.atleast_1d(values)
    omitted = len(numbers) - MAX_VECTOR_NUMBERS
    more = f" and {omitted} more" if omitted > 0 else ""
    return " ".join(f"{number:.3g}" for number in numbers[:MAX_VECTOR_NUMBERS]) + more


def _render_map_row(
    layer_trace: LayerTrace,
    maps: Sequence[HeatMap],
    inputs: Sequence[LabelledRow],
    outputs: Sequence[LabelledRow],
    layout: Layout,
) -> Iterator[str]:
    """Yield the lines of heat maps side by side, with the input above each and the output below."""
    titles = [f"{m.symbol}: {m.name}" for m in maps]
    titles = [
        t if len(t) <= layout.panel else truncate(m.symbol, layout.panel).strip()
        for t, m in zip(titles, maps, strict=True)
    ]
    yield _line("", [styled(title, BOLD, layout) for title in titles], layout, [text_width(title) for title in titles])
    yield from _render_rows(inputs, len(maps), layout)
    yield from _render_maps(maps, layout)
    yield from _render_rows(outputs, len(maps), layout)
    yield _line("step", [_step_axis(layer_trace.T, layout)] * len(maps), layout)
    if layer_trace.has_gradients:
        yield _line(
            layout.gradient_label(layer_trace.state),
            [paint_bars(_gradient_norms(layer_trace), layout)] * len(maps),
            layout,
        )


def _render_maps(maps: Sequence[HeatMap], layout: Layout) -> Iterator[str]:
    panels = [paint(m.values, m.scale, layout) for m in maps]
    labels, blank = _row_labels(maps, layout), " " * layout.map_width
    for k in range(max(map(len, panels), default=0)):
        yield _line(labels[k] if k < len(labels) else "", [p[k] if k < len(p) else blank for p in panels], layout)


def _row_labels(maps: Sequence[HeatMap], layout: Layout) -> list[str]:
    """Return the unit numbers of each line, if a cell is one unit and all heat maps have the same units."""
    numbers = maps[0].rows
    if layout.units > 1 or any(not np.array_equal(m.rows, numbers) for m in maps):
        return []
    lines = [numbers[k : k + layout.units_per_line] for k in range(0, len(numbers), layout.units_per_line)]
    return [",".join(map(str, line)) for line in lines]


def _render_rows(rows: Sequence[LabelledRow], count: int, layout: Layout) -> Iterator[str]:
    """Yield the lines of the input or the output, repeated for each heat map."""
    if len(rows) > MAX_FEATURE_ROWS:  # features without texts: means of some
        block = -(-len(rows) // MAX_FEATURE_ROWS)
        values = block_means(np.array([row.values for row in rows]), block, 1)
        dots = "…" if layout.depth else ".."
        names = [f"{rows[k].name}{dots}" for k in range(0, len(rows), block)]
        rows = [LabelledRow(name, line) for name, line in zip(names, values, strict=True)]
    for row in rows:
        if row.texts is not None and layout.steps == 1:
            yield _line(row.name, [paint_texts(row, layout)] * count, layout)
            if row.wrong is not None and row.wrong.any():
                target = paint_texts(LabelledRow("", row.values, row.expected), layout)
                marks = "".join(("^" if wrong else " ").ljust(layout.cell) for wrong in row.wrong)
                yield _line("target", [target] * count, layout)
                yield _line("wrong", [styled(marks, WRONG, layout)] * count, layout)
        elif np.isfinite(row.values).any():
            yield _line(row.name, [paint_row(row, layout)] * count, layout)


def _step_axis(T: int, layout: Layout) -> str:
    """Return the numbers of steps, each below its column, at a round interval that fits."""
    line, minimum = [" "] * layout.map_width, max(1, -(-(len(str(T)) + 1) // layout.cell))
    interval = next(n for n in (1, 2, 5, 10, 20, 50, 100, 200, 500, 10**9) if n >= minimum)
    for column in range(0, layout.columns, interval):
        text, start = str(column * layout.steps), column * layout.cell
        if start + len(text) <= len(line):
            line[start : start + len(text)] = text
    return "".join(line)


def _render_legend(layer_trace: LayerTrace, maps: Sequence[HeatMap], layout: Layout) -> Iterator[str]:
    """Yield the range of each color scale, with the symbols that share it, and that of the gradient's norm."""
    by_scale: dict[ColorScale, list[str]] = {}
    for heat_map in maps:
        by_scale.setdefault(heat_map.scale, []).append(heat_map.symbol)
    names = {scale: ", ".join(symbols) for scale, symbols in by_scale.items()}
    margin = max(map(len, [*names.values(), layout.gradient_label(layer_trace.state)]))
    for scale, name in names.items():
        yield f"{name:>{margin}}  {scale_legend(scale, layout)}"
    if layer_trace.has_gradients:
        sizes = _gradient_norms(layer_trace)
        finite = sizes[np.isfinite(sizes)]
        low, high = layout.bars[0], layout.bars[-1]
        largest = float(finite.max(initial=0)) + 0.0
        label = layout.gradient_label(layer_trace.state)
        yield f"{label:>{margin}}  {0:>5} '{low}' to {largest:.2g} '{high}', at each step"
        if len(finite) < layer_trace.T:
            number, dtype = layer_trace.T - len(finite), layer_trace.h.dtype
            yield f"the gradient is not finite at {number} of {layer_trace.T} steps: it overflows {dtype}"


def _gradient_norms(layer_trace: LayerTrace) -> Array:
    """Return the norm of the gradient on the state at each step, infinite where it is not finite."""
    sizes = vector_norms(get_values(layer_trace, f"d_{layer_trace.state}"))
    return np.where(np.isnan(sizes), np.inf, sizes)


def _line(name: str, panels: Sequence[str], layout: Layout, widths: Sequence[int] | None = None) -> str:
    """Return a name in the margin, and panels padded to equal width; their widths default to that of a heat map."""
    label = pad(truncate(escape_control_characters(name), layout.margin).strip(), layout.margin)
    widths = [layout.map_width] * len(panels) if widths is None else widths
    padded = [panel + " " * (layout.panel - w) for panel, w in zip(panels, widths, strict=True)]
    return f"{styled(label, DIM, layout)}  {(' ' * GAP).join(padded)}"
