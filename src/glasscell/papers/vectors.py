"""Copying vectors of bits: the baseline of Graves, Wayne & Danihelka (2014), "Neural Turing Machines"."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from glasscell.core.optimizers import Adam
from glasscell.layers import LSTM, Linear
from glasscell.models import Sequential
from glasscell.papers.experiment import Experiment, Outcome, Row, Scores, scores_of
from glasscell.tasks import VectorCopy
from glasscell.training import fit, schedules

BATCH_SIZE, HIDDEN_SIZE, UPDATES, LEARNING_RATE = 32, 512, 16_000, 0.002
LENGTHS = (10, 20, 30, 50, 120)
QUICK_MAX_LENGTH, QUICK_HIDDEN_SIZE, QUICK_UPDATES = 5, 64, 5_000


def train_vector_copy(
    seed: int,
    *,
    quick: bool,
    data: Path | None,
    max_length: int = 20,
    hidden_size: int = HIDDEN_SIZE,
    updates: int = UPDATES,
    learning_rate: float = LEARNING_RATE,
) -> Scores:
    """Train on sequences of 1 to 20 vectors, and measure lengths up to 120."""
    del data
    if quick:
        max_length, hidden_size, updates = QUICK_MAX_LENGTH, QUICK_HIDDEN_SIZE, QUICK_UPDATES
    task = VectorCopy(max_length=max_length, seed=seed)
    lstm = LSTM(task.input_size, hidden_size, forget_bias="chrono", chrono_steps=2 * max_length + 1)
    model = Sequential([lstm, Linear(hidden_size, task.output_size)], seed=seed)
    fit(
        model,
        task,
        updates,
        batch_size=BATCH_SIZE,
        optimizer=Adam(learning_rate),
        schedule=schedules.cosine(updates),
        evaluate_every=updates,
        seed=seed,
    )
    return {
        f"{name} {row['length']}": float(row[name])
        for row in task.length_table(model, LENGTHS)
        for name in ("correct_prefix", "bit_accuracy", "bits_per_sequence")
    }


def outcome(rows: Sequence[Row]) -> Outcome:
    """Return the table of lengths, and whether the correct prefix is nearly whole at 20 and shrinks above."""
    prefixes, bits = (
        [statistics.median(scores_of(rows, f"{name} {length}")) for length in LENGTHS]
        for name in ("correct_prefix", "bit_accuracy")
    )
    cells = [
        f"{length}: {prefix:.1f} vectors, {accuracy:.1%} of bits"
        for length, prefix, accuracy in zip(LENGTHS, prefixes, bits, strict=True)
    ]
    shrinks = prefixes[1] > prefixes[2] > prefixes[3] > prefixes[4]
    return Outcome(f"right before the first wrong vector, by length: {'; '.join(cells)}", bits[1] >= 0.99 and shrinks)


EXPERIMENTS = (
    Experiment(
        name="vector-copy",
        paper="Graves, Wayne & Danihelka (2014), copy task, LSTM",
        claim="an LSTM copies sequences of the training's lengths, 1 to 20, and fails for longer ones, the more so the "
        "longer they are",
        paper_figure="nearly perfect to length 20; fails at 30, 50 and 120, where the correct prefix shrinks as the "
        "length grows (figures)",
        criterion="at least 99 % of the bits right at length 20; fewer vectors right before the first wrong one at "
        "length 30, fewer still at 50 and at 120 (medians)",
        differences=(
            f"One layer of {HIDDEN_SIZE} LSTM units with chrono initialisation, 1.1 million weights, against three "
            "layers of 256 and 1.35 million.",
            f"{UPDATES * BATCH_SIZE:,} sequences in batches of {BATCH_SIZE} with Adam and a decreasing learning rate, "
            "against about a million with RMSProp. The number of units and the rate were chosen on seed 100.",
        ),
        train=train_vector_copy,
        outcome=outcome,
        remark="The correct prefix shrinks above length 20 as in the paper.",
        seeds=3,
        quick_seeds=1,
        quick=f"lengths 1 to {QUICK_MAX_LENGTH}, {QUICK_HIDDEN_SIZE} units, {QUICK_UPDATES:,} updates",
    ),
)
