"""Experiments 2a, 4 and 5 of Hochreiter & Schmidhuber (1997) with the network and the learning rule of the paper."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from glasscell.online import experiments_1997
from glasscell.papers.experiment import Experiment, Outcome, Row, Scores, scores_of

SOURCE = "Hochreiter & Schmidhuber (1997), experiment"
SAME = (
    "None that is known: network, number of weights, initial weights, learning rate, rule, and an update at each step "
    "that has a target, are those of the paper."
)


def train_original(
    seed: int, *, quick: bool, data: Path | None, name: str, max_sequences: int, quick_sequences: int
) -> Scores:
    """Run one of the experiments."""
    del data
    run: Callable[..., Scores] = getattr(experiments_1997, name)
    return run(seed, max_sequences=quick_sequences if quick else max_sequences)


def outcome(rows: Sequence[Row], *, rate: float) -> Outcome:
    """Count the seeds that are solved, which must be at least this fraction."""
    counts = [row["scores"]["sequences"] for row in rows if row["scores"]["solved"]]
    text = f"{len(counts)} of {len(rows)} seeds"
    if counts:
        text += f" after {statistics.fmean(counts):,.0f} sequences on average ({min(counts):,} to {max(counts):,})"
    if wrong := [number for number in scores_of(rows, "wrong") if number is not None]:
        text += f"; {min(wrong)} to {max(wrong)} of 2560 wrong in the test"
    return Outcome(text, len(counts) >= rate * len(rows))


EXPERIMENTS = (
    Experiment(
        name="noise-free-lag-1997",
        paper=f"{SOURCE} 2a, p = 100",
        claim="the first symbol of a sequence is repeated after 100 steps, by the truncated rule",
        paper_figure="18 of 18 trials after 5,040 sequences on average",
        criterion="all seeds: the error of every output stays below 0.25 in 10,000 successive sequences",
        differences=(SAME,),
        train=partial(train_original, name="noise_free_lag", max_sequences=200_000, quick_sequences=20_000),
        outcome=partial(outcome, rate=1.0),
        seeds=18,
        quick="at most 20,000 sequences",
    ),
    Experiment(
        name="adding-1997",
        paper=f"{SOURCE} 4, T = 100",
        claim="adding is learned by the truncated rule",
        paper_figure="74,000 sequences; 1 of 2560 wrong in the test",
        criterion="all seeds: the 2000 most recent training sequences were correct, with a mean absolute error below "
        "0.01",
        differences=(SAME,),
        train=partial(train_original, name="adding", max_sequences=1_000_000, quick_sequences=20_000),
        outcome=partial(outcome, rate=1.0),
        seeds=5,
        quick="at most 20,000 sequences",
    ),
    Experiment(
        name="multiplication-1997",
        paper=f"{SOURCE} 5",
        claim="multiplication, which a cell that adds its inputs cannot compute, is learned by the truncated rule",
        paper_figure="482,000 sequences; 139 of 2560 wrong in the test",
        criterion="all seeds: fewer than 140 of the 2000 most recent training sequences were incorrect",
        differences=(SAME,),
        train=partial(train_original, name="multiplication", max_sequences=3_000_000, quick_sequences=20_000),
        outcome=partial(outcome, rate=1.0),
        seeds=3,
        quick_seeds=1,
        quick="at most 20,000 sequences",
    ),
)
