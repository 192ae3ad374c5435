"""The style of figures: few colors, no frames, dark text."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from glasscell.escaping import escape
from glasscell.trace.colormaps import STOPS
from glasscell.trace.display import ColorScale, ScaleKind, StepMarks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

INK, MUTED, LINE_COLOR = "#1f2933", "#7b8794", "#cbd2d9"
WRONG = "#d64545"
MAX_MARKED_STEPS = 60

# Line colors, which also differ in lightness: those of Okabe & Ito (2008) with enough contrast on white.
BLUE, ORANGE, GREEN, PURPLE, SKY, BROWN = "#0072b2", "#d55e00", "#009e73", "#aa4499", "#56b4e9", "#8c6d1f"
CYCLE = (BLUE, ORANGE, GREEN, PURPLE, SKY, BROWN)
GATE_COLORS = {"i": GREEN, "f": BLUE, "o": ORANGE, "r": GREEN, "z": BLUE}
GATE_MARKERS = {"i": "^", "f": "o", "o": "s", "r": "^", "z": "o"}


def get_axes(ax: Axes | None, width: float = 6.4, height: float = 3.6) -> Axes:
    """Return ax, or the axes of a new figure of a size in inches."""
    if ax is None:
        return new_figure(width, height).add_subplot()
    if not hasattr(ax, "imshow"):
        raise TypeError(f"ax must be a Matplotlib Axes, got {ax!r}")
    return ax


def new_figure(width: float, height: float) -> Figure:
    """Return a figure without a window, of a size in inches."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - optional
    except ImportError:
        raise ImportError("figures need Matplotlib: pip install 'glasscell[plot]'") from None
    return Figure(figsize=(width, height), layout="constrained")


def colors_of(scale: ColorScale) -> dict[str, Any]:
    """Return the arguments of imshow and scatter for a color scale."""
    return {"cmap": _color_map(scale.kind), "vmin": scale.low, "vmax": scale.high}


@cache
def _color_map(kind: ScaleKind) -> Colormap:
    from matplotlib.colors import LinearSegmentedColormap  # noqa: PLC0415 - optional

    return LinearSegmentedColormap.from_list(f"glasscell {kind}", STOPS[kind].split())


def color_bar(image: AxesImage, axes: Axes | Sequence[Axes], pad: float = 0.01) -> None:
    """Add a color bar to the right of the axes."""
    figure = image.figure
    assert figure is not None  # noqa: S101 - it was drawn on axes
    bar = figure.colorbar(image, ax=axes, pad=pad, aspect=12, format=_number)
    bar.outline.set_visible(False)
    style_axes(bar.ax, grid=False)


def _number(value: float, _: int) -> str:
    """Format a tick without −0 and trailing zeros."""
    return f"{round(value, 12) + 0.0:g}".replace("-", "−")


def style_axes(ax: Axes, *, grid: bool = True) -> None:
    """Remove the frame, and style ticks, labels and, for curves, the grid."""
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.tick_params(which="both", labelsize=8, colors=MUTED, length=0 if grid else 3)
    if grid:
        ax.grid(visible=True, color=LINE_COLOR, lw=0.6)
        ax.set_axisbelow(True)
    for label in (ax.xaxis.label, ax.yaxis.label, ax.title):
        label.set_color(INK)
    ax.xaxis.label.set_fontsize(9)
    ax.yaxis.label.set_fontsize(9)


def label_time_axis(ax: Axes, T: int, label: str = "step") -> None:
    """Label the x axis with integers from 0 to T − 1."""
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415 - optional

    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12, steps=[1, 2, 5, 10], min_n_ticks=1))
    ax.set_xlim(-0.5, T - 0.5)
    ax.set_xlabel(label)


def mark_steps(ax: Axes, marks: StepMarks, *, texts: bool = True) -> None:
    """Draw a line at each delimiter and, if they fit, the text of each step above the axes."""
    for t in marks.delimiters:
        ax.axvline(t, color=INK, lw=0.8, ls=":")
    if not texts or len(marks.texts) > MAX_MARKED_STEPS:
        return
    for t, text in enumerate(marks.texts):
        label = escape_mathtext(text)
        ax.text(t, 1.01, label, transform=ax.get_xaxis_transform(), ha="center", va="bottom", fontsize=7, color=MUTED)


def log_y_axis(ax: Axes) -> None:
    """Set a logarithmic y axis, with decimal numbers for a moderate range: 0.5, not 5 × 10⁻¹."""
    from matplotlib.ticker import LogLocator, NullFormatter  # noqa: PLC0415 - optional

    ax.set_yscale("log", nonpositive="mask")
    low, high = ax.get_ylim()
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,)))
    ax.yaxis.set_minor_formatter(NullFormatter())
    if low > 1e-4 and high < 1e5:
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")


def set_title(ax: Axes, title: str) -> None:
    """Set a title, left-aligned."""
    ax.set_title(title, loc="left", fontsize=10, color=INK)


def escape_mathtext(text: str) -> str:
    """Return text that Matplotlib displays literally: no formulas, and no control characters except newlines."""
    return "\n".join(map(escape, text.split("\n"))).replace("$", r"\$")


def axes_width(ax: Axes) -> float:
    """Return the current width of axes in inches."""
    return float(ax.get_window_extent().width) / float(ax.get_figure(root=True).dpi)  # type: ignore[union-attr]
