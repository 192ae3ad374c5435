"""Matplotlib figures of explanations. Each function draws on `ax`, or on a new figure, and returns the axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from glasscell.core.norms import vector_norms
from glasscell.core.types import Array
from glasscell.explain.ablation_order import factors_of, units_of
from glasscell.explain.ablations import Ablation
from glasscell.explain.attribution import Attribution
from glasscell.explain.crossings import GradientFlow
from glasscell.explain.decoding import Decodability
from glasscell.explain.dependencies import Dependency
from glasscell.explain.differences import UnitDifferences
from glasscell.explain.label_index import label_index
from glasscell.explain.relays import Relay
from glasscell.trace.data import TraceData
from glasscell.trace.display import ColorScale, step_marks
from glasscell.trace.figures.maps import mathtext, number_rows
from glasscell.trace.figures.style import (
    CYCLE,
    INK,
    MUTED,
    color_bar,
    colors_of,
    escape_mathtext,
    get_axes,
    label_time_axis,
    log_y_axis,
    mark_steps,
    set_title,
    style_axes,
)
from glasscell.validation import choice

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "ablation",
    "attribution",
    "crossings",
    "decodability",
    "dependency",
    "relay",
    "unit_differences",
]

DASHES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
MAX_NAMED_ROWS = 24
MAX_NAMED_COLUMNS = 48


def decodability(result: Decodability, ax: Axes | None = None, trace: TraceData | None = None) -> Axes:
    """Draw the score of each label's readout at each step: R² of numbers, accuracy above chance of classes.

    Parameters
    ----------
    result : Decodability
        From :func:`glasscell.explain.decodability`. Scores below 0 have the color of 0.
    ax : matplotlib.axes.Axes, optional
    trace : TraceData, optional
        Of one sequence: its bits and delimiter are marked.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = get_axes(ax, min(16, 3.4 + 0.24 * result.r2.shape[1]), 1.4 + 0.24 * len(result.labels))
    _image(ax, result.r2, ColorScale(0.0, 1.0, "sequential"))
    _name_rows(ax, result.labels)
    _finish(ax, result.r2.shape[1], f"Decodability (R²) from {mathtext(result.symbol)}, held-out half", trace)
    return ax


def unit_differences(
    result: UnitDifferences, label: int | str = 0, ax: Axes | None = None, trace: TraceData | None = None
) -> Axes:
    """Draw the difference of each unit between the two classes of a label; what is not significant is left out.

    Parameters
    ----------
    result : UnitDifferences
        From :func:`glasscell.explain.unit_differences`.
    label : int or str
        Number or name of the label.
    ax : matplotlib.axes.Axes, optional
    trace : TraceData, optional
        Of one sequence: its bits and delimiter are marked.

    Returns
    -------
    matplotlib.axes.Axes
        Units are sorted by the step of their largest difference.

    Raises
    ------
    ValueError
        If the label does not exist, or has more than two classes.
    """
    index = label_index("label", label, result.labels)
    values = np.where(result.is_significant[index], result.difference[index], np.nan).T  # (H, T)
    if not np.isfinite(result.difference[index]).any():
        raise ValueError(f"label must have two classes or be a number, got {result.labels[index]!r}")
    order = np.argsort(np.nan_to_num(np.abs(values)).argmax(axis=1), kind="stable")
    limit = float(np.nanmax(np.abs(values), initial=0.0, where=np.isfinite(values))) or 1.0
    ax = get_axes(ax, min(16, 3.4 + 0.24 * values.shape[1]), min(10, 1.4 + 0.11 * len(values)))
    _image(ax, values[order], ColorScale(-limit, limit, "diverging"))
    number_rows(ax, order)
    ax.set_ylabel("unit")
    symbol = mathtext(result.symbol).strip("$")
    name = escape_mathtext(result.labels[index])
    _finish(ax, values.shape[1], rf"{name}: $E[{symbol}\,|\,1] - E[{symbol}\,|\,0]$, where significant", trace)
    return ax


def relay(result: Relay, label: int | str = 0, ax: Axes | None = None, trace: TraceData | None = None) -> Axes:
    """Draw the share of the information of one input that each unit carries at each step.

    Parameters
    ----------
    result : Relay
        From :func:`glasscell.explain.relay`.
    label : int or str
        Number or name of the label. Default: the first.
    ax : matplotlib.axes.Axes, optional
    trace : TraceData, optional
        Of one sequence: its bits and delimiter are marked.

    Returns
    -------
    matplotlib.axes.Axes
        Units are sorted by the step of their largest share.

    Raises
    ------
    TypeError, ValueError
        If the label does not exist, or the trace has another number of steps.
    """
    index = label_index("label", label, result.labels)
    values = result.carried[index].T  # (H, T)
    order = np.argsort(values.argmax(axis=1), kind="stable")
    limit = float(np.abs(values).max()) or 1.0
    ax = get_axes(ax, min(16, 3.4 + 0.24 * values.shape[1]), min(10, 1.4 + 0.11 * len(values)))
    _image(ax, values[order], ColorScale(-limit, limit, "diverging"))
    number_rows(ax, order)
    ax.set_ylabel("unit")
    _finish(ax, values.shape[1], f"{escape_mathtext(result.labels[index])}: share that one unit carries", trace)
    return ax


def dependency(result: Dependency, kind: Literal["exact", "linear"] = "exact", ax: Axes | None = None) -> Axes:
    """Draw by how much each output depends on each input.

    Parameters
    ----------
    result : Dependency
        From :func:`glasscell.explain.dependency`.
    kind : {"exact", "linear"}
        By replacing the input, or by the Jacobian. Both kinds have the same color range.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    choice("kind", kind, ("exact", "linear"))
    values: Array = getattr(result, kind)
    largest = float(np.nanmax([result.exact, result.linear])) or 1.0
    ax = get_axes(ax, 3 + 0.3 * len(result.inputs), 1.6 + 0.3 * len(result.outputs))
    _image(ax, values, ColorScale(0.0, largest, "sequential"))
    _name_rows(ax, result.outputs)
    if len(result.inputs) <= MAX_NAMED_ROWS:
        names = list(map(escape_mathtext, result.inputs))
        ax.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    ax.set_xlabel("input")
    ax.set_ylabel("output")
    set_title(ax, f"Mean change of the output, {'input replaced' if kind == 'exact' else 'by the Jacobian'}")
    style_axes(ax, grid=False)
    return ax


def attribution(result: Attribution, ax: Axes | None = None, trace: TraceData | None = None) -> Axes:
    """Draw the share of each step of one sequence in a quantity, as bars from 0.

    Parameters
    ----------
    result : Attribution
        Of one sequence, such as from :func:`glasscell.explain.integrated_gradients`.
    ax : matplotlib.axes.Axes, optional
    trace : TraceData, optional
        Of the same sequence: its bits and delimiter, or the symbols of a text, are marked.

    Returns
    -------
    matplotlib.axes.Axes
    """
    values = result.by_step
    if values.ndim != 1:
        raise ValueError(f"result must be of one sequence, got {len(values)}")
    ax = get_axes(ax, min(16, 3.4 + 0.24 * len(values)), 3)
    ax.bar(range(len(values)), values, color=[CYCLE[0] if value < 0 else CYCLE[1] for value in values], width=0.8)
    ax.axhline(0, color=INK, lw=0.8)
    ax.set_ylabel("share of the output")
    style_axes(ax)
    ax.grid(visible=False, axis="x")
    error = float(result.completeness_error)
    _finish(ax, len(values), f"{result.method}: completeness error {error:.1g}", trace, grid=True)
    return ax


def crossings(flow: GradientFlow, ax: Axes | None = None, trace: TraceData | None = None, parts: int = 4) -> Axes:
    """Plot the norms of the parts of dL/dc by the number of crossings of W_h, and of their sum.

    Parameters
    ----------
    flow : GradientFlow
        Of one sequence, from :func:`glasscell.explain.gradient_flow`.
    ax : matplotlib.axes.Axes, optional
    trace : TraceData, optional
        Of the same sequence: its bits and delimiter are marked.
    parts : int
        Curves of 0 to parts - 1 crossings; the last curve is the sum of all other parts.

    Returns
    -------
    matplotlib.axes.Axes
    """
    if flow.c.ndim != 3:
        raise ValueError(f"flow must be of one sequence, got {len(flow.c)}")
    number = max(1, min(parts, flow.crossings + 1))
    rest = flow.c[number:].sum(axis=0)
    names = [*map(str, range(number)), f"{number} or more"]
    ax = get_axes(ax, min(16, 5.2 + 0.24 * flow.c.shape[1]), 3.2)
    steps = np.arange(flow.c.shape[1])
    ax.plot(steps, vector_norms(flow.whole_c), color=INK, lw=1.6, label="dL/dc")
    for k, (name, part) in enumerate(zip(names, (*flow.c[:number], rest), strict=True)):
        label = f"{name} crossing{'s' * (name != '1')} of $W_h$"
        ax.plot(steps, vector_norms(part), color=CYCLE[k % len(CYCLE)], ls=DASHES[k % len(DASHES)], label=label)
    log_y_axis(ax)
    ax.set_ylabel("norm")
    style_axes(ax)
    ax.legend(frameon=False, fontsize=8, labelcolor=INK, loc="upper left", bbox_to_anchor=(1.01, 1))
    _finish(ax, flow.c.shape[1], f"Gradient on the cells of {escape_mathtext(flow.layer)} by path", trace, grid=True)
    return ax


def ablation(result: Ablation, ax: Axes | None = None) -> Axes:
    """Plot the metric under each intervention, and without any as a line.

    Parameters
    ----------
    result : Ablation
        From :func:`glasscell.explain.ablation`. Interventions that multiply one symbol by factors are a curve over the
        factors. Those on one unit each, such as of :func:`glasscell.explain.unit_interventions` on one symbol, are dots
        from the smallest value to the largest, with the numbers of the units. All others are dots in their order.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    factors, units = factors_of(result), units_of(result)
    ax = get_axes(ax, 6.4 if factors is not None else min(16, 3 + 0.24 * len(result)), 3.4)
    ax.axhline(result.baseline, color=MUTED, lw=0.9, ls=":", label="without interventions")
    ax.set_ylabel(escape_mathtext(result.metric.replace("_", " ")))
    if factors is not None:
        order = np.argsort(-factors, kind="stable")
        ax.plot(factors[order], result.values[order], "o-", color=CYCLE[0], ms=4)
        ax.invert_xaxis()
        ax.set_xlabel(f"factor on {mathtext(result.interventions[0][0].symbol)}")
    elif units is not None:
        order = np.argsort(result.values, kind="stable")
        ax.plot(range(len(result)), result.values[order], "o", color=CYCLE[0], ms=4)
        shown: NDArray[np.intp] = np.arange(0, len(order), -(-len(order) // MAX_NAMED_COLUMNS))
        ax.set_xticks(shown, [str(units[k]) for k in order[shown]])
        ax.set_xlabel(f"unit of {mathtext(result.interventions[0][0].symbol)}, by {ax.get_ylabel()}")
    else:
        ax.plot(range(len(result)), result.values, "o", color=CYCLE[0], ms=4)
        if len(result) <= MAX_NAMED_COLUMNS:
            names = list(map(escape_mathtext, result.labels))
            ax.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
        ax.set_xlabel("intervention")
    style_axes(ax)
    ax.legend(frameon=False, fontsize=8, labelcolor=INK, loc="upper left", bbox_to_anchor=(1.01, 1))
    return ax


def _image(ax: Axes, values: Array, scale: ColorScale) -> None:
    image = ax.imshow(values, aspect="auto", interpolation="nearest", **colors_of(scale))
    color_bar(image, ax)


def _finish(ax: Axes, T: int, title: str, trace: TraceData | None, *, grid: bool = False) -> None:
    """Set title and time axis, and mark the steps of a trace."""
    if not grid:
        style_axes(ax, grid=False)
    label_time_axis(ax, T)
    ax.set_title(title, loc="left", fontsize=10, color=INK, pad=16 if trace is not None else 6)
    if trace is None:
        return
    marks = step_marks(trace.require_single_sequence())
    if trace.T == T - 1 and _is_of_text(trace):  # its last symbol is only a target
        assert trace.targets is not None  # noqa: S101
        marks = marks._replace(texts=(*marks.texts, str(trace.about["output_names"][trace.targets[-1]])))
    elif trace.T != T:
        raise ValueError(f"trace must have {T} steps, got {trace.T}")
    mark_steps(ax, marks)


def _is_of_text(trace: TraceData) -> bool:
    """Return whether the targets of a sequence are its next symbols, which have names."""
    has_names = trace.about.get("step_names") is not None and trace.about.get("output_names") is not None
    x, targets = trace.x, trace.targets
    return has_names and x.ndim == 1 and targets is not None and np.array_equal(x[1:], targets[:-1])


def _name_rows(ax: Axes, names: tuple[str, ...]) -> None:
    """Label the rows with names, every n-th one of too many."""
    interval = max(1, -(-len(names) // MAX_NAMED_ROWS))
    rows: NDArray[np.intp] = np.arange(0, len(names), interval)
    ax.set_yticks(rows, [escape_mathtext(names[row]) for row in rows])
