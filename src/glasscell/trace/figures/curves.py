"""Curves over time: cells, and gradients on their way back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glasscell.core import blocking
from glasscell.core.types import Array
from glasscell.trace import diagnostics
from glasscell.trace.data import LayerTrace, TraceData
from glasscell.trace.display import resolve_layer, select_units
from glasscell.trace.figures.style import (
    BLUE,
    CYCLE,
    GREEN,
    INK,
    LINE_COLOR,
    MUTED,
    ORANGE,
    PURPLE,
    axes_width,
    escape_mathtext,
    get_axes,
    label_time_axis,
    log_y_axis,
    set_title,
    style_axes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEGEND: dict[str, Any] = {"frameon": False, "fontsize": 8.5, "labelcolor": INK}
CURVES = 5  # cells that are drawn by default
LEGEND_COLUMNS = {8.0: 5, 5.0: 3, 0.0: 2}  # inches: labels side by side


def cell_traces(
    of: TraceData | LayerTrace,
    units: Sequence[int] | NDArray[np.intp] | None = None,
    layer: int = -1,
    ax: Axes | None = None,
) -> Axes:
    """What cells hold, over time, with a dot where something was written and a cross where something was erased.

    Parameters
    ----------
    of : TraceData or LayerTrace
        Of one sequence.
    units : sequence of int, optional
        Default: the five whose cells change most, and all others as faint lines behind them.
    layer : int
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        Events are those of :func:`glasscell.trace.diagnostics.events`.
    """
    found = resolve_layer(of, layer)
    own = np.argsort(-found.c.std(axis=0), kind="stable")[:CURVES] if units is None else select_units(found, units)
    happened = diagnostics.events(found)
    ax = get_axes(ax, _width(found))
    ax.axhline(0, color=MUTED, lw=0.8)
    steps = np.arange(found.T)
    if units is None and len(own) < found.H:
        ax.plot(steps, np.delete(found.c, own, axis=1), color=LINE_COLOR, lw=0.7, zorder=1)
    for k, unit in enumerate(own):
        c, color = found.c[:, unit], CYCLE[k % len(CYCLE)]
        ax.plot(
            steps,
            c,
            color=color,
            lw=1.6,
            marker="_" if found.T == 1 else "",
            ls="-" if k < len(CYCLE) else "--",
            label=f"unit {unit}",
        )
        for event, marker, size in ((happened.write, "o", 4.5), (happened.erase, "x", 6.0)):
            there = event[:, unit]
            ax.plot(steps[there], c[there], ls="", marker=marker, ms=size, mew=1.4, color=color)
    ax.set_ylabel("cell state $c$")
    label_time_axis(ax, found.T)
    set_title(ax, f"Cells of {escape_mathtext(found.name)}: ● written to, × erased")
    style_axes(ax)
    _legend_beside(ax)
    return ax


def gradient_flow(of: TraceData | LayerTrace, layer: int = -1, ax: Axes | None = None) -> Axes:
    """Plot the norm of the gradient at each step, and of the three parts of that on the cells.

    Parameters
    ----------
    of : TraceData or LayerTrace
        Of one sequence, with a target.
    layer : int
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        Of :func:`glasscell.trace.diagnostics.gradient_norms`; the parts are left out where the cell is normalised,
        which mixes the units. The parts add up to the gradient, their norms do not: parts may cancel.
    """
    found = resolve_layer(of, layer)
    ax = get_axes(ax, _width(found), 3)
    every: Array = np.concatenate(_plot_flow(ax, found))
    positive = every[every > 0]
    if positive.size and positive.max() > 100 * positive.min():
        log_y_axis(ax)
    else:
        ax.set_ylim(bottom=0)
    ax.set_ylabel("norm of the gradient")
    label_time_axis(ax, found.T)
    style_axes(ax)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=_legend_columns(ax), **LEGEND)
    return ax


def _plot_flow(ax: Axes, of: LayerTrace) -> list[Array]:
    """The curves of the gradient, drawn; and their numbers."""
    drawn = {"c": ("on the cells", INK), "x": ("on the inputs", GREEN)}
    if of.options.cell_config.normalises_cell:
        norms = {"c": blocking.norms(of.d_c), "x": blocking.norms(of.d_x)}
    else:
        norms = diagnostics.gradient_norms(of)._asdict()
        drawn |= {
            "output": ("… from this step's output", PURPLE),
            "cell": ("… along the cell", BLUE),
            "recurrent": ("… through $h$", ORANGE),
        }
    for name in (name for name in ("c", "output", "cell", "recurrent", "x") if name in drawn):
        label, color = drawn[name]
        shown = np.where(norms[name] > 0, norms[name], np.nan)
        ax.plot(shown, color=color, lw=2.4 if name == "c" else 1.5, label=label, marker="." if of.T < 3 else "")
    return [norms[name] for name in drawn]


def gradient_decay(of: TraceData | LayerTrace, layer: int = -1, ax: Axes | None = None) -> Axes:
    """Plot what is left of a gradient n steps back, in this layer and in an untrained tanh RNN of the same size.

    Parameters
    ----------
    of : TraceData or LayerTrace
        Of one sequence.
    layer : int
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        Of :func:`glasscell.trace.diagnostics.vanishing`.
    """
    found = resolve_layer(of, layer)
    curves = diagnostics.gradient_decay(found)
    ax = get_axes(ax)
    for values, color, name in ((curves.lstm, BLUE, "this LSTM"), (curves.tanh_rnn, ORANGE, "an untrained tanh RNN")):
        shown = np.where(values > 0, values, np.nan)
        ax.plot(shown, color=color, lw=1.8, label=name, marker="." if len(shown) < 2 else "")
    log_y_axis(ax)
    ax.set_ylabel("gradient that is left")
    label_time_axis(ax, found.T, "steps back from the end")
    set_title(ax, f"How gradients vanish: {escape_mathtext(found.name)}, {found.H} units")
    style_axes(ax)
    _legend_beside(ax)
    return ax


def _width(of: LayerTrace) -> float:
    """Inches for the steps, and for a legend."""
    return min(14, max(6.4, 3 + 0.22 * of.T))


def _legend_columns(ax: Axes) -> int:
    return next(columns for inches, columns in LEGEND_COLUMNS.items() if axes_width(ax) > inches)


def _legend_beside(ax: Axes) -> None:
    """Names of the curves, to the right of them."""
    if ax.get_legend_handles_labels()[0]:
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), **LEGEND)
