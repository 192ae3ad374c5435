"""Progress of a training on standard error: a bar on a terminal, lines elsewhere."""

import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TypeAlias

ProgressReporter: TypeAlias = Callable[[Mapping[str, float]], None]
"""Called with the history's row of each update."""

NUM_LINES = 30  # about
BAR_FORMAT = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{postfix}"


@contextmanager
def progress_bar(updates: int | None) -> Iterator[ProgressReporter]:
    """Show a bar if standard error is a terminal and tqdm is installed, otherwise about 30 lines.

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
    with tqdm(total=updates, bar_format=BAR_FORMAT if updates else None) as bar:

        def report(row: Mapping[str, float]) -> None:
            scores = _scores(row)
            if scores:
                bar.set_postfix_str(_format(row, scores), refresh=False)
            bar.update()

        yield report


def _log_lines(updates: int | None) -> Generator[ProgressReporter, None, None]:
    """Yield a reporter that writes a line for some evaluations, and for the last update."""
    last: Mapping[str, float] = {}
    scores: dict[str, float] = {}
    logged, next_line = 0.0, 0.0

    def write() -> None:
        nonlocal logged, next_line
        logged, next_line = last["update"], last["update"] + (updates or 0) / NUM_LINES
        number = f"{int(logged)}" if updates is None else f"{int(logged):>{len(str(updates))}} of {updates}"
        sys.stderr.write(f"update {number}   {_format(last, scores)}\n")
        sys.stderr.flush()

    def report(row: Mapping[str, float]) -> None:
        nonlocal last, scores
        last, scores = row, _scores(row) or scores
        if _scores(row) and row["update"] >= next_line:
            write()

    yield report
    if last and logged != last["update"]:
        write()


def _scores(row: Mapping[str, float]) -> dict[str, float]:
    return {name.removeprefix("validation_"): row[name] for name in row if name.startswith("validation_")}


def _format(row: Mapping[str, float], scores: Mapping[str, float]) -> str:
    return "   ".join(f"{name} {value:.4f}" for name, value in {"batch loss": row["loss"], **scores}.items())
