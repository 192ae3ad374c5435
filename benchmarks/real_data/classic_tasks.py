"""Train on the classic tasks until the criterion of Hochreiter & Schmidhuber (1997) is met, and count the sequences.

    python benchmarks/real_data/classic_tasks.py

Adding (T = 100) and temporal order (6a), with chrono initialisation. The paper's criterion: the 2000 most recent
training sequences were processed correctly, each by the weights before its update, and the average of their errors is
below 0.01 (adding) or 0.1 (temporal order). It is the mean absolute error of the outputs here; the paper does not
say. Training of adding stops when the 4000 most recent sequences meet it. Then 2560 test sequences are processed,
once. Bars: every seed stops within a third of the paper's sequences, with at most 3 errors in the test. One seed with
a forget bias of 1 and as many sequences as in the paper shows why chrono initialisation is needed.

Embedded Reber grammar. The paper's criterion: all training strings and 256 other strings are predicted correctly at a
check, here one every 100 strings. Training stops after three such checks in a row. Then 256 test strings that had no
part in this are predicted, once. Bars: every seed stops, the median is at most 4,000 strings, and at most 2 of the
test strings are wrong.

Learning rates and sizes were chosen on the seeds 100 to 119. Exits with 1 if a bar is missed.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

import glasscell as gc
from glasscell.data.metrics import loss_function
from glasscell.layers import Dropout, FinalState
from glasscell.tasks import adding, embedded_reber, temporal_order

RECENT = 2000  # training sequences of the paper's criterion
BATCH_SIZE, HIDDEN_SIZE, CHRONO_STEPS = 20, 32, 110  # adding and temporal order
REBER_DROPOUT = 0.3
REBER_BATCH_SIZE, REBER_HIDDEN_SIZE, CHECKS, CHECK_EVERY = 10, 64, 3, 100  # every 100 strings


class Result(NamedTuple):
    """Sequences until the paper's criterion was met, and until training stopped; None: never. Errors in the test."""

    criterion: int | None
    stopped: int | None
    wrong: int


class Recorded:
    """A task with the paper's stopping criterion: it records what the training does, and is a callback that ends it."""

    metrics, endless = (), True

    def __init__(self, task: Any, is_correct: Callable[..., Any], limit: float, recent: int) -> None:
        self.task, self.is_correct, self.limit, self.recent = task, is_correct, limit, recent
        self.loss = self.recorded_loss
        self.correct: list[bool] = []  # of each training sequence
        self.errors: list[float] = []
        self.criterion: int | None = None
        self.stopped: int | None = None

    def batches(self, size: int, rng: np.random.Generator, dtype: Any) -> Iterator[gc.data.Batch]:
        return self.task.batches(size, rng, dtype)

    def validation(self, *_: Any) -> None:
        return None

    def recorded_loss(self, outputs: Any, targets: Any, weights: Any) -> tuple[float, Any]:
        self.correct.extend(self.is_correct(outputs, targets).tolist())
        self.errors.extend(absolute_errors(outputs, targets).tolist())
        return loss_function(self.task.loss)(outputs, targets, weights)

    def meets(self, recent: int) -> bool:
        """Return whether the most recent sequences are correct, with a small error on average."""
        correct, errors = self.correct[-recent:], self.errors[-recent:]
        return len(correct) == recent and all(correct) and float(np.mean(errors)) < self.limit

    def __call__(self, _: gc.TrainingState) -> bool:
        if self.criterion is None and self.meets(RECENT):
            self.criterion = len(self.correct)
        if self.meets(self.recent):
            self.stopped = len(self.correct)
        return self.stopped is not None


def absolute_errors(outputs: Any, targets: Any) -> Any:
    """Return the mean absolute error of the outputs for each sequence; for logits that of the probabilities."""
    if targets.ndim == outputs.ndim:
        return np.abs(outputs - targets).mean(axis=-1)
    odds = np.exp(outputs - outputs.max(axis=-1, keepdims=True))
    return np.abs(odds / odds.sum(axis=-1, keepdims=True) - np.eye(outputs.shape[-1])[targets]).mean(axis=-1)


def long_lag(
    task: Any,
    is_correct: Callable[..., Any],
    limit: float,
    recent: int,
    rate: float,
    sequences: int,
    chrono: bool,
) -> Result:
    """Train on adding or temporal order, on at most this number of sequences."""
    initial: dict[str, Any] = (
        {"forget_bias": "chrono", "chrono_steps": CHRONO_STEPS} if chrono else {"forget_bias": 1.0}
    )
    lstm = gc.LSTM(task.input_size, HIDDEN_SIZE, **initial)
    model = gc.Sequential([lstm, FinalState(), gc.Linear(HIDDEN_SIZE, task.output_size)], seed=task.seed)
    recorded, updates = Recorded(task, is_correct, limit, recent), sequences // BATCH_SIZE
    options = {"batch_size": BATCH_SIZE, "optimizer": gc.Adam(rate), "schedule": gc.schedules.linear(updates)}
    gc.fit(model, recorded, updates, callbacks=[recorded], seed=task.seed, **options)
    test = task.test_batch()
    wrong = ~is_correct(model(test.inputs, lengths=test.lengths), test.targets)
    return Result(recorded.criterion, recorded.stopped, int(wrong.sum()))


def adding_100(seed: int, sequences: int, *, chrono: bool) -> Result:
    return long_lag(gc.tasks.Adding(100, seed), adding.is_correct, 0.01, 2 * RECENT, 0.02, sequences, chrono)


def temporal_order_6a(seed: int, sequences: int, *, chrono: bool) -> Result:
    return long_lag(gc.tasks.TemporalOrder(seed=seed), temporal_order.is_correct, 0.1, RECENT, 0.01, sequences, chrono)


def reber(seed: int, sequences: int) -> Result:
    """Train on the embedded Reber grammar, on at most this number of strings."""
    task = gc.tasks.EmbeddedReber(seed=seed)
    H = REBER_HIDDEN_SIZE
    layers = [gc.LSTM(task.input_size, H), Dropout(REBER_DROPOUT), gc.Linear(H, task.output_size)]
    model = gc.Sequential(layers, seed=seed)
    checked = [task.make_batch(task.training_strings), *task.validation(1)]
    right, criterion = 0, None  # checks in a row; strings until the first right one

    def wrong(batch: gc.data.Batch) -> int:
        return int((~embedded_reber.is_correct(model(batch.inputs, lengths=batch.lengths), batch)).sum())

    def check(state: gc.TrainingState) -> bool:
        nonlocal right, criterion
        strings = state.history.updates * REBER_BATCH_SIZE
        if strings % CHECK_EVERY == 0:
            right = 0 if any(map(wrong, checked)) else right + 1
            criterion = strings if right and criterion is None else criterion
        return right == CHECKS

    updates = sequences // REBER_BATCH_SIZE
    options = {"batch_size": REBER_BATCH_SIZE, "optimizer": gc.Adam(0.02), "schedule": gc.schedules.linear(updates)}
    history = gc.fit(model, task, updates, callbacks=[check], evaluate_every=updates, seed=seed, **options)
    stopped = history.updates * REBER_BATCH_SIZE if right == CHECKS else None
    return Result(criterion, stopped, wrong(task.test_batch()))


class Row(NamedTuple):
    """A row of the table, and its bars; None: no bar."""

    run: Callable[[int], Result]
    paper: int  # training sequences, mean
    seeds: int | None = None  # default: those of the command line
    median: int | None = None
    wrong: int | None = None


ROWS = {
    "adding, T = 100, chrono": Row(lambda seed: adding_100(seed, 25_000, chrono=True), 74_000, None, 25_000, 3),
    "adding, T = 100, forget bias 1": Row(lambda seed: adding_100(seed, 74_000, chrono=False), 74_000, 1),
    "temporal order 6a, chrono": Row(
        lambda seed: temporal_order_6a(seed, 10_000, chrono=True), 31_390, None, 10_000, 3
    ),
    "temporal order 6a, forget bias 1": Row(lambda seed: temporal_order_6a(seed, 31_390, chrono=False), 31_390, 1),
    "embedded Reber grammar": Row(lambda seed: reber(seed, 8_400), 8_440, None, 4_000, 2),
}
COLUMNS = (
    "task",
    "seeds",
    "paper's criterion",
    "training stops",
    "range",
    "paper",
    "wrong in test",
    "seconds per seed",
)


def shown(number: float) -> str:
    """Return a number of sequences; nothing for infinity, which stands for never."""
    return f"{number:,.0f}" if np.isfinite(number) else ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    options = parser.parse_args()
    chosen = {name: row for name, row in ROWS.items() if options.only in name}
    if not chosen:
        parser.error(f"--only must be a part of {', '.join(map(repr, ROWS))}, got {options.only!r}")
    print(f"| {' | '.join(COLUMNS)} |\n| {' | '.join(['---'] * len(COLUMNS))} |", flush=True)
    missed = False
    for name, row in chosen.items():
        results, start, count = [], time.perf_counter(), row.seeds or options.seeds
        for seed in range(options.first_seed, options.first_seed + count):
            results.append(row.run(seed))
            print(f"{name}, seed {seed}: {results[-1]}", file=sys.stderr, flush=True)
        seconds = (time.perf_counter() - start) / count
        stopped, wrong = [result.stopped for result in results if result.stopped], [result.wrong for result in results]
        criterion = statistics.median([result.criterion or np.inf for result in results])
        median = statistics.median([result.stopped or np.inf for result in results])
        ends = f"{min(stopped):,} to {max(stopped):,}" if stopped else ""
        cells = [name, f"{len(stopped)} of {count}", shown(criterion), shown(median), ends, f"{row.paper:,}"]
        print(f"| {' | '.join([*cells, f'{min(wrong)} to {max(wrong)}', f'{seconds:.1f}'])} |", flush=True)
        if row.median is not None and row.wrong is not None:
            missed |= len(stopped) < count or median > row.median or max(wrong) > row.wrong
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
