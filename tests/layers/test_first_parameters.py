"""Property: first parameters have the distribution of their initializer, and follow from the seed."""

import numpy as np
import pytest
from layer_cases import H, I

from glasscell.core.parameters import Parameters
from glasscell.layers import LSTM, Linear


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
