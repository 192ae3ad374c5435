"""Matplotlib figures of what happens inside a model. They are returned and never shown.

:func:`plot` is the overview, and all the others, of :mod:`glasscell.trace.panels`, draw one thing on an ``ax``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from glasscell.models import CopyLSTM
from glasscell.trace.panels import (
    INK,
    MUTED,
    cell_traces,
    colored_text,
    draw_map,
    draw_rows,
    gradient_flow,
    half_lives,
    heat_map,
    literal,
    new_figure,
    saturation,
    vanishing,
)
from glasscell.trace.record import LayerTrace, Trace
from glasscell.trace.shown import input_rows, is_right, layer_of, name_of, output_rows, rows_of, scale_of, units_by_peak

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "cell_traces",
    "colored_text",
    "gradient_flow",
    "half_lives",
    "heat_map",
    "plot",
    "plot_gates",
    "saturation",
    "vanishing",
]

SYMBOLS = {"i": "what to write", "f": "what to keep", "o": "what to show", "g": "what could be written", "c": ""}


def plot(trace: Trace, layer: int = -1) -> Figure:
    """What happened in a layer: input, gates, cell state, output and, with a target, the gradient by step and path.

    Units are sorted by the step at which their cell state is largest, so that what is written early is on top.

    Parameters
    ----------
    trace : Trace
        Of one sequence.
    layer : int
        From the end if it is negative.

    Returns
    -------
    matplotlib.figure.Figure
        Save it with ``figure.savefig(path)``.
    """
    of = layer_of(trace, layer)
    title = literal(str(trace.about.get("title", "An LSTM")))
    where = "" if len(trace.layer) == 1 else f", layer {literal(of.name)}"
    verdict = {True: ": every answer right", False: ": not every answer right", None: ""}[is_right(trace)]
    return _overview(trace, of, f"{title}{where}{verdict}", gradients=trace.has_gradients)


def plot_gates(model: CopyLSTM, bits: ArrayLike) -> Figure:
    """Input, output, gates and cell state of every hidden unit of the last layer while a model copies one sequence.

    It is :func:`plot` of ``model.trace(bits)``, without the gradient.

    Parameters
    ----------
    model : CopyLSTM
    bits : array of 0 and 1, (n,)

    Returns
    -------
    matplotlib.figure.Figure
        Save it with ``figure.savefig(path)``.
    """
    payload = model.task.payload(bits)
    if payload.ndim != 1 or not payload.size:
        raise ValueError(f"bits have shape {payload.shape}; expected one sequence, (n,) with n ≥ 1")
    trace = model.trace(payload)
    verdict = "every bit right" if is_right(trace) else "not every bit right"
    title = f"An LSTM of {model.hidden_size} units copying {''.join(map(str, payload))}: {verdict}"
    return _overview(trace, trace.layer[-1], title, gradients=False)


def _overview(trace: Trace, of: LayerTrace, title: str, *, gradients: bool) -> Figure:
    """Rows below each other, over the same steps."""
    if not of.T:
        raise ValueError("there is nothing to draw of a sequence without steps")
    above, below = input_rows(trace), output_rows(trace)
    heights = [_height(len(above)), *[3] * len(SYMBOLS), *[_height(len(below))] * bool(below), *[3] * gradients]
    figure = new_figure((min(24, 3.4 + 0.34 * of.T), 11 + 2.2 * gradients))
    rows: list[Axes] = list(figure.subplots(len(heights), 1, sharex=True, height_ratios=heights))
    draw_rows(rows[0], above, "input")
    for ax, (symbol, meaning) in zip(rows[1:], SYMBOLS.items(), strict=False):
        _draw_symbol(ax, of, symbol, meaning)
    if below:
        draw_rows(rows[1 + len(SYMBOLS)], below, "output")
    if gradients:
        gradient_flow(of, ax=rows[-1])
        rows[-1].yaxis.label.set(rotation=0, ha="right", va="center")
    for ax in rows[:-1]:
        ax.tick_params(bottom=False)
    rows[-1].set_xlabel("step", color=INK)
    if trace.about.get("copy", {}).get("mode") == "recall":
        for ax in rows:
            ax.axvline(of.T // 2, color=INK, lw=0.8, ls=":")
    rows[0].set_xlim(-0.5, of.T - 0.5)
    figure.suptitle(title, color=INK)
    return figure


def _height(rows: int) -> float:
    """Of a band of input or output."""
    return 0.5 * min(rows, 5)


def _draw_symbol(ax: Axes, of: LayerTrace, symbol: str, meaning: str) -> None:
    values, _ = rows_of(of, symbol, units_by_peak(of))
    image = draw_map(ax, values, scale_of(symbol, values))
    bar = ax.figure.colorbar(image, ax=ax, pad=0.01, aspect=12)
    bar.outline.set_visible(False)  # type: ignore[operator] # annotated as a method
    bar.ax.tick_params(labelsize=8, colors=MUTED, length=2.5)
    below = meaning or f"of {of.H} unit{'s' * (of.H > 1)}"
    ax.set_ylabel(f"{name_of(symbol)} ${symbol}$\n{below}", rotation=0, ha="right", va="center", color=INK)
    ax.set_yticks(np.array([0, of.H - 1]) if of.H > 1 else [0])
