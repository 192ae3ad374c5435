"""Write the frames of a trace recorder as one HTML page with a slider over updates.

The values of a symbol are one byte each, base64 of frames × rows × T: 0 for the low end of the symbol's range in that
frame, 255 for the high end.
"""

from __future__ import annotations

import html
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import numpy as np

from glasscell.escaping import escape
from glasscell.pages import render_page, script_json
from glasscell.trace.colormaps import STOPS
from glasscell.trace.display import symbol_name
from glasscell.trace.terminal import summary

if TYPE_CHECKING:
    from glasscell.training.trace_recorder.frames import Frame, RecordedFrames

BYTES = 2_000_000  # of numbers, before base64: with the page itself it stays below 3 MB
DIGITS = 7  # bytes of a number that is written in digits
NORMS = ("c", "output", "cell", "recurrent")
FRAMES = 24  # for which units and steps are rather summarised than moments left out


def page(recorder: RecordedFrames) -> str:
    """Return the page. All text is escaped: the page displays markup in a title as text."""
    return render_page("film", title=html.escape(escape(recorder.title)), payload=script_json(payload(recorder)))


def payload(recorder: RecordedFrames) -> dict[str, Any]:
    """What the script is given."""
    frames, block, notes = _fitting(recorder)
    return {
        "notes": notes,
        "updates": [frame.update for frame in frames],
        "losses": [None if frame.loss is None else _short(frame.loss) for frame in frames],
        "norms": {name: [_shorts(frame.norms[name]) for frame in frames] for name in NORMS if name in frames[0].norms},
        "units": [int(unit) for unit in recorder.units],
        "block": block,
        "steps": len(next(iter(frames[0].values.values()))),
        "colors": {kind: stops.split() for kind, stops in STOPS.items()},
        "maps": [_map(recorder, symbol, frames, block) for symbol in recorder.symbols],
    }


def _fitting(recorder: RecordedFrames) -> tuple[list[Frame], int, list[str]]:
    """As many frames as fit; if they are too few, means of square blocks of their numbers; and what to say of it."""
    frames, notes = recorder.frames, []
    numbers = sum(values.size for values in frames[0].values.values())
    block = int(np.ceil(np.sqrt(numbers * min(FRAMES, len(frames)) / BYTES)))
    if block > 1:
        notes.append(
            f"There are too many numbers for one page: each that is shown is the mean of {block} units and steps."
        )
    written = DIGITS * sum(norm.size for norm in frames[0].norms.values())
    number = max(2, int(BYTES / (numbers / block**2 + written)))
    if number < len(frames):
        notes.append(f"Of {len(frames)} moments that were recorded {number} are shown.")
        frames = [frames[k] for k in np.linspace(0, len(frames) - 1, number).round().astype(int)]
    return frames, block, notes


def _map(recorder: RecordedFrames, symbol: str, frames: list[Frame], block: int) -> dict[str, Any]:
    """A symbol in every frame."""
    drawn = [summary(recorder.values_for_display(frame, symbol), block, block) for frame in frames]
    scales = [recorder.scale(symbol, frame) for frame in frames]
    shares = np.array([scale.share(values) for scale, values in zip(scales, drawn, strict=True)])
    return {
        "symbol": symbol,
        "name": symbol_name(symbol),
        "rows": shares.shape[1],
        "steps": shares.shape[2],
        "of_units": recorder.rows_are_units(symbol),
        "kind": scales[-1].kind,
        "ranges": [_shorts(scale[:2]) for scale in scales],
        "data": b64encode((shares * 255).round().astype(np.uint8).tobytes()).decode("ascii"),
    }


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def _shorts(values: Any) -> list[float]:
    return [_short(value) for value in values]
