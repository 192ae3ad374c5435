"""Law: a step of an RNN and a GRU computes its equations, and the backward pass their derivatives."""

import inspect

import numpy as np
import pytest
from case_loops import loop_over

from glasscell.core import gru, rnn
from glasscell.core.activations import sigmoid
from glasscell.core.buffers import BufferPool

I, H, B, T = 3, 4, 5, 6
STEP = 1e-3  # of differences of fourth order: their error is some 1e-12
CELLS = {
    "tanh": (rnn, {"activation": "tanh"}),
    "relu": (rnn, {"activation": "relu"}),
    "gru": (gru, {}),
    "gru of the paper": (gru, {"reset_after": False}),
}
LENGTHS = [None, np.array([T, 0, 3, T, 1]), np.array([2, 1, 3, 2, 1])]


def of_cell(name, rng, dtype=np.float64):
    cell, options = CELLS[name]
    shape_options = {key: value for key, value in options.items() if key == "reset_after"}
    shapes = cell.shapes(I, H, **shape_options)
    return cell, options, {key: rng.normal(size=shape).astype(dtype) for key, shape in shapes.items()}


def step(name, weights, x, h):
    """One step, as the equations have it."""
    u = np.concatenate([h, x, np.ones_like(x[:1])])
    W = weights["kernel"]
    if name == "tanh":
        return np.tanh(W @ u)
    if name == "relu":
        return np.maximum(W @ u, 0)
    r, z = sigmoid(W[:H] @ u), sigmoid(W[H : 2 * H] @ u)
    inputs = W[2 * H :, H:-1] @ x + W[2 * H :, -1:]
    if name == "gru":
        n = np.tanh(inputs + r * (W[2 * H :, :H] @ h + weights["recurrent_bias"][:, None]))
    else:
        n = np.tanh(inputs + W[2 * H :, :H] @ (r * h))
    return (1 - z) * n + z * h


@loop_over("lengths", LENGTHS, ids=["all steps", "lengths", "short lengths"])
@loop_over("name", CELLS)
def test_forward_is_the_equations_step_by_step(name, lengths, rng):
    cell, options, weights = of_cell(name, rng)
    x, h = rng.normal(size=(T, I, B)), rng.normal(size=(H, B))
    tape = cell.forward(weights, x, h, lengths, **options)
    for t in range(T):
        new = step(name, weights, x[t], h)
        h = new if lengths is None else np.where(t < lengths, new, h)
        np.testing.assert_allclose(tape.h[t], h, rtol=1e-12, atol=1e-13)
    names = ("z",) if cell is rnn else ("r", "z", "n", "q", "a")
    assert all(np.isfinite(getattr(tape, key)).all() for key in names)
    if cell is rnn and lengths is None:
        np.testing.assert_allclose(np.tanh(tape.z) if name == "tanh" else np.maximum(tape.z, 0), tape.h, atol=1e-14)
    elif cell is gru:
        np.testing.assert_allclose(sigmoid(tape.a[:, : 2 * H]), tape.gates[:, : 2 * H], atol=1e-14)
        np.testing.assert_allclose(np.tanh(tape.a[:, 2 * H :]), tape.n, atol=1e-14)


@loop_over("lengths", LENGTHS, ids=["all steps", "lengths", "short lengths"])
@loop_over("name", CELLS)
def test_all_gradients_are_those_of_finite_differences(name, lengths, rng):
    cell, options, weights = of_cell(name, rng)
    x, h0 = rng.normal(size=(T, I, B)), rng.normal(size=(H, B))
    dh, dh_T = rng.normal(size=(T, H, B)), rng.normal(size=(H, B))

    def loss():
        tape = cell.forward(weights, x, h0, lengths, **options)
        return (tape.h * dh).sum() + (tape.h_with_initial[-1] * dh_T).sum()

    tape = cell.forward(weights, x, h0, lengths, **options)
    values = cell.backward(tape, dh, dh_T)
    for array, d in [(x, values.dx), (h0, values.dh0), *((weights[key], values.dweights[key]) for key in weights)]:
        for at in np.ndindex(array.shape):
            value, sums = array[at], []
            for k in (1, -1, 2, -2):
                array[at] = value + k * STEP * 1e-1
                sums.append(loss())
            array[at] = value
            difference = (8 * (sums[0] - sums[1]) - (sums[2] - sums[3])) / (12 * STEP * 1e-1)
            assert abs(difference - d[at]) < 1e-8, (at, difference, d[at])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("batch", [1, B])
@pytest.mark.parametrize("name", CELLS)
def test_inference_gives_the_states_of_a_pass_with_a_tape(name, batch, dtype, rng, monkeypatch):
    monkeypatch.setattr(gru, "INFERENCE_BLOCK_BYTES", 2 * 3 * H * batch * np.dtype(dtype).itemsize)  # two steps
    cell, options, weights = of_cell(name, rng, dtype)
    x, h0 = rng.normal(size=(T - 1, I, batch)).astype(dtype), rng.normal(size=(H, batch)).astype(dtype)
    buffers = BufferPool()
    for lengths in (None, np.full(batch, 3)):
        states = cell.forward_inference(weights, x, h0, lengths, buffers, **options)
        expected = cell.forward(weights, x, h0, lengths, **options).h_with_initial
        assert states.dtype == dtype
        np.testing.assert_allclose(states, expected, rtol=0, atol=4 * np.finfo(dtype).eps * max(1, abs(expected).max()))


@pytest.mark.parametrize("batch", [1, B])
@pytest.mark.parametrize("steps", [0.5, 1.5, 3.5, 99])
def test_inference_keeps_the_gates_of_as_many_steps_as_the_limit_allows(steps, batch, rng, monkeypatch):
    taken = {}

    class Watched(BufferPool):
        def get(self, name, shape, dtype):
            taken[name] = shape
            return super().get(name, shape, dtype)

    monkeypatch.setattr(gru, "INFERENCE_BLOCK_BYTES", int(steps * 3 * H * batch * 8))
    _, _, weights = of_cell("gru", rng)
    gru.forward_inference(weights, rng.normal(size=(T, I, batch)), buffers=Watched())
    assert taken["inference gates"] == (min(T, max(1, int(steps))), 3 * H, batch)


@pytest.mark.parametrize("name", CELLS)
def test_buffers_change_nothing_and_the_tape_is_read_only(name, rng):
    cell, options, weights = of_cell(name, rng)
    x, dh, buffers = rng.normal(size=(T, I, B)), rng.normal(size=(T, H, B)), BufferPool()
    for _ in range(2):
        tape = cell.forward(weights, x, 0.0, None, buffers, **options)
        first, second = (cell.backward(tape, dh, 0.0, buffers) for _ in range(2))
        alone = cell.backward(cell.forward(weights, x, **options), dh)
        for key, d in alone.dweights.items():
            np.testing.assert_array_equal(first.dweights[key], d)
            np.testing.assert_array_equal(second.dweights[key], d)
        assert cell.backward(tape, dh, need_dx=False).dx.size == 0


@pytest.mark.parametrize("name", CELLS)
def test_a_tape_holds_its_weights_and_inputs(name, rng):
    cell, options, weights = of_cell(name, rng)
    x, dh = rng.normal(size=(T, I, B)), rng.normal(size=(T, H, B))
    tape = cell.forward(weights, x, **options)
    before = cell.backward(tape, dh)
    x[:] = 0
    for weight in weights.values():
        weight[:] = 0
    np.testing.assert_array_equal(cell.backward(tape, dh).dx, before.dx)
    np.testing.assert_array_equal(cell.backward(tape, dh).dweights["kernel"], before.dweights["kernel"])


@pytest.mark.parametrize("name", CELLS)
def test_no_steps_and_no_sequences(name, rng):
    cell, options, weights = of_cell(name, rng)
    for steps, batch in ((0, B), (T, 0)):
        x, h0 = np.zeros((steps, I, batch)), rng.normal(size=(H, batch))
        tape = cell.forward(weights, x, h0, **options)
        d = cell.backward(tape, np.zeros((steps, H, batch)), 1.0)
        assert not any(array.any() for array in d.dweights.values())
        np.testing.assert_array_equal(tape.h_with_initial[0], h0)
        assert d.dh0.shape == (H, batch)
        assert steps or (d.dh0 == 1).all()


def test_gates_that_are_shut_or_open_are_exact(rng):
    """A saturated gate neither overflows nor leaves a warning, and lets nothing through."""
    weights = {"kernel": np.zeros((3 * H, H + I + 1)), "recurrent_bias": np.zeros(H)}
    h0, x = rng.normal(size=(H, B)), rng.normal(size=(T, I, B))
    weights["kernel"][H : 2 * H, -1] = 1e6  # the update gate keeps everything
    np.testing.assert_array_equal(gru.forward(weights, x, h0).h[-1], h0)
    weights["kernel"][H : 2 * H, -1] = -1e6
    assert not gru.forward(weights, x, h0).h[-1].any()


def test_the_gradient_of_a_gru_that_keeps_its_state_does_not_fade(rng):
    weights = {"kernel": rng.normal(size=(3 * H, H + I + 1)), "recurrent_bias": np.zeros(H)}
    weights["kernel"][H : 2 * H] = 0
    weights["kernel"][H : 2 * H, -1] = 1e6
    tape = gru.forward(weights, rng.normal(size=(200, I, B)), rng.normal(size=(H, B)))
    d_end = rng.normal(size=(H, B))
    np.testing.assert_array_equal(gru.backward(tape, np.zeros((200, H, B)), d_end).dh0, d_end)
    simple = rnn.forward({"kernel": 0.5 * weights["kernel"][:H]}, tape.x)
    assert abs(rnn.backward(simple, np.zeros((200, H, B)), d_end).dh0).max() < 1e-6


@pytest.mark.parametrize("name", CELLS)
def test_the_initial_state_is_zero_unless_it_is_passed(name, rng):
    cell, options, weights = of_cell(name, rng)
    x = rng.normal(size=(T, I, B))
    expected = cell.forward(weights, x, np.zeros((H, B)), **options).h_with_initial
    np.testing.assert_array_equal(cell.forward(weights, x, **options).h_with_initial, expected)
    np.testing.assert_allclose(cell.forward_inference(weights, x, **options), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("function", [rnn.forward, rnn.forward_inference, gru.forward, gru.forward_inference])
def test_options_of_a_cell_are_passed_by_name(function):
    parameters = list(inspect.signature(function).parameters.values())
    names = [parameter.name for parameter in parameters]
    options = parameters[names.index("buffers") + 1 :]
    assert len(options) >= 2
    assert {option.kind for option in options} == {inspect.Parameter.KEYWORD_ONLY}
    assert parameters[0].kind == inspect.Parameter.POSITIONAL_OR_KEYWORD
