"""One dot per unit: saturation of gates, and half-lives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from glasscell.trace import diagnostics
from glasscell.trace.data import TraceData
from glasscell.trace.display import resolve_layer, symbol_name
from glasscell.trace.figures.style import (
    BLUE,
    GATE_COLORS,
    GATE_MARKERS,
    INK,
    LINE_COLOR,
    MUTED,
    axes_width,
    escape_mathtext,
    get_axes,
    log_y_axis,
    set_title,
    style_axes,
)
from glasscell.trace.layer_trace import LayerTrace

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_LABELS_PER_INCH = 8  # of the x axis


def saturation(source: TraceData | LayerTrace, layer: int = -1, ax: Axes | None = None) -> Axes:
    """Plot how often the gates of each unit are saturated, as in figure 3 of Karpathy et al. (2015).

    Parameters
    ----------
    source : TraceData or LayerTrace
        Of one sequence.
    layer : int
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        The values of :func:`glasscell.trace.diagnostics.saturation`. The area of a dot is the number of its units.
    """
    layer_trace = resolve_layer(source, layer)
    if not layer_trace.gate_symbols:
        raise ValueError(f"layer must have gates, got {layer_trace!r}")
    ax = get_axes(ax, 4.6, 4.2)
    ax.plot([0, 1], [1, 0], color=LINE_COLOR, lw=1, zorder=0)
    for gate in layer_trace.gate_symbols:
        left, right = diagnostics.saturation(layer_trace.value(gate))
        positions, counts = np.unique(np.stack([right, left], axis=1), axis=0, return_counts=True)
        ax.scatter(
            positions[:, 0],
            positions[:, 1],
            s=14 + 220 * counts / layer_trace.H,
            marker=GATE_MARKERS[gate],
            edgecolor="white",
            color=GATE_COLORS[gate],
            alpha=0.65,
            linewidths=0.5,
            label=f"{symbol_name(gate, layer_trace.symbol_names)} ${gate}$",
        )
    ax.set_xlim(-0.04, 1.04)
    ax.set_ylim(-0.04, 1.04)
    ax.set_aspect("equal")
    ax.set_xlabel("share of steps above 0.9 (open)")
    ax.set_ylabel("share of steps below 0.1 (closed)")
    set_title(ax, f"Saturation of the gates of {escape_mathtext(layer_trace.name)}")
    style_axes(ax)
    legend = ax.legend(loc="upper right", frameon=False, fontsize=8.5, labelcolor=INK)
    for handle in legend.legend_handles:
        handle.set_sizes([28])  # type: ignore[union-attr]
    return ax


def half_lives(source: TraceData | LayerTrace, layer: int = -1, ax: Axes | None = None) -> Axes:
    """Plot the half-life of each unit, units sorted by half-life.

    Parameters
    ----------
    source : TraceData or LayerTrace
        Of one sequence.
    layer : int
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        The values of :func:`glasscell.trace.diagnostics.half_life`. Triangles at the top are infinite half-lives,
        those at the bottom are 0.
    """
    layer_trace = resolve_layer(source, layer)
    lives = diagnostics.half_life(layer_trace.f)
    order = np.argsort(-lives, kind="stable")
    sorted_lives = lives[order]
    ax = get_axes(ax, min(10, 3 + 0.14 * layer_trace.H))
    finite = np.isfinite(sorted_lives) & (sorted_lives > 0)
    low, high = (sorted_lives[finite].min(), sorted_lives[finite].max()) if finite.any() else (0.5, layer_trace.T or 1)
    positions = np.arange(len(order))
    ax.vlines(positions[finite], low / 1.5, sorted_lives[finite], color=LINE_COLOR, lw=1.2, zorder=1)
    ax.scatter(positions[finite], sorted_lives[finite], s=20, color=BLUE, zorder=2)
    for beyond, edge, marker in ((np.isinf(sorted_lives), high * 1.5, "^"), (sorted_lives == 0, low / 1.5, "v")):
        ax.scatter(positions[beyond], np.full(int(beyond.sum()), edge), s=26, color=BLUE, marker=marker, zorder=2)
    ax.axhline(layer_trace.T, color=MUTED, lw=0.9, ls=":")
    ax.annotate(
        f"T = {layer_trace.T}",
        (1, layer_trace.T),
        xycoords=("axes fraction", "data"),
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        fontsize=8,
        color=MUTED,
    )
    log_y_axis(ax)
    labelled = MAX_LABELS_PER_INCH * axes_width(ax) >= layer_trace.H
    if labelled:
        ax.set_xticks(positions, [str(unit) for unit in order])
    ax.set_xlabel("unit" if labelled else "units, sorted by half-life")
    ax.set_ylabel("half-life in steps")
    set_title(ax, f"Half-lives of the units of {escape_mathtext(layer_trace.name)}")
    style_axes(ax)
    ax.grid(visible=False, axis="x")
    if layer_trace.H > 20:
        ax.tick_params(axis="x", labelsize=6.5)
    return ax
