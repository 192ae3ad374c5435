"""What the commands print alike."""

import sys
from collections.abc import Iterable


def mark(*, right: bool) -> str:
    """✓ or ✗, where the terminal can show them."""
    marks = ("✓", "✗")
    try:
        "".join(marks).encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        marks = ("yes", "NO")
    return marks[0] if right else marks[1]


def spaced(bits: Iterable[int]) -> str:
    """0 0 0 1 1 0 0 1."""
    return " ".join(map(str, bits))
