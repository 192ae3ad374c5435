"""Law: real-time recurrent learning equals backpropagation through time, for every cell and every option."""

import numpy as np
import pytest
from case_loops import loop_over
from layer_examples import lstm_options
from online_cases import (
    BACKWARD,
    NOISE,
    H,
    I,
    assert_near,
    bptt,
    forward_in_time,
    lstm,
    random_state,
    sequence,
    with_random_weights,
)

import glasscell as gc

OPTIONS = {name: value for name, value in lstm_options(proj_size=2).items() if name not in NOISE | BACKWARD}
EVERYTHING = {"num_layers": 3, "peepholes": True, "clip": 1.5, "proj_size": 3, "projection_bias": True}
EVERYTHING |= {"recurrent_bias": True, "learn_initial_state": True, "output_activation": "Softsign"}
LSTMS = {
    "standard": {},
    **OPTIONS,
    "i = 1 - f": {"coupled": "forget", "peepholes": True},
    "f = 1 - i": {"coupled": "input", "gate_activation": "HardSigmoid", "peepholes": True},
    "f = 1": {"forget_gate": False, "peepholes": True, "num_layers": 2},
    "everything": EVERYTHING,
}
CELLS = {
    "RNN": lambda: gc.RNN(I, H, 2, dtype=np.float64),
    "RNN, relu": lambda: gc.RNN(I, H, 2, nonlinearity="relu", bias=False, dtype=np.float64),
    "GRU": lambda: gc.GRU(I, H, 2, dtype=np.float64),
    "GRU without biases": lambda: gc.GRU(I, H, 2, bias=False, dtype=np.float64),
    "GRU of the paper": lambda: gc.GRU(I, H, 2, reset_after=False, dtype=np.float64),
    "GRU of the paper without biases": lambda: gc.GRU(I, H, reset_after=False, bias=False, dtype=np.float64),
}


def check_equals_bptt(layer, rng, batch):
    """Compare outputs, final states and gradients, from a random state and, if it is learned, from the initial one."""
    x, dy = sequence(layer, rng, batch)
    for state in (random_state(layer, rng, batch), None):
        learner = gc.online.RTRL(layer, batch)
        learner.reset(state)
        y, final, gradients = bptt(layer, x, dy, state)
        assert_near(forward_in_time(learner, x, dy), y)
        for ours, theirs in zip(learner.state, final, strict=True):
            assert_near(ours, theirs)
        assert list(learner.gradients) == list(gradients)
        for name, gradient in gradients.items():
            assert gradient.any() or state is not None or name.startswith("initial"), name
            assert_near(learner.gradients[name], gradient)


@loop_over("batch", [None, 2])
@loop_over("name", LSTMS)
def test_equals_backpropagation_through_time_for_every_lstm(name, batch, rng):
    check_equals_bptt(lstm(rng, **LSTMS[name]), rng, batch)


@loop_over("batch", [None, 3])
@loop_over("name", CELLS)
def test_equals_backpropagation_through_time_for_every_other_cell(name, batch, rng):
    check_equals_bptt(with_random_weights(CELLS[name](), rng), rng, batch)


def test_the_gradient_of_a_learned_initial_state_is_that_of_the_sequences_that_begin_there(rng):
    layer = lstm(rng, learn_initial_state=True, num_layers=2)
    x, dy = sequence(layer, rng, 2)
    learner = gc.online.RTRL(layer, 2)
    forward_in_time(learner, x, dy)
    expected = bptt(layer, x, dy)[2]
    for name in ("initial_h_l0", "initial_c_l1"):
        assert expected[name].all()
        assert_near(learner.gradients[name], expected[name])
    learner.zero_gradients()
    learner.state = learner.state
    forward_in_time(learner, x, dy)
    assert not learner.gradients["initial_h_l0"].any()


def test_a_long_sequence_is_exact(rng):
    """Over 300 steps, near the weights at which gradients neither vanish nor explode."""
    layer = lstm(rng, peepholes=True)
    layer.parameters.vector *= 0.8
    x, dy = sequence(layer, rng, None, 300)
    learner = gc.online.RTRL(layer)
    forward_in_time(learner, x, dy)
    assert_near(learner.gradients.vector, bptt(layer, x, dy)[2].vector)


def test_a_loss_at_the_last_step_alone_needs_no_other_call_of_learn(rng):
    layer = lstm(rng)
    x, dy = sequence(layer, rng)
    dy[:-1] = 0
    learner = gc.online.RTRL(layer)
    for x_t in x:
        learner.push(x_t)
    learner.learn(dy[-1])
    assert_near(learner.gradients.vector, bptt(layer, x, dy)[2].vector)


def test_calls_for_one_step_add_up(rng):
    layer = lstm(rng)
    once, twice = gc.online.RTRL(layer), gc.online.RTRL(layer)
    dy = rng.normal(size=(2, H))
    for learner in (once, twice):
        learner.push([1.0, 2.0, 3.0])
    twice.learn(dy[0]).learn(dy[1])
    once.learn(dy.sum(axis=0))
    assert_near(twice.gradients.vector, once.gradients.vector)


def test_weights_that_change_between_steps_are_used_from_the_next_step_on(rng):
    """The derivative of two steps with different weights is the chain rule over both."""
    layer = lstm(rng)
    x = rng.normal(size=(2, I))
    learner = gc.online.RTRL(layer)
    first = layer.parameters.vector.copy()
    change = rng.normal(size=first.shape) * 0.1

    def output(delta):
        """Run both steps with all weights moved by delta."""
        layer.parameters.vector[:] = first + delta
        _, state, _ = layer.forward(x[:1])
        layer.parameters.vector[:] = first + change + delta
        return layer.forward(x[1:], state)[0][0]

    layer.parameters.vector[:] = first
    learner.push(x[0])
    layer.parameters.vector += change
    dy = rng.normal(size=H)
    np.testing.assert_allclose(learner.push(x[1]), output(0), rtol=0, atol=1e-14)
    learner.learn(dy)
    direction = rng.normal(size=first.shape)
    difference = dy @ (output(1e-6 * direction) - output(-1e-6 * direction)) / 2e-6
    assert learner.gradients.vector @ direction == pytest.approx(difference, rel=1e-7)


def test_float32_is_float32(rng):
    layer = with_random_weights(gc.LSTM(I, H, 2, peepholes=True), rng)
    learner = gc.online.RTRL(layer, 2)
    x, dy = (array.astype(np.float32) for array in sequence(layer, rng, 2))
    y = forward_in_time(learner, x, dy)
    expected, _, gradients = bptt(layer, x, dy)
    assert y.dtype == learner.gradients.vector.dtype == np.float32
    assert_near(y, expected, 1e-6)
    assert_near(learner.gradients.vector, gradients.vector, 1e-5)
