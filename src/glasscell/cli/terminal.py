"""Text that several commands print."""

import math
import shlex
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path


def check_mark(*, right: bool) -> str:
    """Return ✓ or ✗, or yes or NO if the encoding does not support them."""
    marks = ("✓", "✗")
    try:
        "".join(marks).encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        marks = ("yes", "NO")
    return marks[0] if right else marks[1]


def program_name() -> str:
    """Return the command that starts this program."""
    name = Path(sys.argv[0]).name
    if name == "__main__.py":
        return "python -m glasscell"
    return "glasscell" if name != "glasscell" or shutil.which(name) else shlex.quote(sys.argv[0])


def counted(number: int, noun: str) -> str:
    """Return a number and its noun: 1 update, 2 updates."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def format_bits(bits: Iterable[int]) -> str:
    """Format bits: 0 0 0 1 1 0 0 1."""
    return " ".join(map(str, bits))


def format_seconds(seconds: float) -> str:
    """Return a duration, such as 4.1 s, 3 min 20 s or 2 h 5 min."""
    if seconds < 60 or not math.isfinite(seconds):
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
