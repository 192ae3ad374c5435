"""How far training is, on standard error: a bar on a terminal, plain lines elsewhere."""

import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TypeAlias

ProgressReporter: TypeAlias = Callable[[Mapping[str, float]], None]
"""Given the row of each update."""

LINES = 30  # plain lines in all, about
BAR = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{postfix}"


@contextmanager
def no_progress() -> Iterator[ProgressReporter]:
    """No progress."""
    yield lambda _: None


@contextmanager
def progress_bar(updates: int | None) -> Iterator[ProgressReporter]:
    """Show a bar if standard error is a terminal and tqdm is installed, else a line now and then.

    `updates` is how many there will be; None: unknown.

    What cannot be shown ends no training: after a first error nothing more is shown.
    """
    display = _display(updates)
    show: ProgressReporter | None = None
    with suppress(Exception):
        show = next(display)

    def guarded(row: Mapping[str, float]) -> None:
        nonlocal show
        if show is not None:
            try:
                show(row)
            except Exception:  # noqa: BLE001 - of a terminal that is gone, or of tqdm
                show = None

    try:
        yield guarded
    except BaseException:
        with suppress(Exception):
            display.close()
        raise
    with suppress(Exception):
        if show is None:
            display.close()
        else:
            next(display, None)


def _display(updates: int | None) -> Generator[ProgressReporter, None, None]:
    try:
        from tqdm import tqdm  # noqa: PLC0415 - optional
    except Exception:  # noqa: BLE001 - not installed, or broken
        tqdm = None
    if tqdm is None or not sys.stderr.isatty():
        yield from _log_lines(updates)
        return
    with tqdm(total=updates, bar_format=BAR if updates else None) as bar:

        def show(row: Mapping[str, float]) -> None:
            scores = _scores(row)
            if scores:
                bar.set_postfix_str(_format(row, scores), refresh=False)
            bar.update()

        yield show


def _log_lines(updates: int | None) -> Generator[ProgressReporter, None, None]:
    last: Mapping[str, float] = {}
    scores: dict[str, float] = {}
    printed, due = 0.0, 0.0

    def write() -> None:
        nonlocal printed, due
        printed, due = last["update"], last["update"] + (updates or 0) / LINES
        number = f"{int(printed)}" if updates is None else f"{int(printed):>{len(str(updates))}} of {updates}"
        sys.stderr.write(f"update {number}   {_format(last, scores)}\n")
        sys.stderr.flush()

    def show(row: Mapping[str, float]) -> None:
        nonlocal last, scores
        last, scores = row, _scores(row) or scores
        if _scores(row) and row["update"] >= due:
            write()

    yield show
    if last and printed != last["update"]:
        write()


def _scores(row: Mapping[str, float]) -> dict[str, float]:
    return {name.removeprefix("validation_"): row[name] for name in row if name.startswith("validation_")}


def _format(row: Mapping[str, float], scores: Mapping[str, float]) -> str:
    return "   ".join(f"{name} {value:.4f}" for name, value in {"batch loss": row["loss"], **scores}.items())
