"""Law: RepeatCopy draws the sequences of Graves et al. (2014), section 4.2, of any length and number of copies."""

import re

import numpy as np
import pytest

import glasscell as gc
from glasscell.tasks import RepeatCopy, repeat_copy

cross_entropy = gc.core.losses.binary_cross_entropy


def reference(inputs, task):
    """Logits of a program that stores the vectors and the number of copies, and returns them with the end marker."""
    mean = (task.min_repeats + task.max_repeats) / 2
    values = np.arange(task.min_repeats, task.max_repeats + 1)
    logits = np.full((*inputs.shape[:2], task.output_size), -20.0)
    for row, sequence in enumerate(inputs):
        n = int(np.flatnonzero(sequence[:, -2])[0])
        r = round(sequence[n, -1] * (values.std() or 1) + mean)
        for k in range(n * r):
            logits[row, n + 1 + k, :-1] = np.where(sequence[k % n, :-2] > 0, 20, -20)
        logits[row, n + 1 + n * r, -1] = 20
    return logits


@pytest.mark.parametrize("task", [RepeatCopy(), RepeatCopy(2, 1, 3, 2, 4), RepeatCopy(1, 2, 2, 3, 3)], ids=repr)
def test_a_program_with_memory_solves_it(task, rng):
    batch = task.batch(300, rng, np.float64)
    outputs = reference(batch.inputs, task)
    assert repeat_copy.is_correct(outputs, batch).all()
    assert cross_entropy(outputs, batch.targets, batch.weights)[0] < 1e-8
    ends = np.arange(300), batch.lengths - 1
    assert (batch.targets[ends][:, -1] == 1).all()
    assert (batch.weights[ends] == 1).all()
    assert batch.targets[..., -1].sum() == 300
    counts = batch.inputs[..., -2].argmax(axis=1)
    repeats = (batch.lengths - 2 - counts) // counts
    assert set(counts) == set(range(task.min_length, task.max_length + 1))
    assert set(repeats) == set(range(task.min_repeats, task.max_repeats + 1))
    np.testing.assert_array_equal(batch.weights[..., 0].sum(axis=1), counts * repeats + 1)
    for x, n in zip(batch.inputs, counts, strict=True):
        assert not x[n + 1 :].any()  # no input after the number
        assert not x[:n, -2:].any()


def test_the_number_of_copies_is_normalised():
    task = RepeatCopy(max_repeats=10)
    values = task.normalised_repeats(np.arange(1, 11))
    assert values.mean() == pytest.approx(0)
    assert values.var() == pytest.approx(1)
    assert task.normalised_repeats(np.array([20])) == pytest.approx((20 - 5.5) / np.sqrt(8.25))
    assert RepeatCopy(min_repeats=3, max_repeats=3).normalised_repeats(np.array([3, 4])).tolist() == [0, 1]


def test_baseline_by_enumeration_and_by_a_large_sample(rng):
    task = RepeatCopy(3, 1, 4, 2, 3)
    steps = ones = markers = 0  # of the answers to all pairs of n and r
    for n in range(1, 5):
        for r in (2, 3):
            steps, ones, markers = steps + n * r + 1, ones + n * r / 2, markers + 1
    p = np.array([ones / steps] * 3 + [markers / steps])
    expected = -(p * np.log(p) + (1 - p) * np.log(1 - p)).mean()
    batch = task.batch(20_000, rng, np.float64)
    outputs = np.broadcast_to(np.log(p / (1 - p)), batch.targets.shape).copy()
    loss = cross_entropy(outputs, batch.targets, batch.weights)[0]
    assert loss == pytest.approx(expected, rel=0.01)
    assert task.memoryless_baseline_loss(batch) == pytest.approx(loss)
    assert not repeat_copy.is_correct(outputs, batch).any()


def test_generalisation_beyond_training(rng):
    task = RepeatCopy()
    for n, r in ((10, 20), (20, 10)):
        batch = task.batch_of(3, n, r, rng)
        assert batch.inputs.shape == (3, n + 1 + n * r + 1, 10)
        outputs = reference(batch.inputs, task)
        assert repeat_copy.is_correct(outputs, batch).all()
        assert tuple(repeat_copy.correct_prefix(outputs, batch)) == (3 * (n * r + 1), 3)
        outputs[1, n + 1 + 4, 0] *= -1
        assert tuple(repeat_copy.correct_prefix(outputs, batch)) == (2 * (n * r + 1) + 4, 3)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: RepeatCopy(0), ValueError, "bits must be at least 1, got 0"),
        (lambda: RepeatCopy(8, 3, 2), ValueError, "max_length must be at least min_length = 3, got 2"),
        (lambda: RepeatCopy(min_repeats=0), ValueError, "min_repeats must be at least 1, got 0"),
        (lambda: RepeatCopy(max_repeats=2.0), TypeError, "max_repeats must be an integer, got 2.0"),
        (
            lambda: RepeatCopy().batch_of(1, 2, 0, np.random.default_rng(0)),
            ValueError,
            "repeats must be at least 1, got 0",
        ),
    ],
)
def test_options_are_checked(make, error, message):
    with pytest.raises(error, match=re.escape(message)):
        make()
