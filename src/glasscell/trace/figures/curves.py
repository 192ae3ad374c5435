"""Curves over time: cell states and gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glasscell.core.norms import vector_norms
from glasscell.core.types import Array
from glasscell.trace import diagnostics
from glasscell.trace.data import TraceData
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
from glasscell.trace.layer_trace import LayerTrace

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEGEND: dict[str, Any] = {"frameon": False, "fontsize": 8.5, "labelcolor": INK}
DEFAULT_UNITS = 5  # with colored curves
LEGEND_COLUMNS = {8.0: 5, 5.0: 3, 0.0: 2}  # by the minimum width of the axes in inches


def cell_traces(
    source: TraceData | LayerTrace,
    units: Sequence[int] | NDArray[np.intp] | None = None,
    layer: int = -1,
    ax: Axes | None = None,
) -> Axes:
    """Plot cell states over time, with a dot at each write event and a cross at each erase event.

    Parameters
    ----------
    source : TraceData or LayerTrace
        Of one sequence.
    units : sequence of int, optional
        Default: the five with the largest standard deviation of the cell state, and all others as faint lines.
    layer : int
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        The events of :func:`glasscell.trace.diagnostics.events`.
    """
    layer_trace = resolve_layer(source, layer)
    selected = (
        np.argsort(-layer_trace.c.std(axis=0), kind="stable")[:DEFAULT_UNITS]
        if units is None
        else select_units(layer_trace, units)
    )
    events = diagnostics.events(layer_trace)
    ax = get_axes(ax, _width(layer_trace))
    ax.axhline(0, color=MUTED, lw=0.8)
    steps = np.arange(layer_trace.T)
    if units is None and len(selected) < layer_trace.H:
        ax.plot(steps, np.delete(layer_trace.c, selected, axis=1), color=LINE_COLOR, lw=0.7, zorder=1)
    for k, unit in enumerate(selected):
        c, color = layer_trace.c[:, unit], CYCLE[k % len(CYCLE)]
        ax.plot(
            steps,
            c,
            color=color,
            lw=1.6,
            marker="_" if layer_trace.T == 1 else "",
            ls="-" if k < len(CYCLE) else "--",
            label=f"unit {unit}",
        )
        for event, marker, size in ((events.write, "o", 4.5), (events.erase, "x", 6.0)):
            steps_of_event = steps[event[:, unit]]
            ax.plot(steps_of_event, c[steps_of_event], ls="", marker=marker, ms=size, mew=1.4, color=color)
    ax.set_ylabel("cell state $c$")
    label_time_axis(ax, layer_trace.T)
    set_title(ax, f"Cell states of {escape_mathtext(layer_trace.name)}: ● write, × erase")
    style_axes(ax)
    _legend_beside(ax)
    return ax


def gradient_flow(source: TraceData | LayerTrace, layer: int = -1, ax: Axes | None = None) -> Axes:
    """Plot the norm of the gradient at each step, and of the three parts of the gradient on the cell states.

    Parameters
    ----------
    source : TraceData or LayerTrace
        Of one sequence, with a target.
    layer : int
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        The values of :func:`glasscell.trace.diagnostics.gradient_norms`, without the parts if the cell is normalized,
        which mixes the units. The parts add up to the gradient; their norms do not, because parts can cancel.
    """
    layer_trace = resolve_layer(source, layer)
    ax = get_axes(ax, _width(layer_trace), 3)
    values: Array = np.concatenate(_plot_flow(ax, layer_trace))
    positive = values[values > 0]
    if positive.size and positive.max() > 100 * positive.min():
        log_y_axis(ax)
    else:
        ax.set_ylim(bottom=0)
    ax.set_ylabel("norm of the gradient")
    label_time_axis(ax, layer_trace.T)
    style_axes(ax)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=_legend_columns(ax), **LEGEND)
    return ax


def _plot_flow(ax: Axes, layer_trace: LayerTrace) -> list[Array]:
    """Plot the curves of the gradient, and return their values."""
    curves = {"c": ("on the cell states", INK), "x": ("on the inputs", GREEN)}
    if layer_trace.state == "h":  # an RNN or a GRU
        curves = {"h": ("on the hidden states", INK), "x": ("on the inputs", GREEN)}
        norms = {name: vector_norms(layer_trace.value(f"d_{name}")) for name in curves}
    elif not diagnostics.has_gradient_paths(layer_trace):
        norms = {"c": vector_norms(layer_trace.d_c), "x": vector_norms(layer_trace.d_x)}
    else:
        norms = diagnostics.gradient_norms(layer_trace)._asdict()
        curves |= {
            "output": ("… from the output of this step", PURPLE),
            "cell": ("… along the cell", BLUE),
            "recurrent": ("… through $h$", ORANGE),
        }
    for name in (name for name in ("c", "h", "output", "cell", "recurrent", "x") if name in curves):
        label, color = curves[name]
        positive = np.where(norms[name] > 0, norms[name], np.nan)
        ax.plot(
            positive,
            color=color,
            lw=2.4 if name == layer_trace.state else 1.5,
            label=label,
            marker="." if layer_trace.T < 3 else "",
        )
    return [norms[name] for name in curves]


def gradient_decay(source: TraceData | LayerTrace, layer: int = -1, ax: Axes | None = None) -> Axes:
    """Plot the norm of the gradient n steps before the end, in this layer and in an untrained tanh RNN of equal size.

    Parameters
    ----------
    source : TraceData or LayerTrace
        Of one sequence.
    layer : int
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        The values of :func:`glasscell.trace.diagnostics.gradient_decay`.
    """
    layer_trace = resolve_layer(source, layer)
    curves = diagnostics.gradient_decay(layer_trace)
    ax = get_axes(ax)
    for values, color, name in ((curves.lstm, BLUE, "this LSTM"), (curves.tanh_rnn, ORANGE, "an untrained tanh RNN")):
        positive = np.where(values > 0, values, np.nan)
        ax.plot(positive, color=color, lw=1.8, label=name, marker="." if len(positive) < 2 else "")
    log_y_axis(ax)
    ax.set_ylabel("relative norm of the gradient")
    label_time_axis(ax, layer_trace.T, "steps before the end")
    set_title(ax, f"Gradient decay of {escape_mathtext(layer_trace.name)}, {layer_trace.H} units")
    style_axes(ax)
    _legend_beside(ax)
    return ax


def _width(layer_trace: LayerTrace) -> float:
    """Return the width in inches of a figure with a legend."""
    return min(14, max(6.4, 3 + 0.22 * layer_trace.T))


def _legend_columns(ax: Axes) -> int:
    return next(columns for inches, columns in LEGEND_COLUMNS.items() if axes_width(ax) > inches)


def _legend_beside(ax: Axes) -> None:
    """Add a legend to the right of the axes."""
    if ax.get_legend_handles_labels()[0]:
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), **LEGEND)
