"""The two-sequence problem: experiment 3a of Hochreiter & Schmidhuber (1997)."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from glasscell.core.optimizers import Adam
from glasscell.layers import LSTM, FinalState, Linear
from glasscell.models import Sequential
from glasscell.papers.experiment import Experiment, Outcome, Row, Scores
from glasscell.papers.long_lags import BATCH_SIZE, DIFFERENCES, HIDDEN_SIZE, SOURCE
from glasscell.papers.stopping import outcome_of_counts
from glasscell.tasks import TwoSequence
from glasscell.training import fit, schedules

CHECK_EVERY = 5  # updates: 100 sequences
SEQUENCES, LEARNING_RATE = 60_000, 0.01


def train_two_sequence(seed: int, *, quick: bool, data: Path | None, informative: int) -> Scores:
    """Train until the 256 validation sequences meet the criterion of the paper."""
    del data
    task = TwoSequence("3a", informative, 50 if quick else 100, seed)
    longest, H = task.min_length + task.min_length // 10, HIDDEN_SIZE
    lstm = LSTM(1, H, forget_bias="chrono", chrono_steps=longest)
    model = Sequential([lstm, FinalState(), Linear(H, 1)], seed=seed)
    held_out, updates = task.validation_batch(), SEQUENCES // BATCH_SIZE
    solved: int | None = None

    def check(state: Any) -> bool:
        nonlocal solved
        done = state.history.updates
        if done % CHECK_EVERY == 0 and task.is_solved(model(held_out.inputs, lengths=held_out.lengths), held_out):
            solved = done * BATCH_SIZE
        return solved is not None

    fit(
        model,
        task,
        updates,
        batch_size=BATCH_SIZE,
        optimizer=Adam(LEARNING_RATE),
        schedule=schedules.linear(updates),
        callbacks=[check],
        evaluate_every=updates,
        seed=seed,
    )
    test = task.test_batch()
    correct = task.is_correct(model(test.inputs, lengths=test.lengths), test)
    return {"criterion": solved, "stopped": solved, "wrong": int((~correct).sum()), "tested": len(correct)}


def outcome(rows: Sequence[Row]) -> Outcome:
    """Judge the counts of each number of informative steps."""
    parts, met = [], True
    for informative in dict.fromkeys(row["setting"]["informative"] for row in rows):
        chosen = [row for row in rows if row["setting"]["informative"] == informative]
        part = outcome_of_counts(chosen, unit="sequences", median=SEQUENCES, wrong=None)
        wrong = statistics.fmean(row["scores"]["wrong"] / row["scores"]["tested"] for row in chosen)
        parts.append(f"N = {informative}: {part.figure}, a fraction of {wrong:.6f} on average")
        met &= part.met
    return Outcome("; ".join(parts), met)


EXPERIMENTS = (
    Experiment(
        name="two-sequence-3a",
        paper=f"{SOURCE} 3a, T = 100",
        claim="a sequence is classified by its first N numbers, with noise on the same input after them",
        paper_figure="N = 3: 27,380 sequences, a fraction of 0.000195 wrong; N = 1: 58,370 sequences, 0.000117",
        criterion="the paper's criterion: none of 256 other sequences is wrong, with a mean absolute error below 0.01, "
        "by every seed, within 60,000 sequences",
        differences=(*DIFFERENCES, "The criterion is checked every 100 sequences."),
        train=train_two_sequence,
        outcome=outcome,
        quick="T = 50",
        settings={"informative": (3, 1)},
    ),
)
