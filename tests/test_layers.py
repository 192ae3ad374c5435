"""Law: layers are one function however they are called, their gradients are exact, and what they return is yours."""

import numpy as np
import pytest

from glasscell.core.parameters import Parameters
from glasscell.layers import LSTM, Linear, LSTMState

B, T, I, H = 3, 5, 2, 4
each_stack = pytest.mark.parametrize("num_layers", [1, 2, 3])
each_start = pytest.mark.parametrize("learned", [False, True], ids=["zero start", "learned start"])
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def random_lstm(rng, num_layers=2, learned=True, dtype=np.float64, I=I, H=H):
    """An LSTM of which no parameter is 0."""
    lstm = LSTM(I, H, num_layers, learn_initial_state=learned, dtype=dtype)
    lstm.parameters.vector[:] = rng.normal(scale=0.7, size=lstm.parameters.vector.size)
    return lstm


def random_state(rng, num_layers=2, B=B, H=H):
    return LSTMState(*rng.normal(size=(2, num_layers, B, H)))


def numerical_gradient(f, array, step=3e-4):
    """df/d(every element of the array), by central differences of fourth order."""
    gradient = np.empty_like(array)
    for index in np.ndindex(array.shape):
        value, at = array[index], {}
        for k in (-2, -1, 1, 2):
            array[index] = value + k * step
            at[k] = f()
        array[index] = value
        gradient[index] = (8 * (at[1] - at[-1]) - (at[2] - at[-2])) / (12 * step)
    return gradient


def assert_near(result, expected, tolerance):
    """Norm-wise: the largest difference against the largest value."""
    assert result.shape == expected.shape
    assert np.abs(result - expected).max(initial=0) <= tolerance * np.abs(expected).max(initial=0)


def assert_equal(results, references):
    for a, b in zip(results, references, strict=True):
        np.testing.assert_array_equal(a, b)


def everything(lstm, x, state, dy, dstate):
    """All arrays that a pass forward and backward returns."""
    y, final, tape = lstm.forward(x, state)
    dx, dstart, gradients = lstm.backward(tape, dy, dstate)
    return [y, *final, dx, *dstart, *gradients.values()]


# Gradients


@each_stack
@each_start
@pytest.mark.parametrize("given_state", [False, True])
def test_every_gradient_is_the_derivative(num_layers, learned, given_state, rng):
    lstm = random_lstm(rng, num_layers, learned)
    x, dy, dstate = rng.normal(size=(B, T, I)), rng.normal(size=(B, T, H)), random_state(rng, num_layers)
    state = random_state(rng, num_layers) if given_state else None

    def loss():
        y, final, _ = lstm.forward(x, state)
        return np.vdot(dy, y) + np.vdot(dstate.h, final.h) + np.vdot(dstate.c, final.c)

    dx, dstart, gradients = lstm.backward(lstm.forward(x, state)[2], dy, dstate)
    assert list(gradients) == list(lstm.parameters)
    for name, parameter in lstm.parameters.items():
        assert_near(gradients[name], numerical_gradient(loss, parameter), 1e-8)
    assert_near(dx, numerical_gradient(loss, x), 1e-8)
    if given_state:
        assert_near(dstart.h, numerical_gradient(loss, state.h), 1e-8)
        assert_near(dstart.c, numerical_gradient(loss, state.c), 1e-8)


@each_stack
def test_the_gradient_on_a_start_that_was_not_given_is_that_on_zeros_given(num_layers, rng):
    lstm = random_lstm(rng, num_layers, learned=False)
    x, dy, dstate = rng.normal(size=(B, T, I)), rng.normal(size=(B, T, H)), random_state(rng, num_layers)
    zeros = LSTMState(*np.zeros((2, num_layers, B, H)))
    assert_equal(everything(lstm, x, None, dy, dstate), everything(lstm, x, zeros, dy, dstate))


def test_a_learned_start_is_that_state_given_to_every_sequence(rng):
    lstm = random_lstm(rng)
    x, dy, dstate = rng.normal(size=(B, T, I)), rng.normal(size=(B, T, H)), random_state(rng)
    h, c = (np.array([np.tile(lstm.parameters[f"initial_{s}_l{layer}"], (B, 1)) for layer in range(2)]) for s in "hc")
    y, final, tape = lstm.forward(x)
    given_y, given_final, given_tape = lstm.forward(x, LSTMState(h, c))
    assert_equal([y, *final], [given_y, *given_final])
    dx, dstart, gradients = lstm.backward(tape, dy, dstate)
    given_dx, given_dstart, given_gradients = lstm.backward(given_tape, dy, dstate)
    assert_equal([dx, *dstart], [given_dx, *given_dstart])
    for layer in range(2):
        np.testing.assert_allclose(gradients[f"initial_h_l{layer}"], dstart.h[layer].sum(axis=0), rtol=1e-12)
        np.testing.assert_allclose(gradients[f"initial_c_l{layer}"], dstart.c[layer].sum(axis=0), rtol=1e-12)
        assert not given_gradients[f"initial_h_l{layer}"].any()
        assert not given_gradients[f"initial_c_l{layer}"].any()


@each_stack
def test_a_gradient_on_the_final_state_alone_counts(num_layers, rng):
    """The top layer's final h is its last output; every other final state has a gradient through the state only."""
    lstm = random_lstm(rng, num_layers, learned=False)
    _, _, tape = lstm.forward(rng.normal(size=(B, T, I)), random_state(rng, num_layers))
    dstate, last = LSTMState(*np.zeros((2, num_layers, B, H))), np.zeros((B, T, H))
    dstate.h[-1] = last[:, -1] = rng.normal(size=(B, H))
    by_state, by_output = lstm.backward(tape, d_final_state=dstate), lstm.backward(tape, last)
    assert_near(by_state[0], by_output[0], 1e-12)
    assert_near(by_state[2].vector, by_output[2].vector, 1e-12)
    for layer in range(num_layers):
        for part in range(2):
            dstate = LSTMState(*np.zeros((2, num_layers, B, H)))
            dstate[part][layer] = rng.normal(size=(B, H))
            dx, dstart, gradients = lstm.backward(tape, d_final_state=dstate)
            assert np.abs(dx).min() > 0
            assert gradients[f"kernel_l{layer}"].all()
            assert dstart.h[0].all()


def test_without_an_upstream_gradient_all_is_0(rng):
    lstm = random_lstm(rng)
    dx, dstart, gradients = lstm.backward(lstm.forward(rng.normal(size=(B, T, I)))[2])
    assert not any(array.any() for array in (dx, *dstart, gradients.vector))


# One function, however it is called


@each_stack
@each_start
def test_a_batch_is_its_sequences_one_by_one(num_layers, learned, rng):
    lstm = random_lstm(rng, num_layers, learned)
    x, dy = rng.normal(size=(B, T, I)), rng.normal(size=(B, T, H))
    state, dstate = random_state(rng, num_layers), random_state(rng, num_layers)
    start = None if learned else state
    y, final, tape = lstm.forward(x, start)
    dx, dstart, gradients = lstm.backward(tape, dy, dstate)
    total = np.zeros_like(gradients.vector)
    for b in range(B):
        own = None if learned else LSTMState(state.h[:, b], state.c[:, b])
        y_b, final_b, tape_b = lstm.forward(x[b], own)
        dx_b, dstart_b, gradients_b = lstm.backward(tape_b, dy[b], LSTMState(dstate.h[:, b], dstate.c[:, b]))
        pairs = [(y_b, y[b]), (dx_b, dx[b])]
        pairs += [(one, whole[:, b]) for one, whole in zip((*final_b, *dstart_b), (*final, *dstart), strict=True)]
        for one, whole in pairs:
            assert_near(one, whole, 1e-12)
        total += gradients_b.vector
    assert_near(total, gradients.vector, 1e-12)


def test_a_single_sequence_is_a_batch_of_one(rng):
    lstm = random_lstm(rng)
    x, dy, state, dstate = (
        rng.normal(size=(1, T, I)), rng.normal(size=(1, T, H)), random_state(rng, B=1), random_state(rng, B=1),
    )  # fmt: skip
    of_batch = everything(lstm, x, state, dy, dstate)
    single = everything(lstm, x[0], LSTMState(*np.array(state)[:, :, 0]), dy[0], LSTMState(*np.array(dstate)[:, :, 0]))
    assert [array.ndim for array in single[:6]] == [2] * 6
    assert_equal([array.ravel() for array in single], [array.ravel() for array in of_batch])


def test_a_permuted_batch_gives_permuted_results(rng):
    lstm = random_lstm(rng)
    order = np.array([2, 0, 1])
    x, dy, state, dstate = rng.normal(size=(B, T, I)), rng.normal(size=(B, T, H)), random_state(rng), random_state(rng)
    y, h, c, dx, dh, dc, *gradients = everything(lstm, x, state, dy, dstate)
    permuted_state, permuted_dstate = (LSTMState(s.h[:, order], s.c[:, order]) for s in (state, dstate))
    permuted = everything(lstm, x[order], permuted_state, dy[order], permuted_dstate)
    expected = [y[order], h[:, order], c[:, order], dx[order], dh[:, order], dc[:, order], *gradients]
    for result, reference in zip(permuted, expected, strict=True):
        assert_near(result, reference, 1e-12)


@each_stack
@each_start
@pytest.mark.parametrize("chunks", [[5], [1] * 5, [2, 3], [0, 4, 0, 1, 0]], ids=str)
def test_a_stream_is_the_whole_sequence(chunks, num_layers, learned, rng):
    """Forward with the state handed on, and backward with its gradient handed back."""
    lstm = random_lstm(rng, num_layers, learned)
    x, dy, dstate = rng.normal(size=(B, T, I)), rng.normal(size=(B, T, H)), random_state(rng, num_layers)
    y, final, tape = lstm.forward(x)
    dx, dstart, gradients = lstm.backward(tape, dy, dstate)

    ends = np.cumsum(chunks)[:-1]
    state, outputs, tapes = None, [], []
    for chunk in np.split(x, ends, axis=1):
        output, state, chunk_tape = lstm.forward(chunk, state)
        outputs.append(output)
        tapes.append(chunk_tape)
    back, d_inputs, total = dstate, [], np.zeros_like(gradients.vector)
    for chunk_tape, chunk in zip(tapes[::-1], np.split(dy, ends, axis=1)[::-1], strict=True):
        d_input, back, of_chunk = lstm.backward(chunk_tape, chunk, back)
        d_inputs.insert(0, d_input)
        total += of_chunk.vector

    for result, reference in [
        (np.concatenate(outputs, axis=1), y),
        (np.array(state), np.array(final)),
        (np.concatenate(d_inputs, axis=1), dx),
        (np.array(back), np.array(dstart)),
        (total, gradients.vector),
    ]:
        assert_near(result, reference, 1e-12)


@each_stack
def test_a_stack_is_its_layers_one_after_another(num_layers, rng):
    lstm = random_lstm(rng, num_layers, learned=False)
    y = x = rng.normal(size=(B, T, I))
    outputs, final, tape = lstm.forward(x)
    for layer, kernel in enumerate(lstm.parameters.values()):
        single = LSTM(y.shape[2], H, dtype=np.float64)
        single.parameters["kernel_l0"][:] = kernel
        y, own_final, own_tape = single.forward(y)
        np.testing.assert_array_equal(final.h[layer], own_final.h[0])
        np.testing.assert_array_equal(final.c[layer], own_final.c[0])
        for gate in "ifog":
            np.testing.assert_array_equal(getattr(tape.layers[layer], gate), getattr(own_tape.layers[0], gate))
    np.testing.assert_array_equal(outputs, y)
    np.testing.assert_array_equal(final.h[-1], outputs[:, -1])


# Edges


@each_stack
@each_start
@each_dtype
@pytest.mark.parametrize("shape", [(B, 0, I), (0, T, I), (0, 0, I), (0, I)], ids=str)
def test_no_steps_or_no_sequences(shape, num_layers, learned, dtype, rng):
    lstm = random_lstm(rng, num_layers, learned, dtype)
    y, final, tape = lstm.forward(np.zeros(shape))
    dstate = LSTMState(*rng.normal(size=(2, *final.h.shape)).astype(dtype))
    dx, dstart, gradients = lstm.backward(tape, np.zeros_like(y), dstate)
    assert y.shape == (*shape[:-1], H)
    assert dx.shape == shape
    assert final.h.shape == final.c.shape == dstart.h.shape == (num_layers, *shape[:-2], H)
    if shape[-2] == 0:
        assert_equal(dstart, dstate)
    kernels = [gradient for name, gradient in gradients.items() if name.startswith("kernel")]
    assert not any(kernel.any() for kernel in kernels)
    if learned:
        start = lstm.parameters["initial_c_l0"] if shape[-2] == 0 else np.zeros((0, H))
        np.testing.assert_array_equal(final.c[0], np.broadcast_to(start, final.c[0].shape))
        np.testing.assert_allclose(gradients["initial_h_l0"], dstate.h[0].reshape(-1, H).sum(axis=0), rtol=1e-5)


@each_dtype
@pytest.mark.parametrize("given", [np.float16, np.float32, np.float64, int])
def test_the_layers_dtype_wins(dtype, given, rng):
    lstm = random_lstm(rng, dtype=dtype)
    x, dy = rng.normal(size=(B, T, I)).astype(given), rng.normal(size=(B, T, H)).astype(given)
    state = LSTMState(*rng.normal(size=(2, 2, B, H)).astype(given))
    assert {array.dtype for array in everything(lstm, x, state, dy, state)} == {np.dtype(dtype)}
    linear = Linear(I, H, dtype=dtype)
    y, tape = linear.forward(x)
    dx, gradients = linear.backward(tape, dy)
    assert {array.dtype for array in (y, dx, *gradients.values())} == {np.dtype(dtype)}


def test_lists_are_arrays(rng):
    lstm = random_lstm(rng)
    x = rng.normal(size=(T, I))
    state = np.array(random_state(rng))[:, :, 0]
    assert_equal(lstm.forward(x.tolist(), state.tolist())[1], lstm.forward(x, LSTMState(*state))[1])


# What is returned is the caller's own


@each_stack
def test_results_share_no_memory(num_layers, rng):
    lstm = random_lstm(rng, num_layers)
    x, dy = rng.normal(size=(B, T, I)), rng.normal(size=(B, T, H))
    state, dstate = random_state(rng, num_layers), random_state(rng, num_layers)
    y, final, tape = lstm.forward(x, state)
    dx, dstart, gradients = lstm.backward(tape, dy, dstate)
    inside = [array for layer in tape.layers for array in (layer.step_inputs, layer.gates, layer.tanh_c, layer.kernel)]
    arrays = [x, dy, *state, *dstate, y, *final, dx, *dstart, gradients.vector, lstm.parameters.vector, *inside]
    for k, array in enumerate(arrays):
        assert not any(np.shares_memory(array, other) for other in arrays[:k])


@pytest.mark.parametrize("single", [False, True])
def test_spoiling_results_changes_nothing_later(single, rng):
    lstm = random_lstm(rng, num_layers=2)
    shape = (T,) if single else (B, T)
    x, dy, other = rng.normal(size=(*shape, I)), rng.normal(size=(*shape, H)), rng.normal(size=(*shape, I))
    first = everything(lstm, x, None, dy, None)
    kept = [array.copy() for array in first]
    second = everything(lstm, other, None, dy, None)
    assert_equal(first, kept)
    for array in (*first, *second):
        array[...] = np.nan
    assert_equal(everything(lstm, x, None, dy, None), kept)


def test_the_tape_may_be_used_again_and_keeps_what_it_needs(rng):
    lstm = random_lstm(rng)
    x, dy, state, dstate = rng.normal(size=(B, T, I)), rng.normal(size=(B, T, H)), random_state(rng), random_state(rng)
    y, final, tape = lstm.forward(x, state)

    def backward():
        dx, dstart, gradients = lstm.backward(tape, dy, dstate)
        return [dx, *dstart, *gradients.values()]

    first = backward()
    kept = [array.copy() for array in first]
    assert_equal(backward(), kept)
    for array in (x, y, *state, *final, *first, lstm.parameters.vector):
        array[...] = np.nan
    assert_equal(backward(), kept)


def test_nothing_given_is_changed(rng):
    lstm = random_lstm(rng)
    x, dy, state, dstate = rng.normal(size=(B, T, I)), rng.normal(size=(B, T, H)), random_state(rng), random_state(rng)
    for array in (x, dy, *state, *dstate, *lstm.parameters.values()):
        array.flags.writeable = False
    everything(lstm, x, state, dy, dstate)


# First values


@pytest.mark.parametrize("initializer", ["orthogonal", "glorot", "uniform"])
def test_the_seed_decides_and_every_gate_and_layer_draws_its_own(initializer):
    def draw(seed):
        return LSTM(8, 8, 2, initializer=initializer, dtype=np.float64, seed=seed).parameters

    np.testing.assert_array_equal(draw(3).vector, draw(3).vector)
    np.testing.assert_array_equal(draw(3).vector, draw(np.random.default_rng(3)).vector)
    weights = np.concatenate([kernel[:, :-1].ravel() for kernel in draw(3).values()])
    assert len(np.unique(weights)) == weights.size
    assert not np.isin(draw(4)["kernel_l0"][:, :-1], weights).any()


def test_one_generator_serves_several_layers():
    rng = np.random.default_rng(0)
    one, two = LSTM(3, 4, seed=rng), LSTM(3, 4, seed=rng)
    assert not np.isin(one.parameters["kernel_l0"][:, :-1], two.parameters["kernel_l0"][:, :-1]).any()


@pytest.mark.parametrize("forget_bias", [0.0, 1.0, -2.5])
@pytest.mark.parametrize("initializer", ["orthogonal", "glorot"])
def test_biases_are_0_but_for_the_forget_gate(initializer, forget_bias):
    lstm = LSTM(I, H, 2, initializer=initializer, forget_bias=forget_bias, dtype=np.float64)
    for kernel in lstm.parameters.values():
        np.testing.assert_array_equal(kernel[:, -1], np.repeat([0, forget_bias, 0, 0], H))
    tape = lstm.forward(np.zeros((1, I)))[2].layers[0]
    np.testing.assert_allclose(tape.f, 1 / (1 + np.exp(-forget_bias)), rtol=1e-15)
    np.testing.assert_allclose([tape.i, tape.o], 0.5, rtol=1e-15)
    np.testing.assert_array_equal(tape.g, np.zeros((1, H, 1)))


def test_the_forget_gate_is_open_at_first_unless_told():
    np.testing.assert_array_equal(LSTM(I, H).parameters["kernel_l0"][H : 2 * H, -1], 1)


def test_recurrent_weights_of_each_gate_are_orthogonal():
    lstm = LSTM(I, H, 2, dtype=np.float64)
    for kernel in lstm.parameters.values():
        for recurrent in np.split(kernel[:, :H], 4):
            np.testing.assert_allclose(recurrent @ recurrent.T, np.eye(H), rtol=0, atol=1e-14)


@pytest.mark.parametrize("initializer", ["orthogonal", "glorot"])
def test_weights_have_the_variance_of_glorot(initializer):
    I, H = 30, 60
    kernel = LSTM(I, H, initializer=initializer, dtype=np.float64).parameters["kernel_l0"]
    assert kernel[:, H:-1].var() == pytest.approx(2 / (I + H), rel=0.1)
    assert np.abs(kernel[:, H:-1]).max() <= np.sqrt(6 / (I + H))
    if initializer == "glorot":
        assert kernel[:, :H].var() == pytest.approx(1 / H, rel=0.1)
        assert np.abs(kernel[:, :H]).max() <= np.sqrt(3 / H)


def test_uniform_fills_the_bounds_of_pytorch():
    H = 64
    kernel = LSTM(I, H, initializer="uniform", forget_bias=0.0, dtype=np.float64).parameters["kernel_l0"]
    assert 0.99 / 8 < np.abs(kernel).max() <= 1 / 8
    assert kernel.var() == pytest.approx(1 / 64 / 3, rel=0.1)
    open_gate = LSTM(I, H, initializer="uniform", forget_bias=1.0, dtype=np.float64).parameters["kernel_l0"]
    np.testing.assert_allclose((open_gate - kernel)[:, -1], np.repeat([0, 1, 0, 0], H), rtol=0, atol=1e-15)
    np.testing.assert_array_equal(open_gate[:, :-1], kernel[:, :-1])


def test_a_learned_start_starts_at_0():
    parameters = LSTM(I, H, 2, learn_initial_state=True).parameters
    names = [f"{name}_l{layer}" for layer in range(2) for name in ("kernel", "initial_h", "initial_c")]
    assert list(parameters) == names
    assert not any(parameters[name].any() for name in names if name.startswith("initial"))


@pytest.mark.parametrize("kind", [LSTM, Linear])
def test_parameters_may_live_elsewhere(kind):
    home = Parameters(kind.shapes(I, H), np.dtype(np.float32))
    layer = kind(I, H, parameters=home)
    assert layer.parameters is home
    np.testing.assert_array_equal(home.vector, kind(I, H).parameters.vector)


# Errors say what was given, and what was expected


@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        (np.zeros((B, T, I + 1)), ValueError, ["x", "(3, 5, 3)", "(B, T, I) or (T, I)", "I = 2"]),
        (np.zeros(I), ValueError, ["x", "(2,)", "(B, T, I) or (T, I)"]),
        (np.zeros((1, B, T, I)), ValueError, ["x", "(1, 3, 5, 2)", "(B, T, I) or (T, I)"]),
        ([[0.0, np.nan]], ValueError, ["x must be finite", "nan", "(0, 1)"]),
        ([[np.inf, 0.0]], ValueError, ["x must be finite", "inf", "(0, 0)"]),
        ([["a", "b"]], TypeError, ["x", "real numbers", "<U1"]),
        ([[1j, 0]], TypeError, ["x", "real numbers", "complex128"]),
    ],
)
@pytest.mark.parametrize("layer", [LSTM(I, H), Linear(I, H)], ids=["LSTM", "Linear"])
def test_bad_inputs(layer, x, error, words):
    with pytest.raises(error) as caught:
        layer.forward(x)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    ("shape", "h_shape", "c_shape", "words"),
    [
        ((B, T, I), (2, B, H + 1), (2, B, H), ["state.h", "(2, 3, 5)", "(L, B, H) = (2, 3, 4)"]),
        ((B, T, I), (2, B, H), (1, B, H), ["state.c", "(1, 3, 4)", "(L, B, H) = (2, 3, 4)"]),
        ((B, T, I), (2, 1, H), (2, 1, H), ["state.h", "(2, 1, 4)", "(L, B, H) = (2, 3, 4)"]),
        ((B, T, I), (2, H), (2, H), ["state.h", "(2, 4)", "(L, B, H) = (2, 3, 4)"]),
        ((T, I), (2, 1, H), (2, 1, H), ["state.h", "(2, 1, 4)", "(L, H) = (2, 4)"]),
    ],
)
def test_bad_states(shape, h_shape, c_shape, words):
    lstm = LSTM(I, H, 2)
    state = LSTMState(np.zeros(h_shape), np.zeros(c_shape))
    _, _, tape = lstm.forward(np.zeros(shape))
    for name, call in (("state", lambda: lstm.forward(np.zeros(shape), state)),
                       ("d_final_state", lambda: lstm.backward(tape, d_final_state=state))):  # fmt: skip
        with pytest.raises(ValueError, match="must have shape") as caught:
            call()
        assert str(caught.value).startswith(name)
        assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize("state", [3, np.zeros((3, 1, B, H)), (np.zeros((1, B, H)),)])
def test_what_is_no_pair_of_states(state):
    with pytest.raises(TypeError, match=r"state must be a pair \(h, c\), got (int|ndarray|tuple)"):
        LSTM(I, H).forward(np.zeros((B, T, I)), state)


def test_states_that_are_not_finite():
    with pytest.raises(ValueError, match=r"state\.c must be finite.*nan at index \(0, 0, 0\)"):
        LSTM(I, H).forward(np.zeros((B, T, I)), LSTMState(np.zeros((1, B, H)), np.full((1, B, H), np.nan)))


@pytest.mark.parametrize("layer", [LSTM(I, H), Linear(I, H)], ids=["LSTM", "Linear"])
@pytest.mark.parametrize(
    ("shape", "dy_shape", "words"),
    [
        ((B, T, I), (B, T, H + 1), ["(3, 5, 5)", "= 4"]),
        ((B, T, I), (B, T - 1, H), ["(3, 4, 4)", "= (3, 5, 4)"]),
        ((B, T, I), (T, H), ["(5, 4)", "= (3, 5, 4)"]),
        ((T, I), (1, T, H), ["(1, 5, 4)", "= (5, 4)"]),
    ],
)
def test_bad_gradients_on_outputs(layer, shape, dy_shape, words):
    tape = layer.forward(np.zeros(shape))[-1]
    with pytest.raises(ValueError, match="d_outputs must have shape") as caught:
        layer.backward(tape, np.zeros(dy_shape))
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize("kind", [LSTM, Linear])
@pytest.mark.parametrize(
    ("sizes", "error", "words"),
    [
        ((0, H), ValueError, "input_size must be at least 1, got 0"),
        ((I, -1), ValueError, "_size must be at least 1, got -1"),
        ((2.0, H), TypeError, "input_size must be an integer, got 2.0"),
        ((I, "4"), TypeError, "_size must be an integer, got '4'"),
        ((I, True), TypeError, "_size must be an integer, got True"),
    ],
)
def test_bad_sizes(kind, sizes, error, words):
    with pytest.raises(error, match=words):
        kind(*sizes)


@pytest.mark.parametrize(("num_layers", "error"), [(0, ValueError), (1.5, TypeError)])
def test_bad_numbers_of_layers(num_layers, error):
    with pytest.raises(error, match=f"num_layers must be .* got {num_layers}"):
        LSTM(I, H, num_layers)


@pytest.mark.parametrize("kind", [LSTM, Linear])
@pytest.mark.parametrize("dtype", [np.float16, int, complex])
def test_bad_dtypes(kind, dtype):
    with pytest.raises(TypeError, match=f"float32 or float64, got {np.dtype(dtype)}"):
        kind(I, H, dtype=dtype)


def test_bad_initializers():
    with pytest.raises(ValueError, match="initializer must be one of 'orthogonal', 'glorot', 'uniform'"):
        LSTM(I, H, initializer="zeros")


def test_printed_forms():
    assert repr(LSTM(I, H, 2)) == "LSTM(2, 4, num_layers=2, dtype=float32)"
    assert repr(Linear(I, H, dtype=np.float64)) == "Linear(2, 4, dtype=float64)"


# Linear


@pytest.mark.parametrize("shape", [(B, T), (1, 1), (T,), (0, T), (B, 0), (0,)], ids=str)
def test_linear_maps_every_step_and_its_gradient_is_the_derivative(shape, rng):
    linear = Linear(I, H, dtype=np.float64)
    linear.parameters.vector[:] = rng.normal(size=linear.parameters.vector.size)
    x, dy = rng.normal(size=(*shape, I)), rng.normal(size=(*shape, H))
    y, tape = linear.forward(x)
    np.testing.assert_allclose(y, x @ linear.parameters["weight"].T + linear.parameters["bias"], rtol=0, atol=1e-13)
    dx, gradients = linear.backward(tape, dy)

    def loss():
        return np.vdot(dy, linear.forward(x)[0])

    for name, parameter in linear.parameters.items():
        assert_near(gradients[name], numerical_gradient(loss, parameter), 1e-8)
    assert_near(dx, numerical_gradient(loss, x), 1e-8)


def test_linear_keeps_its_own_copy(rng):
    linear = Linear(I, H, dtype=np.float64)
    x, dy = rng.normal(size=(B, T, I)), rng.normal(size=(B, T, H))
    y, tape = linear.forward(x)
    dx, gradients = linear.backward(tape, dy)
    kept = dx.copy(), gradients.vector.copy()
    x[:] = y[:] = np.nan
    again, gradients_again = linear.backward(tape, dy)
    assert_equal([dx, gradients.vector, again, gradients_again.vector], [*kept, *kept])


def test_linear_starts_from_glorot_and_no_bias():
    linear = Linear(30, 60, dtype=np.float64)
    assert linear.parameters["weight"].var() == pytest.approx(2 / 90, rel=0.1)
    assert not linear.parameters["bias"].any()


# PyTorch


def torch_lstm(torch, lstm, rng):
    """The same stack in PyTorch, in float64: gates i f g o, and two biases that add up."""
    module = torch.nn.LSTM(lstm.input_size, lstm.hidden_size, lstm.num_layers, batch_first=True, dtype=torch.float64)
    for layer in range(lstm.num_layers):
        W_ih, W_hh, bias = torch_layout(lstm.parameters[f"kernel_l{layer}"].astype(np.float64))
        second_bias = rng.normal(size=bias.shape)
        weights = {"weight_ih": W_ih, "weight_hh": W_hh, "bias_ih": bias - second_bias, "bias_hh": second_bias}
        for name, weight in weights.items():
            getattr(module, f"{name}_l{layer}").data = torch.tensor(weight)
    return module


def torch_layout(kernel):
    H = len(kernel) // 4
    rows = kernel[np.r_[0 : 2 * H, 3 * H : 4 * H, 2 * H : 3 * H]]
    return rows[:, H:-1], rows[:, :H], rows[:, -1]


def torch_results(torch, lstm, rng, x, state, dy, dstate):
    """What `everything` returns, from PyTorch and in its layout: values, and gradients."""
    module = torch_lstm(torch, lstm, rng)
    leaf = [torch.tensor(array.astype(np.float64), requires_grad=True) for array in (x, *state)]
    y, final = module(leaf[0], (leaf[1], leaf[2]))
    upstream = [torch.tensor(array.astype(np.float64)) for array in (dy, *dstate)]
    sum((d * out).sum() for d, out in zip(upstream, (y, *final), strict=True)).backward()
    names = [f"{name}_l{k}" for k in range(lstm.num_layers) for name in ("weight_ih", "weight_hh", "bias_ih")]
    weights = [getattr(module, name) for name in names]
    return [tensor.detach().numpy() for tensor in (y, *final)], [tensor.grad.numpy() for tensor in leaf + weights]


@each_stack
@pytest.mark.parametrize(
    ("dtype", "scale", "forward_bound", "gradient_bound"),
    [
        (np.float64, 1, 1e-9, 1e-9),
        (np.float64, 30, 1e-9, 1e-9),
        (np.float32, 1, 1e-6, 5e-6),
        (np.float32, 30, 5e-6, 5e-5),
    ],
)
@pytest.mark.parametrize(("B", "T", "I", "H"), [(1, 10, 1, 8), (3, 20, 2, 5), (20, 30, 6, 16)])
def test_values_and_gradients_are_pytorchs(
    num_layers, dtype, scale, forward_bound, gradient_bound, B, T, I, H, torch, rng
):
    """Weights of ±1/√H, and with 30 times that for inputs and biases of the first layer, which saturates most gates."""
    lstm = LSTM(I, H, num_layers, initializer="uniform", dtype=dtype, seed=rng)
    lstm.parameters["kernel_l0"][:, H:] *= scale
    x, dy = rng.normal(size=(B, T, I)).astype(dtype), rng.normal(size=(B, T, H)).astype(dtype)
    state, dstate = (LSTMState(*rng.normal(size=(2, num_layers, B, H)).astype(dtype)) for _ in range(2))
    values, gradients = torch_results(torch, lstm, rng, x, state, dy, dstate)

    y, h, c, dx, dh, dc, *dkernels = everything(lstm, x, state, dy, dstate)
    for result, reference in zip((y, h, c), values, strict=True):
        assert result.shape == reference.shape
        assert np.abs(result - reference).max() <= forward_bound * max(1, np.abs(reference).max())  # c may be large
    gradients_in_torch_layout = [dx, dh, dc, *(part for dkernel in dkernels for part in torch_layout(dkernel))]
    for result, reference in zip(gradients_in_torch_layout, gradients, strict=True):
        assert_near(result, reference, gradient_bound)


def test_a_learned_start_is_pytorchs_expanded_one(torch, rng):
    lstm = random_lstm(rng, num_layers=2)
    x, dy, dstate = rng.normal(size=(B, T, I)), rng.normal(size=(B, T, H)), random_state(rng)
    module = torch_lstm(torch, lstm, rng)
    start = [
        torch.tensor(np.array([lstm.parameters[f"initial_{s}_l{k}"] for k in range(2)]), requires_grad=True)
        for s in "hc"
    ]
    y, final = module(torch.tensor(x), tuple(s[:, None].expand(-1, B, -1).contiguous() for s in start))
    upstream = zip((dy, *dstate), (y, *final), strict=True)
    sum((torch.tensor(d) * out).sum() for d, out in upstream).backward()

    outputs, _, tape = lstm.forward(x)
    _, _, gradients = lstm.backward(tape, dy, dstate)
    assert_near(outputs, y.detach().numpy(), 1e-9)
    for s, leaf in zip("hc", start, strict=True):
        assert_near(np.array([gradients[f"initial_{s}_l{k}"] for k in range(2)]), leaf.grad.numpy(), 1e-9)


@pytest.mark.parametrize("other", [LSTM(2, 3, 2), LSTM(2, 4), LSTM(3, 3), LSTM(2, 3, dtype=np.float64)], ids=repr)
def test_the_tape_of_another_lstm_is_refused(other):
    _, _, tape = other.forward(np.zeros((4, other.input_size)))
    with pytest.raises(ValueError, match="tape must be of LSTMConfig"):
        LSTM(2, 3).backward(tape)


def test_what_is_no_tape_is_refused():
    with pytest.raises(TypeError, match="int"):
        LSTM(2, 3).backward(3)


@pytest.mark.parametrize("seed", [-1, 1.5, "x", True])
def test_what_is_no_seed_is_refused(seed):
    with pytest.raises(ValueError, match="seed must be an integer of 0 or more"):
        LSTM(2, 3, seed=seed)


@pytest.mark.parametrize("options", [{}, {"layer_norm": "haste", "proj_size": 2}, {"initializer": "uniform"}])
def test_without_a_seed_all_is_0(options):
    for layer in (LSTM(2, 3, seed=None, **options), Linear(2, 3, seed=None)):
        assert not layer.parameters.vector.any()
