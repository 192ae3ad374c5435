"""Law: Multiplication draws what experiment 5 of Hochreiter & Schmidhuber (1997) describes."""

import re

import numpy as np
import pytest

import glasscell as gc
from glasscell.tasks import Adding, Multiplication, multiplication


def reference(inputs, lengths):
    """Outputs of a program that reads a sequence once and multiplies the marked numbers, (B, 1)."""
    outputs = []
    for sequence, n in zip(inputs, lengths, strict=True):
        product = 1.0
        for number, marker in sequence[:n]:
            product *= number if marker == 1 else 1
        outputs.append([product])
    return np.array(outputs)


@pytest.mark.parametrize("T", [20, 57, 100])
def test_a_program_with_memory_solves_it(T, rng):
    batch = Multiplication(T).batch(1000, rng, np.float64)
    numbers, markers = batch.inputs[..., 0], batch.inputs[..., 1]
    outputs = reference(batch.inputs, batch.lengths)
    np.testing.assert_allclose(outputs, batch.targets, rtol=1e-12)
    assert tuple(multiplication.sequence_accuracy(outputs, batch)) == (1000, 1000)
    valid = np.arange(numbers.shape[1]) < batch.lengths[:, None]
    assert 0 <= numbers.min() < 0.01
    assert 0.99 < numbers.max() <= 1
    assert numbers[valid].mean() == pytest.approx(0.5, abs=0.01)
    marked = (markers == 1).sum(axis=1)
    assert set(marked) == {1, 2}
    assert (marked == 1).mean() == pytest.approx(0.1 + 0.9 / (T // 2 - 1), abs=0.04)
    assert set(batch.lengths) == set(range(T, T + T // 10 + 1))


def test_markers_are_those_of_the_adding_problem():
    """The same random numbers choose the same lengths and steps."""
    one, other = (task(40).batch(50, np.random.default_rng(3), np.float64) for task in (Multiplication, Adding))
    np.testing.assert_array_equal(one.inputs[..., 1], other.inputs[..., 1])
    valid = np.arange(one.inputs.shape[1]) < one.lengths[:, None]
    np.testing.assert_allclose(2 * one.inputs[valid][:, 0] - 1, other.inputs[valid][:, 0], atol=1e-12)


def test_baseline_by_a_large_sample(rng):
    task = Multiplication(30)
    batch = task.batch(40_000, rng, np.float64)
    constant = np.full_like(batch.targets, task.mean_target)
    assert batch.targets.mean() == pytest.approx(task.mean_target, rel=0.01)
    loss = gc.core.losses.squared_error(constant, batch.targets)[0]
    assert task.memoryless_baseline_loss(batch) == pytest.approx(loss)
    q = 0.1 + 0.9 / 14
    assert loss == pytest.approx((1 + 2 * q) / 9 - (1 + q) ** 2 / 16, rel=0.02)
    for other in (-0.01, 0.01):
        assert loss < gc.core.losses.squared_error(constant + other, batch.targets)[0]
    q = 0.1 + 0.9 / 49
    assert (1 + 2 * q) / 9 - (1 + q) ** 2 / 16 == pytest.approx(0.0592, abs=5e-5)  # in the documentation


def test_the_criterion_is_an_error_of_less_than_004(rng):
    batch = Multiplication(20).batch(500, rng, np.float64)
    errors = rng.uniform(-0.08, 0.08, (500, 1))
    correct = multiplication.is_correct(batch.targets + errors, batch.targets)
    np.testing.assert_array_equal(correct, np.abs(errors[:, 0]) < 0.04)
    assert 0 < correct.sum() < 500


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Multiplication(19), ValueError, "min_length must be at least 20, got 19"),
        (lambda: Multiplication("100"), TypeError, "min_length must be an integer, got '100'"),
    ],
)
def test_options_are_checked(make, error, message):
    with pytest.raises(error, match=re.escape(message)):
        make()
