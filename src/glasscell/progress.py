"""How far training is, on standard error: a bar on a terminal, plain lines elsewhere."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeAlias

Show: TypeAlias = Callable[[Mapping[str, float]], None]
"""Given the row of each update."""

LINES = 30  # about so many plain lines in all


@contextmanager
def silent() -> Iterator[Show]:
    """No progress."""
    yield lambda _: None


@contextmanager
def shown(steps: int) -> Iterator[Show]:
    """A bar if standard error is a terminal and tqdm is installed, else a line now and then."""
    try:
        from tqdm import tqdm  # noqa: PLC0415 - optional
    except ImportError:
        tqdm = None
    if tqdm is None or not sys.stderr.isatty():
        yield from _lines(steps)
        return
    with tqdm(total=steps, unit=" updates", leave=True) as bar:

        def show(row: Mapping[str, float]) -> None:
            scores = _scores(row)
            if scores:
                bar.set_postfix_str(scores, refresh=False)
            bar.update()

        yield show


def _lines(steps: int) -> Iterator[Show]:
    last: dict[str, float] = {}
    printed = 0.0

    def show(row: Mapping[str, float]) -> None:
        nonlocal last, printed
        last = {"loss": row["loss"]} | {name: last[name] for name in last if name != "loss"} | dict(row)
        if row["update"] % max(1, steps // LINES) == 0:
            write()

    def write() -> None:
        nonlocal printed
        printed = last["update"]
        update = f"{int(printed):>{len(str(steps))}}"
        sys.stderr.write(f"update {update} of {steps}   {_scores(last)}\n")
        sys.stderr.flush()

    yield show
    if last and printed != last["update"]:
        write()


def _scores(row: Mapping[str, float]) -> str:
    names = {name: name.removeprefix("validation_") for name in row if name.startswith("validation_")}
    return "   ".join(f"{short} {row[name]:.4f}" for name, short in names.items())
