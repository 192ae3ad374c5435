"""Law: TwoSequence draws what experiments 3a, 3b and 3c of Hochreiter & Schmidhuber (1997) describe."""

import math
import re

import numpy as np
import pytest

import glasscell as gc
from glasscell.tasks import TwoSequence, two_sequence

each_experiment = pytest.mark.parametrize("experiment", ["3a", "3b", "3c"])
squared_error = gc.core.losses.squared_error


@each_experiment
@pytest.mark.parametrize(("N", "T"), [(1, 20), (3, 47)])
def test_signal_and_noise_are_those_of_the_paper(experiment, N, T, rng):
    task = TwoSequence(experiment, N, T)
    batch = task.batch(4000, rng, np.float64)
    x = batch.inputs[..., 0]
    assert set(batch.lengths) == set(range(T, T + T // 10 + 1))
    noise = x[:, N:T]
    assert noise.mean() == pytest.approx(0, abs=0.01)
    assert noise.var() == pytest.approx(0.2, rel=0.03)
    assert abs(np.corrcoef(noise[:, 0], batch.targets[:, 0])[0, 1]) < 0.06
    if experiment == "3c":
        is_class_1 = x[:, 0] > 0
        residual = batch.targets[:, 0] - np.where(is_class_1, 0.2, 0.8)
        assert residual.mean() == pytest.approx(0, abs=0.02)
        assert residual.var() == pytest.approx(0.1, rel=0.08)
    else:
        is_class_1 = batch.targets[:, 0] == 1
        assert set(batch.targets.ravel()) == {0, 1}
    signal = x[:, :N] * np.where(is_class_1, 1, -1)[:, None]
    assert signal.mean() == pytest.approx(1, abs=0.03)
    if experiment == "3b":
        assert signal.var() == pytest.approx(0.2, rel=0.1)
    else:
        assert (signal == 1).all()
    assert is_class_1.mean() == pytest.approx(0.5, abs=0.04)


@each_experiment
def test_the_best_outputs_solve_it(experiment, rng):
    task = TwoSequence(experiment, 3, 20)
    batch = task.batch(2000, rng, np.float64)
    outputs = task.best_outputs(batch)
    accuracy, number = task.sequence_accuracy(outputs, batch)
    assert accuracy / number == 1 if experiment != "3b" else accuracy / number > 0.998
    assert task.is_solved(outputs, batch)
    loss = squared_error(outputs, batch.targets)[0]
    assert task.loss_with_memory(batch) == pytest.approx(loss)
    assert loss == pytest.approx({"3a": 0, "3b": 0, "3c": 0.1}[experiment], abs=0.01)
    half = np.full_like(batch.targets, 0.5)
    assert task.memoryless_baseline_loss(batch) == pytest.approx(squared_error(half, batch.targets)[0])
    assert task.memoryless_baseline_loss(batch) == pytest.approx(0.19 if experiment == "3c" else 0.25, rel=0.05)
    assert not task.is_correct(half, batch).any()
    assert not task.is_solved(half, batch)


def test_the_variance_of_3b_agrees_with_the_errors_that_the_paper_reports(rng):
    """With N = 1 the sign is wrong with probability Φ(-1 / √0.2) = 0.0127; the paper has 0.0121 and 0.0150."""
    assert 0.5 * math.erfc(1 / math.sqrt(2 * 0.2)) == pytest.approx(0.0127, abs=5e-5)
    task = TwoSequence("3b", 1, 20)
    batch = task.batch(20_000, rng)
    by_sign = (batch.inputs[:, 0] > 0).astype(float)
    assert 1 - task.is_correct(by_sign, batch).mean() == pytest.approx(0.0127, abs=0.003)
    best = squared_error(task.best_outputs(batch), batch.targets.astype(np.float64))[0]
    assert best < squared_error(by_sign, batch.targets.astype(np.float64))[0]
    for scale in (8, 12):  # σ(10 x) is the probability of class 1
        other = 1 / (1 + np.exp(-scale * batch.inputs[:, 0].astype(np.float64)))
        assert best < squared_error(other, batch.targets.astype(np.float64))[0]


@each_experiment
def test_criteria(experiment, rng):
    task = TwoSequence(experiment, 2, 10)
    batch = task.validation_batch(np.float64)
    exact = task.noise_free_targets(batch)
    limit = {"3a": 0.2, "3b": 0.2, "3c": 0.1}[experiment]
    errors = rng.uniform(-2 * limit, 2 * limit, exact.shape)
    np.testing.assert_array_equal(task.is_correct(exact + errors, batch), np.abs(errors[:, 0]) < limit)
    np.testing.assert_array_equal(
        two_sequence.is_correct(exact + errors, exact, experiment), task.is_correct(exact + errors, batch)
    )
    largest_mean, allowed = {"3a": (0.01, 0), "3b": (0.04, 5), "3c": (0.015, 0)}[experiment]
    assert task.is_solved(exact + 0.99 * largest_mean, batch)
    assert not task.is_solved(exact + 1.01 * largest_mean, batch)
    assert task.mean_difference(exact + errors, batch).total == pytest.approx(np.abs(errors).sum())
    for wrong in (allowed, allowed + 1):
        outputs = exact.copy()
        outputs[:wrong] += 1.01 * limit
        assert task.is_solved(outputs, batch) == (wrong == allowed)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: TwoSequence("3d"), ValueError, "experiment must be one of '3a', '3b', '3c', got '3d'"),
        (lambda: TwoSequence("3a", 0), ValueError, "informative must be at least 1, got 0"),
        (lambda: TwoSequence("3a", 3, 3), ValueError, "min_length must be larger than informative = 3, got 3"),
        (lambda: TwoSequence("3a", 3, 10.0), TypeError, "min_length must be an integer, got 10.0"),
    ],
)
def test_options_are_checked(make, error, message):
    with pytest.raises(error, match=re.escape(message)):
        make()
