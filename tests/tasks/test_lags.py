"""Law: NoiseFreeLag and DistractorLag draw what experiment 2 of Hochreiter & Schmidhuber (1997) describes."""

import re
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from case_loops import loop_over

import glasscell as gc
from glasscell.tasks import DistractorLag, NoiseFreeLag, distractor_lag, noise_free_lag
from glasscell.tasks.generated import largest_errors

cross_entropy = gc.core.losses.categorical_cross_entropy


def onehot(targets, classes, sharpness=30.0):
    return sharpness * np.eye(classes)[targets]


# 2a


@pytest.mark.parametrize("p", [2, 4, 100])
def test_2a_has_two_sequences(p, rng):
    task = NoiseFreeLag(p)
    batch = task.batch(400, rng)
    ids = batch.inputs.argmax(axis=-1)
    assert (batch.inputs.sum(axis=-1) == 1).all()
    assert batch.inputs.shape == (400, p, p + 1)
    whole = {(*row, last) for row, last in zip(ids.tolist(), batch.targets[:, -1].tolist(), strict=True)}
    middle = tuple(range(p - 1))
    assert whole == {(p - 1, *middle, p - 1), (p, *middle, p)}
    np.testing.assert_array_equal(ids[:, 1:], batch.targets[:, :-1])
    assert (batch.targets[:, -1] == p).mean() == pytest.approx(0.5, abs=0.1)


def test_2a_is_solved_with_memory_and_its_baseline_is_that_of_one_guess(rng):
    p = 7
    task = NoiseFreeLag(p)
    batch = task.batch(100, rng)
    ids = batch.inputs.argmax(axis=-1)
    known = onehot(np.where(ids >= p - 1, 0, ids + 1), p + 1)  # the symbol that follows, by the current one
    with_memory = known.copy()
    with_memory[:, -1] = onehot(ids[:, 0], p + 1)
    assert noise_free_lag.is_correct(with_memory, batch).all()
    assert cross_entropy(with_memory, batch.targets)[0] < 1e-10
    memoryless = known.copy()
    memoryless[:, -1] = onehot(np.full(100, p - 1), p + 1) + onehot(np.full(100, p), p + 1)
    assert not noise_free_lag.is_correct(memoryless, batch).any()
    assert cross_entropy(memoryless, batch.targets)[0] == pytest.approx(np.log(2) / p, rel=1e-6)
    assert task.memoryless_baseline_loss(batch) == pytest.approx(np.log(2) / p)


def test_2a_is_judged_at_every_step(rng):
    task = NoiseFreeLag(5)
    batch = task.batch(6, rng)
    outputs = onehot(batch.targets, 6)
    outputs[2, 1] = np.log([0.26, 0.74, 1e-9, 1e-9, 1e-9, 1e-9])
    outputs[4, 3] = np.log(np.eye(6)[batch.targets[4, 3]] * 0.755 + 0.049)
    assert noise_free_lag.is_correct(outputs, batch).tolist() == [True, True, False, True, True, True]
    assert largest_errors(outputs, batch.targets)[2, 1] == pytest.approx(0.26, abs=1e-6)
    assert tuple(noise_free_lag.sequence_accuracy(outputs, batch)) == (5, 6)


# 2b


def test_2b_has_random_symbols_between_two_equal_ones(rng):
    task = DistractorLag("2b", 6)
    batch = task.batch(4000, rng)
    assert batch.inputs.shape == (4000, 6, 7)
    assert all(re.fullmatch(r"(x|y)( a[1-5]){5} \1", string) for string in task.strings(batch))
    symbols = Counter(symbol for string in task.strings(batch) for symbol in string.split()[1:-1])
    assert all(count / 20_000 == pytest.approx(0.2, abs=0.02) for count in symbols.values())
    np.testing.assert_array_equal(batch.inputs.argmax(axis=-1)[:, 1:], batch.targets[:, :-1])
    assert (batch.targets[:, -1] == 6).mean() == pytest.approx(0.5, abs=0.05)


def test_2b_with_and_without_memory(rng):
    p, m = 6, 5
    task = DistractorLag("2b", p)
    batch = task.batch(50, rng)
    ids = batch.inputs.argmax(axis=-1)
    with_memory = np.full((50, p, p + 1), -40.0)
    with_memory[:, :-1, :m] = 0
    with_memory[np.arange(50), -1, ids[:, 0]] = 0
    assert distractor_lag.is_correct(with_memory, batch).all()
    assert cross_entropy(with_memory, batch.targets)[0] == pytest.approx(task.loss_with_memory(batch))
    memoryless = np.full((50, p, p + 1), -40.0)  # frequencies of the next symbol, by the current one
    memoryless[:, :1, :m] = 0
    memoryless[:, 1:, :m] = np.log((m - 1) / m**2)
    memoryless[:, 1:, m:] = np.log(1 / (2 * m))
    assert np.exp(memoryless[0, 2]).sum() == pytest.approx(1)
    assert not distractor_lag.is_correct(memoryless, batch).any()
    assert cross_entropy(memoryless, batch.targets)[0] == pytest.approx(task.memoryless_baseline_loss(batch))


def test_2b_baseline_by_enumeration():
    """Frequencies of pairs of symbols over all sequences: p = 4, hence 2 · 3³ sequences."""
    pairs = Counter()
    for first in "xy":
        for middle in np.ndindex(3, 3, 3):
            sequence = [first, *middle, first]
            pairs.update(pairwise(sequence))
    singles = Counter()
    for (symbol, _), count in pairs.items():
        singles[symbol] += count
    total = sum(pairs.values())
    expected = -sum(count * np.log(count / singles[symbol]) for (symbol, _), count in pairs.items()) / total
    task = DistractorLag("2b", 4)
    assert task.memoryless_baseline_loss(task.test_batch(1)) == pytest.approx(expected)


# 2c


def test_2c_sequences_end_with_the_trigger(rng):
    p, q = 5, 7
    task = DistractorLag("2c", p, q)
    batch = task.batch(5000, rng)
    strings = task.strings(batch)
    assert all(re.fullmatch(rf"b (x|y)( a[1-{p}]){{{q},}} e \1", string) for string in strings)
    additional = batch.lengths - (q + 3)
    assert additional.min() == 0
    for k in range(5):  # a geometric distribution
        assert (additional == k).mean() == pytest.approx(0.1 * 0.9**k, abs=0.015)
    assert batch.lengths.mean() + 1 == pytest.approx(q + 13, abs=0.5)  # with the last symbol
    assert batch.targets.mean() == pytest.approx(0.5, abs=0.03)
    assert set(" ".join(strings).split()) == {f"a{k}" for k in range(1, p + 1)} | set("exyb")
    assert DistractorLag("2c", 9).fewest_distractors == 9


def test_2c_with_and_without_memory(rng):
    task = DistractorLag("2c", 3, 4)
    batch = task.batch(500, rng)
    outputs = onehot(batch.inputs[:, 1].argmax(axis=-1) - 5, 2)  # by the second symbol, x or y
    assert distractor_lag.is_correct(outputs, batch).all()
    assert cross_entropy(outputs, batch.targets)[0] < task.loss_with_memory(batch) + 1e-10
    assert (batch.inputs[np.arange(500), batch.lengths - 1].argmax(axis=-1) == 3).all()  # the last input is always e
    loss = cross_entropy(np.zeros((500, 2)), batch.targets)[0]
    assert task.memoryless_baseline_loss(batch) == pytest.approx(loss)
    outputs = np.log(np.array([[0.79, 0.21], [0.81, 0.19], [0.81, 0.19]]))
    judged = distractor_lag.is_correct(outputs, batch._replace(targets=np.array([0, 0, 1])))
    assert judged.tolist() == [False, True, False]


@loop_over(
    ("make", "error", "message"),
    [
        (lambda: NoiseFreeLag(1), ValueError, "lag must be at least 2, got 1"),
        (lambda: NoiseFreeLag(4.0), TypeError, "lag must be an integer, got 4.0"),
        (lambda: DistractorLag("2a"), ValueError, "experiment must be one of '2b', '2c', got '2a'"),
        (lambda: DistractorLag("2b", 2), ValueError, "num_symbols must be at least 3, got 2"),
        (lambda: DistractorLag("2c", 0), ValueError, "num_symbols must be at least 1, got 0"),
        (lambda: DistractorLag("2b", 5, 5), ValueError, "min_distractors must be None in experiment 2b, got 5"),
        (lambda: DistractorLag("2c", 5, 0), ValueError, "min_distractors must be at least 1, got 0"),
    ],
)
def test_options_are_checked(make, error, message):
    with pytest.raises(error, match=re.escape(message)):
        make()
