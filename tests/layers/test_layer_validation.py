"""Property: each invalid argument of a layer raises an error that names its value and the rule."""

import numpy as np
import pytest
from case_loops import loop_over
from layer_cases import B, H, I, T

from glasscell.layers import LSTM, Linear, LSTMState


@loop_over(
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
@loop_over("layer", [LSTM(I, H), Linear(I, H)], ids=["LSTM", "Linear"])
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


@loop_over("layer", [LSTM(I, H), Linear(I, H)], ids=["LSTM", "Linear"])
@loop_over(
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


@loop_over("kind", [LSTM, Linear])
@loop_over(
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


@loop_over("kind", [LSTM, Linear])
@loop_over("dtype", [np.float16, int, complex])
def test_bad_dtypes(kind, dtype):
    with pytest.raises(TypeError, match=f"float32 or float64, got {np.dtype(dtype)}"):
        kind(I, H, dtype=dtype)


def test_bad_initializers():
    with pytest.raises(ValueError, match="initializer must be one of 'orthogonal', 'glorot', 'uniform'"):
        LSTM(I, H, initializer="zeros")


def test_printed_forms():
    assert repr(LSTM(I, H, 2)) == "LSTM(2, 4, num_layers=2, dtype=float32)"
    assert repr(Linear(I, H, dtype=np.float64)) == "Linear(2, 4, dtype=float64)"


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
