"""Laws of the quantile loss: its minimiser is the quantile, its gradient is that of finite differences."""

import numpy as np
import pytest

from glasscell.core.quantile_loss import QuantileLoss


@pytest.mark.parametrize("quantile", [0.1, 0.5, 0.75])
def test_the_minimiser_is_the_quantile(rng, quantile):
    sample = rng.normal(size=(400, 1))
    loss = QuantileLoss((quantile,))
    losses = [loss(np.full((400, 1), value), sample)[0] for value in sample[:, 0]]
    best = sample[int(np.argmin(losses)), 0]
    assert abs((sample <= best).mean() - quantile) <= 1 / 400 + 1e-12


@pytest.mark.parametrize("weighted", [False, True])
def test_the_gradient_is_that_of_finite_differences(rng, weighted):
    loss = QuantileLoss((0.1, 0.5, 0.9))
    outputs, targets = rng.normal(size=(2, 3, 6)), rng.normal(size=(2, 3, 2))
    weights = rng.uniform(size=(2, 3, 1)) if weighted else None
    _, gradient = loss(outputs, targets, weights)
    for index in np.ndindex(outputs.shape):
        step = np.zeros_like(outputs)
        step[index] = 1e-6
        difference = loss(outputs + step, targets, weights)[0] - loss(outputs - step, targets, weights)[0]
        assert difference / 2e-6 == pytest.approx(gradient[index], abs=1e-8)


def test_weights_of_zero_exclude_targets_and_equal_ones_change_nothing(rng):
    loss = QuantileLoss((0.2, 0.8))
    outputs, targets = rng.normal(size=(4, 2)), rng.normal(size=(4, 1))
    weights = np.array([[1.0], [0], [1], [0]])
    value, gradient = loss(outputs, targets, weights)
    kept, gradient_kept = loss(outputs[::2], targets[::2])
    assert value == pytest.approx(kept)
    np.testing.assert_allclose(gradient[::2], gradient_kept)
    assert not gradient[1::2].any()
    assert loss(outputs, targets, 7 * np.ones((4, 1)))[0] == pytest.approx(loss(outputs, targets)[0])
    assert loss(outputs, targets, np.zeros((4, 1)))[0] == 0


@pytest.mark.parametrize("quantiles", [(), (0.5, 0.1), (0.0, 0.5), (0.5, 1.0), (0.5, 0.5), (np.nan,)])
def test_quantiles_increase_between_0_and_1(quantiles):
    with pytest.raises(ValueError, match="quantiles must be increasing numbers between 0 and 1"):
        QuantileLoss(quantiles)


def test_outputs_have_all_quantiles_of_each_target():
    with pytest.raises(ValueError, match=r"outputs must have 2 quantiles for each of \(3, 2\), got shape \(3, 2\)"):
        QuantileLoss((0.1, 0.9))(np.zeros((3, 2)), np.zeros((3, 2)))
