"""States of streams: outputs, reset, copies, files, batches, weights and threads."""

import copy
import gc as garbage
import pickle
import threading
import tracemalloc

import numpy as np
import pytest
from case_loops import loop_over
from stream_models import MODELS, arrays, linear_model, same, width

import glasscell as gc


@loop_over("batch", [None, 300])
@loop_over("name", MODELS)
def test_a_push_allocates_no_array(name, batch):
    model = MODELS[name](H=600 if batch is None else 5)  # the arrays that matter then have 2400 bytes and more
    x = np.ones((width(model),) if batch is None else (batch, width(model)), np.float32)
    stream = model.stream(batch)
    out = stream.push(x).copy()
    active = np.arange(batch or 1) % 2 == 0
    pushes = [lambda: stream.push(x), lambda: stream.push(x, out)]
    pushes += [] if batch is None else [lambda: stream.push(x, active=active)]
    for push in pushes:
        try:
            garbage.disable()  # a collection clears the free lists of the interpreter
            for _ in range(20):
                push()  # fill the free lists
            tracemalloc.start()
            push()
            tracemalloc.reset_peak()
            start, _ = tracemalloc.get_traced_memory()
            for _ in range(3):
                push()
            end, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
            garbage.enable()
        assert end - start < 300
        assert peak - start < 2000  # numbers, and NumPy's internal allocations


def test_outputs_are_a_read_only_view(model, rng):
    I = width(model)
    stream, x = model.stream(), rng.normal(size=(2, I))
    first = stream.push(x[0])
    kept = first.copy()
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 1
    second = stream.push(x[1])
    assert second is first
    assert not np.array_equal(first, kept)
    stream.reset()
    out = np.empty_like(kept)
    assert stream.push(x[0], out=out) is out
    assert np.array_equal(out, kept)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="writable"):
        stream.push(x[0], out=out)


def test_outputs_can_be_pushed(rng):
    model = gc.LSTM(4, 4)
    a, b, y = model.stream(), model.stream(), rng.normal(size=4).astype(np.float32)
    copied = y
    for _ in range(5):
        y, copied = a.push(y), b.push(copied).copy()
        assert np.array_equal(y, copied)


def test_reset_restores_the_initial_state(model, rng):
    x = rng.normal(size=(5, width(model)))
    stream = model.stream()
    first = [stream.push(step).copy() for step in x]
    start = model.stream().state
    assert not same(stream.state, start)
    stream.reset()
    assert same(stream.state, start)
    assert np.array_equal(first, [stream.push(step).copy() for step in x])


def test_copies_are_independent(model, rng):
    x = rng.normal(size=(8, width(model)))
    stream = model.stream()
    for step in x[:3]:
        stream.push(step)
    copies = [stream.copy(), copy.copy(stream), copy.deepcopy(stream)]
    copies += [pickle.loads(pickle.dumps(stream))]  # noqa: S301 - the test's bytes
    middle = stream.state
    expected = [stream.push(step).copy() for step in x[3:]]
    for other in copies:
        assert same(other.state, middle)
        assert np.array_equal(expected, [other.push(step).copy() for step in x[3:]])
        assert same(other.state, stream.state)
        other.push(x[0])
        assert not same(other.state, stream.state)


def test_a_deep_copy_reads_the_weights_of_its_copied_model(model, rng):
    x = rng.normal(size=(4, width(model)))
    with_model, other = copy.deepcopy((model, model.stream()))
    before = model.parameters.vector.copy()
    with_model.parameters.vector[:] = rng.normal(size=before.size)
    other.reload_weights()
    fresh = with_model.stream()
    assert np.array_equal([other.push(step).copy() for step in x], [fresh.push(step).copy() for step in x])
    assert np.array_equal(model.parameters.vector, before)


@pytest.mark.parametrize("batch", [None, 2])
def test_a_loaded_state_continues_the_saved_one(model, batch, rng, tmp_path):
    I = width(model)
    x = rng.normal(size=(9, I) if batch is None else (9, batch, I))
    x[4] = 0 if batch is None else [[0], [1]]  # masked by the model that masks 0, if its first bias is 0
    if isinstance(model, gc.Sequential) and "0.bias" in model.parameters:
        model.parameters["0.bias"][:] = 0
    stream = model.stream(batch)
    for step in x[:4]:
        stream.push(step)
    stream.save(tmp_path / "state.safetensors")
    expected = [stream.push(step).copy() for step in x[4:]]
    other = model.stream(batch)
    other.push(x[0])
    other.load(tmp_path / "state.safetensors")
    assert np.array_equal(expected, [other.push(step).copy() for step in x[4:]])


@loop_over("name", MODELS)
def test_a_batch_equals_separate_streams(name, rng):
    """Use float64: layer normalisation amplifies rounding errors with every step."""
    model = MODELS[name](dtype=np.float64)
    n, I = 4, width(model)
    together, separate = model.stream(n), [model.stream() for _ in range(n)]
    for _ in range(40):
        x = rng.normal(size=(n, I))
        active = rng.random(n) < 0.7
        for k in np.flatnonzero(rng.random(n) < 0.15):
            together.reset(int(k))
            separate[k].reset()
        x_inactive = x.copy()
        x_inactive[~active] = rng.choice([np.nan, np.inf, 3.0])
        y = together.push(x_inactive, active=active)
        for k in range(n):
            expected = separate[k].push(x[k]) if active[k] else np.zeros(y.shape[1])
            np.testing.assert_allclose(y[k], expected, rtol=0, atol=1e-12)
            for array, expected in zip(arrays(together.state), arrays(separate[k].state), strict=True):
                actual = array[:, k] if array.ndim == 3 else array[k]  # (L, n, rows) of an LSTM, or (n, rows)
                np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12)


def test_reload_weights_reads_trained_weights(model, rng):
    x = rng.normal(size=(3, width(model)))
    stream = model.stream()
    stream.push(x[0])
    other, state = stream.copy(), stream.state
    old = stream.push(x[1]).copy()
    model.parameters.vector[:] *= 1.5
    assert np.array_equal(other.push(x[1]), old)
    stream.state = state
    stream.reload_weights()
    assert same(stream.state, state)
    new = stream.push(x[1])
    assert not np.array_equal(new, old)
    fresh = model.stream()
    fresh.state = state
    if type(model) is not gc.Sequential:  # repeated outputs are not part of the state
        assert np.array_equal(fresh.push(x[1]), new)


def test_streams_of_one_model_run_in_threads(model, rng):
    x = rng.normal(size=(6, 300, width(model))).astype(np.float32)
    streams = [model.stream() for _ in range(5)]
    streams.append(streams[0].copy())
    expected = [
        np.array([stream.push(step).copy() for step in steps]) for stream, steps in zip(streams, x, strict=True)
    ]
    results, barrier = [None] * len(streams), threading.Barrier(len(streams))

    def run(k):
        streams[k].reset()
        barrier.wait()
        results[k] = np.array([streams[k].push(step).copy() for step in x[k]])

    threads = [threading.Thread(target=run, args=(k,)) for k in range(len(streams))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(a, b) for a, b in zip(results, expected, strict=True))


def test_a_push_during_a_push_raises():
    stream = gc.LSTM(3, 4).stream()

    class Meanwhile:
        def __array__(self, dtype=None, copy=None):
            with pytest.raises(RuntimeError):
                stream.push([9.0, 9.0, 9.0])
            return np.ones(3)

    y = stream.push(Meanwhile()).copy()
    assert np.array_equal(y, gc.LSTM(3, 4).stream().push(np.ones(3)))


def test_repr():
    assert repr(gc.LSTM(3, 4).stream()) == "Stream(LSTM(3, 4, dtype=float32))"
    assert repr(linear_model().stream(2)) == "Stream(Linear(3, 2, dtype=float32), batch=2)"
    assert linear_model().stream(2).batch == 2
