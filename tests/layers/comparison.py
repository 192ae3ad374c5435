"""Compare arrays with references: norm-wise, or bit by bit."""

import numpy as np


def assert_near(result, expected, tolerance=1e-10, least=0.0, *, same_dtype=True):
    """Compare norm-wise: the largest difference, relative to the largest value or `least`."""
    assert result.shape == expected.shape
    assert result.dtype == expected.dtype or not same_dtype
    assert np.abs(result - expected).max(initial=0) <= tolerance * max(least, np.abs(expected).max(initial=0))


def assert_equal(results, references):
    for result, expected in zip(results, references, strict=True):
        np.testing.assert_array_equal(result, expected)
