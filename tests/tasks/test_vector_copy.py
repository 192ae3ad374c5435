"""Law: VectorCopy draws the sequences of Graves et al. (2014), at any length, and its scores count what they say."""

import re

import numpy as np
import pytest
from case_loops import loop_over

import glasscell as gc
from glasscell.tasks import VectorCopy, vector_copy


def reference(inputs):
    """Logits of a program that stores the vectors and returns them after the delimiter."""
    logits = np.full((*inputs.shape[:2], inputs.shape[2] - 1), -20.0)
    for row, sequence in enumerate(inputs):
        stored = None
        queue = []
        for t, step in enumerate(sequence):
            if stored is not None and stored:
                logits[row, t] = np.where(stored.pop(0) > 0, 20, -20)
            elif step[-1] == 1:
                stored = queue
            else:
                queue.append(step[:-1])
    return logits


@pytest.mark.parametrize("task", [VectorCopy(), VectorCopy(3, 2, 4), VectorCopy(1, 5, 5)], ids=repr)
def test_a_program_with_memory_solves_it(task, rng):
    batch = task.batch(400, rng, np.float64)
    counts = (batch.lengths - 1) // 2
    assert set(counts) == set(range(task.min_length, task.max_length + 1))
    for x, y, w, n in zip(*batch[:3], counts, strict=True):
        assert np.flatnonzero(x[:, -1]).tolist() == [n]
        np.testing.assert_array_equal(y[n + 1 : 2 * n + 1], x[:n, :-1])
        assert not x[n + 1 :].any()
        assert np.flatnonzero(w[:, 0]).tolist() == list(range(n + 1, 2 * n + 1))
    outputs = reference(batch.inputs)
    assert vector_copy.is_correct(outputs, batch).all()
    np.testing.assert_array_equal(vector_copy.correct_prefixes(outputs, batch), counts)
    assert gc.core.losses.binary_cross_entropy(outputs, batch.targets, batch.weights)[0] < 1e-8
    assert vector_copy.bits_per_sequence(outputs, batch).total < 1e-4
    bits = batch.targets[batch.weights[..., 0] > 0]
    assert bits.mean() == pytest.approx(0.5, abs=0.03)


def test_baseline_is_one_bit_per_bit(rng):
    task = VectorCopy()
    batch = task.batch(500, rng, np.float64)
    silent = np.zeros(batch.targets.shape)
    loss = gc.core.losses.binary_cross_entropy(silent, batch.targets, batch.weights)[0]
    assert task.memoryless_baseline_loss(batch) == pytest.approx(loss, rel=1e-12)
    total = vector_copy.bits_per_sequence(silent, batch)
    assert total.total == pytest.approx(8 * ((batch.lengths - 1) // 2).sum())
    for other in (-0.1, 0.1):  # no other constant is better in expectation: bits are 1 with probability 1/2
        worse = np.logaddexp(0, other) - other / 2
        assert worse > np.log(2)


def test_prefixes_end_at_the_first_wrong_bit(rng):
    batch = VectorCopy(4, 1, 6).batch_of_length(5, 6, rng, np.float64)
    outputs = reference(batch.inputs)
    outputs[1, 7 + 2, 3] *= -1  # third vector
    outputs[1, 7 + 4, 0] *= -1  # fifth
    outputs[4, 7, 0] *= -1
    outputs[2, 3] = 100  # a step without target does not count
    assert vector_copy.correct_prefixes(outputs, batch).tolist() == [6, 2, 6, 6, 0]
    assert vector_copy.is_correct(outputs, batch).tolist() == [True, False, True, True, False]
    assert tuple(vector_copy.correct_prefix(outputs, batch)) == (20, 5)
    assert vector_copy.correct_vectors(outputs, batch)[1].tolist() == [t not in (9, 11) for t in range(13)]


def test_batches_of_one_length_beyond_those_of_training():
    task = VectorCopy()
    batch = task.test_batch_of_length(120, 3)
    assert batch.inputs.shape == (3, 241, 9)
    assert batch.lengths.tolist() == [241] * 3
    np.testing.assert_array_equal(batch.inputs, task.test_batch_of_length(120, 3).inputs)
    assert (batch.inputs != VectorCopy(seed=1).test_batch_of_length(120, 3).inputs).any()
    rows = task.length_table(reference, size=4)
    assert [row["length"] for row in rows] == [10, 20, 30, 50, 120]
    assert all(row["bit_accuracy"] == row["sequence_accuracy"] == 1 for row in rows)
    assert [row["correct_prefix"] for row in rows] == [10, 20, 30, 50, 120]
    (noisy,) = task.length_table(lambda x: np.where(np.arange(x.shape[1])[:, None] <= 7, 20, reference(x)), [7])
    assert noisy["bit_accuracy"] == noisy["sequence_accuracy"] == 1  # outputs before the answer do not count
    (half,) = task.length_table(lambda x: reference(x) * (np.arange(x.shape[1]) < 21 + 20)[:, None], [30], 200)
    assert half["sequence_accuracy"] == 0  # vectors 1 to 10 are right, the others a guess of 0
    assert half["correct_prefix"] == pytest.approx(10, abs=0.1)
    assert half["bit_accuracy"] == pytest.approx(1 / 3 + 2 / 3 / 2, abs=0.02)
    assert half["bits_per_sequence"] == pytest.approx(20 * 8, rel=1e-4)


@loop_over(
    ("make", "error", "message"),
    [
        (lambda: VectorCopy(0), ValueError, "bits must be at least 1, got 0"),
        (lambda: VectorCopy(8, 0), ValueError, "min_length must be at least 1, got 0"),
        (lambda: VectorCopy(8, 5, 4), ValueError, "max_length must be at least min_length = 5, got 4"),
        (lambda: VectorCopy(8, 1, 4.0), TypeError, "max_length must be an integer, got 4.0"),
        (lambda: VectorCopy().test_batch_of_length(0), ValueError, "length must be at least 1, got 0"),
        (lambda: VectorCopy().length_table(reference, size=0), ValueError, "size must be at least 1, got 0"),
        (lambda: VectorCopy().length_table(lambda x: x, [2]), ValueError, "predict must return shape (100, 5, 8), got"),
    ],
)
def test_options_are_checked(make, error, message):
    with pytest.raises(error, match=re.escape(message)):
        make()
