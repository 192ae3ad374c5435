"""Errors of streams: invalid input, states, files and layers; the state is unchanged after each."""

import json

import numpy as np
import pytest
from case_loops import loop_over
from safetensors.numpy import load_file, save_file
from stream_models import MODELS, arrays, linear_model, same, width

import glasscell as gc
from glasscell import checkpoint
from glasscell.layers import (
    Dropout,
    FinalState,
    Function,
    Step,
)
from glasscell.stream import Stream


@pytest.mark.parametrize("batch", [None, 4])
def test_invalid_input_leaves_the_state_unchanged(model, batch, rng):
    I = width(model)
    shape = (I,) if batch is None else (batch, I)
    stream, twin = model.stream(batch), model.stream(batch)
    x = rng.normal(size=(2, *shape)).astype(np.float32)
    stream.push(x[0])
    twin.push(x[0])
    before = stream.state
    bad = [np.full(shape, value, dtype) for value in (np.nan, np.inf, -np.inf) for dtype in (np.float32, np.float64)]
    for index in np.ndindex(shape):
        for value in (np.nan, np.inf, -np.inf):
            x_bad = np.zeros(shape, np.float32)
            x_bad[index] = value
            bad.append(x_bad)
    bad += [np.full(shape, 1e300), np.zeros((*shape[:-1], I + 1)), np.zeros(I + 2), 1.0, [], np.zeros((1, 1, *shape))]
    for value in bad:
        with pytest.raises(ValueError, match=r"x must (be finite|have shape)"):
            stream.push(value)
        assert same(stream.state, before)
    for value in (np.zeros(shape, complex), np.full(shape, "1"), np.full(shape, None), "text"):
        with pytest.raises(TypeError, match="real numbers"):
            stream.push(value)
        assert same(stream.state, before)
    with pytest.raises(ValueError, match="x must be an array of real numbers"):
        stream.push([[1.0], [1.0, 2.0]])
    for out, error in (
        (np.zeros((9, 9), np.float32), ValueError),
        (np.zeros_like(stream.push(x[1]), np.float64), TypeError),
        ([0.0], TypeError),
    ):
        stream.state = before
        with pytest.raises(error, match="out "):
            stream.push(x[1], out=out)
        assert same(stream.state, before)
    assert np.array_equal(stream.push(x[1]), twin.push(x[1]))
    assert same(stream.state, twin.state)


def test_finite_numbers_of_any_dtype_are_accepted(model):
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


@loop_over("symbol", [6, -1, 2**70, "a", 1.5, True, None, [1], np.nan])
def test_invalid_ids(symbol, rng):
    model = gc.Sequential([gc.Embedding(6, 3), gc.LSTM(3, 4)])
    for stream, x in ((model.stream(), symbol), (model.stream(2), [0, symbol])):
        stream.push(1 if stream.batch is None else [1, 2])
        before = stream.state
        if x == [0, True]:
            continue  # NumPy makes an array of integers of it
        with pytest.raises((TypeError, ValueError)):
            stream.push(x)
        assert same(stream.state, before)


def test_unsupported_layers_are_named():
    lstm = gc.LSTM(3, 4)
    for layer in (Step(0), Step(-2), FinalState("reverse"), FinalState("both")):
        with pytest.raises(ValueError, match=r"'head' cannot be streamed: of the steps so far a stream gives the last"):
            gc.Sequential([gc.LSTM(3, 4), gc.Linear(4, 4), layer], ["body", "map", "head"]).stream()
    with pytest.raises(ValueError, match=r"'lstm' cannot be streamed: bidirectional=True.* depend on later steps"):
        gc.LSTM(3, 4, bidirectional=True).stream()
    with pytest.raises(ValueError, match="'back' cannot be streamed: reverse=True"):
        gc.Sequential([gc.LSTM(3, 4, reverse=True)], ["back"]).stream()
    with pytest.raises(ValueError, match="fixed number of input features"):
        gc.Sequential([Function("Relu"), Dropout(0.1)]).stream()
    lstm.parameters["kernel_l0"][0, 0] = np.nan
    with pytest.raises(ValueError, match="'lstm' cannot be streamed: kernel_l0 has NaN"):
        lstm.stream()
    for batch, error in ((0, ValueError), (-1, ValueError), (1.0, TypeError), (True, TypeError)):
        with pytest.raises(error, match="batch"):
            linear_model().stream(batch)
    with pytest.raises(TypeError, match=r"str has no stream_stage\(\)"):
        Stream({"odd": "layer"}, None, list, list)


def test_a_model_without_state(tmp_path):
    stream = linear_model().stream()
    stream.push(np.ones(3))
    assert stream.state == ()
    with pytest.raises(ValueError, match="no layer of the model has a state"):
        stream.save(tmp_path / "state.safetensors")


def test_the_state_is_a_copy_and_an_invalid_one_raises(model, rng):
    stream = model.stream(2)
    stream.push(rng.normal(size=(2, width(model))))
    state = stream.state
    arrays(state)[0][...] = 7
    assert not same(stream.state, state)
    before = stream.state
    h, c, *_ = arrays(before)
    wrap = (lambda h, c: (gc.LSTMState(h, c),)) if type(model) is gc.Sequential else gc.LSTMState
    for bad in (wrap(h[:, :1], c), wrap(h, c[:, :, 1:]), wrap(h * np.nan, c), wrap(h[0], c)):
        with pytest.raises(ValueError, match=r"state\.[hc] "):
            stream.state = bad
        assert same(stream.state, before)
    with pytest.raises(ValueError, match="one entry per recurrent layer, 1, got 0"):
        gc.Sequential([gc.LSTM(3, 4)]).stream().state = ()
    with pytest.raises(TypeError, match="pair"):
        gc.LSTM(3, 4).stream().state = 3
    stream.state = before
    assert same(stream.state, before)


def test_the_state_of_another_model_raises_and_names_the_differences(tmp_path):
    path = tmp_path / "state.safetensors"
    gc.LSTM(3, 4, dropout=0.1).stream().save(path)
    gc.LSTM(3, 4, seed=1).stream().load(path)  # other weights, and an option of training
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


def test_a_damaged_state_raises(tmp_path):
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
    with pytest.raises(ValueError, match="must contain the state of a stream, got a 'CopyLSTM'"):
        stream.load(path)


def test_inactive_ids_are_ignored():
    model = gc.Sequential([gc.Embedding(4, 3), gc.LSTM(3, 2)])
    stream, twin = model.stream(2), model.stream()
    y = stream.push([2, -77], active=[True, False])
    assert np.allclose(y[0], twin.push(2))
    assert not y[1].any()


def test_invalid_masks_and_indices_of_a_batch():
    single, several = gc.LSTM(3, 4).stream(), gc.LSTM(3, 4).stream(3)
    x = np.ones((3, 3))
    with pytest.raises(ValueError, match="batch"):
        single.push(x[0], active=True)
    with pytest.raises(TypeError, match="bool"):
        several.push(x, active=[1, 0, 1])
    with pytest.raises(ValueError, match=r"shape \(n,\) = \(3,\), got"):
        several.push(x, active=[True, False])
    with pytest.raises(ValueError, match="finite"):
        several.push(x * np.nan, active=[True, False, False])
    with pytest.raises(ValueError, match="single"):
        single.reset(0)
    for k, error in ((3, ValueError), (-1, ValueError), (True, TypeError), (1.0, TypeError)):
        with pytest.raises(error, match="stream must be"):
            several.reset(k)
    assert not any(array.any() for array in arrays(several.state))


@loop_over("name", MODELS)
def test_underflow_is_ignored(name, rng):
    model = MODELS[name]()
    stream = model.stream()
    under_errstate = []
    with np.errstate(all="raise"):
        under_errstate.append(model.stream())
        for other in (stream, *under_errstate):
            for scale in (1.0, 1e-20, 1e-38, 1e-45):
                other.push(np.full(width(model), scale, np.float32))
    state = stream.state
    for array in arrays(state):
        array[...] = 1e-30
    with np.errstate(all="raise"):
        for other in (stream, *under_errstate):
            other.state = state
            other.push(np.full(width(model), 1e-30, np.float32))


def test_an_error_in_a_later_layer_leaves_earlier_layers_unchanged():
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
