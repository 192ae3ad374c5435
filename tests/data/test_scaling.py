"""Law: a weight of two counts as the sequence twice in mean and variance, and a weight of zero not at all."""

import numpy as np
import pytest

from glasscell.data.arrays import ArrayData
from glasscell.data.scaling import input_scale, target_scale


@pytest.mark.parametrize("is_ragged", [False, True])
def test_weighted_scales_are_those_of_repeated_sequences(is_ragged, rng):
    x = [rng.normal(size=(int(T) if is_ragged else 4, 2)) for T in rng.integers(1, 6, 8)]
    y, weights = rng.normal(size=(8, 3)), np.array([2, 0, 1, 1, 3, 0, 1, 2])
    rows = np.repeat(np.arange(8), weights)
    weighted, repeated = ArrayData(x, y, sample_weights=weights), ArrayData([x[k] for k in rows], y[rows])
    for scale, features in ((input_scale, 2), (target_scale, 3)):
        a, b = scale(weighted, features), scale(repeated, features)
        np.testing.assert_allclose(a.mean, b.mean, rtol=1e-12)
        np.testing.assert_allclose(a.variance, b.variance, rtol=1e-12)
        plain = scale(ArrayData(x, y), features)
        assert not np.allclose(a.mean, plain.mean, rtol=1e-3)
        assert plain == scale(ArrayData(x, y, sample_weights=np.ones(8)), features)


@pytest.mark.parametrize("is_ragged", [False, True])
def test_targets_of_steps_are_weighted_by_the_weights_of_the_steps(is_ragged, rng):
    lengths = rng.integers(2, 6, 8) if is_ragged else np.full(8, 4)
    x, y = ([rng.normal(size=(int(T), size)) for T in lengths] for size in (2, 3))
    weights = [rng.integers(0, 3, int(T)) for T in lengths]
    for sequence, weight in zip(y, weights, strict=True):
        sequence[weight == 0] = 1e6  # such as a mark of missing targets
    rows = np.repeat(np.concatenate(y), np.concatenate(weights), axis=0)
    scale = target_scale(ArrayData(x, y, sample_weights=weights), 3)
    np.testing.assert_allclose(scale.mean, rows.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(scale.variance, rows.var(axis=0), rtol=1e-12)
    assert input_scale(ArrayData(x, y, sample_weights=weights), 2) == input_scale(ArrayData(x, y), 2)


def test_values_whose_squares_are_no_numbers(rng):
    x = rng.normal(size=(8, 4, 2))
    x[0, 0, 1] = 1e300
    message = r"x must have features whose variance is a number, got 1e\+300 as the largest value of feature 1"
    with pytest.raises(ValueError, match=message):
        input_scale(ArrayData(x, np.zeros(8)), 2)
