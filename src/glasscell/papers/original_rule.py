"""Experiments 2a, 4 and 5 of Hochreiter & Schmidhuber (1997) with the network and the learning rule of the paper."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from glasscell.online import experiments_1997
from glasscell.papers.experiment import Experiment, Outcome, Row, Scores, scores_of

SOURCE = "Hochreiter & Schmidhuber (1997), experiment"
RATE = (
    "The learning rate is that of half the squared error, as in the paper's equations (19) to (28); its equations (16) "
    "and (17), without the half, would double it."
)
LOWER_GATE = (
    "From the first weights of the input gate 3 is subtracted: otherwise the state drifts to 25 within a sequence, and "
    "outputs saturate at the wrong value."
)
BIASES = "The first biases of the input gates are -3 and -6; the paper's are random (its table 10)."
EQUAL_BIASES = "The first biases of both input gates are -3, which keeps no block closed."
RECENT_CORRECT = "the 2000 most recent training sequences were correct, with a mean absolute error below 0.01"


def train_original(
    seed: int, *, quick: bool, data: Path | None, name: str, max_sequences: int, quick_sequences: int, **options: Any
) -> Scores:
    """Run one of the experiments."""
    del data
    run: Callable[..., Scores] = getattr(experiments_1997, name)
    return run(seed, max_sequences=quick_sequences if quick else max_sequences, **options)


def outcome(rows: Sequence[Row], *, rate: float) -> Outcome:
    """Count the seeds that are solved, which must be at least this fraction."""
    counts = [row["scores"]["sequences"] for row in rows if row["scores"]["solved"]]
    text = f"{len(counts)} of {len(rows)} seeds"
    if counts:
        text += f" after {statistics.fmean(counts):,.0f} sequences on average ({min(counts):,} to {max(counts):,})"
    reached = [count for count in scores_of(rows, "sequences_to_90_percent") if count is not None and count >= 0]
    if reached:
        text += f"; 90 % of the 2000 most recent were correct on {len(reached)} seeds after {min(reached):,} to "
        text += f"{max(reached):,} sequences"
    if wrong := [number for number in scores_of(rows, "wrong") if number is not None]:
        errors = scores_of(rows, "squared_error")
        text += f"; at the end {min(wrong)} to {max(wrong)} of 2560 wrong in the test, squared error {min(errors):.2g} "
        text += f"to {max(errors):.2g}"
    return Outcome(text, len(counts) >= rate * len(rows))


EXPERIMENTS = (
    Experiment(
        name="noise-free-lag-1997",
        paper=f"{SOURCE} 2a, p = 100",
        claim="the first symbol of a sequence is repeated after 100 steps, by the truncated rule",
        paper_figure="18 of 18 trials after 5,040 sequences on average",
        criterion="all seeds, within 200,000 sequences: the error of every output stays below 0.25 in "
        "10,000 successive sequences",
        differences=(RATE, LOWER_GATE),
        train=partial(train_original, name="noise_free_lag", max_sequences=200_000, quick_sequences=60_000),
        outcome=partial(outcome, rate=1.0),
        seeds=18,
        remark="All trials succeed, as in the paper, but after about eight times as many sequences. The weight of the "
        "cell becomes negative for one of the two symbols in 10,000 sequences. For the other one it must become "
        "positive, which raises that output at the 99 other steps as well; weights that cancel it there move slowly.",
        quick="at most 60,000 sequences",
    ),
    Experiment(
        name="adding-1997",
        paper=f"{SOURCE} 4, T = 100",
        claim="adding is learned by the truncated rule",
        paper_figure="74,000 sequences; 1 of 2560 wrong in the test",
        criterion=f"all seeds, within 200,000 sequences: {RECENT_CORRECT}",
        differences=(RATE,),
        train=partial(train_original, name="adding", max_sequences=200_000, quick_sequences=100_000),
        outcome=partial(outcome, rate=1.0),
        seeds=6,
        remark="The lag is learned on every seed, with 90 % of the sequences correct in about as many sequences as in "
        "the paper. All errors above 0.04 are at targets below 0.2 or above 0.8, near the ends of the logistic output: "
        "one block does the work, as the input gate with the bias -6 stays closed.",
        quick="at most 100,000 sequences",
    ),
    Experiment(
        name="adding-1997-equal-biases",
        paper=f"{SOURCE} 4, T = 100",
        claim="adding is learned by the truncated rule",
        paper_figure="74,000 sequences; 1 of 2560 wrong in the test",
        criterion=f"all seeds, within 500,000 sequences: {RECENT_CORRECT}",
        differences=(RATE, EQUAL_BIASES),
        train=partial(
            train_original,
            name="adding",
            max_sequences=500_000,
            quick_sequences=100_000,
            input_gate_bias=(-3.0, -3.0),
        ),
        outcome=partial(outcome, rate=1.0),
        seeds=6,
        remark="Both blocks are used. One seed still has 3 % of the test wrong after 500,000 sequences.",
        quick="at most 100,000 sequences",
    ),
    Experiment(
        name="multiplication-1997",
        paper=f"{SOURCE} 5",
        claim="multiplication, which a cell that adds its inputs cannot compute, is learned by the truncated rule",
        paper_figure="482,000 sequences; 139 of 2560 wrong in the test",
        criterion="all seeds, within 3,000,000 sequences: fewer than 140 of the 2000 most recent training "
        "sequences were incorrect",
        differences=(RATE, BIASES),
        train=partial(
            train_original,
            name="multiplication",
            max_sequences=3_000_000,
            quick_sequences=100_000,
            input_gate_bias=(-3.0, -6.0),
            learning_rate=0.1,
        ),
        outcome=partial(outcome, rate=1.0),
        seeds=8,
        quick_seeds=1,
        remark="All seeds meet the criterion, after about three times as many sequences as in the paper. With random "
        "biases and twice the learning rate, the seeds 0, 1 and 100 need 795,800, 891,300 and 554,600 sequences. "
        "The mean absolute error is 0.018 to 0.020: the 0.0223 that the paper calls MSE is probably one, see "
        "`tasks/multiplication.py`.",
        quick="at most 100,000 sequences",
    ),
)
