"""The softmax loss of many classes is the same computed in blocks, in place and in any layout."""

import numpy as np
import pytest
from case_loops import loop_over

from glasscell.core import linear, losses
from glasscell.core.buffers import BufferPool
from glasscell.core.losses import categorical_cross_entropy

SHAPES = [(4, 3, 1), (4, 3, 7), (1, 1, 12), (5, 2, 40), (3, 1, 1)]  # (B, T, V)
LAYOUTS = [(1, 0, 2), (1, 2, 0), (2, 0, 1)]  # axes of (B, T, V), in the order of memory


@pytest.fixture(params=[1, 25, 1 << 17])
def block(request, monkeypatch):
    """Logits in a block: also fewer than classes, and numbers that do not divide the whole."""
    monkeypatch.setattr(losses, "SOFTMAX_BLOCK", request.param)


def in_layout(array, axes):
    """Return a copy whose axes lie in memory in this order."""
    return np.ascontiguousarray(array.transpose(axes)).transpose(np.argsort(axes))


def expected(z, y, w):
    """Return loss and gradient from their definitions, in float64."""
    p = np.exp(z.astype(np.float64) - z.max(axis=-1, keepdims=True))
    p /= p.sum(axis=-1, keepdims=True)
    one_hot = np.arange(z.shape[-1]) == y[..., None]
    return float((w * -np.log(p[one_hot].reshape(y.shape))).sum() / w.sum()), w[..., None] / w.sum() * (p - one_hot)


@pytest.mark.usefixtures("block")
@loop_over("dtype", [np.float32, np.float64])
@loop_over("weighted", [False, True])
@loop_over("layout", LAYOUTS)
@loop_over("shape", SHAPES)
def test_blocks_layouts_and_writing_in_place_change_no_result(shape, layout, weighted, dtype, rng):
    z = in_layout(rng.normal(scale=4, size=shape).astype(dtype), layout)
    y = rng.integers(0, shape[-1], shape[:-1]).astype(rng.choice(["i4", "i8", "u8"]))
    w = rng.uniform(0, 2, y.shape) * (rng.uniform(size=y.shape) < 0.6) if weighted else np.ones(y.shape)
    w.flat[0] = 1
    loss, gradient = expected(z, y, w)
    before, tolerance = z.copy(), 20 * float(np.finfo(dtype).eps)
    for out in (None, z):
        found_loss, found = categorical_cross_entropy(z, y, w if weighted else None, out=out)
        assert found.dtype == dtype
        assert found is out or np.array_equal(z, before)
        assert found_loss == pytest.approx(loss, rel=tolerance, abs=tolerance)
        np.testing.assert_allclose(found, gradient, rtol=tolerance, atol=tolerance)


@pytest.mark.usefixtures("block")
def test_the_gradient_is_written_into_an_array_with_gaps(rng):
    z, y = rng.normal(size=(3, 5, 6)), rng.integers(0, 6, (3, 5))
    out = np.full((3, 5, 12), 7.0)
    loss, gradient = categorical_cross_entropy(z, y, out=out[..., ::2])
    expected_loss, expected_gradient = expected(z, y, np.ones((3, 5)))
    assert loss == pytest.approx(expected_loss, rel=1e-14)
    np.testing.assert_allclose(out[..., ::2], expected_gradient, atol=1e-15)
    assert np.shares_memory(gradient, out)
    assert (out[..., 1::2] == 7).all()


def test_weights_of_0_give_a_gradient_of_0_in_place(rng):
    z = rng.normal(size=(3, 5, 6))
    loss, gradient = categorical_cross_entropy(z, np.zeros((3, 5), int), np.zeros((3, 5)), out=z)
    assert (loss, gradient is z, np.abs(z).max()) == (0, True, 0)


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("targets", [[[0, 1], [6, 2]], [[0, -1], [1, 2]]])
def test_a_target_out_of_range_is_refused_before_anything_is_written(targets, rng):
    z = rng.normal(size=(2, 2, 6))
    before = z.copy()
    with pytest.raises(ValueError, match="expected classes from 0 to V - 1 = 5"):
        categorical_cross_entropy(z, np.array(targets), out=z)
    np.testing.assert_array_equal(z, before)


@loop_over("dtype", [np.float32, np.float64])
@loop_over(("T", "B", "O"), [(6, 5, 70), (1, 3, 64), (2, 1, 64), (4, 2, 300), (3, 40, 128), (0, 2, 64)])
def test_a_wide_map_in_rows_equals_that_of_columns(T, B, O, dtype, rng):
    weight, bias, x, dy = (rng.normal(size=shape).astype(dtype) for shape in [(O, 9), (O,), (T, 9, B), (T, O, B)])
    tolerance = 200 * float(np.finfo(dtype).eps)
    buffers = BufferPool()
    for _ in range(2):
        rows = linear.in_rows(x, buffers)
        np.testing.assert_array_equal(rows, x)
        y = linear.forward(weight, bias, rows, buffers)
        assert T * B == 0 or B == 1 or linear.is_in_rows(y)
        np.testing.assert_allclose(y, linear.forward(weight, bias, x), rtol=tolerance, atol=tolerance)
        for of_outputs in (dy, in_layout(dy, (0, 2, 1))):
            before, out = of_outputs.copy(), (np.full_like(weight, np.nan), np.full_like(bias, np.nan))
            found = linear.backward(weight, rows, of_outputs, buffers, out)
            assert found[1] is out[0]
            assert found[2] is out[1]
            for one, other in zip(found, linear.backward(weight, x, dy), strict=True):
                np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance * O)
            np.testing.assert_array_equal(of_outputs, before)
