"""y_t = W x_t + b at every step, and `backward` is the derivative in W, x and b."""

import tracemalloc

import numpy as np
import pytest
from case_loops import loop_over

from glasscell.core import linear
from glasscell.core.buffers import BufferPool


class Watched(BufferPool):
    """A pool that keeps the names and shapes of the arrays that are asked for."""

    def __init__(self):
        super().__init__()
        self.taken = []

    def get(self, name, shape, dtype):
        self.taken.append((name, shape))
        return super().get(name, shape, dtype)


SIZES = [(0, 2), (3, 0), (1, 1), (4, 3), (3, 20)]  # (T, B): also a wide batch


def problem(rng, T=4, B=3, I=5, O=2):
    """weight, bias, x, and a gradient on y."""
    return tuple(rng.normal(size=shape) for shape in [(O, I), (O,), (T, I, B), (T, O, B)])


@pytest.mark.parametrize(("T", "B"), SIZES)
def test_every_column_is_transformed(T, B, rng):
    weight, bias, x, _ = problem(rng, T, B)
    y = linear.forward(weight, bias, x)
    assert y.shape == (T, len(weight), B)
    for t, b in np.ndindex(T, B):
        np.testing.assert_allclose(y[t, :, b], weight @ x[t, :, b] + bias, rtol=0, atol=1e-13)


@loop_over(("T", "B"), SIZES)
@loop_over("O", [1, 2])
@loop_over("which", range(3), ids=["weight", "bias", "x"])
def test_backward_is_the_derivative(which, O, T, B, slope, rng):
    *arguments, dy = problem(rng, T, B, O=O)
    direction = rng.normal(size=arguments[which].shape)

    def loss(s):
        moved = [*arguments[:which], arguments[which] + s * direction, *arguments[which + 1 :]]
        return np.vdot(dy, linear.forward(*moved))

    dx, dweight, dbias = linear.backward(arguments[0], arguments[2], dy)
    gradient = [dweight, dbias, dx][which]
    assert gradient.shape == direction.shape
    assert abs(np.vdot(gradient, direction) - slope(loss)) <= 1e-8 * np.linalg.norm(gradient)


@pytest.mark.parametrize(("T", "B", "M", "N"), [*((T, B, 4, 3) for T, B in SIZES), (0, 20, 4, 3), (4, 64, 128, 300)])
def test_sum_of_outer_products(T, B, M, N, rng):
    a, b = rng.normal(size=(T, M, B)), rng.normal(size=(T, N, B))
    expected = sum((a[t] @ b[t].T for t in range(T)), np.zeros((M, N)))
    np.testing.assert_allclose(linear.sum_of_outer_products(a, b, BufferPool()), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("of_steps", "lengths"), [(1, [1] * 5), (12, [1] * 5), (24, [2, 2, 1]), (59, [4, 1]), (60, [5])]
)
def test_products_of_steps_are_summed_in_groups(of_steps, lengths, monkeypatch, rng):
    monkeypatch.setattr(linear, "STEPS_PER_GEMM", of_steps)
    a, b, buffers = rng.normal(size=(5, 4, 20)), rng.normal(size=(5, 3, 20)), Watched()
    total = linear.sum_of_outer_products(a, b, buffers)
    np.testing.assert_allclose(total, np.einsum("tmb,tnb->mn", a, b), rtol=0, atol=1e-12)
    assert buffers.taken == [("products", (length, 4, 3)) for length in lengths]


@loop_over(("T", "B", "M", "N"), [*((T, B, 4, 3) for T, B in SIZES), (4, 64, 128, 300)])
@loop_over("layout", [(1, 0, 2), (2, 0, 1), (0, 2, 1)])
def test_the_layout_in_memory_changes_nothing(layout, T, B, M, N, rng):
    """Rows of all steps side by side, sequence by sequence, and what was transposed."""
    a, b, matrix = rng.normal(size=(T, M, B)), rng.normal(size=(T, N, B)), rng.normal(size=(N, M))
    other = a.transpose(layout).copy().transpose(np.argsort(layout))
    of_products = linear.sum_of_outer_products(a, b, BufferPool())
    np.testing.assert_allclose(linear.sum_of_outer_products(other, b, BufferPool()), of_products, rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        linear.batched_matmul(matrix, other), linear.batched_matmul(matrix, a), rtol=0, atol=1e-12
    )


def test_reused_buffers_change_no_result(rng):
    buffers = BufferPool()
    for T, B in [*SIZES, *SIZES[::-1]]:
        weight, _, x, dy = problem(rng, T, B)
        fresh, reused = linear.backward(weight, x, dy), linear.backward(weight, x, dy, buffers)
        for a, b in zip(fresh, reused, strict=True):
            np.testing.assert_array_equal(a, b)


@loop_over(("O", "I", "B"), [(2, 5, 3), (40, 5, 1), (4, 1, 6), (40, 3, 20)])
@loop_over("layout", [(0, 1, 2), (1, 0, 2), (0, 2, 1)])
def test_products_in_kept_memory_have_the_same_bits(layout, O, I, B, rng):
    """Whatever an earlier product left there, and in each order of the axes in memory."""
    buffers = BufferPool()
    for T in (4, 7, 2):
        weight, bias, x, _ = problem(rng, T, B, I, O)
        x = x.transpose(layout).copy().transpose(np.argsort(layout))
        fresh = linear.forward(weight, bias, x)
        np.testing.assert_array_equal(linear.forward(weight, bias, x, buffers), fresh)
        out = np.full((T, O, B), np.nan)
        assert linear.batched_matmul(weight, x, out, buffers) is out
        np.testing.assert_array_equal(out, linear.batched_matmul(weight, x))


@pytest.mark.parametrize("layout", [(0, 1, 2), (1, 0, 2), (0, 2, 1)])
def test_products_in_kept_memory_take_no_other(layout, rng):
    weight, bias, x, _ = (array.astype(np.float32) for array in problem(rng, 50, 40, 100, 90))
    x, buffers = x.transpose(layout).copy().transpose(np.argsort(layout)), BufferPool()
    y = linear.forward(weight, bias, x, buffers)
    tracemalloc.start()
    try:
        linear.forward(weight, bias, x, buffers)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < y.nbytes / 4


def test_arguments_are_not_modified(rng):
    weight, bias, x, dy = problem(rng)
    for array in (weight, bias, x, dy):
        array.flags.writeable = False
    linear.forward(weight, bias, x)
    linear.backward(weight, x, dy)


@pytest.mark.parametrize(("T", "M", "B"), [(3, 4, 8), (2, 3, 1), (5, 2, 3)])
def test_contiguous_arrays_are_not_copied(T, M, B, rng):
    rows = rng.normal(size=(M, T, B))
    laid = linear._merge_time_and_batch(rows.transpose(1, 0, 2), "laid", BufferPool())
    assert np.shares_memory(laid, rows)
    np.testing.assert_array_equal(laid, rows.reshape(M, T * B))


@pytest.mark.parametrize(("T", "M", "B"), [(3, 4, 8), (2, 3, 1), (5, 2, 3)])
@pytest.mark.parametrize("layout", [(0, 1, 2), (2, 0, 1)])
def test_other_arrays_are_copied_to_kept_memory(layout, T, M, B, rng):
    steps, buffers = rng.normal(size=(T, M, B)), Watched()
    steps = steps.transpose(layout).copy().transpose(np.argsort(layout))
    copied = linear._merge_time_and_batch(steps, "copied", buffers)
    assert buffers.taken == [("copied", (M, T, B))]
    assert np.shares_memory(copied, buffers.get("copied", (M, T, B), steps.dtype))
    np.testing.assert_array_equal(copied, steps.transpose(1, 0, 2).reshape(M, T * B))


@pytest.mark.parametrize("T", [1, 6])
@pytest.mark.parametrize("layout", [(1, 0, 2), (0, 1, 2), (2, 0, 1), (0, 2, 1)])
def test_only_steps_that_lie_side_by_side_become_one_product(layout, T, rng):
    """That product needs memory for its columns; other steps, and a single one, are multiplied where they are."""
    matrix, x, buffers = rng.normal(size=(3, 4)), rng.normal(size=(T, 4, 5)), Watched()
    x = x.transpose(layout).copy().transpose(np.argsort(layout))
    linear.batched_matmul(matrix, x, buffers=buffers)
    side_by_side = layout == (1, 0, 2) and T > 1
    assert buffers.taken == ([("columns", (3, 5 * T))] if side_by_side else [])


def test_rows_are_of_several_numbers_and_sequences_at_equal_distances(rng):
    rows = rng.normal(size=(4, 3, 8))  # (T, B, I)
    for some in (rows, rows[:, :, :5], rows[:1, :2], rows[:1, ::2]):
        assert linear.is_in_rows(some.transpose(0, 2, 1))
    windows = np.lib.stride_tricks.sliding_window_view(rows[0, 0], 5)[None]  # they overlap
    few = (rows[:, :1], rows[:1, :1], rows[:, :, :1])
    for other in (*few, rows[:, :2], rows[..., ::2], windows, rows.transpose(0, 2, 1)):
        assert not linear.is_in_rows(other.transpose(0, 2, 1))


def test_one_sequence_or_number_and_rows_are_not_copied(rng):
    rows = rng.normal(size=(4, 3, 8)).transpose(0, 2, 1)
    for x in (rows, rng.normal(size=(4, 8, 1)), rng.normal(size=(4, 1, 3))):
        assert linear.in_rows(x, BufferPool()) is x


@pytest.mark.parametrize(("O", "gaps", "by_rows"), [(3, 0, True), (3, 2, False), (40, 0, True), (40, 2, True)])
def test_rows_become_rows(O, gaps, by_rows, rng):
    """Unless they are parts of longer rows and few numbers come of each. The gradient on such parts is in rows, too."""
    T, I, B = 4, 6, 5
    weight, bias, x, dy = problem(rng, T, B, I + gaps, O)
    x = linear.in_rows(x, BufferPool())[:, :I]
    assert linear.is_in_rows(linear.forward(weight[:, :I], bias, x)) == by_rows
    dx = linear.backward(np.ascontiguousarray(weight[:, :I]), x, dy)[0]
    assert linear.is_in_rows(dx) == (by_rows and gaps > 0)


@pytest.mark.parametrize(
    ("outputs", "sequences", "wide"), [(63, 1, False), (64, 32, True), (64, 33, False), (90, 45, True), (90, 46, False)]
)
def test_a_wide_map_has_64_outputs_and_twice_as_many_as_sequences(outputs, sequences, wide):
    assert linear.is_wide(outputs, sequences) == wide


def test_work_is_divided_into_pieces_of_a_least_size(monkeypatch, rng):
    """Here of 60 numbers: 180 are three pieces, and fewer than 120 are one."""
    monkeypatch.setattr(linear, "MIN_PIECE", 60)
    pieces, for_each = [], linear.for_each

    def watched(function, blocks):
        pieces.append(len(blocks))
        for_each(function, blocks)

    monkeypatch.setattr(linear, "for_each", watched)
    for T, expected in ((5, [3]), (2, [1])):
        weight, _, x, dy = problem(rng, T, 4, 6, 9)
        linear.backward(weight, linear.in_rows(x, BufferPool()), dy)
        assert pieces == expected
        pieces.clear()
    for T, expected in ((5, [3]), (2, [])):
        linear.batched_matmul(rng.normal(size=(9, 6)), rng.normal(size=(T, 6, 4)))
        assert pieces == expected
        pieces.clear()
