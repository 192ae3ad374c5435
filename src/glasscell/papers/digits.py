"""Handwritten digits of MNIST, row by row."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from glasscell.core.optimizers import Adam
from glasscell.data.metrics import accuracy
from glasscell.layers import LSTM, Dropout, FinalState, Linear
from glasscell.models import Sequential
from glasscell.papers.experiment import Experiment, Outcome, Row, Scores, scores_of
from glasscell.tasks import RowDigits
from glasscell.training import fit, schedules

IMAGES, LABELS = "mnist/t10k-images-idx3-ubyte.gz", "mnist/t10k-labels-idx1-ubyte.gz"
HIDDEN_SIZE, DROPOUT, BATCH_SIZE, EPOCHS, QUICK_EPOCHS = 128, 0.3, 32, 15, 2
BAR = 0.97


def train_mnist_rows(seed: int, *, quick: bool, data: Path | None) -> Scores:
    """Train on 7,000 of the 10,000 images, and return the accuracy on 2,000 others."""
    if data is None:
        raise ValueError(f"data must be the folder with {IMAGES}, got None")
    task = RowDigits.from_idx(data / IMAGES, data / LABELS, seed=seed)
    epochs, H = QUICK_EPOCHS if quick else EPOCHS, HIDDEN_SIZE
    layers = [LSTM(task.input_size, H), FinalState(), Dropout(DROPOUT), Linear(H, task.output_size)]
    model = Sequential(layers, seed=seed)
    updates = epochs * -(-len(task.training_indices) // BATCH_SIZE)
    fit(
        model,
        task,
        updates,
        batch_size=BATCH_SIZE,
        optimizer=Adam(0.003),
        schedule=schedules.cosine(updates),
        evaluate_every=updates // epochs,
        keep="best",
        seed=seed,
    )
    test = task.test_batch()
    right, tested = accuracy(model(test.inputs), test)
    return {"accuracy": right / tested, "tested": len(test.inputs)}


def outcome(rows: Sequence[Row]) -> Outcome:
    """Compare the median accuracy with the bar."""
    accuracies = scores_of(rows, "accuracy")
    median = statistics.median(accuracies)
    tested = rows[0]["scores"]["tested"]
    text = f"{median:.2%} of {tested:,} test images ({min(accuracies):.2%} to {max(accuracies):.2%})"
    return Outcome(text, median >= BAR)


EXPERIMENTS = (
    Experiment(
        name="mnist-rows",
        paper="no paper; Le, Jaitly & Hinton (2015) read MNIST pixel by pixel",
        claim="a digit is recognised from its 28 rows, one per step",
        paper_figure="none for rows",
        criterion=f"median accuracy at least {BAR:.0%}",
        differences=(
            "Training and test are parts of the 10,000 test images of MNIST, drawn by the seed: 7,000 to train on, "
            "1,000 for validation, 2,000 to test.",
            f"One layer of {HIDDEN_SIZE} LSTM units with dropout, {EPOCHS} epochs of Adam.",
        ),
        train=train_mnist_rows,
        outcome=outcome,
        seeds=5,
        quick_seeds=1,
        quick=f"{QUICK_EPOCHS} instead of {EPOCHS} epochs",
        files=(IMAGES, LABELS),
    ),
)
