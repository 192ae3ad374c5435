"""Sums of squares and norms are correct wherever the result is finite, even if squares overflow or underflow."""

import numpy as np
import pytest
from case_loops import loop_over

from glasscell.core.blocking import BLOCK_SIZE, SHORT_VECTOR, parts
from glasscell.core.norms import all_finite, clip_by_global_norm, global_norm, sum_of_squares, vector_norms


@loop_over("scale", [1e-44, 1e-38, 3e-23, 1e-20, 1.0, 1e19, 1.9e19, 1e30, 1e37])
@loop_over("size", [1, 7, BLOCK_SIZE + 3])
def test_norms_of_float32_match_float64(scale, size, rng):
    vector = (rng.uniform(0.5, 1.5, size=size) * scale).astype(np.float32)
    expected = np.linalg.norm(vector.astype(np.float64))
    with np.errstate(all="raise"):
        assert global_norm(vector) == pytest.approx(expected, rel=1e-5, abs=0)
        assert sum_of_squares(vector) == pytest.approx(expected**2, rel=1e-5, abs=0)
        found = vector_norms(np.stack([vector, 2 * vector]))
    np.testing.assert_allclose(found, [expected, 2 * expected], rtol=1e-6)
    assert found.dtype == np.float64


@pytest.mark.parametrize("scale", [5e-324, 1e-300, 1e-162, 1.0, 1e155, 1e300])
def test_norms_of_float64_overflow_only_if_the_result_does(scale):
    vector = np.array([3.0, -4.0]) * scale
    with np.errstate(all="raise"):
        found = global_norm(vector), float(vector_norms(vector))
    assert found == (pytest.approx(5 * scale, rel=1e-14, abs=0),) * 2


def test_norms_of_empty_and_nonfinite_vectors():
    assert vector_norms(np.zeros((2, 0))).tolist() == [0, 0]
    assert vector_norms(np.zeros((2, 3), np.float32)).tolist() == [0, 0]
    assert vector_norms(np.array([1.0, -np.inf])) == np.inf
    assert np.isnan(vector_norms(np.array([1.0, np.nan])))
    assert sum_of_squares(np.zeros(3, np.float32)) == 0
    assert sum_of_squares(np.array([np.inf], np.float32)) == np.inf
    assert np.isnan(sum_of_squares(np.array([np.nan], np.float32)))


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_gradients_whose_squares_overflow_are_clipped_to_the_norm(scale, rng):
    gradient = (rng.normal(size=50) * scale).astype(np.float32)
    expected = np.linalg.norm(gradient.astype(np.float64))
    assert clip_by_global_norm(gradient, 0.25) == pytest.approx(expected, rel=1e-6)
    assert np.linalg.norm(gradient.astype(np.float64)) == pytest.approx(min(expected, 0.25), rel=1e-3)


@pytest.mark.parametrize("bound", [np.inf, np.nan, -1.0])
def test_an_invalid_bound_is_refused(bound):
    with pytest.raises(ValueError, match="max_norm must be finite and 0 or more"):
        clip_by_global_norm(np.ones(2), bound)


def test_squares_within_the_range_of_float32_are_added_up_in_float32(rng):
    """By BLAS, as the product of a vector with itself is; copies in float64 would take several times as long."""
    vector = rng.normal(size=BLOCK_SIZE).astype(np.float32)
    assert sum_of_squares(vector) == float(np.dot(vector, vector))
    assert sum_of_squares(vector) != float(np.dot(vector.astype(np.float64), vector.astype(np.float64)))


def test_products_of_vectors_are_of_a_block_at_most(monkeypatch, rng):
    """Longer ones would wake all threads of OpenBLAS."""
    sizes, dot = [], np.dot

    def watched(a, b):
        sizes.append(len(a))
        return dot(a, b)

    monkeypatch.setattr(np, "dot", watched)
    for size in (3, BLOCK_SIZE, 3 * BLOCK_SIZE + 5):
        vector = rng.normal(size=size)
        for function in (all_finite, sum_of_squares, global_norm):
            sizes.clear()
            function(vector)
            assert (sum(sizes), max(sizes)) == (size, min(size, BLOCK_SIZE))


def test_numbers_whose_squares_have_a_finite_sum_are_not_looked_at(monkeypatch, rng):
    looked, isfinite = [], np.isfinite

    def watched(array):
        looked.append(len(array))
        return isfinite(array)

    monkeypatch.setattr(np, "isfinite", watched)
    assert all_finite(rng.normal(size=9))
    assert looked == []
    with np.errstate(over="ignore", invalid="ignore"):
        assert all_finite(np.full(9, 1e200))
        assert not all_finite(np.array([1.0, np.nan]))
    assert looked == [9, 2]


def test_squares_near_the_end_of_the_range_of_float32_are_added_up_in_float64():
    """Their sum is in the range, but each of them has few digits there."""
    vector = np.full(9 * BLOCK_SIZE, 3.1e-21, np.float32)
    expected = len(vector) * float(vector[0]) ** 2
    assert expected > np.finfo(np.float32).tiny
    assert sum_of_squares(vector) == pytest.approx(expected, rel=1e-12, abs=0)


def test_a_vector_is_short_if_it_is_one_part():
    assert len(parts(SHORT_VECTOR - 1)) == 1
    assert len(parts(SHORT_VECTOR)) > 1
