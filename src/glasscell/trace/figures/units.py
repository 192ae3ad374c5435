"""A dot a unit: how open its gates are, and how long it remembers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from glasscell.trace import measures
from glasscell.trace.figures.style import (
    BLUE,
    INK,
    LINE,
    MARKERS,
    MUTED,
    OF_GATE,
    axes_or_new,
    clean,
    headed,
    inches_of,
    logarithmic,
    plain,
)
from glasscell.trace.record import LayerTrace, Trace
from glasscell.trace.shown import GATES, layer_of, name_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMED_AT_MOST = 8  # units to an inch, whose numbers can be read below an axis


def saturation(of: Trace | LayerTrace, layer: int = -1, ax: Axes | None = None) -> Axes:
    """How often each unit's gates are nearly shut and nearly open, as in figure 3 of Karpathy et al. (2015).

    Parameters
    ----------
    of : Trace or LayerTrace
        Of one sequence.
    layer : int
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        Of :func:`glasscell.trace.measures.saturation`. The larger a dot, the more units of a gate lie there.
    """
    found = layer_of(of, layer)
    ax = axes_or_new(ax, 4.6, 4.2)
    ax.plot([0, 1], [1, 0], color=LINE, lw=1, zorder=0)
    for gate in GATES:
        left, right = measures.saturation(found.value(gate))
        places, counts = np.unique(np.stack([right, left], axis=1), axis=0, return_counts=True)
        ax.scatter(
            places[:, 0],
            places[:, 1],
            s=14 + 220 * counts / found.H,
            marker=MARKERS[gate],
            edgecolor="white",
            color=OF_GATE[gate],
            alpha=0.65,
            linewidths=0.5,
            label=f"{name_of(gate)} ${gate}$",
        )
    ax.set_xlim(-0.04, 1.04)
    ax.set_ylim(-0.04, 1.04)
    ax.set_aspect("equal")
    ax.set_xlabel("share of steps open (above 0.9)")
    ax.set_ylabel("share of steps shut (below 0.1)")
    headed(ax, f"Saturation of the gates of {plain(found.name)}")
    clean(ax)
    legend = ax.legend(loc="upper right", frameon=False, fontsize=8.5, labelcolor=INK)
    for handle in legend.legend_handles:
        handle.set_sizes([28])  # type: ignore[union-attr]
    return ax


def half_lives(of: Trace | LayerTrace, layer: int = -1, ax: Axes | None = None) -> Axes:
    """After how many steps each unit has forgotten half of what it holds, units in that order.

    Parameters
    ----------
    of : Trace or LayerTrace
        Of one sequence.
    layer : int
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        Of :func:`glasscell.trace.measures.half_life`; a triangle at the top is a unit that forgot nothing, one at the
        bottom a unit whose gate was shut.
    """
    found = layer_of(of, layer)
    lives = measures.half_life(found.f)
    order = np.argsort(-lives, kind="stable")
    sorted_lives = lives[order]
    ax = axes_or_new(ax, min(10, 3 + 0.14 * found.H))
    there = np.isfinite(sorted_lives) & (sorted_lives > 0)
    low, high = (sorted_lives[there].min(), sorted_lives[there].max()) if there.any() else (0.5, found.T or 1)
    places = np.arange(len(order))
    ax.vlines(places[there], low / 1.5, sorted_lives[there], color=LINE, lw=1.2, zorder=1)
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
    logarithmic(ax)
    named = NAMED_AT_MOST * inches_of(ax) >= found.H
    if named:
        ax.set_xticks(places, [str(unit) for unit in order])
    ax.set_xlabel("unit" if named else "units, by their half-life")
    ax.set_ylabel("half-life in steps")
    headed(ax, f"How long the units of {plain(found.name)} remember")
    clean(ax)
    ax.grid(visible=False, axis="x")
    if found.H > 20:
        ax.tick_params(axis="x", labelsize=6.5)
    return ax
