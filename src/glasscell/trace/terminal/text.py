"""Text in the columns of a terminal, and what its encoding and its colors support."""

from __future__ import annotations

import os
import sys
import unicodedata
from typing import Literal

ColorDepth = Literal["24 bit", "256"]

UPPER_HALF_BLOCK = "▀"
DRAWING_CHARACTERS = UPPER_HALF_BLOCK + "▁▂▃▄▅▆▇█·‖∂−×"


def color_depth(color: bool | None) -> ColorDepth | None:
    """Return the number of colors to use, None for ASCII.

    Parameters
    ----------
    color : bool, optional
        Default: if standard output is a terminal with colors and ``NO_COLOR`` is not set, or empty.
    """
    true_color = os.environ.get("COLORTERM") in ("truecolor", "24bit")
    if color is None:
        terminal = os.environ.get("TERM", "")
        color = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and terminal != "dumb"
        color = color and (true_color or "256" in terminal)
    if not color or not is_encodable(DRAWING_CHARACTERS):
        return None
    return "24 bit" if true_color else "256"


def is_encodable(characters: str) -> bool:
    """Return whether the encoding of standard output has all of these characters."""
    try:
        characters.encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def writable(text: str) -> str:
    """Return the text with question marks, of the same width, for characters that cannot be encoded."""
    if is_encodable(text):
        return text
    return "".join(c if is_encodable(c) else "?" * text_width(c) for c in text)


def text_width(text: str) -> int:
    """Return the number of columns of a text: combining characters have 0, wide characters 2."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in ("W", "F") else 1 for c in text
    )


def truncate(text: str, width: int) -> str:
    """Return the beginning of a text, padded with spaces to a number of columns."""
    used = 0
    for k, character in enumerate(text):
        columns = text_width(character)
        if used + columns > width:
            return text[:k] + " " * (width - used)
        used += columns
    return text + " " * (width - used)


def pad(text: str, width: int) -> str:
    """Return a text with spaces before it, right-aligned in a number of columns."""
    return " " * (width - text_width(text)) + text
