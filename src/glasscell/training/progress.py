"""How far training is, on standard error: a bar on a terminal, plain lines elsewhere."""

import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TypeAlias

ProgressReporter: TypeAlias = Callable[[Mapping[str, float]], None]
"""Given the row of each update."""

LINES = 30  # about so many plain lines in all


@contextmanager
def no_progress() -> Iterator[ProgressReporter]:
    """No progress."""
    yield lambda _: None


@contextmanager
def progress_bar(steps: int) -> Iterator[ProgressReporter]:
    """Show a bar if standard error is a terminal and tqdm is installed, else a line now and then.

    What cannot be shown ends no training: after a first error nothing more is shown.
    """
    display = _display(steps)
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


def _display(steps: int) -> Generator[ProgressReporter, None, None]:
    try:
        from tqdm import tqdm  # noqa: PLC0415 - optional
    except Exception:  # noqa: BLE001 - not installed, or broken
        tqdm = None
    if tqdm is None or not sys.stderr.isatty():
        yield from _log_lines(steps)
        return
    with tqdm(total=steps, bar_format="{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{postfix}") as bar:

        def show(row: Mapping[str, float]) -> None:
            scores = _scores(row)
            if scores:
                bar.set_postfix_str(_format(row, scores), refresh=False)
            bar.update()

        yield show


def _log_lines(steps: int) -> Generator[ProgressReporter, None, None]:
    last: Mapping[str, float] = {}
    scores: dict[str, float] = {}
    printed, due = 0.0, 0.0

    def write() -> None:
        nonlocal printed, due
        printed, due = last["update"], last["update"] + steps / LINES
        sys.stderr.write(f"update {int(printed):>{len(str(steps))}} of {steps}   {_format(last, scores)}\n")
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
