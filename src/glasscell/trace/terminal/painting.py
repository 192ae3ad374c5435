"""Turn values into characters: half blocks in two colors, or ASCII shades."""

from __future__ import annotations

import numpy as np

from glasscell.core.types import Array
from glasscell.trace.colormaps import Colors, rgb, to_xterm256
from glasscell.trace.display import ColorScale, LabelledRow, block_means, escape_control_characters, scale_of
from glasscell.trace.terminal.layout import ASCII_SHADES, Layout
from glasscell.trace.terminal.text import UPPER_HALF_BLOCK, truncate

SIGNED_SHADES = "%=- +*#"  # of diverging scales: horizontal strokes are below zero
RESET, DIM, BOLD, WRONG = "\x1b[0m", "\x1b[2m", "\x1b[1m", "\x1b[1;31m"
FOREGROUND, BACKGROUND, DEFAULT_BACKGROUND = "38", "48", "49"  # SGR codes
LEGEND_COLUMNS = 24


def styled(text: str, style: str, layout: Layout) -> str:
    """Return the text in a style, if the layout has colors and the text is not blank."""
    return f"{style}{text}{RESET}" if layout.depth and text.strip() else text


def paint(grid: Array, scale: ColorScale, layout: Layout) -> list[str]:
    """Return the lines of a heat map (rows, columns)."""
    if layout.depth is None:
        return ["".join(shade * layout.cell for shade in line) for line in shades(grid, scale)]
    colors = rgb(grid, scale)
    pairs = (colors[top : top + 2] for top in range(0, len(grid), 2))
    return ["".join(_half_blocks(pair[:, t], layout) for t in range(grid.shape[1])) + RESET for pair in pairs]


def shades(grid: Array, scale: ColorScale) -> list[list[str]]:
    """Return an ASCII character for each value, from :data:`ASCII_SHADES` or :data:`SIGNED_SHADES`."""
    characters = _shades_of(scale)
    index = np.minimum((scale.share(grid) * len(characters)).astype(np.int64), len(characters) - 1)
    return [[characters[k] for k in line] for line in index]


def _shades_of(scale: ColorScale) -> str:
    return ASCII_SHADES if scale.kind == "sequential" else SIGNED_SHADES


def _half_blocks(pair: Colors, layout: Layout) -> str:
    """Return one cell of two rows: foreground and background color. The last line may have one row."""
    foreground = _color_code(pair[0], FOREGROUND, layout)
    background = _color_code(pair[1], BACKGROUND, layout) if len(pair) == 2 else DEFAULT_BACKGROUND
    return f"\x1b[{foreground};{background}m{UPPER_HALF_BLOCK * layout.cell}"


def _color_code(color: Colors, ground: str, layout: Layout) -> str:
    if layout.depth == "24 bit":
        return f"{ground};2;{';'.join(map(str, color))}"
    return f"{ground};5;{to_xterm256(color)}"


def _spaces_on(color: Colors, layout: Layout) -> str:
    return f"\x1b[{_color_code(color, BACKGROUND, layout)}m "


def paint_texts(row: LabelledRow, layout: Layout) -> str:
    """Return the texts of a row, one per cell; wrong predictions in red."""
    texts = [truncate(escape_control_characters(text), layout.cell) for text in row.texts or ()]
    if layout.depth is None:
        return "".join(text.replace("·", ".") for text in texts)
    wrong = row.wrong if row.wrong is not None else np.zeros(len(texts), np.bool_)
    styles = (WRONG if is_wrong else DIM if t.strip() == "·" else "" for t, is_wrong in zip(texts, wrong, strict=True))
    return "".join(f"{style}{text}{RESET}" if style else text for text, style in zip(texts, styles, strict=True))


def paint_row(row: LabelledRow, layout: Layout) -> str:
    """Return values as one line of colors; blank where all steps of a block are NaN."""
    finite = np.isfinite(row.values)
    values = np.where(finite, row.values, 0)
    sums, counts = (block_means(row_values[None], 1, layout.steps)[0] for row_values in (values, finite))
    means = sums / np.where(counts > 0, counts, 1)
    is_probability = row.texts is not None and bool((row.values[finite] >= 0).all())
    scale = ColorScale(0.0, 1.0, "sequential") if is_probability else scale_of("x", row.values)
    if layout.depth is None:
        cells = [shade if n else " " for shade, n in zip(shades(means[None], scale)[0], counts, strict=True)]
        return "".join(cell * layout.cell for cell in cells)
    cells = [
        _spaces_on(color, layout) if n else f"{RESET} " for color, n in zip(rgb(means, scale), counts, strict=True)
    ]
    return "".join(cell + " " * (layout.cell - 1) for cell in cells) + RESET


def paint_bars(values: Array, layout: Layout) -> str:
    """Return values (T,) as bars from 0 to the largest finite value."""
    means = block_means(values[None], 1, layout.steps)[0]
    largest = float(means[np.isfinite(means)].max(initial=0))
    levels = len(layout.bars)
    index = np.minimum(ColorScale(0, largest or 1, "sequential").share(means) * levels, levels - 1)
    return "".join(layout.bars[int(k)] * layout.cell for k in index)


def scale_legend(scale: ColorScale, layout: Layout) -> str:
    """Return the range of a scale with its colors or characters."""
    low, high = f"{scale.low + 0.0:.2g}", f"{scale.high + 0.0:.2g}"
    if layout.depth is None:
        return f"{low:>5} '{_shades_of(scale)}' {high}, in equal parts"
    grid = np.linspace(scale.low, scale.high, LEGEND_COLUMNS)
    colors = "".join(_spaces_on(color, layout) for color in rgb(grid, scale))
    middle = "" if scale.kind == "sequential" else " (white is 0)"
    return f"{low:>5} {colors}{RESET} {high}{middle}"
