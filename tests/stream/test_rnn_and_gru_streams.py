"""Property: a stream of an RNN or a GRU equals forward, allocates nothing, and continues from a file."""

import pickle
import tracemalloc

import numpy as np
import pytest
from case_loops import loop_over

import glasscell as gc
from glasscell.layers import Masking

T, I, H = 9, 3, 5
CELLS = {
    "tanh": (gc.RNN, {}),
    "relu": (gc.RNN, {"nonlinearity": "relu"}),
    "gru": (gc.GRU, {}),
    "gru of the paper": (gc.GRU, {"reset_after": False}),
}
# Sums are added in another order, and a state carries the difference on: some roundings of numbers near 1.
ROUNDINGS = 16


def layer_of(cell, rng, dtype=np.float64, **options):
    kind, cell_options = CELLS[cell]
    layer = kind(I, H, **cell_options, **options, dtype=dtype)
    layer.parameters.vector[:] = rng.normal(size=layer.parameters.vector.size) / 2
    return layer


@loop_over("dtype", [np.float32, np.float64])
@loop_over("batch", [None, 4])
@loop_over("options", [{}, {"num_layers": 3, "dropout": 0.5}, {"bias": False}], ids=["", "3", "no bias"])
@loop_over("cell", CELLS)
def test_a_stream_gives_what_forward_gives(cell, options, batch, dtype, rng):
    layer = layer_of(cell, rng, dtype, **options)
    x = rng.normal(size=(T, I) if batch is None else (batch, T, I)).astype(dtype)
    stream = layer.stream(batch)
    steps = x if batch is None else x.swapaxes(0, 1)
    y = np.stack([stream.push(step).copy() for step in steps], axis=0 if batch is None else 1)
    expected, state, _ = layer.forward(x)
    bound = ROUNDINGS * np.finfo(dtype).eps * max(1, abs(expected).max())
    np.testing.assert_allclose(y, expected, rtol=0, atol=bound)
    assert type(stream.state) is type(state)
    np.testing.assert_allclose(stream.state.h, state.h, rtol=0, atol=bound)
    assert y.dtype == dtype


@loop_over("batch", [None, 4])
@loop_over("cell", CELLS)
def test_a_saved_state_goes_on_where_it_was(cell, batch, rng, tmp_path):
    layer = layer_of(cell, rng, num_layers=2)
    x = rng.normal(size=(T, I) if batch is None else (T, batch, I))
    stream = layer.stream(batch)
    for step in x[:4]:
        stream.push(step)
    stream.save(tmp_path / "state.safetensors")
    other, from_state = layer.stream(batch), layer.stream(batch)
    other.load(tmp_path / "state.safetensors")
    from_state.state = stream.state
    fork, unpickled = stream.copy(), pickle.loads(pickle.dumps(stream))  # noqa: S301 - made here
    expected = [stream.push(step).copy() for step in x[4:]]
    for one in (other, from_state, fork, unpickled):
        np.testing.assert_array_equal([one.push(step).copy() for step in x[4:]], expected)
    stream.reset()
    assert not stream.state.h.any()


def test_the_state_of_another_model_is_refused(tmp_path, rng):
    path = tmp_path / "state.safetensors"
    gc.GRU(I, H).stream().save(path)
    with pytest.raises(ValueError, match="the layers are GRU there, RNN here"):
        gc.RNN(I, H).stream().load(path)
    with pytest.raises(ValueError, match="reset_after of layer 'gru' is the default there, False here"):
        gc.GRU(I, H, reset_after=False).stream().load(path)
    gc.GRU(I, H, dropout=0.1).stream().load(path)  # of training only
    stream = gc.GRU(I, H).stream()
    before = stream.state.h.copy()
    for state in (np.zeros((1, H)), gc.LSTMState(np.zeros((1, H)), np.zeros((1, H))), gc.RNNState(np.zeros((2, H)))):
        with pytest.raises((TypeError, ValueError), match="state"):
            stream.state = state
    np.testing.assert_array_equal(stream.state.h, before)


def test_both_directions_are_refused():
    for kind in (gc.RNN, gc.GRU):
        with pytest.raises(ValueError, match="cannot be streamed: bidirectional=True, so its outputs depend on later"):
            kind(I, H, bidirectional=True).stream()


@loop_over("batch", [None, 3])
@loop_over("cell", CELLS)
def test_a_push_allocates_no_array(cell, batch, rng):
    units = 512  # an array of one of them is larger than all else that a push makes
    kind, options = CELLS[cell]
    stream = kind(I, units, **options).stream(batch)
    x = rng.normal(size=(I,) if batch is None else (batch, I)).astype(np.float32)
    for _ in range(3):
        stream.push(x)
    tracemalloc.start()
    try:
        stream.push(x)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        stream.push(x)
        assert tracemalloc.get_traced_memory()[1] - before < units * 4
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("cell", CELLS)
def test_masked_steps_keep_the_state(cell, rng):
    layer = layer_of(cell, rng)
    model = gc.Sequential([Masking(0.0), layer])
    x = rng.normal(size=(T, I))
    x[[0, 3, 4]] = 0
    stream = model.stream()
    y = np.stack([stream.push(step).copy() for step in x])
    expected = layer.infer(x, mask=x.any(axis=1))[0]
    np.testing.assert_allclose(y, expected, atol=1e-14)


@pytest.mark.parametrize("cell", CELLS)
def test_inputs_that_are_not_finite_leave_the_state_as_it_was(cell, rng):
    layer = layer_of(cell, rng, num_layers=2)
    stream = layer.stream()
    stream.push(rng.normal(size=I))
    before = stream.state.h
    for bad in ([1, np.nan, 0], [np.inf, 0, 0], [1, 2]):
        with pytest.raises(ValueError, match="x"):
            stream.push(bad)
        np.testing.assert_array_equal(stream.state.h, before)


def test_the_chain_of_three_kinds(rng):
    model = gc.Sequential([gc.RNN(I, 4), gc.LSTM(4, 5), gc.GRU(5, 6), gc.Linear(6, 2)], seed=1)
    x = rng.normal(size=(2, T, I)).astype(np.float32)
    stream = model.stream(batch=2)
    y = np.stack([stream.push(step).copy() for step in x.swapaxes(0, 1)], axis=1)
    np.testing.assert_allclose(y, model(x), rtol=0, atol=1e-6)
    assert [type(state).__name__ for state in stream.state] == ["RNNState", "LSTMState", "RNNState"]
