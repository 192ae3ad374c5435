"""Plot the ratios: time of each other library over Glasscell's, at every size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from speed.engines import NUMPY, OURS
from speed.results import Benchmark, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, LINE = "#1f2933", "#616e7c", "#cbd2d9"
COLORS = {"PyTorch": "#d1495b", "ONNX Runtime": "#00798c", "JAX": "#8a6fb0", "import numpy alone": "#7b8794"}
PANEL_TITLES = {
    "training": "a training step",
    "training-steps": "a training step of a whole model",
    "load": "a training step on a busy machine",
    "forward": "whole sequences forward",
    "streaming": "one streaming step",
    "cold": "process start to first answer",
}


def plot(benchmarks: Sequence[Benchmark], subtitle: str) -> Figure:
    """Draw one panel per benchmark, one row per size, one dot per library; right of 1, Glasscell is faster.

    Parameters
    ----------
    benchmarks : sequence of Benchmark
        Those without ratios have no panel.
    subtitle : str
        The machine.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If no benchmark has a ratio.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    shown = [benchmark for benchmark in benchmarks if any(row.ratios() for row in benchmark.rows)]
    if not shown:
        raise ValueError("there is nothing to draw: no peer took part in a benchmark with ratios")
    heights = [len(benchmark.rows) + 1.2 for benchmark in shown]
    figure = Figure(figsize=(8.6, 1.5 + 0.31 * sum(heights)), dpi=150, layout="constrained")
    panels = figure.subplots(len(shown), 1, height_ratios=heights, squeeze=False, sharex=True)[:, 0]
    labels: dict[str, Any] = {}
    for axes, benchmark in zip(panels, shown, strict=True):
        _panel(axes, benchmark, labels)
    panels[-1].set_xlabel("times as long as Glasscell (bars: quartiles)", color=INK, fontsize=10)
    panels[-1].xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panels[-1].xaxis.set_major_formatter(lambda value, _: f"{value:g}×")
    panels[-1].xaxis.set_minor_formatter(NullFormatter())
    panels[-1].tick_params(axis="x", which="both", labelbottom=True)
    figure.legend(
        list(labels.values()),
        list(labels),
        title="Speed compared with the frameworks, on a CPU: right of the line, Glasscell is faster",
        title_fontsize=12,
        loc="outside upper center",
        ncols=4,
        frameon=False,
        fontsize=9,
    )
    figure.supxlabel(_wrapped(subtitle), fontsize=7, color=MUTED)
    return figure


def _panel(axes: Axes, benchmark: Benchmark, labels: dict[str, Any]) -> None:
    axes.axvline(1, color=INK, lw=1)
    for k, row in enumerate(benchmark.rows):
        axes.axhline(k, color=LINE, lw=0.6, zorder=0)
        drawn = shown_sides(row)
        for ours, peer, own in row.ratios():
            if ours not in drawn:
                continue
            color, alone, both = _color(peer), ours == NUMPY and len(drawn) == 2, len(drawn) == 2
            bar = axes.errorbar(
                own.median,
                k + 0.16 * both * (1 if alone else -1),
                xerr=[[own.median - own.low], [own.high - own.median]],
                fmt="D" if "Cell" in peer else "o",
                ms=6,
                mfc="white" if alone else color,
                mec=color,
                ecolor=color,
                elinewidth=1.2,
            )
            name = peer.removesuffix(" nn.LSTM")
            labels.setdefault(f"{name}, ours on NumPy alone" if alone else name, bar)
    axes.set_xscale("log")
    axes.set_ylim(len(benchmark.rows) - 0.4, -0.6)
    axes.set_yticks(range(len(benchmark.rows)), [row.what for row in benchmark.rows])
    sizes = " at (I, H, T, B)" if benchmark.kind in ("training", "forward") else ""
    axes.set_title(PANEL_TITLES.get(benchmark.kind, benchmark.title) + sizes, loc="left", fontsize=10, color=INK)
    axes.tick_params(which="both", labelsize=9, colors=INK, length=0)
    axes.grid(visible=True, axis="x", color=LINE, lw=0.6)
    for spine in axes.spines.values():
        spine.set_visible(False)


def shown_sides(row: Row) -> set[str]:
    """Return the drawn implementations of Glasscell: NumPy, and the default or, where that is NumPy, Numba."""
    names = {implementation.name for implementation in row.implementations if implementation.ours}
    return names & {NUMPY, OURS} if OURS in names else names


def _color(peer: str) -> str:
    return next((color for name, color in COLORS.items() if peer.startswith(name)), INK)


def _wrapped(text: str) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, 130))
