"""Properties that planted bugs and mutants showed to be untested: results are copies, and stay unchanged."""

import numpy as np
import pytest
from case_loops import loop_over

from glasscell.core import (
    blocking,
    initializers,
    layer_norm,
    linear,
    losses,
    lstm,
    norms,
    optimizers,
    time_order,
    variants,
)
from glasscell.core.buffers import BufferPool
from glasscell.core.parameters import Parameters
from glasscell.core.variants import CellConfig, DropoutMasks
from glasscell.layers import LSTM

# Memory


def test_without_buffers_earlier_gradients_of_an_affine_map_never_change(rng):
    weight, x = rng.normal(size=(2, 5)), rng.normal(size=(4, 5, 20))
    first = linear.backward(weight, x, rng.normal(size=(4, 2, 20)))
    kept = [gradient.copy() for gradient in first]
    second = linear.backward(weight, rng.normal(size=x.shape), rng.normal(size=(4, 2, 20)))
    for gradient, before, other in zip(first, kept, second, strict=True):
        np.testing.assert_array_equal(gradient, before)
        assert not np.shares_memory(gradient, other)


def test_without_buffers_earlier_gradients_of_the_general_layer_never_change(rng):
    variant, (T, I, H, P, B) = CellConfig(), (4, 3, 5, 2, 3)
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
def test_another_shape_or_dtype_gets_an_array_of_them(earlier):
    buffers = BufferPool()
    buffers.get("a", *earlier)
    other = buffers.get("a", (2, 3), FLOAT64)
    assert (other.shape, other.dtype) == ((2, 3), FLOAT64)
    again = buffers.get("a", *earlier)
    assert (again.shape, again.dtype) == earlier


def test_views_are_recreated_only_for_another_array():
    """Whether it is another one, not whether it is equal; and whichever of them it is."""
    buffers, made = BufferPool(), []

    def steps(name, *arrays):
        def views():
            made.append(name)
            return zip(*arrays, strict=True)

        return buffers.step_views(name, arrays, views)

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
    second_tape = steps("two", b, a)
    assert steps("one", a, b) is known
    assert steps("two", b, a) is second_tape
    assert made == ["one", "two"]


class Remembering(BufferPool):
    """Buffers that tell what was taken; their memory is infinite at first, which no product may meet."""

    def __init__(self):
        super().__init__()
        self.taken = {}

    def get(self, name, shape, dtype):
        self.taken[name] = shape
        array = super().get(name, shape, dtype)
        array.fill(np.inf)
        return array


@loop_over("B", [1, 20])
@loop_over(("I", "H"), [(1, 1), (3, 1), (2, 5), (1, 4), (3, 5), (4, 6)])
def test_old_content_of_buffers_never_raises_a_floating_point_error(I, H, B, rng):
    kernel, x, dh = (rng.normal(size=shape) for shape in [(4 * H, H + I + 1), (5, I, B), (5, H, B)])
    buffers = Remembering()
    with np.errstate(all="raise"):
        gradient = lstm.backward(lstm.forward(kernel, x, buffers=buffers), dh)
    for result, expected in zip(gradient, lstm.backward(lstm.forward(kernel, x), dh), strict=True):
        np.testing.assert_array_equal(result, expected)


# Speed: what a choice between equal ways depends on


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("spare", [0, 1])
@pytest.mark.parametrize(
    ("steps", "columns", "blocks", "products"),
    [
        (0, 0, [1] * 9, [1] * 9),
        (1, 1, [1] * 9, [1] * 9),
        (2, 1, [2, 2, 2, 2, 1], [2, 2, 2, 2, 1]),
        (2, 10, [2, 2, 2, 2, 1], [2, 2, 2, 2, 1]),
        (2, 11, [2, 2, 2, 2, 1], [4, 4, 1]),
        (2, 45, [2, 2, 2, 2, 1], [9]),
        (4, 30, [4, 4, 1], [8, 1]),
        (9, 1, [9], [9]),
        (10, 1000, [9], [9]),
    ],
)
def test_backward_multiplies_several_blocks_at_a_time(steps, columns, blocks, products, spare, dtype, monkeypatch, rng):
    T, I, H, B = 9, 2, 3, 5
    kernel, x, dh = (rng.normal(size=shape).astype(dtype) for shape in [(4 * H, H + I + 1), (T, I, B), (T, H, B)])
    of_a_step = 4 * H * B * x.itemsize
    monkeypatch.setattr(lstm, "BLOCK_BYTES", steps * of_a_step + spare * (of_a_step - 1))
    monkeypatch.setattr(lstm, "MIN_GEMM_COLUMNS", columns)
    lengths = {"blocks": [], "products": []}

    def written(tape, block, factors, dc_dh):
        assert len(factors) == len(dc_dh) == block.stop - block.start
        lengths["blocks"].append(len(factors))
        write_factors(tape, block, factors, dc_dh)

    def multiplied(a, b, buffers):
        assert len(a) == len(b)
        lengths["products"].append(len(a))
        return linear.sum_of_outer_products(a, b, buffers)

    write_factors = lstm._write_local_derivatives
    monkeypatch.setattr(lstm, "_write_local_derivatives", written)
    monkeypatch.setattr(lstm, "sum_of_outer_products", multiplied)
    lstm.backward(lstm.forward(kernel, x), dh)
    assert lengths == {"blocks": blocks, "products": products}


def test_blocks_fit_in_the_cache_and_small_products_are_small():
    assert 1 << 18 <= lstm.BLOCK_BYTES <= 1 << 22
    assert 1 << 10 <= lstm.MIN_GEMM_COLUMNS <= 1 << 13
    assert 1 << 11 <= blocking.BLOCK_SIZE < 10_000
    assert 1 << 20 <= linear.SMALL_GEMM_FLOPS <= 1 << 26
    assert 8 <= linear.NARROW_ROWS <= 32
    assert 8 <= linear.FEW_STEPS <= 64
    assert 1 << 16 <= linear.STEPS_PER_GEMM <= 1 << 22


@pytest.mark.parametrize(
    ("narrow", "small_product", "few", "a_product_a_step"),
    [
        (7, 210, 2, True),
        (6, 10**6, 2, True),
        (1, 211, 2, True),
        (1, 0, 3, True),
        (7, 209, 4, True),
        (8, 210, 2, False),
        (8, 0, 9, False),
        (7, 209, 2, False),
        (1, 0, 2, False),
        (100, 300, 2, False),
    ],
)
def test_wide_batches_use_one_product_per_step_if_small_or_narrow(
    narrow, small_product, few, a_product_a_step, monkeypatch, rng
):
    monkeypatch.setattr(linear, "NARROW_ROWS", narrow)
    monkeypatch.setattr(linear, "SMALL_GEMM_FLOPS", small_product)
    monkeypatch.setattr(linear, "FEW_STEPS", few)
    buffers, (T, M, N, B) = Remembering(), (2, 3, 5, 7)
    a, b = rng.normal(size=(T, M, B)), rng.normal(size=(T, N, B))
    product = linear.sum_of_outer_products(a, b, buffers)
    np.testing.assert_allclose(product, a[0] @ b[0].T + a[1] @ b[1].T, rtol=0, atol=1e-12)
    taken = {"products": (T, M, N)} if a_product_a_step else {"a": (M, T, B), "b": (N, T, B)}
    assert buffers.taken == taken


# Calls


def test_a_gradient_on_the_cells_applies_at_its_step(slope, rng):
    T, I, H, B = 5, 2, 3, 4
    kernel, x, dc = (rng.normal(size=shape) for shape in [(4 * H, H + I + 1), (T, I, B), (T, H, B)])
    direction = rng.normal(size=kernel.shape)
    tape = lstm.forward(kernel, x)
    gradient = lstm.backward(tape, np.zeros((T, H, B)), dc=dc)
    expected = slope(lambda s: np.vdot(dc, lstm.forward(kernel + s * direction, x).c))
    assert abs(np.vdot(gradient.dkernel, direction) - expected) <= 1e-8 * np.linalg.norm(gradient.dkernel)
    general = variants.backward(variants.forward(CellConfig(), {"kernel": kernel}, x), np.zeros((T, H, B)), dc=dc)
    np.testing.assert_allclose(gradient.dkernel, general.dweights["kernel"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(gradient.dx, general.dx, rtol=0, atol=1e-12)


def test_arguments_may_be_keywords_and_flags_must_be(rng):
    x, kernel, mask = rng.normal(size=(4, 2, 3)), rng.normal(size=(20, 8)), np.ones((4, 3), bool)
    tape = lstm.forward(kernel=kernel, x=x, h0=0.0, c0=0.0, buffers=None)
    by_name = lstm.backward(tape=tape, dh=tape.h, dh_T=0.0, dc_T=0.0, buffers=None, dc=None, need_dx=True)
    np.testing.assert_array_equal(by_name.dx, lstm.backward(tape, tape.h).dx)
    order = time_order.time_order(mask=mask, reverse=True)
    np.testing.assert_array_equal(order.to_time_order(steps=x, repeat=False), x[::-1])
    np.testing.assert_array_equal(order.to_time_order_backward(d_time=x, repeat=False), x[::-1])
    names = CellConfig().shapes(I=2, H=3, P=None, peepholes=True, projection_bias=False)
    assert list(names) == ["kernel", "peepholes"]
    for call in (
        lambda: lstm.backward(tape, tape.h, 0.0, 0.0, None, None, True),
        lambda: time_order.time_order(mask, True),
        lambda: order.to_time_order(x, True),
        lambda: order.to_time_order_backward(x, True),
        lambda: CellConfig().shapes(2, 3, None, True),
    ):
        with pytest.raises(TypeError, match="positional argument"):
            call()


# Losses


@loop_over("shape", [(2, 4), (2, 2), (3, 3), (1, 3), (2,), (2, 3, 1)])
def test_classes_of_a_shape_larger_or_smaller_are_refused(shape):
    with pytest.raises(ValueError, match="targets have shape"):
        losses.categorical_cross_entropy(np.zeros((2, 3, 5)), np.zeros(shape, int))


@pytest.mark.parametrize(
    ("targets", "least", "most"), [([0, 6], 0, 6), ([5, 1], 1, 5), ([4, -1], -1, 4), ([-2, 9], -2, 9)]
)
def test_classes_out_of_range_are_named_with_the_range(targets, least, most):
    with pytest.raises(ValueError, match=rf"from {least} to {most}; expected classes from 0 to V - 1 = 4"):
        losses.categorical_cross_entropy(np.zeros((2, 5)), np.array(targets))


@loop_over("shape", [(), (1,), (1, 1), (3,), (1, 3), (2, 1), (2, 3)])
@loop_over("factor", [1.0, 0.25, 3.0])
def test_a_loss_does_not_depend_on_the_scale_of_the_weights(factor, shape, rng):
    outputs, targets, weights = rng.normal(size=(2, 3)), rng.normal(size=(2, 3)), rng.uniform(0.5, 1, size=shape)
    full = np.broadcast_to(weights, (2, 3))
    expected = (full * (outputs - targets) ** 2).sum() / full.sum()
    loss, gradient = losses.squared_error(outputs, targets, np.asarray(factor * weights))
    assert loss == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(gradient, 2 * full * (outputs - targets) / full.sum(), rtol=1e-12)


@pytest.mark.parametrize("weights", [[[1.0], [-1.0]], [[-1.0], [-2.0]], [[np.inf], [1.0]], [[np.nan], [1.0]]])
def test_weights_below_0_or_not_finite_are_refused(weights, rng):
    with pytest.raises(ValueError, match="weights must be "):
        losses.squared_error(rng.normal(size=(2, 3)), rng.normal(size=(2, 3)), np.array(weights))


def test_squared_differences_may_underflow():
    with np.errstate(all="raise"):
        loss, gradient = losses.squared_error(np.full(3, 1e-30, np.float32), np.zeros(3, np.float32))
    assert loss < 1e-37
    np.testing.assert_allclose(gradient, np.full(3, 2e-30 / 3, np.float32), rtol=1e-6)


# Optimisers


@pytest.mark.parametrize(("beta1", "beta2"), [(0.3, 0.4), (0.0, 0.0), (0.9, 0.1), (0.2, 0.95)])
def test_adam_with_small_betas_matches_the_paper(beta1, beta2, rng):
    adam = optimizers.Adam(learning_rate=0.1, beta1=beta1, beta2=beta2, epsilon=1e-3)
    vector, m, v = rng.normal(size=4), 0.0, 0.0
    expected, state = vector.copy(), adam.init_state(vector)
    for t in range(1, 7):
        d = rng.normal(size=4)
        m, v = beta1 * m + (1 - beta1) * d, beta2 * v + (1 - beta2) * d**2
        expected -= 0.1 * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + 1e-3)
        adam.update(vector, d, state)
        np.testing.assert_allclose(vector, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("decay", [0.0, 0.1, 0.4, 0.9])
def test_rmsprop_with_a_small_decay_matches_the_paper(decay, rng):
    rmsprop = optimizers.RMSProp(learning_rate=0.1, decay=decay, epsilon=1e-3, centered=True)
    vector, s, m = rng.normal(size=4), 0.0, 0.0
    expected, state = vector.copy(), rmsprop.init_state(vector)
    for _ in range(6):
        d = rng.normal(size=4)
        s, m = decay * s + (1 - decay) * d**2, decay * m + (1 - decay) * d
        expected -= 0.1 * d / (np.sqrt(np.maximum(s - m**2, 0)) + 1e-3)
        rmsprop.update(vector, d, state)
        np.testing.assert_allclose(vector, expected, rtol=1e-9)


@loop_over("value", [1.0, 1.5, 2.0])
@loop_over(("kind", "name"), [(optimizers.SGD, "momentum"), (optimizers.Adam, "beta2")])
def test_decays_of_1_and_above_are_refused(kind, name, value):
    with pytest.raises(ValueError, match=rf"{name} must be in \[0, 1\), got {value}"):
        kind(**{name: value})


@pytest.mark.parametrize("limit", [0.0, -0.5, -1.0, -2.0, float("nan")])
def test_a_value_limit_must_be_above_0(limit):
    with pytest.raises(ValueError, match="limit must be finite and above 0"):
        norms.clip_by_value(np.ones(2), limit)


@pytest.mark.parametrize("max_norm", [-1e-9, -0.5, -1.0, -2.0, float("nan")])
def test_a_maximum_norm_must_not_be_negative(max_norm):
    with pytest.raises(ValueError, match="max_norm must be finite and 0 or more"):
        norms.clip_by_global_norm(np.ones(2), max_norm)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_large_norm_is_correct_if_its_square_overflows(sign):
    gradient = np.array([3e200, -4e200]) * sign
    assert norms.global_norm(gradient) == pytest.approx(5e200, rel=1e-14)
    np.testing.assert_array_equal(gradient, np.array([3e200, -4e200]) * sign)
    assert norms.global_norm(np.full(100, 1.5e308 * sign)) == np.inf  # it is larger than any number
    for bad in (np.inf, -np.inf):
        assert norms.global_norm(np.array([1.0, bad])) == np.inf
    assert np.isnan(norms.global_norm(np.array([1.0, np.nan])))


# Normalisation


def test_a_gradient_through_a_normalisation_may_underflow(rng):
    normalized = layer_norm.layer_norm(rng.normal(size=(4, 3)).astype(np.float32), 1e-5)
    d = rng.normal(size=(4, 3)).astype(np.float32)
    d_tiny, d_fading = d * np.float32(1e-38), d * np.float32(1e-44)
    with np.errstate(all="raise"):
        tiny = layer_norm.layer_norm_backward(normalized, d_tiny)
        fading = layer_norm.layer_norm_backward(normalized, d_fading)
    expected = layer_norm.layer_norm_backward(normalized, d)
    np.testing.assert_allclose(tiny / np.float32(1e-38), expected, rtol=0, atol=1e-4)
    assert np.abs(fading).max() <= 1e-43


# Noise


@loop_over("part", range(3))
@loop_over("share", [0.0, 0.5, 1.25])
def test_masks_other_than_1_are_not_the_identity(share, part):
    assert DropoutMasks().is_identity
    assert not DropoutMasks(*(share if k == part else 1.0 for k in range(3))).is_identity


# Parameters


def test_rebound_parameters_keep_their_values_in_the_new_vector(rng):
    shapes, values, vector = {"a": (2, 3), "b": (4,)}, rng.normal(size=10), rng.normal(size=12)
    before, moved = vector.copy(), Parameters(shapes, FLOAT64, values.copy())
    moved.rebind(vector[1:11])
    np.testing.assert_array_equal(vector, [before[0], *values, before[11]])
    np.testing.assert_array_equal(moved.vector, values)
    vector[:] = 7
    assert moved.shapes == shapes
    assert all((array == 7).all() for array in (moved.vector, *moved.values()))


# The general layer


@pytest.mark.parametrize("layer_norm", [None, "haste", "tflite", "contrib"])
def test_a_gradient_through_the_general_layer_may_underflow(layer_norm, rng):
    variant, (T, I, H, B) = CellConfig(layer_norm=layer_norm), (6, 2, 3, 4)
    weights = {name: rng.normal(size=shape).astype(np.float32) for name, shape in variant.shapes(I, H).items()}
    tape = variants.forward(variant, weights, rng.normal(size=(T, I, B)).astype(np.float32))
    d = rng.normal(size=(T, H, B)).astype(np.float32)
    fading = d * np.float32(1e-38)
    with np.errstate(all="raise"):
        gradient = variants.backward(tape, fading)
    expected = variants.backward(tape, d)
    close = 1e-4 * np.abs(expected.dh0).max()
    np.testing.assert_allclose(gradient.dh0 / np.float32(1e-38), expected.dh0, rtol=0, atol=close)


def test_without_masks_the_states_are_those_of_the_step_bit_by_bit(rng):
    """And not what is next to it: old + (new - old) is rounded."""
    x, kernel, state = rng.normal(size=(5, 2, 4)), rng.normal(size=(12, 6)), rng.normal(size=(3, 4))
    tape = variants.forward(CellConfig(), {"kernel": kernel}, x, state, state)
    np.testing.assert_array_equal(tape.c, tape.new_c)
    np.testing.assert_array_equal(tape.h, tape.o * tape.output)


def test_lengths_may_change_after_the_forward_pass(rng):
    x, lengths, dh = rng.normal(size=(4, 2, 3)), np.array([0, 2, 4]), rng.normal(size=(4, 3, 3))
    tape = variants.forward(CellConfig(), {"kernel": rng.normal(size=(12, 6))}, x, lengths=lengths)
    before = variants.backward(tape, dh)
    lengths[:] = 3
    np.testing.assert_array_equal(variants.backward(tape, dh).dx, before.dx)


# First values


def test_an_empty_matrix_can_be_initialized(rng):
    assert initializers.glorot_uniform(rng, (0, 0)).shape == (0, 0)


@pytest.mark.parametrize(("rows", "columns"), [(5, 3), (3, 5), (4, 4), (1, 3), (3, 1), (0, 2), (2, 0)])
def test_an_orthogonal_matrix_has_its_shape_and_an_orthonormal_shorter_side(rows, columns, rng):
    matrix = initializers.orthogonal(rng, rows, columns)
    assert matrix.shape == (rows, columns)
    product = matrix @ matrix.T if rows <= columns else matrix.T @ matrix
    np.testing.assert_allclose(product, np.eye(min(rows, columns)), rtol=0, atol=1e-14)


# Where gates are coupled, one set of weights decides for both


@pytest.mark.parametrize("forget_bias", [1.0, -2.5])
@pytest.mark.parametrize("coupled", ["input", "forget"])
def test_a_forget_bias_opens_the_forget_gate_of_coupled_gates(coupled, forget_bias):
    lstm = LSTM(2, 4, coupled=coupled, forget_bias=forget_bias, dtype=np.float64)
    f = lstm.forward(np.zeros((1, 2)))[2].layers[0].f
    np.testing.assert_allclose(f, 1 / (1 + np.exp(-forget_bias)), rtol=1e-14)
