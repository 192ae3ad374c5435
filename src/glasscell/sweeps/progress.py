"""Progress of a sweep on standard error: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeAlias

from glasscell.escaping import escape
from glasscell.sweeps.rows import Row
from glasscell.training.progress import NUM_LINES, duration

RowReporter: TypeAlias = Callable[[Row], None]
MAX_TEXT = 120  # characters of the description of a row


@contextmanager
def row_progress(done: int, total: int) -> Iterator[RowReporter]:
    """Show a bar if standard error is a terminal and tqdm is installed, otherwise about 30 lines and all failures.

    An error of the display does not end the sweep.

    Parameters
    ----------
    done : int
        Runs that a file had before.
    total : int
        All runs.
    """
    bar = None
    with suppress(Exception):
        bar = _bar(done, total)
    report = _Lines(done, total) if bar is None else _on_bar(bar)

    def guarded(row: Row) -> None:
        with suppress(Exception):  # a closed terminal, or an error of tqdm
            report(row)

    try:
        yield guarded
    finally:
        with suppress(Exception):
            if bar is not None:
                bar.close()


def _bar(done: int, total: int) -> Any:
    """Return a bar of tqdm, or None."""
    if not sys.stderr.isatty():
        return None
    from tqdm import tqdm  # noqa: PLC0415 - optional

    return tqdm(total=total, initial=done, unit=" runs")


def _on_bar(bar: Any) -> RowReporter:
    failed = 0

    def report(row: Row) -> None:
        nonlocal failed
        failed += row["status"] == "failed"
        bar.set_postfix_str(f"{failed} failed" if failed else "", refresh=False)
        bar.update()

    return report


class _Lines:
    """Reporter that writes a line for some rows, and for each failure."""

    def __init__(self, done: int, total: int) -> None:
        self._before, self._done, self._total = done, done, total
        self._start, self._next = time.monotonic(), float(done)

    def __call__(self, row: Row) -> None:
        self._done += 1
        if self._done < self._next and self._done < self._total and row["status"] == "finished":
            return
        self._next = self._done + self._total / NUM_LINES
        rate = (self._done - self._before) / max(time.monotonic() - self._start, 1e-9)
        left = duration((self._total - self._done) / rate)
        sys.stderr.write(
            f"run {self._done:>{len(str(self._total))}} of {self._total}   {describe(row)}   {left} left\n"
        )
        sys.stderr.flush()


def describe(row: Row) -> str:
    """Return setting, seed, and scores or error of a row in one line."""
    setting = [f"{name} {value}" for name, value in row["setting"].items()]
    scores = [
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in row["scores"].items()
    ]
    text = ", ".join([*setting, f"seed {row['seed']}: "]) + (row["error"] or ", ".join(scores))
    text = escape(" ".join(text.split()))
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"
