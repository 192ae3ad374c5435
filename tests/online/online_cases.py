"""Layers with random weights, and the gradients of a sequence by each way to compute them."""

from typing import Any

import numpy as np

import glasscell as gc

I, H, T = 3, 4, 7
NOISE = {"dropout", "input_dropout", "recurrent_dropout", "zoneout", "zoneout_cell", "layer_norm", "epsilon"}
BACKWARD = {"bidirectional", "reverse", "merge", "outputs_in"}


def with_random_weights(layer, rng, scale=0.7):
    """Return the layer with weights, biases included, that no initialisation would draw."""
    layer.parameters.vector[:] = rng.normal(size=layer.parameters.vector.shape) * scale
    return layer


def lstm(rng, **options: Any):
    return with_random_weights(gc.LSTM(I, H, dtype=np.float64, engine="numpy", **options), rng)


def random_state(layer, rng, batch):
    _, count = layer.num_states
    rows = [size for _, size in layer.state_sizes.values()]
    shapes = [(count, size) if batch is None else (count, batch, size) for size in rows]
    return layer.state_type(*(rng.normal(size=shape) for shape in shapes))


def sequence(layer, rng, batch=None, steps=T):
    """Return inputs and gradients on the outputs, (B, T, features), or (T, features) without a batch."""
    shape = (steps,) if batch is None else (batch, steps)
    return rng.normal(size=(*shape, layer.input_size)), rng.normal(size=(*shape, layer.output_size))


def bptt(layer, x, dy, state=None):
    """Return outputs, final state and gradients of a forward and a backward pass over the sequence."""
    y, final, tape = layer.forward(x, state)
    return y, final, layer.backward(tape, dy)[2]


def forward_in_time(learner, x, dy):
    """Return the outputs of a learner that learns at every step."""
    outputs = []
    for x_t, dy_t in zip(np.moveaxis(x, -2, 0), np.moveaxis(dy, -2, 0), strict=True):
        outputs.append(learner.push(x_t))
        learner.learn(dy_t)
    return np.stack(outputs, axis=-2)


def assert_near(actual, expected, tolerance=1e-12):
    """Compare all numbers with the largest expected one."""
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max(initial=0) <= tolerance * max(1.0, np.abs(expected).max(initial=0))
