"""A loss is the weighted mean of its definition, its gradient is the derivative, and no logit is too large."""

import numpy as np
import pytest
from case_loops import loop_over

from glasscell.core import losses
from glasscell.core.losses import binary_cross_entropy, categorical_cross_entropy, squared_error

DTYPES = [np.float32, np.float64]
SHAPE = (5, 3, 4)


class Binary:
    def __init__(self, rng):
        self.outputs, self.targets = rng.normal(scale=3, size=SHAPE), rng.uniform(size=SHAPE)

    def __call__(self, outputs, weights=None):
        return binary_cross_entropy(outputs, self.targets.astype(outputs.dtype), weights)

    def of_each(self):
        p, y = 1 / (1 + np.exp(-self.outputs)), self.targets
        return -(y * np.log(p) + (1 - y) * np.log(1 - p))

    def torch(self, functional, outputs, tensor):
        return functional.binary_cross_entropy_with_logits(outputs, tensor(self.targets), reduction="none")


class Squared:
    def __init__(self, rng):
        self.outputs, self.targets = rng.normal(scale=3, size=(2, *SHAPE))

    def __call__(self, outputs, weights=None):
        return squared_error(outputs, self.targets.astype(outputs.dtype), weights)

    def of_each(self):
        return (self.outputs - self.targets) ** 2

    def torch(self, functional, outputs, tensor):
        return functional.mse_loss(outputs, tensor(self.targets), reduction="none")


class Categorical:
    """Classes along the last axis, as in (B, T, V)."""

    axis = -1

    def __init__(self, rng):
        self.outputs = rng.normal(scale=3, size=SHAPE)
        self.targets = rng.integers(SHAPE[self.axis], size=np.delete(SHAPE, self.axis))

    def __call__(self, outputs, weights=None):
        return categorical_cross_entropy(outputs, self.targets, weights, axis=self.axis)

    def of_each(self):
        p = np.exp(self.outputs) / np.exp(self.outputs).sum(axis=self.axis, keepdims=True)
        return -np.log(np.take_along_axis(p, np.expand_dims(self.targets, self.axis), self.axis)).squeeze(self.axis)

    def torch(self, functional, outputs, tensor):
        return functional.cross_entropy(outputs.movedim(self.axis, 1), tensor(self.targets), reduction="none")


class CategoricalColumns(Categorical):
    """Classes along the middle axis, as in (T, V, B)."""

    axis = 1


@pytest.fixture(params=[Binary, Squared, Categorical, CategoricalColumns])
def loss(request, rng):
    return request.param(rng)


def random_weights(loss, rng):
    """Of any size, and 0 for a third of the elements."""
    shape = loss.of_each().shape
    return rng.uniform(0.1, 2, size=shape) * (rng.permutation(np.prod(shape)).reshape(shape) % 3 > 0)


def test_the_loss_is_the_mean_of_its_definition(loss):
    value, _ = loss(loss.outputs)
    assert isinstance(value, float)
    assert value == pytest.approx(loss.of_each().mean(), rel=1e-13)


def test_the_loss_is_the_weighted_mean_of_its_definition(loss, rng):
    weights = random_weights(loss, rng)
    value, _ = loss(loss.outputs, weights)
    assert value == pytest.approx(np.average(loss.of_each(), weights=weights), rel=1e-13)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_gradient_is_the_derivative(loss, weighted, slope, rng):
    weights = random_weights(loss, rng) if weighted else None
    direction = rng.normal(size=loss.outputs.shape)
    _, gradient = loss(loss.outputs, weights)
    numeric = slope(lambda s: loss(loss.outputs + s * direction, weights)[0], step=1e-3)
    assert abs(np.vdot(gradient, direction) - numeric) <= 1e-9 * np.linalg.norm(gradient)


def test_weight_0_excludes_an_element(loss, rng):
    weights = random_weights(loss, rng)
    axis = getattr(loss, "axis", None)
    out = (weights if axis is None else np.expand_dims(weights, axis)) == 0
    value, gradient = loss(loss.outputs, weights)
    other_value, other_gradient = loss(np.where(out, rng.normal(size=SHAPE), loss.outputs), weights)
    assert value == other_value
    np.testing.assert_array_equal(gradient, other_gradient)
    assert not gradient[np.broadcast_to(out, SHAPE)].any()


def test_weights_broadcast(loss, rng):
    row = rng.uniform(size=loss.of_each().shape[-1])
    value, gradient = loss(loss.outputs, row)
    full_value, full_gradient = loss(loss.outputs, np.broadcast_to(row, loss.of_each().shape))
    assert value == pytest.approx(full_value, rel=1e-13)
    np.testing.assert_allclose(gradient, full_gradient, rtol=1e-13)


def test_the_loss_is_0_if_all_weights_are_0(loss):
    value, gradient = loss(loss.outputs, np.zeros(loss.of_each().shape))
    assert value == 0
    np.testing.assert_array_equal(gradient, np.zeros(SHAPE))


@pytest.mark.parametrize("shape", [(0, 3, 4), (5, 3, 0)])
def test_no_elements_have_no_loss(shape):
    empty = np.zeros(shape)
    no_class = np.zeros((shape[0], shape[2]), int)
    for value, gradient in (
        binary_cross_entropy(empty, empty),
        squared_error(empty, empty),
        categorical_cross_entropy(empty, no_class, axis=1),
    ):
        assert value == 0
        assert gradient.shape == shape


def test_float32_is_preserved_and_close_to_float64(loss, rng):
    weights = random_weights(loss, rng)
    value, gradient = loss(loss.outputs, weights)
    value32, gradient32 = loss(loss.outputs.astype(np.float32), weights.astype(np.float32))
    assert gradient32.dtype == np.float32
    assert value32 == pytest.approx(value, rel=1e-6)
    assert np.abs(gradient32 - gradient).max() <= 1e-6 * np.abs(gradient).max()


def test_arguments_are_not_modified(loss, rng):
    weights = random_weights(loss, rng)
    for array in (loss.outputs, loss.targets, weights):
        array.flags.writeable = False
    loss(loss.outputs, weights)


@loop_over("dtype", DTYPES)
@loop_over("target", [0, 0.25, 1])
@loop_over("size", [0, 1e-30, 30, 1e4, "max"])
@loop_over("sign", [1, -1])
def test_no_logit_is_too_large_for_binary_cross_entropy(sign, size, target, dtype):
    z = np.array([sign * (np.finfo(dtype).max if size == "max" else dtype(size))])
    with np.errstate(all="raise"):
        value, gradient = binary_cross_entropy(z, np.array([target], dtype))
    z = z.astype(np.float64)
    expected = target * np.logaddexp(0, -z) + (1 - target) * np.logaddexp(0, z)
    eps = float(np.finfo(dtype).eps)
    assert value == pytest.approx(expected.item(), rel=4 * eps, abs=1e-300)
    np.testing.assert_allclose(gradient, np.exp(-np.logaddexp(0, -z)) - target, rtol=0, atol=eps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("target", [0, 1, 2])
def test_no_logit_is_too_large_for_categorical_cross_entropy(target, dtype):
    huge = np.finfo(dtype).max
    with np.errstate(all="raise"):
        sure, gradient = categorical_cross_entropy(np.array([[1e4, -1e4, 0]], dtype), np.array([target]))
        most, most_gradient = categorical_cross_entropy(np.array([[huge, -huge, 0]], dtype), np.array([target]))
    assert sure == [0, 2e4, 1e4][target]
    assert most == (0 if target == 0 else pytest.approx(huge))
    expected = np.array([[1, 0, 0]]) - np.eye(3)[target]
    np.testing.assert_array_equal(gradient, expected)
    np.testing.assert_array_equal(most_gradient, expected)


@pytest.mark.parametrize("weighted", [False, True])
def test_value_and_gradient_match_pytorch(loss, weighted, torch, rng):
    weights = random_weights(loss, rng) if weighted else np.ones(loss.of_each().shape)
    outputs = torch.tensor(loss.outputs, requires_grad=True)
    element_losses = loss.torch(torch.nn.functional, outputs, torch.tensor)
    expected = (element_losses * torch.tensor(weights)).sum() / weights.sum()
    expected.backward()
    value, gradient = loss(loss.outputs, weights if weighted else None)
    assert value == pytest.approx(expected.item(), rel=1e-13)
    np.testing.assert_allclose(gradient, outputs.grad.numpy(), rtol=0, atol=1e-15)


@pytest.mark.parametrize("loss", [binary_cross_entropy, squared_error])
def test_targets_of_another_shape_are_refused(loss):
    with pytest.raises(ValueError, match=r"\(5,\).*\(5, 1\)"):
        loss(np.zeros((5, 1)), np.zeros(5))


@pytest.mark.parametrize(("targets", "part"), [([[0, 1]], r"\(1, 2\)"), ([-1, 0], "-1"), ([0, 3], "V - 1 = 2")])
def test_targets_that_are_not_classes_are_refused(targets, part):
    with pytest.raises(ValueError, match=part):
        categorical_cross_entropy(np.zeros((2, 3)), np.array(targets))


def test_the_default_axis_of_classes_is_the_last_one(rng):
    logits, targets = rng.normal(size=(2, 3, 4)), rng.integers(4, size=(2, 3))
    loss, gradient = categorical_cross_entropy(logits, targets)
    expected, of_last = categorical_cross_entropy(logits, targets, axis=2)
    assert loss == expected
    np.testing.assert_array_equal(gradient, of_last)


@pytest.mark.parametrize(("of_outputs", "of_targets"), [(np.float32, np.float64), (np.float64, np.float32)])
def test_the_gradient_has_the_dtype_of_the_outputs(of_outputs, of_targets, rng):
    outputs, targets = rng.normal(size=(3, 2)).astype(of_outputs), rng.random((3, 2)).astype(of_targets)
    for loss in (squared_error, binary_cross_entropy):
        assert loss(outputs, targets)[1].dtype == of_outputs


@loop_over("dtype", DTYPES)
@loop_over("weighted", [False, True])
@loop_over(
    ("target", "shown"),
    [(5, "5"), (-3, "-3"), (-0.5, "-0.5"), (np.nextafter(1, 2), "1.0"), (np.nan, "nan"), (np.inf, "inf")],
)
def test_binary_targets_outside_0_and_1_are_refused(target, shown, weighted, dtype, rng):
    targets = rng.integers(2, size=(4, 3)).astype(np.float64)
    targets[2, 1] = target
    weights = np.ones((4, 1), dtype) if weighted else None
    if dtype == np.float32 and 1 < target < 2:
        return  # it is 1 there
    with pytest.raises(ValueError, match=rf"targets must be in \[0, 1\], got {shown}"):
        binary_cross_entropy(np.zeros((4, 3), dtype), targets, weights)
    binary_cross_entropy(np.zeros((2, 3), dtype), np.array([[0, 0.3, 1], [1, 1, 0]]), None)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("target", [np.nan, np.inf])
def test_squared_error_of_targets_that_are_not_finite_is_refused(target, weighted):
    targets = np.array([[1.0, target]])
    with pytest.raises(ValueError, match="targets must be finite"):
        squared_error(np.zeros((1, 2)), targets, np.ones((1, 1)) if weighted else None)


@pytest.mark.parametrize("dtype", [np.float64, np.bool_])
def test_classes_of_another_dtype_are_refused(dtype):
    with pytest.raises(TypeError, match=f"targets must be class numbers, of an integer dtype, got {np.dtype(dtype)}"):
        categorical_cross_entropy(np.zeros((2, 3)), np.array([0, 1]).astype(dtype))


@pytest.mark.parametrize("weights", [[-1.0, 0.5], [np.nan, 1], [np.inf, 1], [1, -1], [2, -1], [1e9, -1e-9]])
def test_weights_below_0_or_not_finite_are_refused(weights, loss):
    arguments = np.zeros(loss.of_each().shape)
    arguments.flat[:2] = weights
    with pytest.raises(ValueError, match="weights must be finite and 0 or more, got"):
        loss(loss.outputs, arguments)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("size", [1e-25, 1e25])
def test_a_squared_error_is_correct_if_squares_overflow_float32(size, weighted):
    outputs = np.array([[3 * size, -4 * size]], np.float32)
    with np.errstate(all="raise"):
        value, gradient = squared_error(
            outputs, np.zeros_like(outputs), np.ones((1, 2), np.float32) if weighted else None
        )
    assert value == pytest.approx(12.5 * size**2, rel=1e-6, abs=0)
    np.testing.assert_allclose(gradient, outputs, rtol=1e-6)


@pytest.mark.parametrize(("weights", "shown"), [([np.inf, 1], "inf"), ([2, -0.5], "-0.5"), ([1, np.nan], "nan")])
def test_weights_that_are_refused_are_named(weights, shown):
    with pytest.raises(ValueError, match=f"^weights must be finite and 0 or more, got {shown}$"):
        squared_error(np.ones(2), np.zeros(2), np.array(weights))


@pytest.mark.parametrize("loss", [binary_cross_entropy, squared_error])
def test_targets_may_be_nan_if_none_of_them_counts(loss, rng):
    value, gradient = loss(rng.normal(size=SHAPE), np.full(SHAPE, np.nan), np.zeros(SHAPE))
    assert value == 0
    np.testing.assert_array_equal(gradient, np.zeros(SHAPE))


@pytest.mark.parametrize(
    ("limit", "shape", "axis", "expected"),
    [(1, (12, 5), 1, 12), (30, (12, 5), 1, 2), (30, (6, 5, 2), 1, 2), (60, (6, 5, 2), 1, 1), (29, (4, 3, 5), -1, 3)],
)
def test_logits_are_treated_in_as_few_blocks_as_the_limit_allows(limit, shape, axis, expected, monkeypatch, rng):
    """A block is of one element or more: those that lie side by side in memory, with all of their classes."""
    monkeypatch.setattr(losses, "SOFTMAX_BLOCK", limit)
    counts, for_each = [], losses.for_each

    def watched(function, blocks):
        counts.append(len(blocks))
        for_each(function, blocks)

    monkeypatch.setattr(losses, "for_each", watched)
    targets = np.zeros(np.delete(shape, axis), int)
    categorical_cross_entropy(rng.normal(size=shape), targets, axis=axis)
    assert counts == [expected]
