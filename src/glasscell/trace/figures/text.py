"""Text with one background color per character."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from glasscell.core.types import Array
from glasscell.trace.display import ColorScale, escape_control_characters
from glasscell.trace.figures.style import INK, color_bar, colors_of, escape_mathtext, get_axes, style_axes
from glasscell.validation import finite_array, positive_integer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_COLUMNS = 64  # characters per line


def colored_text(
    values: ArrayLike, text: str | Sequence[str], ax: Axes | None = None, width: int = MAX_COLUMNS
) -> Axes:
    """Draw text on the colors of a unit's values, as in figure 2 of Karpathy et al. (2015).

    Parameters
    ----------
    values : array (T,)
        Such as ``trace.unit(3).tanh_c`` or ``trace.unit(3).f``. The color scale is that of gates if all values are
        from 0 to 1, otherwise diverging: blue below zero, red above zero.
    text : str, or sequence of str
        T characters, or T words; a newline ends the line.
    ax : matplotlib.axes.Axes, optional
    width : int
        Characters per line; longer text is wrapped.

    Returns
    -------
    matplotlib.axes.Axes
    """
    numbers, tokens = finite_array("values", values, np.dtype(np.float64)), list(text)
    positive_integer("width", width)
    if numbers.ndim != 1 or len(numbers) != len(tokens) or not tokens:
        raise ValueError(
            f"values must have shape (T,) with T ≥ 1, T the number of characters, got {numbers.shape} for {len(tokens)}"
        )
    positions = _positions(tokens, width)
    lines = 1 + max((line for line, _, _ in positions), default=0)
    columns = max((start + length for _, start, length in positions), default=1)
    grid = np.full((lines, columns), np.nan)
    for (line, start, length), number in zip(positions, numbers, strict=True):
        grid[line, start : start + length] = number
    scale = _scale(numbers)
    ax = get_axes(ax, 1.4 + 0.13 * columns, 0.5 + 0.24 * lines)
    image = ax.imshow(grid, aspect="auto", interpolation="nearest", **colors_of(scale))
    for (line, start, length), token, number in zip(positions, tokens, numbers, strict=True):
        light = image.cmap(image.norm(number))[:3] @ np.array([0.2126, 0.7152, 0.0722]) > 0.45
        ink = INK if light else "white"
        middle = start + (length - 1) / 2
        ax.text(
            middle,
            line,
            escape_mathtext(escape_control_characters(token)),
            ha="center",
            va="center",
            family="monospace",
            fontsize=9,
            color=ink,
        )
    color_bar(image, ax)
    style_axes(ax, grid=False)
    ax.set_xticks([])
    ax.set_yticks([])
    return ax


def _positions(tokens: Sequence[str], width: int) -> list[tuple[int, int, int]]:
    """Return the line, the first column and the number of columns of each token."""
    positions, line, column = list[tuple[int, int, int]](), 0, 0
    for word in tokens:
        length = max(1, len(word))
        if column and column + length > width:
            line, column = line + 1, 0
        positions.append((line, column, length))
        column += length
        if word == "\n":
            line, column = line + 1, 0
    return positions


def _scale(numbers: Array) -> ColorScale:
    if numbers.size and numbers.min() >= 0 and numbers.max() <= 1:
        return ColorScale(0.0, 1.0, "sequential")
    limit = max(1.0, float(np.abs(numbers).max(initial=0)))
    return ColorScale(-limit, limit, "diverging")
