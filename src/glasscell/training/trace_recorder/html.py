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
from glasscell.trace.display import block_means, symbol_name

if TYPE_CHECKING:
    from glasscell.training.trace_recorder.frames import Frame, RecordedFrames

MAX_BYTES = 2_000_000  # of values, before base64: the page is smaller than 3 MB
NUMBER_BYTES = 7  # of a number in decimal digits
NORMS = ("c", "output", "cell", "recurrent")
MIN_FRAMES = 24  # below this number blocks are averaged rather than frames omitted


def page(recorder: RecordedFrames) -> str:
    """Return the page. All text is escaped: the page displays markup in a title as text."""
    return render_page("film", title=html.escape(escape(recorder.title)), payload=script_json(payload(recorder)))


def payload(recorder: RecordedFrames) -> dict[str, Any]:
    """Return the data of the page's script."""
    frames, block, notes = _fit_to_size(recorder)
    return {
        "notes": notes,
        "updates": [frame.update for frame in frames],
        "losses": [None if frame.loss is None else _short(frame.loss) for frame in frames],
        "norms": {name: [_shorts(frame.norms[name]) for frame in frames] for name in NORMS if name in frames[0].norms},
        "units": [int(unit) for unit in recorder.units],
        "block": block,
        "marks": {"texts": recorder.marks.texts, "delimiters": recorder.marks.delimiters},
        "steps": len(next(iter(frames[0].values.values()))),
        "colors": {kind: stops.split() for kind, stops in STOPS.items()},
        "maps": [_map(recorder, symbol, frames, block) for symbol in recorder.symbols],
    }


def _fit_to_size(recorder: RecordedFrames) -> tuple[list[Frame], int, list[str]]:
    """Return the frames that fit, the size of the averaged blocks, and notes for the page."""
    frames, notes = recorder.frames, []
    numbers = sum(values.size for values in frames[0].values.values())
    block = int(np.ceil(np.sqrt(numbers * min(MIN_FRAMES, len(frames)) / MAX_BYTES)))
    if block > 1:
        notes.append(f"Each value is the mean of {block} units and {block} steps.")
    norm_bytes = NUMBER_BYTES * sum(norm.size for norm in frames[0].norms.values())
    number = max(2, int(MAX_BYTES / (numbers / block**2 + norm_bytes)))
    if number < len(frames):
        notes.append(f"{number} of {len(frames)} recorded frames are shown.")
        frames = [frames[k] for k in np.linspace(0, len(frames) - 1, number).round().astype(int)]
    return frames, block, notes


def _map(recorder: RecordedFrames, symbol: str, frames: list[Frame], block: int) -> dict[str, Any]:
    """Return the data of a symbol in every frame."""
    values = [block_means(recorder.values_for_display(frame, symbol), block, block) for frame in frames]
    scales = [recorder.scale(symbol, frame) for frame in frames]
    shares = np.array([scale.share(v) for scale, v in zip(scales, values, strict=True)])
    return {
        "symbol": symbol,
        "name": symbol_name(symbol, recorder.symbol_names),
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
