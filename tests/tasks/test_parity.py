"""Law: Parity has the parity of the ones as its target, after the last step or after each one."""

import re

import numpy as np
import pytest

import glasscell as gc
from glasscell.tasks import Parity, parity

cross_entropy = gc.core.losses.binary_cross_entropy


@pytest.mark.parametrize("per_step", [False, True])
@pytest.mark.parametrize("noise", [0, 0.2])
def test_a_product_of_signs_solves_it(per_step, noise, rng):
    task = Parity(3, 9, per_step=per_step, noise=noise)
    batch = task.batch(2000, rng, np.float64)
    x = batch.inputs[..., 0]
    outputs = np.zeros(batch.targets.shape)
    for row, (numbers, n) in enumerate(zip(x, batch.lengths, strict=True)):
        odd = False
        for t, number in enumerate(numbers[:n]):
            odd ^= number > 0
            if per_step:
                outputs[row, t] = 30 if odd else -30
        if not per_step:
            outputs[row] = 30 if odd else -30
    assert parity.is_correct(outputs, batch).all()
    assert cross_entropy(outputs, batch.targets, batch.weights)[0] < 1e-12
    assert set(batch.lengths) == set(range(3, 10))
    valid = np.arange(9) < batch.lengths[:, None]
    assert np.abs(np.abs(x[valid]) - 1).max() <= noise
    if noise:
        assert np.abs(np.abs(x[valid]) - 1).mean() == pytest.approx(noise / 2, rel=0.05)
    assert (x[valid] > 0).mean() == pytest.approx(0.5, abs=0.03)
    outputs[7] *= -1
    outputs[np.arange(outputs.shape[1]) >= batch.lengths[:, None]] = 1  # padding does not count
    assert np.flatnonzero(~parity.is_correct(outputs, batch)).tolist() == [7]


def test_baseline_after_the_last_step(rng):
    task = Parity(2, 5)
    batch = task.batch(4000, rng, np.float64)
    last = batch.inputs[np.arange(4000), batch.lengths - 1, 0]
    for value in (-1, 1):  # the last number says nothing about the parity
        assert batch.targets[last == value].mean() == pytest.approx(0.5, abs=0.04)
    coin = cross_entropy(np.zeros((4000, 1)), batch.targets)[0]
    assert task.memoryless_baseline_loss(batch) == pytest.approx(coin)


def test_baseline_per_step_by_enumeration_and_by_a_large_sample(rng):
    """All sequences of 2, 3 and 4 steps, each length with the same probability."""
    agree = total = 0.0
    for n in (2, 3, 4):
        for bits in np.ndindex(*[2] * n):
            odd = np.cumsum(bits) % 2
            agree += (odd == bits).sum() / 2**n
            total += n / 2**n
    p = agree / total
    expected = -(p * np.log(p) + (1 - p) * np.log(1 - p))
    assert p == pytest.approx((1 + 1 / 3) / 2)
    task = Parity(2, 4, per_step=True)
    batch = task.batch(20_000, rng, np.float64)
    outputs = np.where(batch.inputs > 0, 1, -1) * np.log(p / (1 - p))
    loss = cross_entropy(outputs, batch.targets, batch.weights)[0]
    assert task.memoryless_baseline_loss(batch) == pytest.approx(loss)
    assert loss == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Parity(1, 5), ValueError, "min_length must be at least 2, got 1"),
        (lambda: Parity(5, 4), ValueError, "max_length must be at least min_length = 5, got 4"),
        (lambda: Parity(per_step=1), TypeError, "per_step must be True or False, got 1"),
        (lambda: Parity(noise=1), ValueError, "noise must be at least 0 and below 1, got 1"),
        (lambda: Parity(noise=float("nan")), ValueError, "noise must be at least 0 and below 1, got nan"),
    ],
)
def test_options_are_checked(make, error, message):
    with pytest.raises(error, match=re.escape(message)):
        make()
