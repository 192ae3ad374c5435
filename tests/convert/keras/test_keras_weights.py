"""Property: Keras weights alone are layers by name; with an architecture, the outputs equal those of Keras."""

import warnings

import numpy as np
import pytest

import glasscell as gc
from glasscell.convert.layer_set import Matrix
from glasscell.layers import BatchNorm, LayerNorm

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

WITHIN = 2e-6


def drawn(model, rng):
    model.set_weights([rng.uniform(-0.9, 0.9, size=w.shape).astype(w.dtype) for w in model.get_weights()])
    return model


def saved(model, path):
    with warnings.catch_warnings(action="ignore"):
        model.save_weights(path)
    return path


def answer(model, x):
    return model(x).detach().numpy()


def refusal(path, **options):
    with pytest.raises(ValueError, match=r"\w") as caught:
        gc.convert.load(path, **options)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def older(h5py, model, path):
    """Save weights alone in the legacy format of Keras 2."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array([layer.name.encode() for layer in model.layers])
        file.attrs["keras_version"] = np.bytes_("2.13.1")
        for layer in model.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{weight.path.removeprefix(layer.name + '/')}:0" for weight in layer.weights]
            group.attrs["weight_names"] = np.array([name.encode() for name in names])
            for name, weight in zip(names, layer.weights, strict=True):
                group[name] = weight.numpy()
    return path


@pytest.mark.parametrize("old", [False, True])
def test_the_computation_is_stated_and_never_looked_for(old, keras, h5py, tmp_path, rng):
    """The activation of a Dense and what an LSTM returns are in no weights; here all sizes fit in many orders."""
    L = keras.layers
    layers = [L.LSTM(3, return_sequences=True), L.Dropout(0.2), L.LSTM(3), L.Dense(3, "relu"), L.Dense(3, "softmax")]
    model = drawn(keras.Sequential([keras.Input((5, 3)), *layers]), rng)
    path = older(h5py, model, tmp_path / "m.h5") if old else saved(model, tmp_path / "m.weights.h5")
    a, b, c, d = (layer.name for layer in layers if layer.weights)
    words = refusal(path)
    for part in (f"{a} (LSTM 3 → 3)", f"{c} (Linear 3 → 3)", "architecture="):
        assert part in words
    assert [type(layer) for layer in gc.convert.weights(path).values()] in (
        [gc.LSTM, gc.LSTM, gc.Linear, gc.Linear],
        [gc.Linear, gc.Linear, gc.LSTM, gc.LSTM],
    )
    glasscell_model = gc.convert.load(path, architecture=f"{a},{b},last,{c},relu,{d},softmax")
    x = rng.normal(size=(2, 5, 3)).astype(np.float32)
    np.testing.assert_allclose(glasscell_model(x), answer(model, x), rtol=0, atol=WITHIN)


def test_embedding_and_both_directions(keras, tmp_path, rng):
    L = keras.layers
    layers = [L.Embedding(7, 3), L.Bidirectional(L.LSTM(4)), L.Dense(2, use_bias=False)]
    model = drawn(keras.Sequential([keras.Input((5,)), *layers]), rng)
    path = saved(model, tmp_path / "m.weights.h5")
    table, lstm, head = (layer.name for layer in layers)
    glasscell_model = gc.convert.load(path, architecture=[table, lstm, "final", head])
    x = rng.integers(0, 7, size=(2, 5))
    np.testing.assert_allclose(glasscell_model(x), answer(model, x), rtol=0, atol=WITHIN)
    assert not any(isinstance(layer, Matrix) for layer in gc.convert.weights(path).values())


@pytest.mark.parametrize("kind", ["batchnorm", "layernorm"])
def test_a_normalisation_needs_its_epsilon(kind, keras, tmp_path, rng):
    L = keras.layers
    norm = L.BatchNormalization(epsilon=1e-2) if kind == "batchnorm" else L.LayerNormalization(epsilon=1e-2)
    lstm = L.LSTM(4, return_sequences=True)
    model = keras.Sequential([keras.Input((5, 3)), lstm, norm])
    model.set_weights([rng.uniform(0.2, 0.9, size=w.shape).astype(w.dtype) for w in model.get_weights()])
    path = saved(model, tmp_path / "m.weights.h5")
    assert f"{norm.name} (weight (4,), bias (4,)" in refusal(path)
    glasscell_model = gc.convert.load(path, architecture=f"{lstm.name},{norm.name}:{kind}:1e-2")
    assert isinstance(glasscell_model.layers[1], BatchNorm if kind == "batchnorm" else LayerNorm)
    x = rng.normal(size=(2, 5, 3)).astype(np.float32)
    np.testing.assert_allclose(glasscell_model(x), answer(model, x), rtol=0, atol=WITHIN)


def test_one_layer_is_a_model_unless_others_are_named(keras, tmp_path, rng):
    L = keras.layers
    lstm = L.LSTM(4, return_sequences=True)
    path = saved(drawn(keras.Sequential([keras.Input((5, 3)), lstm]), rng), tmp_path / "m.weights.h5")
    x = rng.normal(size=(2, 5, 3)).astype(np.float32)
    glasscell_model = gc.convert.load(path)
    assert isinstance(glasscell_model, gc.LSTM)
    np.testing.assert_allclose(glasscell_model.infer(x)[0], lstm(x).detach().numpy(), rtol=0, atol=WITHIN)
    relu = L.Activation("relu")
    path = saved(drawn(keras.Sequential([keras.Input((5, 3)), L.LSTM(4), relu]), rng), tmp_path / "n.weights.h5")
    assert f"{relu.name} (no weights)" in refusal(path)
    assert gc.convert.weights(path).without_weights == (relu.name,)


@pytest.mark.parametrize("kind", ["GRU", "SimpleRNN"])
def test_a_gru_and_a_simple_rnn_of_weights_alone(kind, keras, h5py, tmp_path, rng):
    """In the older format, and in both directions, they have the names of an LSTM's weights."""
    L = keras.layers
    one = getattr(L, kind)(3, return_sequences=True)
    model = drawn(keras.Sequential([keras.Input((5, 3)), one, L.LSTM(4)]), rng)
    two = keras.Sequential([keras.Input((5, 3)), L.Bidirectional(getattr(L, kind)(3)), L.Dense(2)])
    for path in (older(h5py, model, tmp_path / "m.h5"), saved(drawn(two, rng), tmp_path / "m.weights.h5")):
        found = gc.convert.weights(path)
        glasscell_model = next(iter(found.values()))
        assert type(glasscell_model) is {"GRU": gc.GRU, "SimpleRNN": gc.RNN}[kind]
        assert not found.other
    assert len(gc.convert.lstms(tmp_path / "m.h5")) == 1


def test_what_is_no_layer_here_is_named(keras, tmp_path, rng):
    L = keras.layers
    model = keras.Sequential([keras.Input((5, 3)), L.GRU(4, return_sequences=True), L.Conv1D(2, 3), L.LSTM(4)])
    path = saved(drawn(model, rng), tmp_path / "m.weights.h5")
    found = gc.convert.weights(path)
    assert {type(layer) for layer in found.values()} == {gc.LSTM, gc.GRU}
    assert list(found.other) == [model.layers[1].name]
    assert "ignore=" in refusal(path)


def test_layers_of_a_model_in_a_model(keras, tmp_path, rng):
    L = keras.layers
    encoder = keras.Sequential([keras.Input((5, 3)), L.LSTM(4, return_sequences=True, name="inner")], name="encoder")
    model = drawn(keras.Sequential([keras.Input((5, 3)), encoder, L.Dense(2, name="head")]), rng)
    path = saved(model, tmp_path / "m.weights.h5")
    [head, inner] = gc.convert.weights(path)
    assert (head, inner.rpartition(".")[2]) == ("head", "inner")
    x = rng.normal(size=(2, 5, 3)).astype(np.float32)
    glasscell_model = gc.convert.load(path, architecture=[inner, "head"])
    np.testing.assert_allclose(glasscell_model(x), answer(model, x), rtol=0, atol=WITHIN)


def test_a_weight_of_no_layer_is_not_passed_over(keras, h5py, tmp_path, rng):
    path = saved(drawn(keras.Sequential([keras.Input((5, 3)), keras.layers.LSTM(4)]), rng), tmp_path / "m.weights.h5")
    with h5py.File(path, "a") as file:
        file["zzz/vars/0"] = np.ones(3)
    assert "the weight /zzz/vars/0 must belong to a layer" in refusal(path)
    with pytest.raises(ValueError, match="/zzz/vars/0"):
        gc.convert.weights(path)


def test_a_whole_model_states_itself(keras, tmp_path):
    model = keras.Sequential([keras.Input((5, 3)), keras.layers.LSTM(4, name="lstm")])
    with warnings.catch_warnings(action="ignore"):
        model.save(tmp_path / "m.keras")
    assert "contains the model" in refusal(tmp_path / "m.keras", architecture="lstm")
    with pytest.raises(ValueError, match="contains a whole model"):
        gc.convert.weights(tmp_path / "m.keras")
    path = saved(model, tmp_path / "m.weights.h5")
    with pytest.raises(ValueError, match="must be left out with config"):
        gc.convert.load(path, architecture="lstm", config=model.to_json())
