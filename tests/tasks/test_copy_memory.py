"""Law: CopyMemory draws the sequences of Arjovsky, Shah & Bengio (2016), and its baseline is that of the paper."""

import re

import numpy as np
import pytest

import glasscell as gc
from glasscell.tasks import CopyMemory, copy_memory


def reference(inputs, task):
    """Logits of a program that stores the symbols and recalls them after the marker."""
    logits = np.zeros((*inputs.shape[:2], task.output_size))
    for row, sequence in enumerate(inputs.argmax(axis=-1)):
        stored, recalled, seen_marker = [], 0, False
        for t, symbol in enumerate(sequence):
            answer = task.num_symbols
            if seen_marker:
                answer, recalled = stored[recalled], recalled + 1
            elif symbol < task.num_symbols:
                stored.append(symbol)
            seen_marker |= symbol == task.num_symbols + 1
            logits[row, t, answer] = 50
    return logits


@pytest.mark.parametrize(("T", "n", "k"), [(1, 1, 2), (5, 3, 4), (100, 10, 8)])
def test_symbols_blanks_and_marker_are_where_the_paper_has_them(T, n, k, rng):
    task = CopyMemory(T, n, k)
    inputs, targets = task.batch(2000, rng)[:2]
    assert inputs.shape == (2000, T + 2 * n, k + 2)
    np.testing.assert_array_equal(inputs.sum(axis=-1), 1)
    ids = inputs.argmax(axis=-1)
    np.testing.assert_array_equal(targets[:, n + T :], ids[:, :n])  # recalled n + T steps later
    assert (targets[:, : n + T] == k).all()
    assert (ids[:, n : n + T - 1] == k).all()  # T - 1 blanks
    assert (ids[:, n + T - 1] == k + 1).all()
    assert (ids[:, n + T :] == k).all()
    np.testing.assert_allclose(np.bincount(ids[:, :n].ravel(), minlength=k) / (2000 * n), 1 / k, atol=0.05)


def test_a_program_with_memory_solves_it_and_the_baseline_is_that_of_the_paper(rng):
    task = CopyMemory(12, 4, 3)
    batch = task.batch(300, rng)
    outputs = reference(batch.inputs, task)
    assert tuple(copy_memory.sequence_accuracy(outputs, batch)) == (300, 300)
    assert tuple(copy_memory.recall_accuracy(outputs, batch)) == (1200, 1200)
    assert gc.core.losses.categorical_cross_entropy(outputs, batch.targets)[0] < 1e-9
    guess = np.full(outputs.shape, -50.0)  # a blank until the marker, then each symbol with probability 1/k
    guess[:, :16, 3] = guess[:, 16:, :3] = 50
    loss = gc.core.losses.categorical_cross_entropy(guess, batch.targets)[0]
    assert task.memoryless_baseline_loss(batch) == pytest.approx(loss, abs=1e-9)
    outputs[5, -1] *= -1  # one error in the last symbol
    assert np.flatnonzero(~copy_memory.is_correct(outputs, batch)).tolist() == [5]
    assert copy_memory.recall_accuracy(outputs, batch).total == 1199


@pytest.mark.parametrize(("T", "published"), [(100, 0.1733), (200, 0.0945), (300, 0.0650), (500, 0.0400)])
def test_published_baselines(T, published):
    task = CopyMemory(T)
    assert task.memoryless_baseline_loss(task.batch(0, np.random.default_rng(0))) == pytest.approx(published, abs=5e-5)


def test_a_predictor_of_the_current_step_alone_is_worse_than_the_baseline(rng):
    """After a blank it predicts the frequencies of the targets of such steps: n of T - 1 + n are symbols."""
    task = CopyMemory(12, 4, 3)
    batch = task.batch(20, rng)
    p = 4 / (12 - 1 + 4)
    logits = np.full((20, 20, 4), -50.0)
    logits[..., 3] = 50
    logits[batch.inputs[..., 3] == 1] = np.log([p / 3, p / 3, p / 3, 1 - p])
    loss = gc.core.losses.categorical_cross_entropy(logits, batch.targets)[0]
    assert loss > 1.5 * task.memoryless_baseline_loss(batch)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: CopyMemory(0), ValueError, "delay must be at least 1, got 0"),
        (lambda: CopyMemory(2.5), TypeError, "delay must be an integer, got 2.5"),
        (lambda: CopyMemory(length=0), ValueError, "length must be at least 1, got 0"),
        (lambda: CopyMemory(num_symbols=1), ValueError, "num_symbols must be at least 2, got 1"),
        (lambda: CopyMemory(num_symbols="8"), TypeError, "num_symbols must be an integer, got '8'"),
    ],
)
def test_options_are_checked(make, error, message):
    with pytest.raises(error, match=re.escape(message)):
        make()
