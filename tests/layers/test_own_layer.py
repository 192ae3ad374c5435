"""Law: a layer that a user defines by the protocol alone works wherever a layer of the package does.

The layers are those of docs/layers.md, whose text is executed here.
"""

import copy
import pickle
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import glasscell as gc
from glasscell.layers import registry

ROOT = Path(__file__).parents[2]
B, T, F = 4, 7, 3


@pytest.fixture(scope="module")
def own():
    """The module of the example; its classes can be pickled, and are not registered afterwards."""
    text = (ROOT / "docs" / "layers.md").read_text("utf-8").partition("## Add a layer")[2]
    module = ModuleType("own_layer")
    sys.modules[module.__name__] = module
    for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(code, "docs/layers.md", "exec"), vars(module))  # noqa: S102 - our own text
    yield module
    del sys.modules[module.__name__], registry._REGISTERED["LeakyUnits"], registry._REGISTERED["Scale"]


def build(own, rng, dtype=np.float64):
    layers = [gc.Linear(2, F, dtype=dtype), own.LeakyUnits(F, dtype=dtype), gc.Linear(F, 2, dtype=dtype)]
    model = gc.Sequential(layers, ["first", "leaky", "last"])
    model.parameters.vector[:] = rng.normal(scale=0.5, size=model.parameters.vector.size)
    return model


@pytest.mark.parametrize("lengths", [None, np.array([7, 3, 0, 5])])
@pytest.mark.parametrize("kind", ["layer", "model"])
def test_gradients_are_those_of_finite_differences(own, kind, lengths, rng):
    model = own.LeakyUnits(F, dtype=np.float64) if kind == "layer" else build(own, rng)
    model.parameters.vector[:] = rng.normal(scale=0.7, size=model.parameters.vector.size)
    x, h0 = rng.normal(size=(B, T, F if kind == "layer" else 2)), rng.normal(size=(1, B, F))

    def wrap(h):
        return own.LeakyState(h) if kind == "layer" else [own.LeakyState(h)]

    def unwrap(state):
        return state.h if kind == "layer" else state[0].h

    y, end, tape = model.forward(x, wrap(h0), lengths=lengths)
    dy, dh = rng.normal(size=y.shape), rng.normal(size=unwrap(end).shape)
    dx, d_start, gradients = model.backward(tape, dy, wrap(dh))
    arrays, given = [model.parameters.vector, x, h0], [gradients.vector, dx, unwrap(d_start)]

    def loss():
        y, end, _ = model.forward(x, wrap(h0), lengths=lengths)
        return (y * dy).sum() + (unwrap(end) * dh).sum()

    for array, gradient in zip(arrays, given, strict=True):
        for index in list(np.ndindex(array.shape))[:: max(1, array.size // 20)]:
            before, values = array[index], []
            for step in (1e-4, -1e-4, 2e-4, -2e-4):
                array[index] = before + step
                values.append(loss())
            array[index] = before
            a, b, c, d = values
            assert gradient[index] == pytest.approx((8 * (a - b) - (c - d)) / 12e-4, abs=1e-8)


def test_a_batch_gives_what_its_sequences_give(own, rng):
    model, x, lengths = build(own, rng), rng.normal(size=(B, T, 2)), [7, 3, 1, 5]
    together, states, _ = model.forward(x, lengths=lengths)
    for b, length in enumerate(lengths):
        alone, state, tape = model.forward(x[b, :length])
        np.testing.assert_allclose(together[b, :length], alone, rtol=0, atol=1e-14)
        np.testing.assert_allclose(states[0].h[:, b], state[0].h, rtol=0, atol=1e-14)
        assert model.backward(tape, np.ones_like(alone))[0].shape == x[b, :length].shape


def test_it_trains_with_carried_states_and_truncated_backpropagation(own, rng):
    x = rng.normal(size=(12, 40, 2))
    y = np.cumsum(x * 0.8, axis=1)
    losses = []
    for options in ({}, {"tbptt_steps": 10}):
        model = build(own, np.random.default_rng(1), np.float32)
        history = gc.fit(
            model, (x, y), epochs=30, batch_size=4, optimizer=gc.Adam(0.03), loss="squared_error", **options
        )
        losses.append([row["loss"] for row in history.rows])
        per_epoch = len(losses[-1]) // 30
        assert np.mean(losses[-1][-per_epoch:]) < 0.4 * np.mean(losses[-1][:per_epoch])
    whole = model.forward(x)[0]
    first, state, _ = model.forward(x[:, :15])
    np.testing.assert_allclose(np.concatenate([first, model.forward(x[:, 15:], state)[0]], axis=1), whole, atol=1e-4)


def test_files_copies_and_names(own, rng, tmp_path):
    model, x = build(own, rng), rng.normal(size=(B, T, 2))
    model.save(tmp_path / "m.safetensors")
    for other in (gc.load(tmp_path / "m.safetensors"), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):  # noqa: S301
        assert type(other.layers[1]) is own.LeakyUnits
        np.testing.assert_array_equal(other(x), model(x))
    assert list(model.to_torch()) == ["first.weight", "first.bias", "leaky.rate", "last.weight", "last.bias"]
    assert "LeakyUnits(3)" in str(model.summary())
    layer = model.layers[1]
    layer.save(tmp_path / "layer.safetensors")
    np.testing.assert_array_equal(
        own.LeakyUnits.load(tmp_path / "layer.safetensors").parameters["rate"], model.parameters["leaky.rate"]
    )


@pytest.mark.parametrize("batch", [None, B])
def test_a_stream_gives_what_forward_gives(own, batch, rng):
    model, x = build(own, rng), rng.normal(size=(B, T, 2))
    x = x if batch else x[0]
    expected, states, _ = model.forward(x)
    stream = model.stream(batch)
    steps = np.moveaxis(x, -2, 0)
    outputs = [stream.push(step).copy() for step in steps]
    np.testing.assert_allclose(np.moveaxis(outputs, 0, -2), expected, rtol=0, atol=1e-13)
    np.testing.assert_allclose(stream.state[0].h, states[0].h, rtol=0, atol=1e-13)
    assert isinstance(stream.state[0], own.LeakyState)


def test_it_is_traced_only_beside_layers_that_can_be(own, rng):
    model = build(own, rng)
    with pytest.raises(ValueError, match="no"):
        model.trace(rng.normal(size=(T, 2)))
    with pytest.raises(ValueError, match="can be traced, got a LeakyUnits"):
        model.layers[1].trace(rng.normal(size=(T, F)))
    with_lstm = gc.Sequential([own.LeakyUnits(F), gc.LSTM(F, 4), own.LeakyUnits(4), gc.LSTM(4, 2)], seed=2)
    x, y = rng.normal(size=(B, T, F)), rng.normal(size=(B, T, 2))
    trace = with_lstm.trace(x, y)
    assert [layer.name for layer in trace.layer] == ["1 l0", "3 l0"]
    assert trace.layer[1].d_h.shape == (B, T, 2)


def test_names_of_layers_are_free_or_refused(own):
    with pytest.raises(ValueError, match="must be free, got 'LSTM'"):
        registry.register(type("LSTM", (own.LeakyUnits,), {}))
    with pytest.raises(ValueError, match="must be free, got 'LeakyUnits'"):
        registry.register(type("LeakyUnits", (own.LeakyUnits,), {}))
    assert registry.register(own.LeakyUnits) is own.LeakyUnits


@pytest.mark.parametrize("before", [lambda: gc.LSTM(2, F, dtype=np.float64), lambda: gc.Linear(2, F, dtype=np.float64)])
@pytest.mark.parametrize("after", [lambda: gc.LSTM(F, 2, dtype=np.float64), lambda: gc.Linear(F, 2, dtype=np.float64)])
def test_a_layer_without_parameters_trains_streams_and_is_saved(own, before, after, rng, tmp_path):
    model = gc.Sequential([before(), own.Scale(3.0), own.Scale(), after()])
    model.parameters.vector[:] = rng.normal(scale=0.5, size=model.parameters.vector.size)
    x = rng.normal(size=(B, T, 2))
    y, _, tape = model.forward(x)
    first, last = copy.deepcopy(model.layers[0]), copy.deepcopy(model.layers[3])
    scaled = gc.Sequential([first, gc.layers.Rescaling(6.0, 0.0), last])
    expected, _, scaled_tape = scaled.forward(x)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-13)
    dx, expected_dx = model.backward(tape, np.ones_like(y))[0], scaled.backward(scaled_tape, np.ones_like(y))[0]
    np.testing.assert_allclose(dx, expected_dx, rtol=0, atol=1e-12)
    stream = model.stream(B)
    pushed = [stream.push(step).copy() for step in np.moveaxis(x, 1, 0)]
    np.testing.assert_allclose(np.moveaxis(pushed, 0, 1), y, rtol=0, atol=1e-13)
    model.save(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(gc.load(tmp_path / "m.safetensors")(x), model(x))
