"""The fast layer matches the reference cell in every gate and gradient, and `backward` is its derivative."""

from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
import pytest
from case_loops import loop_over

from glasscell.core import cell, engines, lstm
from glasscell.core.buffers import BufferPool

ENGINES = ["numpy", pytest.param("numba", marks=pytest.mark.skipif(find_spec("numba") is None, reason="no Numba"))]
DTYPES = [np.float32, np.float64]
SIZES = [  # (T, I, H, B)
    (0, 3, 4, 2),
    (1, 3, 4, 2),
    (6, 3, 4, 0),
    (1, 3, 4, 1),
    (6, 1, 1, 1),
    (6, 3, 4, 1),
    (9, 2, 5, 3),
    (5, 12, 2, 4),
    (4, 3, 5, 20),
]


class Problem(NamedTuple):
    kernel: np.ndarray
    x: np.ndarray
    h0: np.ndarray
    c0: np.ndarray
    dh: np.ndarray
    dh_end: np.ndarray
    dc_end: np.ndarray


def random_problem(rng, T=7, I=3, H=5, B=4, dtype=np.float64, scale=1.0):
    """Nothing is 0: neither the biases, nor the initial state, nor the gradient on the final one."""
    shapes = [(4 * H, H + I + 1), (T, I, B), (H, B), (H, B), (T, H, B), (H, B), (H, B)]
    problem = Problem(*(rng.normal(size=shape).astype(dtype) for shape in shapes))
    return problem._replace(kernel=problem.kernel * dtype(scale))


def forward(problem, buffers=None):
    return lstm.forward(problem.kernel, problem.x, problem.h0, problem.c0, buffers)


def backward(problem, tape, buffers=None):
    return lstm.backward(tape, problem.dh, problem.dh_end, problem.dc_end, buffers)


def forward_by_the_page(problem):
    steps, h, c = [], problem.h0, problem.c0
    for x in problem.x:
        steps.append(cell.step(problem.kernel, x, h, c))
        h, c = steps[-1].h, steps[-1].c
    return steps


def backward_by_the_page(problem, steps):
    """The gradient of every step, in the order of the steps."""
    gradients, dh_next, dc_next = [], problem.dh_end, problem.dc_end
    for step, dh in zip(reversed(steps), reversed(problem.dh), strict=True):
        gradients.append(cell.step_backward(problem.kernel, step, dh + dh_next, dc_next))
        dh_next, dc_next = gradients[-1].dh_prev, gradients[-1].dc_prev
    return gradients[::-1]


def whole_gradient(problem, gradients):
    """What the gradients of all steps are together."""
    dkernel = sum((step.dW for step in gradients), np.zeros_like(problem.kernel))
    dx = np.array([step.dx for step in gradients]).reshape(problem.x.shape)
    dh0, dc0 = (gradients[0].dh_prev, gradients[0].dc_prev) if gradients else (problem.dh_end, problem.dc_end)
    return lstm.Gradient(dkernel, dx, dh0, dc0)


def assert_near(a, b, tolerance):
    """Shape by shape, and norm-wise: the largest difference against the largest value."""
    for result, expected in zip(a, b, strict=True):
        assert result.shape == expected.shape
        assert np.abs(result - expected).max(initial=0) <= tolerance * np.abs(expected).max(initial=0)


def assert_equal(a, b):
    for result, expected in zip(a, b, strict=True):
        np.testing.assert_array_equal(result, expected)


def arrays_of(tape):
    """All that a tape names."""
    names = ("u", "x", "i", "f", "o", "g", "c", "tanh_c", "h", "h_with_initial", "c_with_initial", "kernel")
    return [getattr(tape, name) for name in names]


# The page and the fast path, side by side


@loop_over(("T", "I", "H", "B"), SIZES)
def test_gates_and_states_of_every_step_match_the_reference_cell(T, I, H, B, rng):
    problem = random_problem(rng, T, I, H, B)
    tape = forward(problem)
    assert tape.h.shape == (T, H, B)
    for t, step in enumerate(forward_by_the_page(problem)):
        for name in ("u", "i", "f", "o", "g", "c", "tanh_c", "h"):
            np.testing.assert_allclose(getattr(tape, name)[t], getattr(step, name), rtol=0, atol=1e-12, err_msg=name)
        np.testing.assert_array_equal(tape.c_with_initial[t + 1], tape.c[t])
        np.testing.assert_array_equal(tape.h_with_initial[t + 1], tape.h[t])
    assert_equal([tape.x, tape.h_with_initial[0], tape.c_with_initial[0]], [problem.x, problem.h0, problem.c0])


@pytest.mark.parametrize("block_bytes", [0, lstm.BLOCK_BYTES])
def test_gradients_of_every_step_match_the_reference_cell(block_bytes, monkeypatch, rng):
    """With the identity for W_x, dx is dz itself; and begun at step t, the pass ends in the gradients on its past."""
    monkeypatch.setattr(lstm, "BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(lstm, "MIN_GEMM_COLUMNS", block_bytes)
    H = 4
    problem = random_problem(rng, T=8, I=4 * H, H=H, B=3)
    problem.kernel[:, H:-1] = np.eye(4 * H)
    tape = forward(problem)
    reference = backward_by_the_page(problem, forward_by_the_page(problem))
    for t, step in enumerate(reference):
        late = problem._replace(
            x=problem.x[t:], dh=problem.dh[t:], h0=tape.h_with_initial[t], c0=tape.c_with_initial[t]
        )
        gradient = backward(late, forward(late))
        dz = [later.dz for later in reference[t:]]
        dW = sum(later.dW for later in reference[t:])
        assert_near(gradient, (dW, np.array(dz), step.dh_prev, step.dc_prev), 1e-12)


@pytest.mark.parametrize(("T", "I", "H", "B"), SIZES)
def test_gradients_match_the_reference_cell(T, I, H, B, rng):
    problem = random_problem(rng, T, I, H, B)
    by_the_page = whole_gradient(problem, backward_by_the_page(problem, forward_by_the_page(problem)))
    assert_near(backward(problem, forward(problem)), by_the_page, 1e-12)


@pytest.mark.parametrize("together", [1, 4, 6, 10])
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 10, 11])
def test_the_block_size_changes_no_result(steps, together, monkeypatch, rng):
    problem = random_problem(rng, T=10)
    _, H, B = problem.dh.shape
    monkeypatch.setattr(lstm, "BLOCK_BYTES", steps * 4 * H * B * problem.x.itemsize)
    monkeypatch.setattr(lstm, "MIN_GEMM_COLUMNS", together * B)
    by_the_page = whole_gradient(problem, backward_by_the_page(problem, forward_by_the_page(problem)))
    assert_near(backward(problem, forward(problem)), by_the_page, 1e-12)


# Backward is the derivative of forward


@loop_over(("T", "I", "H", "B"), [(1, 3, 4, 2), (9, 2, 5, 3), (5, 12, 2, 4), (4, 3, 5, 20)])
@loop_over("name", ["kernel", "x", "h0", "c0"])
def test_backward_is_the_derivative_in_every_argument(name, T, I, H, B, slope, rng):
    problem = random_problem(rng, T, I, H, B)
    direction = rng.normal(size=getattr(problem, name).shape)

    def loss(s):
        tape = forward(problem._replace(**{name: getattr(problem, name) + s * direction}))
        return (
            np.vdot(problem.dh, tape.h)
            + np.vdot(problem.dh_end, tape.h_with_initial[-1])
            + np.vdot(problem.dc_end, tape.c_with_initial[-1])
        )

    gradient = getattr(backward(problem, forward(problem)), f"d{name}")
    assert abs(np.vdot(gradient, direction) - slope(loss)) <= 1e-8 * np.linalg.norm(gradient)


def test_backward_is_the_adjoint_of_forward(slope, rng):
    """⟨upstream, J v⟩ = ⟨Jᵀ upstream, v⟩, with J v the slope of all outputs along all inputs at once."""
    problem = random_problem(rng, T=12)
    v = [rng.normal(size=array.shape) for array in problem[:4]]

    def outputs(s):
        tape = lstm.forward(*(array + s * move for array, move in zip(problem[:4], v, strict=True)))
        return np.concatenate([tape.h, tape.h_with_initial[-1:], tape.c_with_initial[-1:]])

    upstream = np.concatenate([problem.dh, problem.dh_end[None], problem.dc_end[None]])
    pulled_back = backward(problem, forward(problem))
    size = np.sqrt(sum(np.vdot(gradient, gradient) for gradient in pulled_back))
    result = sum(np.vdot(gradient, move) for gradient, move in zip(pulled_back, v, strict=True))
    assert abs(np.vdot(upstream, slope(outputs)) - result) <= 1e-8 * size


def test_backward_is_linear_in_the_gradients_on_the_outputs(rng):
    one, two = random_problem(rng), random_problem(rng)
    tape = forward(one)
    both = one._replace(**{name: 2 * getattr(one, name) - getattr(two, name) for name in ("dh", "dh_end", "dc_end")})
    expected = [2 * a - b for a, b in zip(backward(one, tape), backward(two, tape), strict=True)]
    assert_near(backward(both, tape), expected, 1e-12)


def test_the_default_gradient_on_the_final_state_is_0(rng):
    problem = random_problem(rng)._replace(dh_end=np.zeros((5, 4)), dc_end=np.zeros((5, 4)))
    tape = forward(problem)
    assert_equal(lstm.backward(tape, problem.dh), backward(problem, tape))


def test_the_default_initial_state_is_0(rng):
    problem = random_problem(rng)._replace(h0=np.zeros((5, 4)), c0=np.zeros((5, 4)))
    assert_equal(arrays_of(lstm.forward(problem.kernel, problem.x)), arrays_of(forward(problem)))


def test_later_steps_have_no_influence(rng):
    problem = random_problem(rng, T=8)
    tape = forward(problem)
    other = forward(problem._replace(x=np.concatenate([problem.x[:5], rng.normal(size=(3, 3, 4))])))
    assert_equal([tape.h[:5], tape.c[:5]], [other.h[:5], other.c[:5]])
    assert (tape.h[5:] != other.h[5:]).any(axis=(1, 2)).all()
    dh = problem.dh.copy()
    dh[5:] = 0
    gradient = lstm.backward(tape, dh)
    assert not gradient.dx[5:].any()
    assert gradient.dx[:5].any(axis=(1, 2)).all()


def test_dx_is_omitted_on_request(rng):
    problem = random_problem(rng)
    tape = forward(problem)
    gradient = backward(problem, tape)
    without = lstm.backward(tape, problem.dh, problem.dh_end, problem.dc_end, need_dx=False)
    assert without.dx.size == 0
    assert_equal(without._replace(dx=gradient.dx), gradient)


# Edges


@pytest.mark.parametrize("dtype", DTYPES)
def test_zero_steps_return_the_state_and_its_gradient(dtype, rng):
    problem = random_problem(rng, T=0, dtype=dtype)
    tape = forward(problem)
    assert_equal([tape.h_with_initial[-1], tape.c_with_initial[-1]], [problem.h0, problem.c0])
    gradient = backward(problem, tape)
    assert_equal(gradient, [np.zeros_like(problem.kernel), problem.x, problem.dh_end, problem.dc_end])


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_empty_batch_has_zero_gradients(dtype, rng):
    problem = random_problem(rng, B=0, dtype=dtype)
    gradient = backward(problem, forward(problem))
    assert_equal(gradient, [np.zeros_like(problem.kernel), problem.x, problem.h0, problem.c0])


@loop_over("dtype", DTYPES)
@loop_over(("T", "I", "H", "B"), SIZES)
def test_dtype_is_preserved(T, I, H, B, dtype, rng):
    problem = random_problem(rng, T, I, H, B, dtype)
    tape = forward(problem)
    gradient = backward(problem, tape)
    assert {array.dtype for array in (*arrays_of(tape), *gradient)} == {np.dtype(dtype)}


# Memory


@pytest.mark.parametrize("engine", ENGINES)
def test_a_pass_reads_nothing_of_an_earlier_pass_in_the_same_buffers(engine, poison, rng):
    """All memory is NaN before every pass, except the tape before a backward pass."""
    separate, backward_only, shared = BufferPool(), BufferPool(), BufferPool()
    sizes = [size for size in [*SIZES, (10, 8, 64, 64)] for _ in range(2)]  # twice: kept arrays and views are reused
    for T, I, H, B in [*sizes, *SIZES[::-1]]:
        problem, run = random_problem(rng, T, I, H, B), engines.select(engine, I, H, B, np.dtype(np.float64))
        arguments = problem.kernel, problem.x, problem.h0, problem.c0
        gradients = problem.dh, problem.dh_end, problem.dc_end
        tape = run.forward(*arguments)
        expected = run.backward(tape, *gradients)
        for forward_buffers, backward_buffers in ((separate, backward_only), (shared, shared)):
            poison(forward_buffers)
            other = run.forward(*arguments, forward_buffers)
            assert_equal(arrays_of(other), arrays_of(tape))
            poison(backward_buffers, other)
            assert_equal(run.backward(other, *gradients, backward_buffers), expected)
        inferred = run.forward_inference(*arguments)
        poison(shared)
        assert_equal(run.forward_inference(*arguments, shared), inferred)


def test_without_buffers_earlier_results_never_change(rng):
    problem, other = random_problem(rng), random_problem(rng)
    tape = forward(problem)
    gradient = backward(problem, tape)
    kept = [array.copy() for array in (*arrays_of(tape), *gradient)]
    backward(other, forward(other))
    backward(other, tape)
    assert_equal([*arrays_of(tape), *gradient], kept)


def test_arguments_and_the_tape_are_not_modified(rng):
    problem = random_problem(rng)
    for array in problem:
        array.flags.writeable = False
    tape = forward(problem)
    for array in (tape.step_inputs, tape.gates, tape.tanh_c, tape.kernel):
        array.flags.writeable = False
    assert_equal(backward(problem, tape), backward(problem, tape))


def test_the_tape_is_independent_of_the_arguments(rng):
    problem = random_problem(rng)
    tape = forward(problem)
    gradient = backward(problem, tape)
    for array in problem[:4]:
        array[:] = np.nan
    assert_equal(backward(problem, tape), gradient)


# Numbers


@pytest.mark.parametrize(("scale", "forward_bound", "gradient_bound"), [(1, 1e-6, 5e-6), (30, 5e-6, 5e-5)])
@pytest.mark.parametrize(("T", "I", "H", "B"), [(10, 3, 8, 4), (30, 8, 32, 16), (100, 1, 16, 2)])
def test_float32_is_close_to_float64(T, I, H, B, scale, forward_bound, gradient_bound, rng):
    """With weights of ±1/√H, and with 30 times that for inputs and biases, which saturates most gates."""
    problem = random_problem(rng, T, I, H, B, np.float32)
    problem.kernel[:] = rng.uniform(-1, 1, size=problem.kernel.shape) / np.sqrt(H)
    problem.kernel[:, H:] *= scale
    exact = Problem(*(array.astype(np.float64) for array in problem))
    tape, exact_tape = forward(problem), forward(exact)
    assert np.abs(tape.h - exact_tape.h).max() <= forward_bound
    assert_near(backward(problem, tape), backward(exact, exact_tape), gradient_bound)


@loop_over("dtype", DTYPES)
@loop_over("size", [1e-40, 1e4, 1e30])
def test_finite_inputs_raise_no_floating_point_error(size, dtype, rng):
    problem = random_problem(rng, T=20, dtype=dtype)
    problem.x[:] *= dtype(size)
    with np.errstate(all="raise"):
        tape = forward(problem)
        gradient = backward(problem, tape)
    assert all(np.isfinite(array).all() for array in (*arrays_of(tape), *gradient))


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_may_underflow(dtype, rng):
    """A forget gate of about e^-6: over 600 steps the gradient goes through the denormal numbers to 0."""
    problem = random_problem(rng, T=600, dtype=dtype, scale=0.1)
    problem.kernel[:, -1] = np.repeat([0, -6, 0, 0], problem.h0.shape[0])
    problem.x[:] = 0
    problem.dh[:-1] = 0
    with np.errstate(all="raise"):
        tape = forward(problem)
        gradient = backward(problem, tape)
    assert np.abs(gradient.dx[-1]).max() > 1e-6
    assert not gradient.dc0.any()
    assert not gradient.dx[0].any()
