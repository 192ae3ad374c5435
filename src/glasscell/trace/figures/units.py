"""A dot a unit: how open its gates are, and how long it remembers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from glasscell.trace import diagnostics
from glasscell.trace.data import LayerTrace, TraceData
from glasscell.trace.display import GATES, resolve_layer, symbol_name
from glasscell.trace.figures.style import (
    BLUE,
    GATE_COLORS,
    INK,
    LINE_COLOR,
    MARKERS,
    MUTED,
    axes_width,
    escape_mathtext,
    get_axes,
    log_y_axis,
    set_title,
    style_axes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMED_AT_MOST = 8  # units to an inch, whose numbers can be read below an axis


def saturation(of: TraceData | LayerTrace, layer: int = -1, ax: Axes | None = None) -> Axes:
    """How often each unit's gates are nearly shut and nearly open, as in figure 3 of Karpathy et al. (2015).

    Parameters
    ----------
    of : TraceData or LayerTrace
        Of one sequence.
    layer : int
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        Of :func:`glasscell.trace.diagnostics.saturation`. The larger a dot, the more units of a gate lie there.
    """
    found = resolve_layer(of, layer)
    ax = get_axes(ax, 4.6, 4.2)
    ax.plot([0, 1], [1, 0], color=LINE_COLOR, lw=1, zorder=0)
    for gate in GATES:
        left, right = diagnostics.saturation(found.value(gate))
        places, counts = np.unique(np.stack([right, left], axis=1), axis=0, return_counts=True)
        ax.scatter(
            places[:, 0],
            places[:, 1],
            s=14 + 220 * counts / found.H,
            marker=MARKERS[gate],
            edgecolor="white",
            color=GATE_COLORS[gate],
            alpha=0.65,
            linewidths=0.5,
            label=f"{symbol_name(gate)} ${gate}$",
        )
    ax.set_xlim(-0.04, 1.04)
    ax.set_ylim(-0.04, 1.04)
    ax.set_aspect("equal")
    ax.set_xlabel("share of steps open (above 0.9)")
    ax.set_ylabel("share of steps shut (below 0.1)")
    set_title(ax, f"Saturation of the gates of {escape_mathtext(found.name)}")
    style_axes(ax)
    legend = ax.legend(loc="upper right", frameon=False, fontsize=8.5, labelcolor=INK)
    for handle in legend.legend_handles:
        handle.set_sizes([28])  # type: ignore[union-attr]
    return ax


def half_lives(of: TraceData | LayerTrace, layer: int = -1, ax: Axes | None = None) -> Axes:
    """After how many steps each unit has forgotten half of what it holds, units in that order.

    Parameters
    ----------
    of : TraceData or LayerTrace
        Of one sequence.
    layer : int
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        Of :func:`glasscell.trace.diagnostics.half_life`; a triangle at the top is a unit that forgot nothing, one at
        the bottom a unit whose gate was shut.
    """
    found = resolve_layer(of, layer)
    lives = diagnostics.half_life(found.f)
    order = np.argsort(-lives, kind="stable")
    sorted_lives = lives[order]
    ax = get_axes(ax, min(10, 3 + 0.14 * found.H))
    there = np.isfinite(sorted_lives) & (sorted_lives > 0)
    low, high = (sorted_lives[there].min(), sorted_lives[there].max()) if there.any() else (0.5, found.T or 1)
    places = np.arange(len(order))
    ax.vlines(places[there], low / 1.5, sorted_lives[there], color=LINE_COLOR, lw=1.2, zorder=1)
    ax.scatter(places[there], sorted_lives[there], s=20, color=BLUE, zorder=2)
    for beyond, edge, marker in ((np.isinf(sorted_lives), high * 1.5, "^"), (sorted_lives == 0, low / 1.5, "v")):
        ax.scatter(places[beyond], np.full(int(beyond.sum()), edge), s=26, color=BLUE, marker=marker, zorder=2)
    ax.axhline(found.T, color=MUTED, lw=0.9, ls=":")
    ax.annotate(
        f"T = {found.T}",
        (1, found.T),
        xycoords=("axes fraction", "data"),
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        fontsize=8,
        color=MUTED,
    )
    log_y_axis(ax)
    named = NAMED_AT_MOST * axes_width(ax) >= found.H
    if named:
        ax.set_xticks(places, [str(unit) for unit in order])
    ax.set_xlabel("unit" if named else "units, by their half-life")
    ax.set_ylabel("half-life in steps")
    set_title(ax, f"How long the units of {escape_mathtext(found.name)} remember")
    style_axes(ax)
    ax.grid(visible=False, axis="x")
    if found.H > 20:
        ax.tick_params(axis="x", labelsize=6.5)
    return ax
