"""Markdown of results: a row of the table, the section of an experiment, and the page docs/papers.md.

python -m glasscell.papers.page docs/papers docs/papers.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from glasscell.atomic_files import write_atomically
from glasscell.papers.registry import EXPERIMENTS
from glasscell.papers.reproduction import Reproduction

COLUMNS = ("experiment", "paper", "here", "seeds", "criterion", "minutes", "processor minutes")
INTRODUCTION = """\
# Experiments of the papers, run again

This page is generated from docs/papers/*.json by `make papers-page`; each of these files is the result of
`glasscell reproduce NAME`, with one row for every seed.

    glasscell reproduce --list                     # all experiments
    glasscell reproduce adding-100                 # one: files in runs/papers
    glasscell reproduce --all --quick              # all, with fewer seeds and smaller sizes: 142 s on 2 cores
    glasscell reproduce jsb-chorales --data FOLDER # your data: FOLDER/music/JSB_Chorales.npz

Seeds are 0, 1, …; `--seeds N` sets their number, `--processes N` runs several at a time. The folder of `--out` (default
`runs/papers`) gets NAME.jsonl with one row per training as it ends, NAME.json and NAME.md; a quick run writes
NAME-quick.jsonl and so on. After an interruption, repeat the command with `--continue`: it keeps the rows and adds the
others. The repository has no data: `--data` names a folder, and `--list` prints which files it must contain;
`src/glasscell/papers/music.py` describes those of music. A name that does not exist is an error that lists the nearest
ones. The exit status is 1 if a criterion is missed or a training fails; quick runs decide no criterion.

What is reproduced is the *claim* of a paper: which task is solved, and after about how much training. The set-up
differs from that of the paper in the ways that each section states: the numbers do not show which method is better.
Settings are those of the code in `src/glasscell/papers/`, the same for all seeds. If they were chosen at all, it was on
seeds from 100, or for music by the validation loss; a section states exceptions. A missed criterion is in bold.
`minutes` is the time of all seeds, one after the other, on a machine with other work; `processor minutes` is the time
of the processor.
"""


def table(results: Iterable[Reproduction]) -> str:
    """Return a table with one row for each result."""
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{' --- |' * len(COLUMNS)}"]
    for result in results:
        quick = " (quick)" if result.quick else ""
        figure = result.figure or "no seed finished"
        verdict = f"**{result.verdict}**" if result.met is False else result.verdict
        minutes = ["" if number is None else f"{number:.1f}" for number in (result.minutes, result.processor_minutes)]
        cells = [f"{result.name}{quick}", result.paper_figure, figure, str(result.seeds), verdict, *minutes]
        lines.append(f"| {' | '.join(_cell(cell) for cell in cells)} |")
    return "\n".join(lines) + "\n"


def section(result: Reproduction) -> str:
    """Return the section of an experiment: claim, figures, criterion, and differences of the set-up."""
    lines = [f"## {result.name}", "", f"{result.paper}: {result.claim}.", "", f"    {result.command}", ""]
    lines += [f"- Paper: {result.paper_figure}.", f"- Here: {result.figure or 'no seed finished'}."]
    lines += [f"- Criterion: {result.criterion}. **{result.verdict.capitalize()}**."]
    lines += [f"- Quick run: {result.quick}."] if result.quick else []
    lines += [f"- {result.failures} of {len(result.rows)} trainings ended with an error."] if result.failures else []
    remark = f"On the full run of docs/papers: {result.remark}" if result.quick else result.remark
    lines += [f"- {remark}"] if result.remark else []
    lines += ["- Differences from the paper:", *(f"  - {difference}" for difference in result.differences)]
    return "\n".join(lines) + "\n"


def page(results: Sequence[Reproduction]) -> str:
    """Return the whole page; experiments without a result are named at its end."""
    order = list(EXPERIMENTS)
    results = sorted(results, key=lambda result: order.index(result.name))
    parts = [INTRODUCTION, table(results), *map(section, results)]
    missing = [name for name in order if name not in {result.name for result in results}]
    if missing:
        lines = [f"- {name}. {EXPERIMENTS[name].remark}".rstrip() for name in missing]
        parts.append("\n".join(["## Without a result", "", "Not run in full yet:", "", *lines]) + "\n")
    return "\n".join(parts)


def read_folder(folder: Path) -> list[Reproduction]:
    """Read all results of a folder."""
    return [Reproduction.read(path) for path in sorted(folder.glob("*.json"))]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    write_atomically(sys.argv[2], page(read_folder(Path(sys.argv[1]))).encode())
