"""Long time lags: experiments 2c, 4, 5 and 6 of Hochreiter & Schmidhuber (1997) with today's LSTM and its training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from glasscell.core.optimizers import Adam
from glasscell.layers import LSTM, FinalState, Linear
from glasscell.models import Sequential
from glasscell.papers.experiment import Experiment, Outcome, Row, Scores
from glasscell.papers.stopping import RECENT, CountedTask, outcome_of_counts
from glasscell.tasks import (
    Adding,
    DistractorLag,
    Multiplication,
    TemporalOrder,
    adding,
    distractor_lag,
    multiplication,
    temporal_order,
)
from glasscell.tasks.generated import largest_errors
from glasscell.training import fit, schedules

BATCH_SIZE, HIDDEN_SIZE = 20, 32
SOURCE = "Hochreiter & Schmidhuber (1997), experiment"
DIFFERENCES = (
    "One layer of 32 LSTM units with forget gates, against a few memory cells without forget gates.",
    "Chrono initialisation of the biases (Tallec & Ollivier 2018), for sequences of up to T + T/10 steps.",
    "Backpropagation through the whole sequence with Adam and a decreasing learning rate, in batches of 20 sequences, "
    "against truncated gradients after each sequence.",
)
FORGET_BIAS_1 = (
    DIFFERENCES[0],
    "A forget bias of 1 instead of chrono initialisation; all else as in the experiment with it.",
    DIFFERENCES[2],
)
COUNTED = (
    "the paper's criterion: the 2000 most recent training sequences were correct, with a mean absolute error below"
)


def train_long_lag(
    task: Any,
    is_correct: Callable[..., Any],
    limit: float,
    *,
    rate: float,
    sequences: int,
    longest: int,
    chrono: bool = True,
    **criterion: Any,
) -> Scores:
    """Train on sequences with one target at the end, until the paper's criterion is met, on at most `sequences`.

    `longest` is the number of steps for the chrono initialisation, `criterion` has options of `CountedTask`.
    """
    hidden_size = HIDDEN_SIZE
    initial: dict[str, Any] = {"forget_bias": "chrono", "chrono_steps": longest} if chrono else {"forget_bias": 1.0}
    lstm = LSTM(task.input_size, hidden_size, **initial)
    model = Sequential([lstm, FinalState(), Linear(hidden_size, task.output_size)], seed=task.seed)
    counted, updates = CountedTask(task, is_correct, limit, **criterion), sequences // BATCH_SIZE
    fit(
        model,
        counted,
        updates,
        batch_size=BATCH_SIZE,
        optimizer=Adam(rate),
        schedule=schedules.linear(updates),
        callbacks=[counted],
        seed=task.seed,
    )
    test = task.test_batch()
    correct = is_correct(model(test.inputs, lengths=test.lengths), test.targets)
    scores = {"criterion": counted.criterion, "stopped": counted.stopped}
    return scores | {"wrong": int((~correct).sum()), "tested": len(correct)}


def train_adding(
    seed: int, *, quick: bool, data: Path | None, min_length: int, sequences: int, rate: float, chrono: bool = True
) -> Scores:
    """Train on adding; training ends when the 4000 most recent sequences are correct."""
    del data
    task = Adding(50 if quick else min_length, seed)
    options: dict[str, Any] = {"rate": rate, "sequences": sequences, "chrono": chrono, "longest": _longest(task)}
    return train_long_lag(task, adding.is_correct, 0.01, stop_after=2 * RECENT, **options)


def _longest(task: Any) -> int:
    """Return the length of the longest sequences."""
    return int(task.min_length + task.min_length // 10)


def train_temporal_order(
    seed: int, *, quick: bool, data: Path | None, relevant: int, sequences: int, rate: float, chrono: bool = True
) -> Scores:
    """Train on temporal order."""
    del data
    task = TemporalOrder(relevant, 60 if quick else 100, seed)
    options: dict[str, Any] = {"rate": rate, "sequences": sequences, "chrono": chrono, "longest": _longest(task)}
    return train_long_lag(task, temporal_order.is_correct, 0.1, **options)


def train_multiplication(seed: int, *, quick: bool, data: Path | None, sequences: int, rate: float) -> Scores:
    """Train on multiplication."""
    del data
    task = Multiplication(50 if quick else 100, seed)
    options: dict[str, Any] = {"rate": rate, "sequences": sequences, "longest": _longest(task)}
    return train_long_lag(task, multiplication.is_correct, np.inf, most_wrong=139, **options)


def train_distractor_lag(seed: int, *, quick: bool, data: Path | None, sequences: int, rate: float) -> Scores:
    """Train on experiment 2c with p = q = 50 symbols."""
    del data
    size = 20 if quick else 50
    task = DistractorLag("2c", size, seed=seed)
    recent = RECENT if quick else 10_000
    options: dict[str, Any] = {"rate": rate, "sequences": sequences, "longest": size + 14, "recent": recent}
    return train_long_lag(task, _is_correct_2c, np.inf, **options)


def _is_correct_2c(outputs: Any, targets: Any) -> Any:
    return largest_errors(outputs, targets) < distractor_lag.TOLERANCES["2c"]


def _counts(**options: Any) -> Callable[[Sequence[Row]], Outcome]:
    return partial(outcome_of_counts, unit="sequences", **options)


EXPERIMENTS = (
    Experiment(
        name="adding-100",
        paper=f"{SOURCE} 4, T = 100",
        claim="two numbers are stored precisely and added after at least 50 steps",
        paper_figure="74,000 sequences; 1 of 2560 wrong in the test",
        criterion=f"{COUNTED} 0.01, by every seed; then the same for 4000 sequences, within 25,000; at most 3 of 2560 "
        "wrong in the test",
        differences=(*DIFFERENCES, "Training ends after 4000 correct sequences in a row, not after 2000."),
        train=partial(train_adding, min_length=100, sequences=25_000, rate=0.02),
        outcome=_counts(median=25_000, wrong=3),
        quick="T = 50",
    ),
    Experiment(
        name="adding-100-forget-bias-1",
        paper=f"{SOURCE} 4, T = 100",
        claim="an LSTM with a forget bias of 1 does not learn this lag (contrast, not of the paper)",
        paper_figure="none",
        criterion="the paper's criterion is not met within the 74,000 sequences of the paper",
        differences=FORGET_BIAS_1,
        train=partial(train_adding, min_length=100, sequences=74_000, rate=0.02, chrono=False),
        outcome=_counts(median=0, wrong=None, expected=False),
        seeds=1,
        quick_seeds=1,
        quick="T = 50",
    ),
    Experiment(
        name="adding-500",
        paper=f"{SOURCE} 4, T = 500",
        claim="two numbers are stored precisely and added after at least 250 steps",
        paper_figure="209,000 sequences; 0 of 2560 wrong in the test",
        criterion=f"{COUNTED} 0.01, by every seed; then the same for 4000 sequences, within 70,000",
        differences=(*DIFFERENCES, "Training ends after 4000 correct sequences in a row, not after 2000."),
        train=partial(train_adding, min_length=500, sequences=70_000, rate=0.01),
        outcome=_counts(median=70_000, wrong=None),
        seeds=5,
        quick_seeds=1,
        quick="T = 50",
    ),
    Experiment(
        name="temporal-order-6a",
        paper=f"{SOURCE} 6a",
        claim="the order of two symbols, at least 30 steps apart, classifies a sequence of 100 steps",
        paper_figure="31,390 sequences; 1 of 2560 wrong in the test",
        criterion=f"{COUNTED} 0.1, by every seed; median at most 10,000 sequences; at most 3 of 2560 wrong in the test",
        differences=DIFFERENCES,
        train=partial(train_temporal_order, relevant=2, sequences=10_000, rate=0.01),
        outcome=_counts(median=10_000, wrong=3),
        quick="T = 60",
    ),
    Experiment(
        name="temporal-order-6a-forget-bias-1",
        paper=f"{SOURCE} 6a",
        claim="an LSTM with a forget bias of 1 does not learn this lag (contrast, not of the paper)",
        paper_figure="none",
        criterion="the paper's criterion is not met within the 31,390 sequences of the paper",
        differences=FORGET_BIAS_1,
        train=partial(train_temporal_order, relevant=2, sequences=31_390, rate=0.01, chrono=False),
        outcome=_counts(median=0, wrong=None, expected=False),
        seeds=1,
        quick_seeds=1,
        quick="T = 60",
    ),
    Experiment(
        name="temporal-order-6b",
        paper=f"{SOURCE} 6b",
        claim="the order of three symbols classifies a sequence of 100 steps into 8 classes",
        paper_figure="571,100 sequences; 2 of 2560 wrong in the test",
        criterion=f"{COUNTED} 0.1, by every seed; median at most 40,000 sequences",
        differences=DIFFERENCES,
        train=partial(train_temporal_order, relevant=3, sequences=40_000, rate=0.01),
        outcome=_counts(median=40_000, wrong=None),
        quick="T = 60",
    ),
    Experiment(
        name="multiplication-100",
        paper=f"{SOURCE} 5",
        claim="the product of two numbers, which a cell that adds its inputs cannot compute, is learned over 100 steps",
        paper_figure="482,000 sequences; 139 of 2560 wrong in the test",
        criterion="the paper's criterion: at most 139 of the 2000 most recent training sequences were wrong, by every "
        "seed, within 100,000 sequences",
        differences=DIFFERENCES,
        train=partial(train_multiplication, sequences=100_000, rate=0.01),
        outcome=_counts(median=100_000, wrong=None),
        quick="T = 50",
    ),
    Experiment(
        name="distractor-lag-2c",
        paper=f"{SOURCE} 2c, q = p = 50",
        claim="a symbol is remembered for at least 50 random symbols",
        paper_figure="30,000 sequences",
        criterion="the paper's criterion: 10,000 training sequences in a row are correct, by every seed, within 60,000 "
        "sequences",
        differences=(
            *DIFFERENCES,
            "A softmax and the cross-entropy, against two logistic outputs.",
            "The count includes the 10,000 correct sequences, so that the smallest possible one is 10,000.",
        ),
        train=partial(train_distractor_lag, sequences=60_000, rate=0.01),
        outcome=_counts(median=60_000, wrong=None),
        quick="q = p = 20, and 2000 correct sequences in a row",
    ),
)
