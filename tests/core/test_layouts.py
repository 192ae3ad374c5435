"""Layouts: views between (B, ...) and (..., B)."""

import numpy as np
import pytest

from glasscell.core.layouts import feature_major_zeros, first_axis_last, last_axis_first


@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4)])
def test_views_move_one_axis_and_are_inverse(shape: tuple[int, ...], rng: np.random.Generator) -> None:
    array = rng.normal(size=shape)
    batch_first = last_axis_first(array)
    np.testing.assert_array_equal(batch_first, np.moveaxis(array, -1, 0))
    assert np.shares_memory(batch_first, array)
    np.testing.assert_array_equal(first_axis_last(batch_first), array)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_zeros_are_contiguous_in_the_layout_of_core(dtype: type) -> None:
    zeros = feature_major_zeros((4, 3, 2), dtype)
    assert (zeros.shape, zeros.dtype, zeros.any()) == ((4, 3, 2), dtype, False)
    assert first_axis_last(zeros).flags.c_contiguous
    assert feature_major_zeros((3, 2), dtype).shape == (3, 2)
