"""Effective memory: the half-life where nothing but a forget gate acts, and known delays where units hand values on."""

from typing import Any

import numpy as np
import pytest
from case_loops import loop_over
from known_systems import SATURATED, constant_gates, leaky_gru, random_matrix, relu_rnn, tanh_rnn

import glasscell as gc
from glasscell.explain import effective_memory
from glasscell.trace import diagnostics

ZERO = [0.0]


@pytest.mark.parametrize("target", ["cells", "own", "outputs"])
def test_without_recurrent_weights_it_is_the_half_life(target: str) -> None:
    f = np.array([0.3, 0.8, 0.95])
    c = 0.15 / (1 - f)  # at rest: the outputs' slopes are constant
    state = (np.tanh(c)[None] / 2, c[None])
    memory = effective_memory(constant_gates(f), ZERO, steps=200, target=target, threshold=0.5, state=state)
    np.testing.assert_allclose(memory.half_lives, np.log(0.5) / np.log(f), rtol=1e-10)
    extra = 1 if target == "outputs" else 0  # the first output that the cell changes is that of the next step
    np.testing.assert_allclose(memory.durations, memory.half_lives + extra, rtol=1e-10)
    np.testing.assert_allclose(memory.decay[3, :9, 1], 0.8 ** (np.arange(9) - extra) * (np.arange(9) >= extra))


def test_the_default_threshold_is_1_over_e() -> None:
    memory = effective_memory(constant_gates([0.5, 0.9]), ZERO, steps=100)
    np.testing.assert_allclose(memory.durations, -1 / np.log([0.5, 0.9]), rtol=1e-10)


def test_a_gru_with_a_saturated_update_gate_forgets_by_it() -> None:
    memory = effective_memory(leaky_gru(np.zeros((2, 2)), 0.9), ZERO, steps=100, threshold=0.5)
    np.testing.assert_allclose(memory.durations, np.log(0.5) / np.log(0.9), rtol=1e-10)
    np.testing.assert_allclose(memory.half_lives, memory.durations, rtol=1e-10)


def shift_register(length: int) -> gc.RNN:
    """Unit k takes the value of unit k - 1: each value is lost at the end."""
    return relu_rnn(np.eye(length, k=-1), np.ones(length))


def test_a_value_that_is_handed_on_is_remembered_by_others() -> None:
    """A shift register: unit k of H itself forgets at once, the network after H - 1 - k more steps."""
    rnn = shift_register(5)
    assert effective_memory(rnn, ZERO, steps=30).durations.tolist() == [4, 3, 2, 1, 0]
    assert effective_memory(rnn, ZERO, steps=30, target="own").durations.tolist() == [0, 0, 0, 0, 0]
    assert effective_memory(rnn, ZERO, steps=30).half_lives is None


def test_an_lstm_that_writes_its_value_back_outlives_its_forget_gate() -> None:
    """f = 0.5 has a half-life of one step; c_t = 0.5 c_{t-1} + tanh(w h_{t-1}) decays by 0.5 + w near 0."""
    lstm = gc.LSTM(1, 1, dtype=np.float64)
    lstm.parameters["kernel_l0"][:] = [[0, 0, SATURATED], [0, 0, 0], [0, 0, SATURATED], [0.4, 0, 0]]
    memory = effective_memory(lstm, ZERO, steps=60, threshold=0.5)
    np.testing.assert_allclose(memory.half_lives, 1)
    # c of the next step has 0.5 δ, as h does not follow before; from then on each step multiplies by 0.9.
    np.testing.assert_allclose(memory.decay[0, 1:20, 0], 0.5 * 0.9 ** np.arange(19), rtol=1e-10)
    np.testing.assert_allclose(memory.durations, [1], rtol=1e-10)
    shorter = effective_memory(lstm, ZERO, steps=60, threshold=0.1)
    np.testing.assert_allclose(shorter.durations, [1 + np.log(0.2) / np.log(0.9)], rtol=1e-10)


def test_no_output_gate_no_effect_on_outputs() -> None:
    """A cell that is kept for ever, and an output gate that is shut."""
    lstm = constant_gates([0.9, 0.9])
    kernel = lstm.parameters["kernel_l0"]
    kernel[[2, 3], -1] = SATURATED  # f = 1
    kernel[4, -1] = -2000.0  # o of unit 0: 0
    cells = effective_memory(lstm, ZERO, steps=50)
    assert np.isposinf(cells.durations).all()
    outputs = effective_memory(lstm, ZERO, steps=50, target="outputs")
    assert outputs.durations[0] == 0
    assert np.isposinf(effective_memory(lstm, ZERO, steps=3, target="outputs").durations[1])


@pytest.mark.parametrize("target", ["cells", "own", "outputs"])
def test_the_decay_is_that_of_a_small_perturbation(target: Any, rng: np.random.Generator) -> None:
    """A change of c of one unit between two steps, run on by ``forward``: finite differences."""
    model = gc.Sequential([gc.LSTM(2, 3, dtype=np.float64), gc.LSTM(3, 2, dtype=np.float64)], seed=0)
    x, t, k, d = rng.normal(size=(12, 2)), 4, 1, 1e-6
    memory = effective_memory(model, x, layer=0, target=target, perturbed_steps=[2, t])
    before = model.forward(x[: t + 1])[1]
    traces = []
    for sign in (1, -1):
        lower = before[0]._replace(c=before[0].c.copy())
        lower.c[0, k] += sign * d
        traces.append(model.trace(x[t + 1 :], states=(lower, before[1])))
    cells, outputs = (
        (getattr(traces[0].layer[layer], name) - getattr(traces[1].layer[layer], name)) / (2 * d)
        for layer, name in ((0, "c"), (1, "h"))
    )
    later = {
        "cells": np.linalg.norm(cells, axis=1),
        "own": np.abs(cells[:, k]),
        "outputs": np.linalg.norm(outputs, axis=1),
    }
    expected = np.concatenate([[0.0 if target == "outputs" else 1.0], later[target]])
    assert memory.perturbed_steps.tolist() == [2, t]
    np.testing.assert_allclose(memory.decay[1, : 12 - t, k], expected / expected.max(), rtol=0, atol=1e-7)
    assert np.isnan(memory.decay[1, 12 - t :]).all()
    assert memory.decay.shape == (2, 12, 3)


def test_half_lives_are_those_of_the_trace(rng: np.random.Generator) -> None:
    lstm = gc.LSTM(2, 3, 2, dtype=np.float64)
    x = rng.normal(size=(20, 2))
    trace = lstm.trace(x)
    for layer in (0, 1, -1):
        memory = effective_memory(lstm, x, layer=layer)
        np.testing.assert_allclose(memory.half_lives, diagnostics.half_life(trace.layer[layer].f), rtol=1e-10)
    assert memory.perturbed_steps.tolist() == list(range(10))
    assert effective_memory(lstm, ZERO * 2, steps=1000).perturbed_steps.tolist()[-1] == 499


def test_durations_are_medians_over_the_perturbed_steps(rng: np.random.Generator) -> None:
    memory = effective_memory(gc.LSTM(2, 4), rng.normal(size=(60, 2)), perturbed_steps=(3, -50, 20))
    assert memory.perturbed_steps.tolist() == [3, 10, 20]
    assert memory.durations_by_step.shape == (3, 4)
    np.testing.assert_array_equal(memory.durations, np.sort(memory.durations_by_step, axis=0)[1])


def test_an_effect_that_overflows_is_an_error() -> None:
    """Chaos of an exponent of 0.24 reaches e^709 after some 3,000 steps."""
    state = (np.full((1, 16), 0.1),)
    with pytest.raises(RuntimeError, match=r"effect of a perturbation must stay finite, but overflows after \d+ steps"):
        effective_memory(tanh_rnn(random_matrix()), ZERO, steps=4000, perturbed_steps=[0], state=state)


def test_a_repr_names_the_longest() -> None:
    memory = effective_memory(constant_gates([0.5, 0.9]), ZERO, steps=100, threshold=0.5)
    assert repr(memory) == "EffectiveMemory(2 units; steps: unit 1 6.58, unit 0 1)"


@loop_over(
    ("arguments", "error", "message"),
    [
        ({"layer": 1}, IndexError, "layer must be from -1 to 0, got 1"),
        ({"layer": "l0"}, TypeError, "layer must be an integer, got 'l0'"),
        ({"target": "h"}, ValueError, "target must be one of 'cells', 'own', 'outputs', got 'h'"),
        ({"threshold": 1.0}, ValueError, "threshold must be below 1, got 1.0"),
        ({"threshold": 0.0}, ValueError, "threshold must be finite and above 0, got 0.0"),
        ({"perturbed_steps": []}, ValueError, "perturbed_steps must have at least one step, got none"),
        ({"perturbed_steps": [5]}, IndexError, "perturbed_steps must be from -5 to 4, got 5"),
        ({"perturbed_steps": [0.5]}, TypeError, "perturbed_steps must be an integer, got 0.5"),
        ({"perturbed_steps": 3}, TypeError, "perturbed_steps must be a sequence of steps, got 3"),
        ({"state": (np.zeros((1, 2)), np.full((1, 2), np.nan))}, ValueError, r"state\.c must be finite"),
    ],
)
def test_an_argument_that_does_not_fit_is_an_error(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        effective_memory(gc.LSTM(1, 2), np.zeros((5, 1)), **arguments)


def test_a_batch_has_the_effective_memory_of_each_sequence(rng: np.random.Generator) -> None:
    model, x, lengths = gc.LSTM(2, 4, 2, dtype=np.float64), rng.normal(size=(3, 12, 2)), [12, 1, 7]
    results = effective_memory(model, x, lengths=lengths, target="own")
    assert len(results) == 3
    for b, (one, length) in enumerate(zip(results, lengths, strict=True)):
        alone = effective_memory(model, x[b, :length], target="own")
        np.testing.assert_array_equal(one.durations, alone.durations)
        np.testing.assert_array_equal(one.decay, alone.decay)
        np.testing.assert_array_equal(one.half_lives, alone.half_lives)
