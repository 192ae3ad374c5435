"""Heat maps, and rows of inputs and outputs."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glasscell.trace.data import TraceData
from glasscell.trace.display import (
    LabelledRow,
    escape_control_characters,
    heat_map_of,
    resolve_layer,
    scale_of,
    select_units,
    step_marks,
)
from glasscell.trace.figures.style import (
    INK,
    MUTED,
    WRONG,
    color_bar,
    colors_of,
    escape_mathtext,
    get_axes,
    label_time_axis,
    mark_steps,
    style_axes,
)
from glasscell.trace.layer_trace import LayerTrace

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_NUMBERED_ROWS = 48
ROWS_IN_ONE_COLUMN = 16
MAX_LETTERED_STEPS = 60


def heat_map(
    source: TraceData | LayerTrace,
    symbol: str,
    layer: int = -1,
    ax: Axes | None = None,
    units: Sequence[int] | NDArray[np.intp] | None = None,
) -> Axes:
    """Draw a symbol of a layer, units by steps.

    Parameters
    ----------
    source : TraceData or LayerTrace
        Of one sequence. A trace of a copy task has a line at the delimiter, and its bits above the map.
    symbol : str
        Such as ``f``, ``c``, ``d_c``, or ``z_f`` for the rows of z of the forget gate.
    layer : int
        Of a Trace; negative values count from the last layer.
    ax : matplotlib.axes.Axes, optional
        Default: those of a new figure.
    units : sequence of int, optional
        Selected units, from top to bottom. Default: all, by the step of the largest cell state, so that values written
        early are at the top.

    Returns
    -------
    matplotlib.axes.Axes
    """
    layer_trace = resolve_layer(source, layer)
    heat = heat_map_of(layer_trace, symbol, select_units(layer_trace, units))
    ax = get_axes(ax, min(16, 3.4 + 0.22 * layer_trace.T), min(10, 1.4 + 0.11 * len(heat.rows)))
    image = ax.imshow(heat.values, aspect="auto", interpolation="nearest", **colors_of(heat.scale))
    color_bar(image, ax)
    name = "\n".join(wrap(heat.name, 24))
    _label_axis(ax, f"{name} {mathtext(symbol)}")
    style_axes(ax, grid=False)
    number_rows(ax, heat.rows)
    label_time_axis(ax, layer_trace.T)
    if isinstance(source, TraceData):
        mark_steps(ax, step_marks(source))
    return ax


def mathtext(symbol: str) -> str:
    """Return a symbol as a formula: ``d_f`` is ∂L/∂f, ``z_f`` has a subscript."""
    if symbol.startswith("d_"):
        return rf"$\partial L/\partial {mathtext(symbol[2:]).strip('$')}$"
    stem, _, gate = symbol.partition("_")
    special = {"tanh_c": r"\tanh c", "h_prev": "h_{t-1}", "c_prev": "c_{t-1}", "x": "x_t"}
    return f"${special.get(symbol, f'{stem}_{gate}' if gate else stem)}$"


def step_rows(ax: Axes, rows: Sequence[LabelledRow], label: str) -> Axes:
    """Draw rows of the input or the output with a text at each step; wrong predictions are red."""
    values = np.array([row.values for row in rows], np.float64)
    T, bits = values.shape[1], any(row.bits for row in rows)
    if bits:
        low = -0.3 if values[np.isfinite(values)].min(initial=0) >= 0 else -1.6
        options: dict[str, Any] = {"cmap": "Greys", "vmin": low, "vmax": 1.2 if low == -0.3 else 1.4}
    elif rows[0].texts is not None and len(rows) == 1:
        options = {"cmap": "Greys", "vmin": 0.0, "vmax": 1.5}
    else:
        options = colors_of(scale_of("x", values))
    ax.imshow(values, aspect="auto", interpolation="nearest", **options)
    for k, row in enumerate(rows):
        if T <= MAX_LETTERED_STEPS or bits:
            _letter(ax, k, row)
    ax.set_xlim(-0.5, T - 0.5)
    ax.set_yticks(range(len(rows)), [escape_mathtext(row.name) for row in rows])
    if len(rows) > 8:  # the names of many features would overlap
        ax.set_yticks([0, len(rows) - 1], [escape_mathtext(rows[0].name), escape_mathtext(rows[-1].name)])
    _label_axis(ax, label)
    style_axes(ax, grid=False)
    if [row.name for row in rows] == [label]:
        ax.set_yticks([])
    return ax


def _letter(ax: Axes, k: int, row: LabelledRow) -> None:
    wrong = np.zeros(len(row.values), np.bool_) if row.wrong is None else row.wrong
    for t, text in enumerate(row.texts or ()):
        if not text:
            continue
        dark = row.values[t] > (0.5 if row.wrong is not None else 0)
        color = WRONG if wrong[t] else "white" if dark else INK
        ax.text(
            t, k, escape_mathtext(escape_control_characters(text)), ha="center", va="center", fontsize=9, color=color
        )


def _label_axis(ax: Axes, label: str) -> None:
    ax.set_ylabel(label, rotation=0, ha="right", va="center", color=INK)


def number_rows(ax: Axes, rows: NDArray[np.intp]) -> None:
    """Label the rows with the numbers of the units, in two columns if they are many; every n-th one of too many."""
    interval = max(1, -(-len(rows) // MAX_NUMBERED_ROWS))
    places = range(0, len(rows), interval)
    columns = 1 if len(places) <= ROWS_IN_ONE_COLUMN else 2
    for column in range(columns):
        numbered = places[column::columns]
        ax.set_yticks(numbered, [str(rows[k]) for k in numbered], minor=column > 0)
    size = 8 if len(places) <= 12 else 6
    ax.tick_params(axis="y", which="both", length=0, labelsize=size, colors=MUTED)
    ax.tick_params(axis="y", which="minor", pad=2.5 * size)
