"""Heat maps, and rows of what goes in and comes out."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glasscell.trace.figures.style import INK, WRONG, axes_or_new, clean, color_bar, colors_of, plain, steps_below
from glasscell.trace.record import LayerTrace, Trace
from glasscell.trace.shown import Row, chosen, heat_map_of, layer_of, name_of, printable, scale_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PURPOSES = {"i": "what to write", "f": "what to keep", "o": "what to show", "g": "what could be written"}
NUMBERED_AT_MOST = 48  # units whose numbers are beside them
LETTERS_AT_MOST = 60  # steps that are lettered: more would not be read


def heat_map(
    of: Trace | LayerTrace,
    symbol: str,
    layer: int = -1,
    ax: Axes | None = None,
    units: Sequence[int] | NDArray[np.intp] | None = None,
) -> Axes:
    """A symbol of a layer, units by steps.

    Parameters
    ----------
    of : Trace or LayerTrace
        Of one sequence.
    symbol : str
        Such as ``f``, ``c``, ``d_c``, or ``z_f`` for the forget gate's rows of z.
    layer : int
        Of a Trace; from the end if it is negative.
    ax : matplotlib.axes.Axes, optional
        To draw on; without it a new figure's.
    units : sequence of int, optional
        Which, from above; without it all, by the step at which their cell is largest, so that what is written early is
        on top.

    Returns
    -------
    matplotlib.axes.Axes
    """
    found = layer_of(of, layer)
    drawn = heat_map_of(found, symbol, chosen(found, units))
    ax = axes_or_new(ax, min(16, 3.4 + 0.22 * found.T), min(10, 1.4 + 0.11 * len(drawn.rows)))
    image = ax.imshow(drawn.values, aspect="auto", interpolation="nearest", **colors_of(drawn.scale))
    color_bar(image, ax)
    purpose = f"\n{PURPOSES[symbol]}" if symbol in PURPOSES else ""
    name = "\n".join(wrap(name_of(symbol), 24))
    _named(ax, f"{name} {written(symbol)}{purpose}")
    clean(ax, grid=False)
    _number_rows(ax, drawn.rows)
    steps_below(ax, found.T)
    return ax


def written(symbol: str) -> str:
    """As a formula: ``d_f`` is ∂L/∂f, ``z_f`` has an index."""
    if symbol.startswith("d_"):
        return rf"$\partial L/\partial {written(symbol[2:]).strip('$')}$"
    stem, _, of = symbol.partition("_")
    known = {"tanh_c": r"\tanh c", "h_prev": "h_{t-1}", "c_prev": "c_{t-1}", "x": "x_t"}
    return f"${known.get(symbol, f'{stem}_{of}' if of else stem)}$"


def row_of_steps(ax: Axes, rows: Sequence[Row], label: str) -> Axes:
    """Rows of the input or the output, with what is written at each step; wrong answers in red."""
    values = np.array([row.values for row in rows], np.float64)
    T, bits = values.shape[1], any(row.bits for row in rows)
    if bits:
        low = -0.3 if values[np.isfinite(values)].min(initial=0) >= 0 else -1.6
        options: dict[str, Any] = {"cmap": "Greys", "vmin": low, "vmax": 1.2 if low == -0.3 else 1.4}
    elif rows[0].texts is not None and len(rows) == 1:
        options = {"cmap": "Greys", "vmin": 0.0, "vmax": 1.5}
    else:
        options = colors_of(scale_of("x", values))
    ax.imshow(values, aspect="auto", interpolation="nearest", **options)
    for k, row in enumerate(rows):
        if T <= LETTERS_AT_MOST or bits:
            _letter(ax, k, row)
    ax.set_xlim(-0.5, T - 0.5)
    ax.set_yticks(range(len(rows)), [plain(row.name) for row in rows])
    if len(rows) > 8:  # of many features the names would lie on each other
        ax.set_yticks([0, len(rows) - 1], [plain(rows[0].name), plain(rows[-1].name)])
    _named(ax, label)
    clean(ax, grid=False)
    if [row.name for row in rows] == [label]:
        ax.set_yticks([])
    return ax


def _letter(ax: Axes, k: int, row: Row) -> None:
    wrong = np.zeros(len(row.values), np.bool_) if row.wrong is None else row.wrong
    for t, text in enumerate(row.texts or ()):
        if not text:
            continue
        dark = row.values[t] > (0.5 if row.wrong is not None else 0)
        color = WRONG if wrong[t] else "white" if dark else INK
        ax.text(t, k, plain(printable(text)), ha="center", va="center", fontsize=9, color=color)


def _named(ax: Axes, label: str) -> None:
    ax.set_ylabel(label, rotation=0, ha="right", va="center", color=INK)


def _number_rows(ax: Axes, rows: NDArray[np.intp]) -> None:
    """The numbers of the units, where there is room for them; otherwise how many there are."""
    if len(rows) > NUMBERED_AT_MOST:
        ax.set_yticks([0, len(rows) - 1], ["first", "last"])
        ax.set_ylabel(f"{ax.get_ylabel()}\n{len(rows)} units")
        return
    ax.set_yticks(range(len(rows)), [str(row) for row in rows])
    ax.tick_params(axis="y", length=0, labelsize=8 if len(rows) <= 12 else 6)
