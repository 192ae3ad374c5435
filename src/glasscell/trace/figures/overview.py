"""A figure of a layer with input, gates, cell state, output and gradient."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import ArrayLike

from glasscell.trace.data import TraceData
from glasscell.trace.display import (
    LabelledRow,
    all_steps_correct,
    input_rows,
    output_rows,
    resolve_layer,
    step_marks,
    units_by_peak,
)
from glasscell.trace.figures.curves import gradient_flow
from glasscell.trace.figures.maps import heat_map, step_rows
from glasscell.trace.figures.style import INK, escape_mathtext, mark_steps, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_TEXT_ROWS = 8  # as high as a letter; more rows become a heat map


class CopyModel(Protocol):
    """A model of the copy task, such as :class:`glasscell.CopyLSTM`."""

    @property
    def task(self) -> Any:
        """Return the task."""

    def trace(self, x: Any, /) -> TraceData:
        """Run the model on one sequence of bits, and return the trace."""


def plot(trace: TraceData, layer: int = -1) -> Figure:
    """Plot input, gates, cell state and output of every unit of a layer over time, and the gradient with a target.

    Units are sorted by the step of their largest cell state, so that values written early are at the top.

    Parameters
    ----------
    trace : TraceData
        Of one sequence.
    layer : int
        Negative values count from the last layer.

    Returns
    -------
    matplotlib.figure.Figure
        Save it with ``figure.savefig(path)``.
    """
    trace = trace.require_single_sequence()
    return _page(trace, layer, _title(trace), gradient=trace.has_gradients)


def plot_gates(model: CopyModel, bits: ArrayLike) -> Figure:
    """Plot input, output, gates and cell state of every unit of the last layer over time, for one sequence of bits.

    Parameters
    ----------
    model : glasscell.CopyLSTM
    bits : array of 0 and 1, (n,)

    Returns
    -------
    matplotlib.figure.Figure
        The figure of :func:`plot` without the gradient.
    """
    payload = model.task.validate_payload(bits)
    if payload.ndim != 1 or not payload.size:
        raise ValueError(f"bits must have shape (n,) with n ≥ 1, got {payload.shape}")
    trace = model.trace(payload)
    return _page(trace, -1, _title(trace), gradient=False)


def _title(trace: TraceData) -> str:
    correct = all_steps_correct(trace)
    kind = "bits" if trace.about.get("copy") else "predictions"
    verdict = "" if correct is None else f": all {kind} correct" if correct else f": not all {kind} correct"
    return str(trace.about.get("title", "An LSTM")) + verdict


def _page(trace: TraceData, layer: int, title: str, *, gradient: bool) -> Figure:
    layer_trace = resolve_layer(trace, layer)
    inputs, outputs = input_rows(trace), output_rows(trace)
    heights = [
        _height(inputs),
        *[3] * len(layer_trace.default_symbols),
        *[_height(outputs)] * bool(outputs),
        *[2.4] * gradient,
    ]
    width = max(7.0 if gradient else 0.0, min(24, 3.4 + 0.34 * layer_trace.T))  # for the legend
    figure = new_figure(width, 11 * sum(heights) / 16.5)
    panels: list[Axes] = list(figure.subplots(len(heights), 1, sharex=True, height_ratios=heights))
    step_rows(panels[0], inputs, "input")
    units = units_by_peak(layer_trace)
    for ax, symbol in zip(panels[1:], layer_trace.default_symbols, strict=False):
        heat_map(layer_trace, symbol, ax=ax, units=units)
    if outputs:
        step_rows(panels[1 + len(layer_trace.default_symbols)], outputs, "output")
    if gradient:
        ax = gradient_flow(layer_trace, ax=panels[-1])
        ax.set_ylabel("norm of the\ngradient", rotation=0, ha="right", va="center", color=INK)
    for ax in panels[:-1]:
        ax.tick_params(bottom=False)
        ax.set_xlabel("")
    panels[-1].set_xlabel("step", color=INK)
    for ax in panels:
        mark_steps(ax, step_marks(trace), texts=False)  # the first and the last panel have them
    figure.suptitle(escape_mathtext("\n".join(wrap(title, int(11 * width)))), color=INK)
    return figure


def _height(rows: Sequence[LabelledRow]) -> float:
    """Return the relative height of rows: a sixth of a heat map per row, or that of a heat map for many rows."""
    return 0.5 * len(rows) if len(rows) <= MAX_TEXT_ROWS else 3
