"""The doors of a stream: what it refuses and that nothing has changed then, its memory, states, batches and threads."""

import copy
import gc as garbage
import json
import pickle
import threading
import tracemalloc

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import glasscell as gc
from glasscell import checkpoint
from glasscell.layers import (
    BatchNorm,
    Conv1D,
    Dropout,
    FinalState,
    Function,
    LayerNorm,
    Masking,
    Pool,
    Rescaling,
    Step,
)
from glasscell.stream import Stream

KINDS = {
    "plain": lambda H=5, **dtype: gc.LSTM(3, H, **dtype),
    "general": lambda H=5, **dtype: gc.LSTM(3, H, peepholes=True, layer_norm="contrib", num_layers=2, **dtype),
    "copy": lambda H=5, **dtype: gc.CopyLSTM(H, task=gc.tasks.Copy(width=2, bits_per_step=1), **dtype),
    "chain": lambda H=5, **dtype: gc.Sequential(
        [
            gc.Linear(3, 4, **dtype),
            Masking(),
            gc.LSTM(4, H, masked_outputs="repeat", **dtype),
            Function("LeakyRelu"),  # which hides nothing: it is one to one
        ]
    ),
    "answer": lambda H=5, **dtype: gc.Sequential(
        [
            Conv1D(3, 4, 2, padding="causal", seed=1, **dtype),
            gc.LSTM(4, H, seed=2, **dtype),
            LayerNorm(H, **dtype),
            Pool("mean"),
            gc.Linear(H, 4, **dtype),
            Function("Gelu"),
        ]
    ),
    "masked answer": lambda H=5, **dtype: gc.Sequential(
        [Masking(), Rescaling(2.0), gc.LSTM(3, H, **dtype), Pool("max"), BatchNorm(H, **dtype)]
    ),
}


def arrays(state):
    """All arrays of a state, in order."""
    if isinstance(state, np.ndarray):
        return [state]
    return [array for part in (*state, *getattr(state, "remembered", ())) for array in arrays(part)]


def same(a, b):
    return all(np.array_equal(one, other) for one, other in zip(arrays(a), arrays(b), strict=True))


def width(model):
    return model.lstm.input_size if isinstance(model, gc.CopyLSTM) else 3


@pytest.fixture(params=KINDS)
def model(request):
    return KINDS[request.param]()


@pytest.mark.parametrize("batch", [None, 4])
def test_bad_input_leaves_the_state_as_it_was(model, batch, rng):
    I = width(model)
    shape = (I,) if batch is None else (batch, I)
    stream, twin = model.stream(batch), model.stream(batch)
    x = rng.normal(size=(2, *shape)).astype(np.float32)
    stream.push(x[0])
    twin.push(x[0])
    before = stream.state
    bad = [np.full(shape, value, dtype) for value in (np.nan, np.inf, -np.inf) for dtype in (np.float32, np.float64)]
    for place in np.ndindex(shape):
        for value in (np.nan, np.inf, -np.inf):
            one = np.zeros(shape, np.float32)
            one[place] = value
            bad.append(one)
    bad += [np.full(shape, 1e300), np.zeros((*shape[:-1], I + 1)), np.zeros(I + 2), 1.0, [], np.zeros((1, 1, *shape))]
    for value in bad:
        with pytest.raises(ValueError, match=r"x (must be finite|has shape)"):
            stream.push(value)
        assert same(stream.state, before)
    for value in (np.zeros(shape, complex), np.full(shape, "1"), np.full(shape, None), "text"):
        with pytest.raises(TypeError, match="real numbers"):
            stream.push(value)
        assert same(stream.state, before)
    with pytest.raises(ValueError, match="x is not an array"):
        stream.push([[1.0], [1.0, 2.0]])
    for mistake, error in (
        (np.zeros((9, 9), np.float32), ValueError),
        (np.zeros_like(stream.push(x[1]), np.float64), TypeError),
        ([0.0], TypeError),
    ):
        stream.state = before
        with pytest.raises(error, match="out "):
            stream.push(x[1], out=mistake)
        assert same(stream.state, before)
    assert np.array_equal(stream.push(x[1]), twin.push(x[1]))
    assert same(stream.state, twin.state)


def test_a_number_that_is_finite_is_pushed_in_any_type(model):
    I = width(model)
    stream = model.stream()
    expected = stream.push(np.ones(I, np.float32)).copy()
    for x in (
        [1] * I,
        (True,) * I,
        np.ones(I, np.int8),
        np.ones(I, np.float16),
        np.ones(I, ">f4"),
        np.ones(2 * I)[::2],
    ):
        stream.reset()
        assert np.array_equal(stream.push(x), expected)


@pytest.mark.parametrize("symbol", [6, -1, 2**70, "a", 1.5, True, None, [1], np.nan])
def test_bad_symbols(symbol, rng):
    model = gc.Sequential([gc.Embedding(6, 3), gc.LSTM(3, 4)])
    for stream, x in ((model.stream(), symbol), (model.stream(2), [0, symbol])):
        stream.push(1 if stream.batch is None else [1, 2])
        before = stream.state
        if x == [0, True]:
            continue  # an array of integers, to NumPy
        with pytest.raises((TypeError, ValueError)):
            stream.push(x)
        assert same(stream.state, before)


def test_what_cannot_be_streamed_is_refused_by_name():
    lstm = gc.LSTM(3, 4)
    for layer in (Step(0), Step(-2), FinalState("reverse"), FinalState("both")):
        with pytest.raises(ValueError, match=r"'head' cannot be streamed: of the steps so far a stream gives the last"):
            gc.Sequential([gc.LSTM(3, 4), gc.Linear(4, 4), layer], ["body", "map", "head"]).stream()
    with pytest.raises(ValueError, match=r"'lstm' cannot be streamed: bidirectional=True.* have not come"):
        gc.LSTM(3, 4, bidirectional=True).stream()
    with pytest.raises(ValueError, match="'back' cannot be streamed: reverse=True"):
        gc.Sequential([gc.LSTM(3, 4, reverse=True)], ["back"]).stream()
    with pytest.raises(ValueError, match="how many features"):
        gc.Sequential([Function("Relu"), Dropout(0.1)]).stream()
    lstm.parameters["kernel_l0"][0, 0] = np.nan
    with pytest.raises(ValueError, match="'lstm' cannot be streamed: kernel_l0 has NaN"):
        lstm.stream()
    for batch, error in ((0, ValueError), (-1, ValueError), (1.0, TypeError), (True, TypeError)):
        with pytest.raises(error, match="batch"):
            linear_model().stream(batch)
    with pytest.raises(TypeError, match="a str is not known to streams"):
        Stream({"odd": "layer"}, None, list, list)


def linear_model():
    return gc.Sequential([gc.Linear(3, 2)])


def test_a_model_without_a_state_streams_too(tmp_path):
    stream = linear_model().stream()
    stream.push(np.ones(3))
    assert stream.state == ()
    with pytest.raises(ValueError, match="nothing to save"):
        stream.save(tmp_path / "state.safetensors")


@pytest.mark.parametrize("batch", [None, 300])
@pytest.mark.parametrize("name", KINDS)
def test_a_push_allocates_no_array(name, batch):
    model = KINDS[name](H=600 if batch is None else 5)  # the arrays that matter then have 2400 bytes and more
    x = np.ones((width(model),) if batch is None else (batch, width(model)), np.float32)
    stream = model.stream(batch)
    out = stream.push(x).copy()
    active = np.arange(batch or 1) % 2 == 0
    pushes = [lambda: stream.push(x), lambda: stream.push(x, out)]
    pushes += [] if batch is None else [lambda: stream.push(x, active=active)]
    for push in pushes:
        try:
            garbage.disable()  # it empties the interpreter's lists of free blocks
            for _ in range(20):
                push()  # until they are full
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
        assert peak - start < 2000  # numbers, and what NumPy notes down for itself while it loops


def test_outputs_are_the_streams_own_and_cannot_be_written(model, rng):
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
    with pytest.raises(ValueError, match="written"):
        stream.push(x[0], out=out)


def test_outputs_may_be_pushed_again(rng):
    model = gc.LSTM(4, 4)
    a, b, y = model.stream(), model.stream(), rng.normal(size=4).astype(np.float32)
    mine = y
    for _ in range(5):
        y, mine = a.push(y), b.push(mine).copy()
        assert np.array_equal(y, mine)


def test_a_reset_stream_is_a_new_one(model, rng):
    x = rng.normal(size=(5, width(model)))
    stream = model.stream()
    first = [stream.push(step).copy() for step in x]
    start = model.stream().state
    assert not same(stream.state, start)
    stream.reset()
    assert same(stream.state, start)
    assert np.array_equal(first, [stream.push(step).copy() for step in x])


def test_forks_are_independent(model, rng):
    x = rng.normal(size=(8, width(model)))
    stream = model.stream()
    for step in x[:3]:
        stream.push(step)
    forks = [stream.copy(), copy.copy(stream), copy.deepcopy(stream)]
    forks += [pickle.loads(pickle.dumps(stream))]  # noqa: S301 - our own
    middle = stream.state
    expected = [stream.push(step).copy() for step in x[3:]]
    for fork in forks:
        assert same(fork.state, middle)
        assert np.array_equal(expected, [fork.push(step).copy() for step in x[3:]])
        assert same(fork.state, stream.state)
        fork.push(x[0])
        assert not same(fork.state, stream.state)


def test_a_copied_stream_has_copied_layers(model, rng):
    x = rng.normal(size=(4, width(model)))
    with_model, other = copy.deepcopy((model, model.stream()))
    before = model.parameters.vector.copy()
    with_model.parameters.vector[:] = rng.normal(size=before.size)
    other.reload_weights()
    fresh = with_model.stream()
    assert np.array_equal([other.push(step).copy() for step in x], [fresh.push(step).copy() for step in x])
    assert np.array_equal(model.parameters.vector, before)


def test_the_state_is_a_copy_and_a_bad_one_is_refused(model, rng):
    stream = model.stream(2)
    stream.push(rng.normal(size=(2, width(model))))
    state = stream.state
    arrays(state)[0][...] = 7
    assert not same(stream.state, state)
    before = stream.state
    h, c, *_ = arrays(before)
    wrap = (lambda h, c: (gc.LSTMState(h, c),)) if isinstance(model, gc.Sequential) else gc.LSTMState
    for bad in (wrap(h[:, :1], c), wrap(h, c[:, :, 1:]), wrap(h * np.nan, c), wrap(h[0], c)):
        with pytest.raises(ValueError, match=r"state\.[hc] "):
            stream.state = bad
        assert same(stream.state, before)
    with pytest.raises(ValueError, match="0 entries"):
        gc.Sequential([gc.LSTM(3, 4)]).stream().state = ()
    with pytest.raises(TypeError, match="pair"):
        gc.LSTM(3, 4).stream().state = 3
    stream.state = before
    assert same(stream.state, before)


@pytest.mark.parametrize("batch", [None, 2])
def test_a_saved_state_goes_on_where_it_was(model, batch, rng, tmp_path):
    I = width(model)
    x = rng.normal(size=(9, I) if batch is None else (9, batch, I))
    x[4] = 0 if batch is None else [[0], [1]]  # no step of the chain that masks 0, if its weights have no bias
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


def test_the_state_of_another_model_is_refused_by_what_differs(tmp_path):
    path = tmp_path / "state.safetensors"
    gc.LSTM(3, 4, dropout=0.1).stream().save(path)
    gc.LSTM(3, 4, seed=1).stream().load(path)  # other weights, and what training alone sees
    gc.Sequential([Dropout(0.5), gc.LSTM(3, 4)], ["a", "b"]).stream().load(path)
    others = {
        "hidden_size of layer 'lstm' is 4 there, 5 here": gc.LSTM(3, 5).stream(),
        "input_size of layer 'lstm' is 3 there, 2 here": gc.LSTM(2, 4).stream(),
        "peepholes of layer 'lstm' is the default there, True here": gc.LSTM(3, 4, peepholes=True).stream(),
        "batch is none there, 2 here": gc.LSTM(3, 4).stream(2),
        "dtype is float32 there, float64 here": gc.LSTM(3, 4, dtype=np.float64).stream(),
        "the layers are LSTM there, LSTM, Linear here": gc.Sequential([gc.LSTM(3, 4), gc.Linear(4, 1)]).stream(),
    }
    for message, stream in others.items():
        before = stream.state
        with pytest.raises(ValueError, match=f"the state of another model: .*{message}"):
            stream.load(path)
        assert same(stream.state, before)


def test_a_damaged_state_is_refused(tmp_path):
    path = tmp_path / "state.safetensors"
    stream = gc.LSTM(3, 4).stream()
    stream.push([1, 2, 3])
    before = stream.state
    with pytest.raises(FileNotFoundError):
        stream.load(path)
    stream.save(path)
    content = path.read_bytes()
    path.write_bytes(content[:-3])
    with pytest.raises(ValueError, match="complete"):
        stream.load(path)
    path.write_bytes(content)
    arrays_, entry = load_file(path), json.loads(checkpoint.read(path)[0])

    def rewritten(arrays=arrays_, **changes):
        save_file(arrays, path, {checkpoint.HEADER_KEY: json.dumps(entry | changes)})

    for change in (
        {"arrays": {"0.h": arrays_["0.h"]}},
        {"arrays": arrays_ | {"0.h": np.zeros((2, 4), np.float32)}},
        {"arrays": arrays_ | {"0.c": np.full((1, 4), np.nan, np.float32)}},
        {"config": {}},
        {"config": entry["config"] | {"layers": 3}},
        {"config": entry["config"] | {"layers": [{"kind": "LSTM"}]}},
        {"kind": "CopyLSTM"},
        {"format": 0},
    ):
        rewritten(**change)
        with pytest.raises(ValueError, match=r"state\.safetensors"):
            stream.load(path)
        assert same(stream.state, before)
    gc.CopyLSTM(4).save(path)
    with pytest.raises(ValueError, match="holds a 'CopyLSTM'; expected the state of a stream"):
        stream.load(path)


@pytest.mark.parametrize("name", KINDS)
def test_a_batch_is_separate_streams_that_start_and_end_when_they_like(name, rng):
    """In float64: a layer that is normalised makes much of rounding, the more steps the more."""
    model = KINDS[name](dtype=np.float64)
    n, I = 4, width(model)
    together, apart = model.stream(n), [model.stream() for _ in range(n)]
    for _ in range(40):
        x = rng.normal(size=(n, I))
        active = rng.random(n) < 0.7
        for k in np.flatnonzero(rng.random(n) < 0.15):
            together.reset(int(k))
            apart[k].reset()
        given = x.copy()
        given[~active] = rng.choice([np.nan, np.inf, 3.0])
        y = together.push(given, active=active)
        for k in range(n):
            expected = apart[k].push(x[k]) if active[k] else np.zeros(y.shape[1])
            np.testing.assert_allclose(y[k], expected, rtol=0, atol=1e-12)
            for one, other in zip(arrays(together.state), arrays(apart[k].state), strict=True):
                own = one[:, k] if one.ndim == 3 else one[k]  # of an LSTM, or of another layer
                np.testing.assert_allclose(own, other, rtol=0, atol=1e-12)


def test_inactive_symbols_do_not_matter():
    model = gc.Sequential([gc.Embedding(4, 3), gc.LSTM(3, 2)])
    stream, twin = model.stream(2), model.stream()
    y = stream.push([2, -77], active=[True, False])
    assert np.allclose(y[0], twin.push(2))
    assert not y[1].any()


def test_bad_choices_of_streams():
    single, several = gc.LSTM(3, 4).stream(), gc.LSTM(3, 4).stream(3)
    x = np.ones((3, 3))
    with pytest.raises(ValueError, match="batch"):
        single.push(x[0], active=True)
    with pytest.raises(TypeError, match="bool"):
        several.push(x, active=[1, 0, 1])
    with pytest.raises(ValueError, match=r"expected \(n,\) = \(3,\)"):
        several.push(x, active=[True, False])
    with pytest.raises(ValueError, match="finite"):
        several.push(x * np.nan, active=[True, False, False])
    with pytest.raises(ValueError, match="single"):
        single.reset(0)
    for k, error in ((3, ValueError), (-1, ValueError), (True, TypeError), (1.0, TypeError)):
        with pytest.raises(error, match="stream must be"):
            several.reset(k)
    assert not any(array.any() for array in arrays(several.state))


def test_training_is_seen_after_a_refresh(model, rng):
    x = rng.normal(size=(3, width(model)))
    stream = model.stream()
    stream.push(x[0])
    fork, state = stream.copy(), stream.state
    old = stream.push(x[1]).copy()
    model.parameters.vector[:] *= 1.5
    assert np.array_equal(fork.push(x[1]), old)
    stream.state = state
    stream.reload_weights()
    assert same(stream.state, state)
    new = stream.push(x[1])
    assert not np.array_equal(new, old)
    fresh = model.stream()
    fresh.state = state
    if not isinstance(model, gc.Sequential):  # whose LSTM repeats what is no part of a state
        assert np.array_equal(fresh.push(x[1]), new)


@pytest.mark.parametrize("name", KINDS)
def test_underflow_raises_nothing(name, rng):
    model = KINDS[name]()
    stream = model.stream()
    made_inside = []
    with np.errstate(all="raise"):
        made_inside.append(model.stream())
        for one in (stream, *made_inside):
            for scale in (1.0, 1e-20, 1e-38, 1e-45):
                one.push(np.full(width(model), scale, np.float32))
    state = stream.state
    for array in arrays(state):
        array[...] = 1e-30
    with np.errstate(all="raise"):
        for one in (stream, *made_inside):
            one.state = state
            one.push(np.full(width(model), 1e-30, np.float32))


def test_an_error_in_a_later_layer_leaves_the_earlier_ones_as_they_were():
    layers = [gc.LSTM(1, 2), gc.LSTM(2, 2, candidate_activation=("Affine", 1e30, 0.0), output_activation="Relu")]
    model = gc.Sequential(layers)
    with np.errstate(over="raise"):
        stream = model.stream()
    for _ in range(50):
        before = stream.state
        try:
            stream.push([1.0])
        except FloatingPointError:
            break
    else:
        pytest.fail("nothing overflowed")
    assert same(stream.state, before)


def test_streams_of_one_model_run_in_threads(model, rng):
    x = rng.normal(size=(6, 300, width(model))).astype(np.float32)
    streams = [model.stream() for _ in range(5)]
    streams.append(streams[0].copy())
    expected = [np.array([stream.push(step).copy() for step in of]) for stream, of in zip(streams, x, strict=True)]
    got, barrier = [None] * len(streams), threading.Barrier(len(streams))

    def run(k):
        streams[k].reset()
        barrier.wait()
        got[k] = np.array([streams[k].push(step).copy() for step in x[k]])

    threads = [threading.Thread(target=run, args=(k,)) for k in range(len(streams))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(a, b) for a, b in zip(got, expected, strict=True))


def test_one_stream_is_for_one_thread_at_a_time():
    stream = gc.LSTM(3, 4).stream()

    class Meanwhile:
        def __array__(self, dtype=None, copy=None):
            with pytest.raises(RuntimeError):
                stream.push([9.0, 9.0, 9.0])
            return np.ones(3)

    y = stream.push(Meanwhile()).copy()
    assert np.array_equal(y, gc.LSTM(3, 4).stream().push(np.ones(3)))


def test_a_stream_says_what_it_is():
    assert repr(gc.LSTM(3, 4).stream()) == "Stream(LSTM(3, 4, dtype=float32))"
    assert repr(linear_model().stream(2)) == "Stream(Linear(3, 2, dtype=float32), batch=2)"
    assert linear_model().stream(2).batch == 2
