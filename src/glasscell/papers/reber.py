"""The embedded Reber grammar: experiment 1 of Hochreiter & Schmidhuber (1997)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from glasscell.core.optimizers import Adam
from glasscell.data.batch import Batch
from glasscell.layers import LSTM, Dropout, Linear
from glasscell.models import Sequential
from glasscell.papers.experiment import Experiment, Scores
from glasscell.papers.stopping import outcome_of_counts
from glasscell.tasks import EmbeddedReber
from glasscell.tasks.embedded_reber import is_correct
from glasscell.training import TrainingState, fit, schedules

BATCH_SIZE, HIDDEN_SIZE, DROPOUT = 10, 64, 0.3
CHECKS, CHECK_EVERY = 3, 100  # successful checks in a row that end training, and strings between checks


def train_embedded_reber(seed: int, *, quick: bool, data: Path | None, strings: int = 8400) -> Scores:
    """Train until all training strings and 256 others are predicted at three checks in a row."""
    del quick, data
    task = EmbeddedReber(seed=seed)
    H = HIDDEN_SIZE
    model = Sequential([LSTM(task.input_size, H), Dropout(DROPOUT), Linear(H, task.output_size)], seed=seed)
    checked = [task.make_batch(task.training_strings), *task.validation(1)]
    successes, criterion, stopped = 0, None, None

    def wrong(batch: Batch) -> int:
        return int((~is_correct(model(batch.inputs, lengths=batch.lengths), batch)).sum())

    def check(state: TrainingState) -> bool:
        nonlocal successes, criterion, stopped
        seen = state.history.updates * BATCH_SIZE
        if seen % CHECK_EVERY == 0:
            successes = 0 if any(map(wrong, checked)) else successes + 1
            criterion = seen if successes and criterion is None else criterion
            stopped = seen if successes == CHECKS else None
        return stopped is not None

    updates = strings // BATCH_SIZE
    fit(
        model,
        task,
        updates,
        batch_size=BATCH_SIZE,
        optimizer=Adam(0.02),
        schedule=schedules.linear(updates),
        callbacks=[check],
        evaluate_every=updates,
        seed=seed,
    )
    test = task.test_batch()
    return {"criterion": criterion, "stopped": stopped, "wrong": wrong(test), "tested": len(test.inputs)}


EXPERIMENTS = (
    Experiment(
        name="embedded-reber",
        paper="Hochreiter & Schmidhuber (1997), experiment 1",
        claim="the grammar is learned from 256 strings, which needs the second symbol at the end of a string",
        paper_figure="8,440 strings, 30 of 30 trials",
        criterion="the paper's criterion, all training strings and 256 other strings are predicted correctly, by every "
        "seed; then three checks in a row, 100 strings apart, at a median of at most 4,000 strings; at most 2 of 256 "
        "further strings wrong",
        differences=(
            "One layer of 64 LSTM units with forget gates and dropout of 0.3 on its outputs, against 3 blocks of 2 "
            "memory cells without forget gates.",
            "Backpropagation through the whole string with Adam and a decreasing learning rate, in batches of 10 "
            "strings, against truncated gradients after each step.",
            "Training ends after three successful checks in a row; the further 256 strings take no part in them.",
        ),
        train=train_embedded_reber,
        outcome=partial(outcome_of_counts, unit="strings", median=4_000, wrong=2),
    ),
)
