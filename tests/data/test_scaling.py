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
