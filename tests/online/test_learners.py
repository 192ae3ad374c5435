"""Laws of all rules: the state is the layer's, and bad arguments are one clear error."""

import numpy as np
import pytest
from case_loops import loop_over
from layer_examples import lstm_options
from online_cases import BACKWARD, NOISE, H, I, forward_in_time, lstm, random_state, sequence

import glasscell as gc

RULES = [gc.online.RTRL, gc.online.SnAp1, gc.online.Truncated1997]
each_rule = pytest.mark.parametrize("rule", RULES)


@each_rule
@pytest.mark.parametrize("batch", [None, 2])
def test_outputs_and_states_are_those_of_the_layer(rule, batch, rng):
    layer = lstm(rng, peepholes=True)
    learner = rule(layer, batch)
    x, dy = sequence(layer, rng, batch)
    state = random_state(layer, rng, batch)
    learner.state = state
    y, final, _ = layer.forward(x, state)
    np.testing.assert_allclose(forward_in_time(learner, x, dy), y, rtol=0, atol=1e-14)
    np.testing.assert_allclose(learner.state.c, final.c, rtol=0, atol=1e-14)
    assert type(learner.state) is type(final)


@each_rule
def test_reset_begins_a_sequence_and_keeps_the_gradients(rule, rng):
    layer = lstm(rng)
    x, dy = sequence(layer, rng)
    learner = rule(layer)
    forward_in_time(learner, x, dy)
    once = learner.gradients.vector.copy()
    learner.reset()
    assert not learner.state.h.any()
    forward_in_time(learner, x, dy)
    np.testing.assert_allclose(learner.gradients.vector, 2 * once, rtol=1e-12)
    learner.zero_gradients()
    assert once.any()
    assert not learner.gradients.vector.any()


@each_rule
def test_results_are_copies(rule, rng):
    layer = lstm(rng)
    learner = rule(layer)
    y = learner.push(np.ones(I))
    before = learner.state
    y[:], learner.state.c[:] = 9, 9
    np.testing.assert_array_equal(learner.state.c, before.c)
    np.testing.assert_array_equal(learner.state.h, before.h)


@each_rule
def test_the_sequences_of_a_batch_do_not_mix(rule, rng):
    layer = lstm(rng, num_layers=1)
    x, dy = sequence(layer, rng, 3)
    together = rule(layer, 3)
    forward_in_time(together, x, dy)
    alone = rule(layer)
    for x_b, dy_b in zip(x, dy, strict=True):
        alone.reset()
        forward_in_time(alone, x_b, dy_b)
    np.testing.assert_allclose(together.gradients.vector, alone.gradients.vector, rtol=1e-12, atol=1e-13)


@each_rule
def test_bad_arguments_are_one_clear_error(rule, rng):
    learner = rule(lstm(rng))
    with pytest.raises(RuntimeError, match=r"learn\(\) must follow a push\(\)"):
        learner.learn(np.ones(H))
    with pytest.raises(ValueError, match=r"x must have shape \(I,\) = \(3,\), got \(4,\)"):
        learner.push(np.ones(4))
    with pytest.raises(ValueError, match=r"x must be finite"):
        learner.push([1, np.nan, 2])
    with pytest.raises(TypeError, match=r"x must be an array of real numbers"):
        learner.push(["a", "b", "c"])
    learner.push(np.ones(I))
    with pytest.raises(ValueError, match=r"dy must have shape \(P,\) = \(4,\), got \(3,\)"):
        learner.learn(np.ones(3))
    with pytest.raises(ValueError, match=r"x must have shape \(B, I\) = \(2, 3\), got \(3,\)"):
        rule(lstm(rng), 2).push(np.ones(I))
    with pytest.raises(ValueError, match="batch must be at least 1, got 0"):
        rule(lstm(rng), 0)
    with pytest.raises(ValueError, match=r"state.c must have shape \(L, H\) = \(1, 4\), got \(2, 4\)"):
        learner.state = (np.ones((1, H)), np.ones((2, H)))


@each_rule
def test_a_step_that_fails_changes_nothing(rule, rng):
    learner = rule(lstm(rng))
    learner.push(np.ones(I))
    before = learner.state
    with pytest.raises(ValueError, match="x must have"):
        learner.push(np.ones(I + 1))
    np.testing.assert_array_equal(learner.state.h, before.h)


@each_rule
def test_other_layers_are_refused(rule, rng):
    for layer, name in ((gc.Linear(I, H), "a Linear"), (3, "an int")):
        with pytest.raises(TypeError, match=f"layer must be an LSTM(, an RNN or a GRU)?, got {name}"):
            rule(layer)
    with pytest.raises(ValueError, match="layer must have no bidirectional=True"):
        rule(gc.LSTM(I, H, bidirectional=True))
    layer = gc.LSTM(I, H)
    with layer.intervene("f", scale=0.5), pytest.raises(ValueError, match="layer must have no interventions"):
        rule(layer)
    learner, unchanged = rule(layer), rule(layer)
    with layer.intervene("f", scale=0.5), pytest.raises(ValueError, match="layer must have no interventions"):
        learner.push(np.ones(I))
    np.testing.assert_array_equal(learner.push(np.ones(I)), unchanged.push(np.ones(I)))


@each_rule
@loop_over("option", sorted(NOISE | BACKWARD))
def test_options_without_these_derivatives_are_refused(rule, option):
    with pytest.raises(ValueError, match="layer must have no "):
        rule(gc.LSTM(I, H, **lstm_options(proj_size=2)[option]))
