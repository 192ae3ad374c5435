"""Draw small LSTMs and states, and compare results with references."""

import numpy as np
import pytest

from glasscell.layers import LSTM, LSTMState

B, T, I, H = 3, 5, 2, 4

each_stack = pytest.mark.parametrize("num_layers", [1, 2, 3])


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


def everything(lstm, x, state, dy, dstate):
    """All arrays that a pass forward and backward returns."""
    y, final, tape = lstm.forward(x, state)
    dx, dstart, gradients = lstm.backward(tape, dy, dstate)
    return [y, *final, dx, *dstart, *gradients.values()]
