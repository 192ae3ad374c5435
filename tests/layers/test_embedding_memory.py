"""The gradient on an Embedding's table, in memory that is kept from one batch to the next."""

import tracemalloc

import numpy as np
import pytest

import glasscell as gc
from glasscell.core.buffers import BufferPool

V, E = 7, 5


def gradient_on_table(layer, ids, d_outputs, buffers):
    gradients = layer.parameters.zeros_like()
    gradients.vector[:] = np.nan
    layer.backward_feature_major(ids, d_outputs, gradients, buffers)
    return gradients["weight"]


def in_layout(d_outputs, *, rows):
    """Return an array (T, E, B) with the numbers of a step of a sequence adjacent in memory, or those of a step."""
    return d_outputs.transpose(0, 2, 1).copy().transpose(0, 2, 1) if rows else d_outputs


@pytest.mark.parametrize("rows", [False, True], ids=["columns", "rows"])
def test_the_gradient_is_the_sum_for_each_symbol_and_has_the_same_bits_in_kept_memory(rows, rng):
    layer, buffers = gc.Embedding(V, E, dtype=np.float64), BufferPool()
    for T, B in [(6, 4), (9, 3), (1, 1), (5, 1), (0, 2), (6, 4)]:
        ids = rng.integers(V, size=(T, B))
        d_outputs = in_layout(rng.normal(size=(T, E, B)), rows=rows)
        expected = np.zeros((V, E))
        np.add.at(expected, ids, d_outputs.transpose(0, 2, 1))
        fresh = gradient_on_table(layer, ids, d_outputs, None)
        np.testing.assert_allclose(fresh, expected, rtol=0, atol=1e-13)
        np.testing.assert_array_equal(gradient_on_table(layer, ids, d_outputs, buffers), fresh)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_reaches_its_symbol_alone(value, rng):
    layer, buffers, ids = gc.Embedding(V, E), BufferPool(), np.arange(24).reshape(8, 3) % V
    d_outputs = rng.normal(size=(8, E, 3)).astype(np.float32)
    clean = gradient_on_table(layer, ids, d_outputs, buffers)
    d_outputs[4, 2, 1] = value
    gradient = gradient_on_table(layer, ids, d_outputs, buffers)
    np.testing.assert_array_equal(gradient[ids[4, 1], 2], np.float32(value))
    gradient[ids[4, 1], 2] = clean[ids[4, 1], 2]
    np.testing.assert_array_equal(gradient, clean)


def test_the_gradient_takes_no_memory_but_that_which_is_kept(rng):
    layer, buffers = gc.Embedding(65, 64), BufferPool()
    ids, d_outputs = rng.integers(65, size=(50, 40)), rng.normal(size=(50, 64, 40)).astype(np.float32)
    gradients = layer.parameters.zeros_like()
    layer.backward_feature_major(ids, d_outputs, gradients, buffers)
    tracemalloc.start()
    try:
        layer.backward_feature_major(ids, d_outputs, gradients, buffers)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < d_outputs.nbytes / 4
