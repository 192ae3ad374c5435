"""Text, each character on the colour of a value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from glasscell.core.types import Array
from glasscell.trace.display import ColorScale, printable
from glasscell.trace.figures.style import INK, color_bar, colors_of, escape_mathtext, get_axes, style_axes
from glasscell.validation import finite_array, positive_integer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDE = 64  # characters in a line


def colored_text(values: ArrayLike, text: str | Sequence[str], ax: Axes | None = None, width: int = WIDE) -> Axes:
    """Text on the colours of a unit's values, as in figure 2 of Karpathy et al. (2015).

    Parameters
    ----------
    values : array (T,)
        Such as ``trace.unit(3).tanh_c``, blue below zero and red above, or ``trace.unit(3).f``. Values from 0 to 1 are
        coloured as gates, others around zero.
    text : str, or sequence of str
        T characters, or T words; a newline ends the line.
    ax : matplotlib.axes.Axes, optional
    width : int
        Columns in a line; text that is longer goes on in the next.

    Returns
    -------
    matplotlib.axes.Axes
    """
    numbers, tokens = finite_array("values", values, np.dtype(np.float64)), list(text)
    positive_integer("width", width)
    if numbers.ndim != 1 or len(numbers) != len(tokens) or not tokens:
        raise ValueError(
            f"values has shape {numbers.shape}, and there are {len(tokens)} characters; expected (T,), one each, T ≥ 1"
        )
    places = _places(tokens, width)
    lines = 1 + max((line for line, _, _ in places), default=0)
    columns = max((start + length for _, start, length in places), default=1)
    grid = np.full((lines, columns), np.nan)
    for (line, start, length), number in zip(places, numbers, strict=True):
        grid[line, start : start + length] = number
    scale = _scale(numbers)
    ax = get_axes(ax, 1.4 + 0.13 * columns, 0.5 + 0.24 * lines)
    image = ax.imshow(grid, aspect="auto", interpolation="nearest", **colors_of(scale))
    for (line, start, length), token, number in zip(places, tokens, numbers, strict=True):
        light = image.cmap(image.norm(number))[:3] @ np.array([0.2126, 0.7152, 0.0722]) > 0.45
        ink = INK if light else "white"
        middle = start + (length - 1) / 2
        ax.text(
            middle,
            line,
            escape_mathtext(printable(token)),
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


def _places(tokens: Sequence[str], width: int) -> list[tuple[int, int, int]]:
    """Line, first column and columns of each token."""
    places, line, column = list[tuple[int, int, int]](), 0, 0
    for word in tokens:
        length = max(1, len(word))
        if column and column + length > width:
            line, column = line + 1, 0
        places.append((line, column, length))
        column += length
        if word == "\n":
            line, column = line + 1, 0
    return places


def _scale(numbers: Array) -> ColorScale:
    if numbers.size and numbers.min() >= 0 and numbers.max() <= 1:
        return ColorScale(0.0, 1.0, "open and shut")
    limit = max(1.0, float(np.abs(numbers).max(initial=0)))
    return ColorScale(-limit, limit, "around zero")
