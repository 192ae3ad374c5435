"""Laws that planted bugs and mutants showed to be missing: what is returned is the caller's own, and stays as it is."""

import numpy as np
import pytest

from glasscell.core import linear, losses, variants
from glasscell.core.buffers import Buffers
from glasscell.core.variants import Variant
from glasscell.layers import LSTM


# Memory


def test_without_buffers_an_earlier_gradient_of_an_affine_map_never_changes(rng):
    weight, x = rng.normal(size=(2, 5)), rng.normal(size=(4, 5, 20))
    first = linear.backward(weight, x, rng.normal(size=(4, 2, 20)))
    kept = [gradient.copy() for gradient in first]
    second = linear.backward(weight, rng.normal(size=x.shape), rng.normal(size=(4, 2, 20)))
    for gradient, before, other in zip(first, kept, second, strict=True):
        np.testing.assert_array_equal(gradient, before)
        assert not np.shares_memory(gradient, other)


def test_without_buffers_an_earlier_gradient_of_the_general_layer_never_changes(rng):
    variant, (T, I, H, P, B) = Variant(), (4, 3, 5, 2, 3)
    shapes = variant.shapes(I, H, P, peepholes=True, projection_bias=True)
    weights = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    tape = variants.forward(variant, weights, rng.normal(size=(T, I, B)))
    first, second = (variants.backward(tape, rng.normal(size=(T, P, B))) for _ in range(2))
    again = variants.backward(tape, np.zeros((T, P, B)))
    for name, gradient in [*first.dweights.items(), ("x", first.dx), ("h0", first.dh0), ("c0", first.dc0)]:
        assert gradient.any(), name
    for one, other in ((first, second), (first, again), (second, again)):
        for name in one.dweights:
            assert not np.shares_memory(one.dweights[name], other.dweights[name]), name
        assert not np.shares_memory(one.dx, other.dx)


FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


@pytest.mark.parametrize("earlier", [((2, 3), FLOAT32), ((1, 3), FLOAT64), ((3, 3), FLOAT64), ((2, 2), FLOAT64)])
def test_memory_of_another_shape_or_dtype_larger_or_smaller_is_not_used_again(earlier):
    buffers = Buffers()
    first = buffers.take("a", *earlier)
    other = buffers.take("a", (2, 3), FLOAT64)
    assert (other.shape, other.dtype) == ((2, 3), FLOAT64)
    assert not np.shares_memory(first, other)
    again = buffers.take("a", *earlier)
    assert (again.shape, again.dtype) == earlier


def test_views_are_made_anew_only_for_another_array():
    """Whether it is another one, not whether it is equal; and whichever of them it is."""
    buffers, made = Buffers(), []

    def steps(name, *arrays):
        def views():
            made.append(name)
            return zip(*arrays, strict=True)

        return buffers.steps(name, arrays, views)

    a, b = np.array([[1.0], [2.0]]), np.array([[3.0], [4.0]])
    known = steps("one", a, b)
    np.testing.assert_array_equal(known, [[[1], [3]], [[2], [4]]])
    assert steps("one", a, b) is known
    assert made == ["one"]
    for other in ((a.copy(), b), (a, b.copy()), (b, a), (a,), (a, b, b), (b,), ()):
        assert all(views[k].base is other[k] for views in steps("one", *other) for k in range(len(other)))
        assert len(steps("one", *other)) == (2 if other else 0)
    made.clear()
    known = steps("one", a, b)
    of_two = steps("two", b, a)
    assert steps("one", a, b) is known
    assert steps("two", b, a) is of_two
    assert made == ["one", "two"]


# Losses


@pytest.mark.parametrize("shape", [(2, 4), (2, 2), (3, 3), (1, 3), (2,), (2, 3, 1)])
def test_classes_of_a_shape_larger_or_smaller_are_refused(shape):
    with pytest.raises(ValueError, match="targets have shape"):
        losses.categorical_cross_entropy(np.zeros((2, 3, 5)), np.zeros(shape, int))


@pytest.mark.parametrize(
    ("targets", "least", "most"), [([0, 6], 0, 6), ([5, 1], 1, 5), ([4, -1], -1, 4), ([-2, 9], -2, 9)]
)
def test_classes_out_of_range_are_named_with_the_range(targets, least, most):
    with pytest.raises(ValueError, match=rf"from {least} to {most}; expected classes from 0 to V - 1 = 4"):
        losses.categorical_cross_entropy(np.zeros((2, 5)), np.array(targets))


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (3,), (1, 3), (2, 1), (2, 3)])
@pytest.mark.parametrize("factor", [1.0, 0.25, -3.0])
def test_a_loss_does_not_depend_on_the_scale_of_the_weights(factor, shape, rng):
    outputs, targets, weights = rng.normal(size=(2, 3)), rng.normal(size=(2, 3)), rng.uniform(0.5, 1, size=shape)
    full = np.broadcast_to(weights, (2, 3))
    expected = (full * (outputs - targets) ** 2).sum() / full.sum()
    loss, gradient = losses.squared_error(outputs, targets, np.asarray(factor * weights))
    assert loss == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(gradient, 2 * full * (outputs - targets) / full.sum(), rtol=1e-12)


def test_weights_that_cancel_leave_nothing(rng):
    loss, gradient = losses.squared_error(rng.normal(size=(2, 3)), rng.normal(size=(2, 3)), np.array([[1.0], [-1.0]]))
    assert loss == 0
    np.testing.assert_array_equal(gradient, np.zeros((2, 3)))


def test_differences_whose_square_fades_to_0_are_no_error():
    with np.errstate(all="raise"):
        loss, gradient = losses.squared_error(np.full(3, 1e-30, np.float32), np.zeros(3, np.float32))
    assert loss < 1e-37
    np.testing.assert_allclose(gradient, np.full(3, 2e-30 / 3, np.float32), rtol=1e-6)


# Where gates are coupled, one set of weights decides for both


@pytest.mark.parametrize("forget_bias", [1.0, -2.5])
@pytest.mark.parametrize("coupled", ["input", "forget"])
def test_a_forget_bias_opens_the_forget_gate_also_where_gates_are_coupled(coupled, forget_bias):
    lstm = LSTM(2, 4, coupled=coupled, forget_bias=forget_bias, dtype=np.float64)
    f = lstm.forward(np.zeros((1, 2)))[2].layers[0].f
    np.testing.assert_allclose(f, 1 / (1 + np.exp(-forget_bias)), rtol=1e-14)
