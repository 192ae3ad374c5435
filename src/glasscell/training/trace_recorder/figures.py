"""Figures of recorded frames: a strip of heat maps, and an animation."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from glasscell.core.types import Array
from glasscell.trace.display import ColorScale, symbol_name
from glasscell.trace.figures.maps import mathtext, number_rows
from glasscell.trace.figures.style import (
    BLUE,
    INK,
    color_bar,
    colors_of,
    escape_mathtext,
    mark_steps,
    new_figure,
    style_axes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from glasscell.training.trace_recorder.frames import Frame, RecordedFrames


def plot_strip(recorder: RecordedFrames, symbols: Sequence[str], frames: Sequence[Frame]) -> Figure:
    """Plot heat maps with one row per symbol and one column per frame."""
    figure = new_figure(min(20, 1.6 + 1.9 * len(frames)), 0.9 + 1.6 * len(symbols))
    grid = figure.subplots(len(symbols), len(frames), squeeze=False, sharex=True)
    for row, symbol in zip(grid, symbols, strict=True):
        for ax, frame in zip(row, frames, strict=True):
            image = _draw(ax, recorder.values_for_display(frame, symbol), recorder.scale(symbol, frame))
            mark_steps(ax, recorder.marks, texts=False)
            _number_units(ax, recorder, symbol) if ax is row[0] else ax.set_yticks([])
            if symbol.startswith("d_"):
                ax.set_xlabel(f"from {-image.norm.vmax:.1g} to {image.norm.vmax:.1g}", fontsize=7)
        if not symbol.startswith("d_"):
            color_bar(image, list(row))
        row[0].set_ylabel(mathtext(symbol), rotation=0, ha="right", va="center", fontsize=11)
    for ax, frame in zip(grid[0], frames, strict=True):
        ax.set_title(frame.caption, fontsize=8)
    for ax in grid[-1]:
        ax.set_xlabel(f"{ax.get_xlabel()}\nstep".strip(), fontsize=8)
    figure.suptitle(escape_mathtext(recorder.title), fontsize=10)
    return figure


def save_animation(recorder: RecordedFrames, symbol: str, suffix: str, fps: float, dpi: int) -> bytes:
    """Return an animation of a symbol with the loss below it, as the bytes of a file of this kind."""
    frames = recorder.frames
    figure = new_figure(5.6, 4.6)
    from matplotlib.animation import PillowWriter  # noqa: PLC0415 - optional: new_figure raises the error

    top, below = figure.subplots(2, 1, height_ratios=[4, 1])
    image = _draw(top, recorder.values_for_display(frames[0], symbol), recorder.scale(symbol, frames[0]))
    color_bar(image, top)
    mark_steps(top, recorder.marks)
    top.set_ylabel("unit" if recorder.rows_are_units(symbol) else "", fontsize=9)
    _number_units(top, recorder, symbol)
    top.set_xlabel("step", fontsize=9)
    top.set_title(f"{symbol_name(symbol, recorder.symbol_names)} {mathtext(symbol)}", loc="left", fontsize=10, pad=16)
    dot = _draw_losses(below, frames)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"animation{suffix}"
        writer = PillowWriter(fps)  # type: ignore[arg-type] # a float is supported
        with writer.saving(figure, str(path), dpi):
            for frame in frames:
                image.set_data(recorder.values_for_display(frame, symbol))
                image.set_clim(*recorder.scale(symbol, frame)[:2])
                top.set_title(frame.caption, loc="right", fontsize=9, family="monospace", pad=16)
                dot.set_data([frame.update], [np.nan if frame.loss is None else frame.loss])
                writer.grab_frame()
                figure.set_layout_engine("none")  # keep the layout of the first frame
        return path.read_bytes()


def _number_units(ax: Axes, recorder: RecordedFrames, symbol: str) -> None:
    """Label the rows with the numbers of the units; those of a symbol without units have no labels."""
    if recorder.rows_are_units(symbol):
        number_rows(ax, recorder.units)
    else:
        ax.set_yticks([])


def _draw(ax: Axes, values: Array, scale: ColorScale) -> Any:
    image = ax.imshow(values, aspect="auto", interpolation="nearest", **colors_of(scale))
    style_axes(ax, grid=False)
    return image


def _draw_losses(ax: Axes, frames: Sequence[Frame]) -> Any:
    """Plot the loss of every frame, and return a dot that marks the current frame."""
    losses = [np.nan if frame.loss is None else frame.loss for frame in frames]
    ax.plot([frame.update for frame in frames], losses, color=BLUE, lw=1.2)
    [dot] = ax.plot([], [], "o", color=INK, ms=6)
    ax.set_xlabel("update")
    ax.set_ylabel("loss")
    style_axes(ax)
    return dot
