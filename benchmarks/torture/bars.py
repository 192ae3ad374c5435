"""The lines that every script prints: bars, their figures and whether they hold."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Bar(NamedTuple):
    """One measured promise.

    Attributes
    ----------
    name : str
        What is measured, with the number of trials.
    figure : str
        The measured value.
    bound : str
        The promised one.
    held : bool
    """

    name: str
    figure: str
    bound: str
    held: bool


def report(bars: Iterable[Bar]) -> int:
    """Print one line per bar; return the exit code, 1 if one of them is missed."""
    missed = False
    for bar in bars:
        missed = missed or not bar.held
        print("|", " | ".join((*bar[:3], "yes" if bar.held else "NO")).replace("\n", " "), "|", flush=True)
    return int(missed)
