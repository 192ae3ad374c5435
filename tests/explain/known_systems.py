"""Layers whose dynamics are known, for tests: each is built from its weights."""

from typing import Any

import numpy as np

import glasscell as gc

SATURATED = 60.0  # σ(60) rounds to 1 in float64


def logit(p: Any) -> Any:
    return np.log(p) - np.log1p(-p)


def tanh_rnn(W: Any) -> gc.RNN:
    """h_t = tanh(W h_{t-1}); one input without effect."""
    W = np.atleast_2d(W)
    rnn = gc.RNN(1, len(W), dtype=np.float64)
    rnn.parameters["kernel_l0"][:] = np.pad(W, ((0, 0), (0, 2)))
    return rnn


def relu_rnn(A: Any, b: Any) -> gc.RNN:
    """h_t = A h_{t-1} + b, where that is positive; one input without effect."""
    rnn = gc.RNN(1, len(A), nonlinearity="relu", dtype=np.float64)
    rnn.parameters["kernel_l0"][:] = np.concatenate([A, np.zeros((len(A), 1)), np.reshape(b, (-1, 1))], axis=1)
    return rnn


def constant_gates(f: Any, i: float = 0.5, g: float = 0.3) -> gc.LSTM:
    """An LSTM with W = 0: f and i g are constant, c_t = f c_{t-1} + i g."""
    H = len(f)
    lstm = gc.LSTM(1, H, dtype=np.float64)
    kernel = lstm.parameters["kernel_l0"]
    kernel[:] = 0
    kernel[:, -1] = np.concatenate([np.full(H, logit(i)), logit(np.asarray(f)), np.zeros(H), np.full(H, np.arctanh(g))])
    return lstm


def flip_flop(f: float = 0.5, w: float = 2.0) -> gc.LSTM:
    """One unit that stores a bit: i = o = 1, c_t = f c_{t-1} + tanh(w tanh(c_{t-1})). Its input sets and resets it."""
    lstm = gc.LSTM(1, 1, dtype=np.float64)
    kernel = lstm.parameters["kernel_l0"]  # columns h, x, bias
    kernel[:] = [[0, 0, SATURATED], [0, 0, logit(f)], [0, 0, SATURATED], [w, 10, 0]]
    return lstm


def leaky_gru(W: Any, z: float, input_weights: Any = 0.0) -> gc.GRU:
    """h_t = z h_{t-1} + (1 - z) tanh(W h_{t-1} + w x): Euler's method for a continuous-time network, of step 1 - z."""
    W = np.asarray(W)
    H = len(W)
    gru = gc.GRU(1, H, dtype=np.float64)
    gru.parameters.vector[:] = 0
    kernel = gru.parameters["kernel_l0"]
    kernel[:H, -1], kernel[H : 2 * H, -1] = SATURATED, logit(z)
    kernel[2 * H :, :H], kernel[2 * H :, H] = W, input_weights
    return gru


def rotation(angle: float) -> gc.RNN:
    """A rotation around (10, 10), close to which relu is linear."""
    A = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return relu_rnn(A, [10, 10] - A @ [10, 10])


def random_matrix() -> Any:
    """A random network with a gain above 1 can be chaotic: Sompolinsky, Crisanti & Sommers (1988). This one is."""
    return 4 * np.random.default_rng(2).normal(size=(16, 16)) / np.sqrt(16)


def bisect(function: Any, low: float, high: float) -> float:
    """Return a root of a function that changes its sign between two numbers."""
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) * function(low) > 0 else (low, middle)
    return (low + high) / 2
