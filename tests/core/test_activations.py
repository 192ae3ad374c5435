"""σ and tanh are accurate to rounding, their derivatives are correct, and no finite argument raises an error."""

import numpy as np
import pytest
from case_loops import loop_over

from glasscell.core.activations import sigmoid, sigmoid_derivative, tanh, tanh_derivative

DTYPES = [np.float32, np.float64]
PAIRS = [(sigmoid, sigmoid_derivative), (tanh, tanh_derivative)]


def exact_sigmoid(z):
    return 1 / (1 + np.exp(-z.astype(np.longdouble)))


def exact_tanh(z):
    e = np.expm1(-2 * np.abs(z.astype(np.longdouble)))
    return -np.sign(z) * e / (e + 2)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("function", "exact"), [(sigmoid, exact_sigmoid), (tanh, exact_tanh)])
def test_values_are_accurate_to_rounding(function, exact, dtype, rng):
    z = np.concatenate([np.linspace(-50, 50, 2001), rng.normal(size=2000)]).astype(dtype)
    assert np.abs(function(z) - exact(z)).max() <= np.finfo(dtype).eps


@pytest.mark.parametrize(("function", "derivative"), PAIRS)
def test_derivatives_match_finite_differences(function, derivative, slope, rng):
    z = rng.normal(scale=3, size=1000)
    numeric = slope(lambda s: function(z + s))
    np.testing.assert_allclose(derivative(function(z)), numeric, rtol=0, atol=1e-11)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("function", "derivative"), PAIRS)
def test_finite_arguments_raise_no_floating_point_error(function, derivative, dtype):
    info = np.finfo(dtype)
    sizes = [0, info.smallest_subnormal, info.tiny, info.eps, 1, 20, 100, 1e4, 1e30, info.max]
    z = np.array([sign * dtype(size) for size in sizes for sign in (1, -1)])
    with np.errstate(all="raise"):
        y = function(z)
        slopes = derivative(y)
    assert np.isfinite(y).all()
    assert ((slopes >= 0) & (slopes <= 1)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_limits(dtype):
    ends = np.array([-1, 1], dtype) * np.finfo(dtype).max
    np.testing.assert_array_equal(sigmoid(ends), [0, 1])
    np.testing.assert_array_equal(tanh(ends), [-1, 1])
    np.testing.assert_array_equal(sigmoid(np.zeros(1, dtype)), 0.5)


@loop_over("dtype", DTYPES)
@loop_over("shape", [(), (0,), (3,), (2, 0, 4), (2, 3, 4)])
@loop_over("function", [function for pair in PAIRS for function in pair])
def test_shape_and_dtype_are_preserved_and_inputs_unchanged(function, shape, dtype, rng):
    z = rng.uniform(-1, 1, size=shape).astype(dtype)
    before = z.copy()
    y = function(z)
    assert (y.shape, y.dtype) == (shape, dtype)
    np.testing.assert_array_equal(z, before)
