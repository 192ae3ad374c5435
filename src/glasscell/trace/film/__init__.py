"""The film of a training as one page of HTML: a slider over updates, and what a layer did at each.

``page.html``, ``style.css`` and ``film.js`` are put together here; the script is given, as JSON, numbers of one byte,
0 for the low end of a symbol's range in that frame and 255 for the high one, in base64: frames × rows × T.
"""

from __future__ import annotations

import html
import re
from base64 import b64encode
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

from glasscell.trace.colors import STOPS
from glasscell.trace.report import script_json
from glasscell.trace.shown import name_of

if TYPE_CHECKING:
    from glasscell.trace.recorder import Recorder


def page(recorder: Recorder) -> str:
    """The whole page; all text is escaped: markup in a title is shown, not obeyed."""
    parts = {"title": html.escape(recorder.title), "style": _text("style.css"), "script": _text("film.js")}
    parts |= {"payload": script_json(payload(recorder))}
    # One pass: what is put in is not searched again.
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _text("page.html"))


def payload(recorder: Recorder) -> dict[str, Any]:
    """What the script is given."""
    frames = recorder.frames
    return {
        "updates": [frame.update for frame in frames],
        "losses": [None if frame.loss is None else _short(frame.loss) for frame in frames],
        "norms": {name: [_shorts(frame.norms[name]) for frame in frames] for name in frames[0].norms},
        "units": [int(unit) for unit in recorder.units],
        "colors": {kind: stops.split() for kind, stops in STOPS.items()},
        "maps": [_map(recorder, symbol) for symbol in recorder.symbols],
    }


def _map(recorder: Recorder, symbol: str) -> dict[str, Any]:
    """A symbol in every frame."""
    drawn = [recorder.drawn(frame, symbol) for frame in recorder.frames]
    scales = [recorder.scale(symbol, frame) for frame in recorder.frames]
    shares = np.array([scale.share(values) for scale, values in zip(scales, drawn, strict=True)])
    return {
        "symbol": symbol,
        "name": name_of(symbol),
        "rows": shares.shape[1],
        "steps": shares.shape[2],
        "of_units": recorder.of_units(symbol),
        "kind": scales[-1].kind,
        "ranges": [_shorts(scale[:2]) for scale in scales],
        "data": b64encode((shares * 255).round().astype(np.uint8).tobytes()).decode("ascii"),
    }


def _text(name: str) -> str:
    return (files("glasscell.trace") / "film" / name).read_text(encoding="utf-8")


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def _shorts(values: Any) -> list[float]:
    return [_short(value) for value in values]
