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
LOWER_GATE = (
    "From the first weights of the input gate 3 is subtracted: otherwise the state drifts to 25 within a sequence, and "
    "outputs saturate at the wrong value."
)
RATE = (
    "The learning rate is {} of half the squared error. This is the paper's {} by its equations (16) and (17), which "
    "have no half; by its equations (19) to (28) it is twice the paper's. It was chosen on the seeds 100 and 101."
)
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
    if tests := [count for count in scores_of(rows, "sequences_to_test") if count is not None and count >= 0]:
        text += (
            f"; without updates both sequences are right on {len(tests)} seeds after {statistics.fmean(tests):,.0f} "
        )
        text += f"sequences on average ({min(tests):,} to {max(tests):,})"
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
        differences=(RATE.format("2", "1"), LOWER_GATE),
        train=partial(
            train_original, name="noise_free_lag", learning_rate=2.0, max_sequences=200_000, quick_sequences=60_000
        ),
        outcome=partial(outcome, rate=1.0),
        seeds=18,
        remark="All trials succeed, as in the paper. The paper tests after the training: without updates both "
        "sequences are right after about twice its number of sequences. The weight of the cell must become positive "
        "for one of the two symbols, which raises that output at the 99 other steps as well; weights that cancel it "
        "there move slowly.",
        quick="at most 60,000 sequences",
    ),
    Experiment(
        name="adding-1997",
        paper=f"{SOURCE} 4, T = 100",
        claim="adding is learned by the truncated rule",
        paper_figure="74,000 sequences; 1 of 2560 wrong in the test",
        criterion=f"all seeds, within 200,000 sequences: {RECENT_CORRECT}",
        differences=(RATE.format("1", "0.5"),),
        train=partial(train_original, name="adding", learning_rate=1.0, max_sequences=200_000, quick_sequences=100_000),
        outcome=partial(outcome, rate=1.0),
        seeds=10,
        remark="The lag is learned on every seed, with 90 % of the sequences correct in fewer sequences than the "
        "paper's 74,000. Errors above 0.04 remain near the ends of the logistic output: one block does the work, as "
        "the input gate with the bias -6 stays closed (docs/online_learning.md).",
        quick="at most 100,000 sequences",
    ),
    Experiment(
        name="adding-1997-equal-biases",
        paper=f"{SOURCE} 4, T = 100",
        claim="adding is learned by the truncated rule",
        paper_figure="74,000 sequences; 1 of 2560 wrong in the test",
        criterion=f"all seeds, within 500,000 sequences: {RECENT_CORRECT}",
        differences=(RATE.format("1", "0.5"), EQUAL_BIASES),
        train=partial(
            train_original,
            name="adding",
            learning_rate=1.0,
            max_sequences=500_000,
            quick_sequences=100_000,
            input_gate_bias=(-3.0, -3.0),
        ),
        outcome=partial(outcome, rate=1.0),
        seeds=10,
        remark="Both blocks are used. The four other seeds have 0.4 to 1.5 % of the test wrong after 500,000 "
        "sequences.",
        quick="at most 100,000 sequences",
    ),
    Experiment(
        name="multiplication-1997",
        paper=f"{SOURCE} 5",
        claim="multiplication, which a cell that adds its inputs cannot compute, is learned by the truncated rule",
        paper_figure="482,000 sequences; 139 of 2560 wrong in the test",
        criterion="all seeds, within 3,000,000 sequences: fewer than 140 of the 2000 most recent training "
        "sequences were incorrect",
        differences=(RATE.format("0.2", "0.1"),),
        train=partial(train_original, name="multiplication", max_sequences=3_000_000, quick_sequences=100_000),
        outcome=partial(outcome, rate=1.0),
        seeds=8,
        quick_seeds=1,
        remark="Two of eight seeds need fewer sequences than the paper, the others up to 1.8 times as many. The mean "
        "absolute error is 0.016 to 0.017: the 0.0223 that the paper calls MSE is probably one, see "
        "`tasks/multiplication.py`.",
        quick="at most 100,000 sequences",
    ),
)
