"""A stream that starts from the rest state of a constant input has constant outputs from the first step."""

from typing import Any

import numpy as np
import pytest
from case_loops import loop_over
from known_systems import constant_gates, flip_flop, leaky_gru, random_matrix, relu_rnn, rotation, tanh_rnn

import glasscell as gc
from glasscell.explain import rest_state


def sequential() -> gc.Sequential:
    f = {"dtype": np.float64}
    layers = [gc.Linear(2, 3, **f), gc.LSTM(3, 4, 2, learn_initial_state=True, **f), gc.GRU(4, 3, **f)]
    return gc.Sequential([*layers, gc.RNN(3, 3, **f), gc.layers.LayerNorm(3, **f), gc.Linear(3, 2, **f)], seed=0)


MODELS = {
    "LSTM": lambda: gc.LSTM(2, 5, 2, dtype=np.float64),
    "LSTM, variant": lambda: gc.LSTM(2, 5, proj_size=3, peepholes=True, zoneout=0.2, clip=2.0, dtype=np.float64),
    "GRU": lambda: gc.GRU(2, 5, 2, dtype=np.float64),
    "RNN": lambda: gc.RNN(2, 5, initializer="uniform", dtype=np.float64),
    "Sequential": sequential,
    "CopyLSTM": lambda: gc.CopyLSTM(6, num_layers=2, dtype=np.float64),
}
X = [0.6, -0.3]


def spread(stream: Any, x: Any, steps: int = 50) -> float:
    """Return the largest change of any output over some steps with a constant input."""
    outputs = [stream.push(x).copy() for _ in range(steps)]
    return float(np.ptp(outputs, axis=0).max())


@pytest.mark.parametrize("kind", MODELS)
def test_the_outputs_of_a_stream_are_constant_from_the_first_step(kind: str) -> None:
    model = MODELS[kind]()
    state = rest_state(model, X)
    stream = model.stream()
    assert spread(stream, X) > 1e-3  # from the initial state there is a transient
    stream.state = state
    assert spread(stream, X) < 1e-12
    stream.push([3.0, 3.0])
    stream.reset(state=state)
    assert spread(stream, X) < 1e-12
    assert spread(model.stream(state=state), X) < 1e-12
    outputs = model.forward(np.tile(X, (50, 1)), state)[0]
    assert np.ptp(outputs, axis=0).max() < 1e-12
    with_zeros = model.forward(np.tile(X, (3000, 1)))[0]
    np.testing.assert_allclose(outputs[0], with_zeros[-1], rtol=0, atol=1e-11)


@pytest.mark.parametrize("kind", MODELS)
def test_a_batch_of_inputs_has_a_state_for_each_stream(kind: str) -> None:
    model, x = MODELS[kind](), np.array([X, [0.1, 0.2], [-1.0, 1.0]])
    stream = model.stream(3, state=rest_state(model, x))
    assert spread(stream, x) < 1e-12
    alone = model.stream(state=rest_state(model, x[1])).push(x[1])
    np.testing.assert_allclose(stream.push(x)[1], alone, rtol=0, atol=1e-12)


def test_an_empty_batch_has_no_states() -> None:
    assert rest_state(gc.LSTM(2, 5, 3), np.zeros((0, 2))).c.shape == (3, 0, 5)


def test_a_model_of_text_rests_under_a_symbol() -> None:
    model = gc.Sequential([gc.Embedding(5, 3, dtype=np.float64), gc.LSTM(3, 4, dtype=np.float64)], seed=0)
    assert spread(model.stream(state=rest_state(model, 3)), 3) < 1e-12
    assert spread(model.stream(2, state=rest_state(model, [3, 1])), np.array([3, 1])) < 1e-12


def test_the_state_has_the_dtype_of_the_model() -> None:
    lstm = gc.LSTM(2, 5)
    state = rest_state(lstm, X)
    assert type(state) is gc.layers.LSTMState
    assert state.c.dtype == np.float32
    assert spread(lstm.stream(state=state), X) < 1e-6


def test_slow_units_are_computed_without_all_their_steps() -> None:
    """f = 0.999 takes 30,000 steps to come to rest to rounding; Newton's method continues from 8,000."""
    state = rest_state(constant_gates([0.999, 0.5]), [0.0], max_steps=8000)
    np.testing.assert_allclose(state.c[0], [0.15 / 1e-3, 0.3], rtol=1e-12)
    with pytest.raises(RuntimeError, match="a slow drift"):
        rest_state(constant_gates([0.999, 0.5]), [0.0], max_steps=1000)


def test_the_initial_state_decides_between_two_rest_states() -> None:
    lstm = flip_flop()
    high, low = (rest_state(lstm, [0.0], state=lstm.infer([[sign]])[1]) for sign in (1.0, -1.0))
    assert high.c[0, 0] > 1 > -1 > low.c[0, 0]
    np.testing.assert_allclose(high.c, -low.c, rtol=1e-12)
    batch = rest_state(lstm, [[0.0], [0.0]], state=lstm.infer([[[1.0]], [[-1.0]]])[1])
    np.testing.assert_array_equal(batch.c, np.stack([high.c, low.c], axis=1))


def test_a_state_that_does_not_move_is_at_rest_even_where_that_is_not_stable() -> None:
    np.testing.assert_array_equal(rest_state(tanh_rnn(2.0), [0.0]).h, 0)


def test_a_saddle_that_is_passed_is_no_rest_state() -> None:
    """From 1e-9 the state stays near 0, which is not stable, for 25 steps, then leaves for h*."""
    rnn = tanh_rnn(2.0)
    state = rest_state(rnn, [0.0], state=(np.array([[1e-9]]),))
    np.testing.assert_allclose(np.tanh(2 * state.h), state.h, rtol=1e-14)
    assert state.h[0, 0] > 0.9


def test_an_integrator_without_input_keeps_its_state() -> None:
    """The eigenvalue is 1 to rounding, and the state stops."""
    gru = leaky_gru([[0.0]], 0.5)
    gru.parameters["kernel_l0"][1, -1] = 60
    assert rest_state(gru, [0.0], state=(np.array([[0.3]]),)).h[0, 0] == 0.3


@pytest.mark.parametrize("period", [2, 3, 7, 200])
def test_a_limit_cycle_is_an_error_with_its_period(period: int) -> None:
    """A rotation by 2π/p."""
    rnn, state = rotation(2 * np.pi / period), (np.array([[9.0, 10.0]]),)
    message = f"x0 leads to no rest state within 600 steps: the state repeats with a period of {period} steps, a limit"
    with pytest.raises(RuntimeError, match=message):
        rest_state(rnn, [0.0], state=state, max_steps=600)


def test_a_nonlinear_limit_cycle_is_found() -> None:
    with pytest.raises(RuntimeError, match="repeats with a period of 2 steps"):
        rest_state(tanh_rnn(-2.0), [0.0], state=(np.array([[0.1]]),))


@pytest.mark.parametrize("rnn", [rotation(1.0), tanh_rnn(random_matrix())], ids=["quasi-periodic", "chaotic"])
def test_a_motion_without_period_is_an_error(rnn: gc.RNN) -> None:
    state = (np.full((1, rnn.hidden_size), 9.0),)
    with pytest.raises(RuntimeError, match="does not repeat within 256 steps: chaos, a quasi-periodic orbit or a slow"):
        rest_state(rnn, [0.0], state=state, max_steps=1000)


@pytest.mark.parametrize(("g", "change"), [(1e-3, "0.0005"), (1e-5, "5.6e-06")])
def test_a_slow_drift_is_an_error(g: float, change: str) -> None:
    """With f = 1 the cell integrates i g for ever, and h = o tanh c follows."""
    lstm = constant_gates([0.5], g=g)
    lstm.parameters["kernel_l0"][1, -1] = 60
    with pytest.raises(RuntimeError, match=f"the state moves by up to {change} per step and does not repeat"):
        rest_state(lstm, [0.0])


def test_a_state_that_diverges_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="x0 leads to no rest state: the state diverges after 1024 steps"):
        rest_state(relu_rnn([[2.0]], [1.0]), [0.0])


@loop_over(
    ("arguments", "error", "message"),
    [
        ({"x0": [0.0]}, ValueError, r"x0 must have shape \(I,\) with I = 2, got \(1,\)"),
        ({"x0": np.zeros((2, 3))}, ValueError, r"x0 must have shape \(I,\) with I = 2, got \(3,\)"),
        ({"x0": np.zeros((2, 2, 2))}, ValueError, r"x0 must have shape \(I,\) with I = 2, got \(2, 2, 2\)"),
        ({"x0": [np.inf, 0]}, ValueError, "x0 must be finite"),
        ({"x0": X, "max_steps": 0}, ValueError, "max_steps must be at least 1, got 0"),
        ({"x0": X, "state": (np.zeros((1, 5)),)}, TypeError, r"state must be a pair \(h, c\), got tuple"),
        ({"x0": X, "state": np.zeros((2, 1, 4))}, ValueError, r"state\.h must have shape \(L, H\) = \(1, 5\)"),
        ({"x0": [X], "state": np.zeros((2, 1, 5))}, ValueError, r"state\.h must have shape \(L, B, H\) = \(1, 1, 5\)"),
    ],
)
def test_an_argument_that_does_not_fit_is_an_error(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        rest_state(gc.LSTM(2, 5), **arguments)


def test_a_stream_resets_to_a_state_of_all_streams_or_not_at_all() -> None:
    lstm = gc.LSTM(2, 3)
    stream = lstm.stream(2)
    stream.push(np.ones((2, 2)))
    before = stream.state
    with pytest.raises(ValueError, match="stream must be None with a state, which is that of all streams, got 1"):
        stream.reset(1, state=rest_state(lstm, [X, X]))
    with pytest.raises(ValueError, match=r"state\.h must have shape"):
        stream.reset(state=rest_state(lstm, X))
    for array, other in zip(before, stream.state, strict=True):
        np.testing.assert_array_equal(array, other)
    with pytest.raises(ValueError, match=r"state\.h must have shape"):
        lstm.stream(state=rest_state(lstm, [X]))
