"""Every column has mean 0 and variance 1, independent of the others, and `layer_norm_backward` is the adjoint."""

import numpy as np
import pytest
from case_loops import loop_over

from glasscell.core.layer_norm import layer_norm, layer_norm_backward

DTYPES = [np.float32, np.float64]
SHAPES = [(3, 2), (7, 1), (4, 5, 3), (2, 3, 4, 2)]


@loop_over("shape", SHAPES)
@loop_over("size", [1e-3, 1, 1e6])
def test_mean_0_and_variance_1(size, shape, rng):
    """Without ε exactly; and the scale is what made it so."""
    a = size * (rng.normal(size=shape) + 3 * rng.normal(size=(*shape[:-2], 1, shape[-1])))
    values, scale = layer_norm(a, 0.0)
    np.testing.assert_allclose(values.mean(axis=-2), 0, atol=1e-12)
    np.testing.assert_allclose(np.square(values).mean(axis=-2), 1, rtol=1e-12)
    np.testing.assert_allclose(values, (a - a.mean(axis=-2, keepdims=True)) * scale, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("epsilon", [1e-5, 0.1, 2.0])
def test_epsilon_is_added_to_the_variance(epsilon, rng):
    """One number at a time, and the variance divided by the number of rows, not one less."""
    a = rng.normal(size=(5, 3))
    values, scale = layer_norm(a, epsilon)
    for b in range(3):
        mean = sum(a[:, b]) / 5
        variance = sum((v - mean) ** 2 for v in a[:, b]) / 5
        assert scale[0, b] == pytest.approx((variance + epsilon) ** -0.5, rel=1e-13)
        assert values[:, b] == pytest.approx([(v - mean) / (variance + epsilon) ** 0.5 for v in a[:, b]], rel=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("epsilon", [1e-12, 1e-5, 0.1])
def test_values_and_gradients_match_pytorch(epsilon, shape, torch, rng):
    a, d_values = rng.normal(size=shape), rng.normal(size=shape)
    rows_last = torch.tensor(np.swapaxes(a, -2, -1).copy(), requires_grad=True)
    torch_values = torch.nn.functional.layer_norm(rows_last, shape[-2:-1], eps=epsilon)
    torch_values.backward(torch.tensor(np.swapaxes(d_values, -2, -1).copy()))
    result = layer_norm(a, epsilon)
    np.testing.assert_allclose(result.values, torch_values.detach().numpy().swapaxes(-2, -1), rtol=0, atol=1e-12)
    expected = rows_last.grad.numpy().swapaxes(-2, -1)
    da = layer_norm_backward(result, d_values)
    np.testing.assert_allclose(da, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("epsilon", [1e-3, 0.5])
def test_backward_is_the_adjoint(epsilon, shape, slope, rng):
    """⟨upstream, J v⟩ = ⟨Jᵀ upstream, v⟩."""
    a, v, upstream = rng.normal(size=(3, *shape))
    da = layer_norm_backward(layer_norm(a, epsilon), upstream)
    along = slope(lambda s: layer_norm(a + s * v, epsilon).values, step=1e-3 if epsilon > 0.1 else 1e-4)
    assert abs(np.vdot(upstream, along) - np.vdot(da, v)) <= 1e-7 * np.linalg.norm(da) * np.linalg.norm(v)


def test_results_are_invariant_to_shifts_and_the_gradient_reflects_it(rng):
    a, shift, d_values = rng.normal(size=(6, 4)), rng.normal(size=(1, 4)), rng.normal(size=(6, 4))
    result, shifted = layer_norm(a, 1e-5), layer_norm(a + shift, 1e-5)
    np.testing.assert_allclose(shifted.values, result.values, atol=1e-12)
    np.testing.assert_allclose(layer_norm_backward(result, d_values).sum(axis=0), 0, atol=1e-12)


def test_results_are_invariant_to_scale_without_epsilon(rng):
    a, d_values = rng.normal(size=(6, 4)), rng.normal(size=(6, 4))
    result = layer_norm(a, 0.0)
    np.testing.assert_allclose(layer_norm(7 * a, 0.0).values, result.values, atol=1e-12)
    np.testing.assert_allclose((a * layer_norm_backward(result, d_values)).sum(axis=0), 0, atol=1e-12)


def test_columns_are_independent(rng):
    a, d_values = rng.normal(size=(3, 5, 4)), rng.normal(size=(3, 5, 4))
    before = layer_norm(a, 1e-5)
    d_before = layer_norm_backward(before, d_values)
    a[1, :, 2], d_values[1, :, 2] = 100 * rng.normal(size=(2, 5))
    after = layer_norm(a, 1e-5)
    d_after = layer_norm_backward(after, d_values)
    changed = np.zeros((3, 5, 4), bool)
    changed[1, :, 2] = True
    for one, other in [(before.values, after.values), (d_before, d_after)]:
        np.testing.assert_array_equal(one != other, changed)


@pytest.mark.parametrize("epsilon", [1e-12, 1e-5])
@pytest.mark.parametrize("dtype", DTYPES)
def test_equal_rows_are_normalised_to_0(dtype, epsilon):
    """Numbers whose mean is exact, so that there is nothing but ε to divide by."""
    a = np.full((4, 3), 2.5, dtype)
    with np.errstate(all="raise"):
        result = layer_norm(a, epsilon)
        da = layer_norm_backward(result, np.ones_like(a))
    np.testing.assert_array_equal(result.values, 0)
    np.testing.assert_array_equal(da, 0)


@pytest.mark.parametrize("shape", [(8, 4), (10, 64, 3)])
def test_float32_is_close_to_float64(shape, rng):
    a, d_values = (array.astype(np.float32) for array in rng.normal(size=(2, *shape)))
    exact = layer_norm(a.astype(np.float64), 1e-5)
    result = layer_norm(a, 1e-5)
    assert np.abs(result.values - exact.values).max() <= 2e-6
    d_exact = layer_norm_backward(exact, d_values.astype(np.float64))
    assert np.abs(layer_norm_backward(result, d_values) - d_exact).max() <= 2e-6 * np.abs(d_exact).max()


@loop_over("dtype", DTYPES)
@loop_over("shape", [(3, 2), (1, 2), (3, 0), (0, 3, 2), (4, 3, 0)])
def test_shape_and_dtype_are_preserved_and_inputs_unchanged(shape, dtype, rng):
    a, d_values = rng.normal(size=shape).astype(dtype), rng.normal(size=shape).astype(dtype)
    a.flags.writeable = d_values.flags.writeable = False
    result = layer_norm(a, 1e-5)
    result.values.flags.writeable = result.scale.flags.writeable = False
    da = layer_norm_backward(result, d_values)
    assert result.values.shape == da.shape == shape
    assert result.scale.shape == (*shape[:-2], 1, shape[-1])
    assert {array.dtype for array in (*result, da)} == {np.dtype(dtype)}
