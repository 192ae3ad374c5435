"""The film of a training as one page of HTML: a slider over updates, and what a layer did at each.

``page.html``, ``style.css`` and ``film.js`` are put together here; the script is given, as JSON, numbers of one byte,
0 for the low end of a symbol's range and 255 for the high one, in base64: frames × rows × T.
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
    shown = {symbol: np.array([recorder.drawn(frame, symbol) for frame in frames]) for symbol in recorder.symbols}
    return {
        "updates": [frame.update for frame in frames],
        "losses": [None if frame.loss is None else _short(frame.loss) for frame in frames],
        "norms": {name: [_shorts(frame.norms[name]) for frame in frames] for name in frames[0].norms},
        "units": [int(unit) for unit in recorder.units],
        "colors": STOPS,
        "maps": [
            {
                "symbol": symbol,
                "name": name_of(symbol),
                "rows": values.shape[1],
                "steps": values.shape[2],
                "of_units": recorder.of_units(symbol),
                "scale": {"low": scale.low, "high": scale.high, "kind": scale.kind},
                "data": b64encode((scale.share(values) * 255).round().astype(np.uint8).tobytes()).decode("ascii"),
            }
            for symbol, values in shown.items()
            for scale in (recorder.scale(symbol),)
        ],
    }


def _text(name: str) -> str:
    return (files("glasscell.trace") / "film" / name).read_text(encoding="utf-8")


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def _shorts(values: Any) -> list[float]:
    return [_short(value) for value in values]
