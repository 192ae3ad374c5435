"""Law: an LSTM is one function however it is called, its gradients are exact, and results share no memory."""

import numpy as np
import pytest
from case_loops import loop_over
from comparison import assert_equal, assert_near
from layer_cases import B, H, I, T, each_stack, everything, numerical_gradient, random_lstm, random_state

from glasscell.layers import LSTM, Linear, LSTMState

each_start = pytest.mark.parametrize("learned", [False, True], ids=["zero start", "learned start"])

each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


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
@loop_over("chunks", [[5], [1] * 5, [2, 3], [0, 4, 0, 1, 0]], ids=str)
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


@each_stack
@each_start
@each_dtype
@loop_over("shape", [(B, 0, I), (0, T, I), (0, 0, I), (0, I)], ids=str)
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
@loop_over("given", [np.float16, np.float32, np.float64, int])
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
