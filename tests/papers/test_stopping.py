"""Law: training stops, and an outcome is judged, as the criterion of the paper says."""

import numpy as np
import pytest

import glasscell as gc
from glasscell.papers.stopping import CountedTask, absolute_errors, outcome_of_counts
from glasscell.tasks import adding


def test_training_stops_when_the_most_recent_sequences_are_correct(rng):
    task = gc.tasks.Adding(20)
    counted = CountedTask(task, adding.is_correct, 0.01, stop_after=4000)
    errors = np.concatenate([[0.03] * 20, [0.05], rng.uniform(-0.019, 0.019, 5000)])  # one wrong, then none
    for k in range(0, len(errors), 10):
        batch = task.batch(len(errors[k : k + 10]), rng, np.float64)
        counted.counted_loss(batch.targets + errors[k : k + 10, None], batch.targets, None)
        assert counted(None) == (len(counted.correct) >= 4021)
        if counted.stopped:
            break
    assert (counted.criterion, counted.stopped) == (2030, 4030)  # the first whole batches


@pytest.mark.parametrize(("most_wrong", "expected"), [(1, False), (2, True)])
def test_some_of_the_most_recent_sequences_may_be_wrong(most_wrong, expected, rng):
    counted = CountedTask(gc.tasks.Adding(20), adding.is_correct, 0.01, recent=100, most_wrong=most_wrong)
    targets = rng.uniform(0, 1, (100, 1))
    counted.counted_loss(targets + np.where(np.arange(100)[:, None] < 2, 0.05, 0.001), targets, None)
    assert counted(None) is expected


@pytest.mark.parametrize(("error", "expected"), [(0.009, True), (0.011, False)])
def test_the_average_error_must_be_small_too(error, expected, rng):
    counted = CountedTask(gc.tasks.Adding(20), adding.is_correct, 0.01)
    targets = rng.uniform(0, 1, (2000, 1))
    counted.counted_loss(targets + error, targets, None)
    assert counted(None) is expected


def test_errors_of_classes_are_those_of_probabilities(rng):
    logits, targets = rng.normal(size=(5, 4)), np.array([0, 3, 1, 1, 2])
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = np.abs(p - np.eye(4)[targets]).mean(axis=1)
    np.testing.assert_allclose(absolute_errors(logits, targets), expected)


def rows(*counts):
    return [
        {"setting": {}, "seed": k, "scores": {"criterion": count, "stopped": count, "wrong": k, "tested": 2560}}
        for k, count in enumerate(counts)
    ]


@pytest.mark.parametrize(
    ("counts", "options", "met"),
    [
        ((10, 20, 90), {"median": 20, "wrong": 2}, True),
        ((10, 20, 90), {"median": 19, "wrong": 2}, False),
        ((10, 20, 90), {"median": 20, "wrong": 1}, False),  # the last seed has two errors
        ((10, 20, 90), {"median": 20, "most": 89, "wrong": None}, False),
        ((10, 20, None), {"median": 20, "wrong": None}, False),  # every seed must stop
        ((10, None), {"median": 20, "wrong": None, "expected": False}, False),
        ((None, None), {"median": 0, "wrong": None, "expected": False}, True),
    ],
)
def test_counts_are_judged(counts, options, met):
    outcome = outcome_of_counts(rows(*counts), unit="strings", **options)
    assert outcome.met is met
    solved = sum(count is not None for count in counts)
    assert outcome.figure.startswith(f"{solved} of {len(counts)} seeds")
    assert ("strings" in outcome.figure) is (solved > 0)
