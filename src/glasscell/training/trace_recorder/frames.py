"""Frames of a trace recorder, and their display in figures and reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glasscell.core.types import Array
from glasscell.trace.display import ColorScale, StepMarks, scale_of


@dataclass(frozen=True)
class Frame:
    """Traced values after one update of training; arrays of float32, read only.

    Attributes
    ----------
    update : int
        Number of updates; 0 before training.
    loss : float, optional
        On the traced input; None without a target.
    outputs : array (T, O)
    values : dict of str to array (T, rows)
        By symbol.
    norms : dict of str to array (T,)
        Of the gradient on ``c``, or ``h`` of an RNN or a GRU, and on ``x``; ``output``, ``cell`` and ``recurrent`` are
        the parts of the gradient on c, if they are defined. Empty without a target.
    ranges : dict of str to (float, float)
        Minimum and maximum of each symbol.
    """

    update: int
    loss: float | None
    outputs: Array
    values: dict[str, Array]
    norms: dict[str, Array]
    ranges: dict[str, tuple[float, float]]

    @property
    def caption(self) -> str:
        """Return the update and the loss."""
        return f"update {self.update}" + ("" if self.loss is None else f", loss {self.loss:.3g}")


class RecordedFrames:
    """The frames of a training run, with the order of units and the color ranges for display."""

    symbols: Sequence[str]
    frames: list[Frame]
    _metadata: dict[str, Any]
    symbol_names: Mapping[str, str]  # different from those of an LSTM
    marks: StepMarks  # of the last trace
    _order: NDArray[np.intp]

    @property
    def title(self) -> str:
        """Return the title of the last trace."""
        return str(self._metadata.get("title", "An LSTM"))

    @property
    def units(self) -> NDArray[np.intp]:
        """Return all units, ordered by the step at which their cell is largest in the last frame."""
        self._existing_frames()
        return self._order

    def scale(self, symbol: str, frame: Frame) -> ColorScale:
        """Return the color range of a symbol: over all frames; for gradients over this one, since they shrink."""
        frames = [frame] if symbol.startswith("d_") else self._existing_frames()
        return scale_of(symbol, np.array([frame.ranges[symbol] for frame in frames]))

    def _existing_frames(self) -> list[Frame]:
        if not self.frames:
            raise ValueError(
                "recorder must have a frame: use gc.fit(…, callbacks=[recorder]) or recorder.capture_frame(model)"
            )
        return self.frames

    def rows_are_units(self, symbol: str) -> bool:
        """Return whether the rows of a symbol are the units: not those of x, a projection, or all of z."""
        return symbol not in ("x", "d_x") and self._existing_frames()[0].values[symbol].shape[1] == len(self._order)

    def values_for_display(self, frame: Frame, symbol: str) -> Array:
        """Return the values of a symbol as figures show them, (rows, T)."""
        values = frame.values[symbol].T
        return values[self._order] if self.rows_are_units(symbol) else values
