"""Progress of a training on standard error: a bar on a terminal, lines elsewhere."""

import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TypeAlias

ProgressReporter: TypeAlias = Callable[[Mapping[str, float]], None]
"""Called with the history's row of each update."""

NUM_LINES = 30  # about
SECONDS_BETWEEN_LINES = {True: 2.0, False: 15.0}  # while nothing is evaluated: whether the number of updates is known
BAR_FORMAT = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{rate_fmt}, {remaining} left{postfix}]"


@contextmanager
def progress_bar(updates: int | None) -> Iterator[ProgressReporter]:
    """Show a bar if standard error is a terminal and tqdm is installed, otherwise about 30 lines.

    Both have the batch loss, the scores of the last evaluation, the updates per second and the time that is left.

    An error of the display does not end the training: nothing more is shown.

    Parameters
    ----------
    updates : int or None
        Number of updates; None: unknown.
    """
    display = _display(updates)
    report: ProgressReporter | None = None
    with suppress(Exception):
        report = next(display)

    def guarded(row: Mapping[str, float]) -> None:
        nonlocal report
        if report is not None:
            try:
                report(row)
            except Exception:  # noqa: BLE001 - a closed terminal, or an error of tqdm
                report = None

    try:
        yield guarded
    except BaseException:
        with suppress(Exception):
            display.close()
        raise
    with suppress(Exception):
        if report is None:
            display.close()
        else:
            next(display, None)


def _display(updates: int | None) -> Generator[ProgressReporter, None, None]:
    """Yield a reporter; the display is closed with the generator."""
    try:
        from tqdm import tqdm  # noqa: PLC0415 - optional
    except Exception:  # noqa: BLE001 - not installed, or broken
        tqdm = None
    if tqdm is None or not sys.stderr.isatty():
        yield from _log_lines(updates)
        return
    scores: dict[str, float] = {}
    with tqdm(total=updates, bar_format=BAR_FORMAT if updates else None, unit=" updates") as bar:

        def report(row: Mapping[str, float]) -> None:
            nonlocal scores
            if not bar.n:
                bar.initial = bar.n = int(row["update"]) - 1  # of a training that goes on
            scores = _scores(row) or scores
            bar.set_postfix_str(_format(row, scores), refresh=False)
            bar.update()

        yield report


def _log_lines(updates: int | None) -> Generator[ProgressReporter, None, None]:
    """Yield a reporter that writes a line for some evaluations, or some updates, and for the last update."""
    last: Mapping[str, float] = {}
    scores: dict[str, float] = {}
    interval, pause = (updates or 0) / NUM_LINES, SECONDS_BETWEEN_LINES[updates is not None]
    logged, next_line, since, logged_at = 0.0, 0.0, 0.0, time.monotonic()

    def write() -> None:
        nonlocal logged, next_line, since, logged_at
        now, number = time.monotonic(), int(last["update"])
        rate, logged, next_line = (number - since) / max(now - logged_at, 1e-9), number, number + interval
        since, logged_at = number, now
        counted = f"{number}" if updates is None else f"{number:>{len(str(updates))}} of {updates}"
        speed = f"{rate:.3g}" if rate < 1000 else f"{rate:,.0f}"
        left = "" if updates is None else f"   {duration((updates - number) / rate)} left"
        sys.stderr.write(f"update {counted}   {_format(last, scores)}   {speed} updates/s{left}\n")
        sys.stderr.flush()

    def report(row: Mapping[str, float]) -> None:
        nonlocal last, scores, since
        if not last:
            since = row["update"] - 1  # of a training that goes on
        last, update = row, row["update"]
        evaluated = _scores(row)
        scores = evaluated or scores
        if evaluated:
            due = update >= next_line
        else:
            due = not scores and update >= max(next_line, interval) and time.monotonic() - logged_at >= pause
        if due:
            write()

    yield report
    if last and logged != last["update"]:
        write()


def duration(seconds: float) -> str:
    """Return a duration as h:mm:ss, or m:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _scores(row: Mapping[str, float]) -> dict[str, float]:
    return {name.removeprefix("validation_"): row[name] for name in row if name.startswith("validation_")}


def _format(row: Mapping[str, float], scores: Mapping[str, float]) -> str:
    return "   ".join(f"{name} {value:.4f}" for name, value in {"batch loss": row["loss"], **scores}.items())
