"""Property: every supported Keras layer has the same outputs; others raise an error with their name."""

import warnings

import numpy as np
import pytest
from case_loops import loop_over

from glasscell.convert import keras as files
from glasscell.convert.keras.kinds import NESTED, STATELESS, SUPPORTED, WEIGHTED
from glasscell.layers import (
    LSTM,
    AveragePooling1D,
    Conv1D,
    Embedding,
    FinalState,
    Flatten,
    Function,
    Linear,
    MaxPooling1D,
    Normalization,
    RepeatVector,
    Rescaling,
    Unsqueeze,
)
from glasscell.models import Sequential
from glasscell.weight_layouts import keras as codec

WITHIN = 2e-6
T, F = 6, 3
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask:UserWarning"),
    pytest.mark.filterwarnings("ignore:Layer .* does not support masking:UserWarning"),
]

# What is read, each between layers that would show an error in the order of its features or steps.
BETWEEN_SEQUENCES = {
    "BatchNormalization": lambda L: L.BatchNormalization(),
    "BatchNormalization without scale": lambda L: L.BatchNormalization(scale=False, epsilon=0.1),
    "BatchNormalization without both": lambda L: L.BatchNormalization(scale=False, center=False),
    "LayerNormalization": lambda L: L.LayerNormalization(),
    "LayerNormalization without center": lambda L: L.LayerNormalization(center=False, epsilon=0.1),
    "LayerNormalization without both": lambda L: L.LayerNormalization(center=False, scale=False),
    "Normalization": lambda L: L.Normalization(),
    "Normalization of settings": lambda L: L.Normalization(mean=[1.0, 2.0, 3.0, 0.5], variance=[0.5, 2.0, 1.0, 3.0]),
    "Normalization, inverted": lambda L: L.Normalization(mean=[1.0, 2.0, 3.0, 0.5], variance=[1, 2, 3, 4], invert=True),
    "Rescaling": lambda L: L.Rescaling(0.5, offset=0.25),
    "Rescaling of features": lambda L: L.Rescaling([0.5, 2.0, -1.0, 3.0], offset=[0.1, 0.2, 0.3, 0.4]),
    "Conv1D": lambda L: L.Conv1D(4, 3, activation="relu"),
    "Conv1D, same": lambda L: L.Conv1D(4, 4, padding="same", strides=2, use_bias=False),
    "Conv1D, causal": lambda L: L.Conv1D(4, 3, padding="causal", dilation_rate=2, groups=2, activation="silu"),
    "MaxPooling1D": lambda L: L.MaxPooling1D(2),
    "MaxPooling1D, same": lambda L: L.MaxPooling1D(3, strides=2, padding="same"),
    "AveragePooling1D": lambda L: L.AveragePooling1D(
        2, strides=1, padding="same"
    ),  # with another stride Keras on PyTorch repeats steps
    "SpatialDropout1D": lambda L: L.SpatialDropout1D(0.5),
    "GaussianNoise": lambda L: L.GaussianNoise(0.5),
    "GaussianDropout": lambda L: L.GaussianDropout(0.5),
    "AlphaDropout": lambda L: L.AlphaDropout(0.5),
    "ActivityRegularization": lambda L: L.ActivityRegularization(0.5),
    "gelu": lambda L: L.Activation("gelu"),
    "selu": lambda L: L.Dense(4, activation="selu"),
    "silu": lambda L: L.LSTM(4, activation="silu", return_sequences=True),
}


def answer(model, x):
    return model(x).detach().numpy()


def saved(model, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        (model.save_weights if path.name.endswith(".weights.h5") else model.save)(path)
    return path


def with_random_weights(model, rng):
    """Random biases, means and shifts too; all positive where one is a variance."""
    arrays = [rng.normal(scale=0.4, size=w.shape).astype(w.dtype) for w in model.weights]
    for k, variable in enumerate(model.weights):
        arrays[k] = abs(arrays[k]) + 0.5 if "variance" in variable.path else arrays[k]
    model.set_weights(arrays)
    for layer in model._flatten_layers():  # adapted, as it is when its weights are loaded
        if type(layer).__name__ == "Normalization" and layer.input_mean is None:
            layer.finalize_state()
    return model


def largest(a, b):
    assert a.shape == b.shape
    return float(np.abs(np.asarray(a) - b).max(initial=0))


def check(keras, model, x, tmp_path, rng, suffixes=(".keras", ".weights.h5", ".h5")):
    """Read in every format, write in every format, and Keras reads that; all compute the same."""
    with_random_weights(model, rng)
    expected = answer(model, x)
    assert np.ptp(expected) > 1e-3
    saved(model, tmp_path / "m.keras")
    for suffix in suffixes:
        path = saved(model, tmp_path / f"m{suffix}")
        glasscell_model = files.load(path, config=tmp_path / "m.keras" if suffix == ".weights.h5" else None)
        assert largest(glasscell_model(x), expected) <= WITHIN, suffix
    for suffix in suffixes:
        files.save(glasscell_model, tmp_path / f"again{suffix}", weights_only=suffix == ".weights.h5")
        same = files.load(tmp_path / f"again{suffix}", config=glasscell_model if suffix == ".weights.h5" else None)
        np.testing.assert_array_equal(same(x), glasscell_model(x))
        if suffix != ".weights.h5":
            keras_model = keras.saving.load_model(tmp_path / f"again{suffix}", compile=False)
            assert largest(answer(keras_model, x), expected) <= WITHIN, suffix
    return glasscell_model


@pytest.mark.parametrize("name", BETWEEN_SEQUENCES)
def test_layers_between_sequences(name, keras, tmp_path, rng):
    L = keras.layers
    layer = BETWEEN_SEQUENCES[name](L)
    model = keras.Sequential(
        [keras.Input((T, F)), L.LSTM(4, return_sequences=True), layer, L.LSTM(3), L.LayerNormalization(), L.Dense(2)]
    )
    check(keras, model, rng.normal(size=(4, T, F)).astype(np.float32), tmp_path, rng)


def test_layers_of_vectors(keras, tmp_path, rng):
    """An autoencoder, and a Flatten of all steps."""
    L = keras.layers
    x = rng.normal(size=(4, T, F)).astype(np.float32)
    layers = [L.LSTM(4), L.BatchNormalization(axis=1), L.RepeatVector(5), L.LSTM(4, return_sequences=True)]
    check(keras, keras.Sequential([keras.Input((T, F)), *layers, L.TimeDistributed(L.Dense(3))]), x, tmp_path, rng)
    layers = [L.Conv1D(4, 2, activation="relu"), L.Dropout(0.3), L.LSTM(4, return_sequences=True), L.Flatten()]
    model = keras.Sequential([keras.Input((T, F)), *layers, L.Flatten(), L.Dense(3)])
    glasscell_model = check(keras, model, x, tmp_path, rng)
    assert [type(layer).__name__ for layer in glasscell_model.layers].count("Flatten") == 1


def test_models_in_models(keras, tmp_path, rng):
    """In both formats, one with names that are used twice, and one in one in a graph."""
    L = keras.layers
    x = rng.normal(size=(4, T, F)).astype(np.float32)
    last = L.BatchNormalization(name="norm")
    inner = keras.Sequential([L.LSTM(4, return_sequences=True, name="lstm"), last], name="encoder")
    deeper = keras.Sequential([inner, L.Dense(3, activation="tanh", name="lstm_1")], name="outer")
    model = keras.Sequential([keras.Input((T, F)), deeper, L.LSTM(3, name="lstm"), L.Dense(2)])
    glasscell_model = check(keras, model, x, tmp_path, rng)
    assert glasscell_model.names[:3] == ("outer.encoder.lstm", "outer.encoder.norm", "outer.lstm_1")
    first, second = keras.Input((T, F)), keras.Input((T, F))
    graph = keras.Model(second, L.Bidirectional(L.LSTM(2, return_sequences=True), name="both")(second), name="graph")
    check(keras, keras.Model(first, L.Dense(2)(L.LSTM(3)(graph(first)))), x, tmp_path, rng)


def test_masks_are_lost_where_keras_loses_them(keras, tmp_path, rng):
    L = keras.layers
    x = rng.normal(size=(4, T, F)).astype(np.float32)
    x[0, 4:] = x[1, 2:] = 0
    for layers in (
        [L.Conv1D(3, 2), L.LSTM(3)],
        [L.MaxPooling1D(2), L.LSTM(3)],
        [L.LSTM(2, return_sequences=True), L.Flatten()],
        [L.LayerNormalization(), L.Rescaling(2.0), L.LSTM(3)],  # and here not
    ):
        model = keras.Sequential([keras.Input((T, F)), L.Masking(), *layers, L.Dense(2)])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            glasscell_model = check(keras, model, x, tmp_path, rng)
    assert not any(getattr(layer, "ignore_mask", False) for layer in glasscell_model.layers)


def test_normalization_that_keras_adapted(keras, tmp_path, rng):
    L = keras.layers
    x = rng.normal(size=(4, T, F)).astype(np.float32) * [1, 10, 0.1] + 3
    layer = L.Normalization()
    layer.adapt(x)
    check(keras, keras.Sequential([keras.Input((T, F)), layer, L.LSTM(3), L.Dense(2)]), x, tmp_path, rng)


def test_every_kind_is_known_by_one_name():
    assert len(set(SUPPORTED)) == len(SUPPORTED) == len(WEIGHTED) + len(STATELESS) + len(NESTED)


# What is not written


def refused(tmp_path, layers, words):
    with pytest.raises(ValueError, match=words):
        files.save(Sequential(layers), tmp_path / "m.keras")


@loop_over(
    ("layers", "words"),
    [
        (
            [Conv1D(3, 4, 3, padding=(2, 1)), LSTM(4, 3)],
            r"the layer '0': Keras has the paddings .* no padding=\(2, 1\)",
        ),
        ([LSTM(3, 4), MaxPooling1D(3, padding=(1, 0))], "the layer '1': Keras has the paddings valid, same"),
        ([LSTM(3, 4), AveragePooling1D(3, padding="same", count_padding=True)], "the layer '1': .* count_padding=True"),
        ([Embedding(5, 3, mask_zero=True), Conv1D(3, 4, 3)], "the layer '1': Keras takes masked steps like others"),
        ([LSTM(3, 4), Function("GeluTanh")], "the layer '1': Keras does not support the activation"),
        ([LSTM(3, 4), MaxPooling1D(2), Flatten(), Linear(12, 2)], "6 or 7 steps fit a MaxPooling1D before a Flatten"),
        ([LSTM(3, 4), Flatten()], "no layer says how many steps a Flatten takes"),
        ([LSTM(3, 4), FinalState(), RepeatVector(5), Flatten(), Linear(16, 2)], "4 steps are flattened, .* gives 5"),
        ([Rescaling(2.0)], "do not say how many features it takes"),
        ([Unsqueeze(), LSTM(1, 2)], r"the layer '0': Keras has no Unsqueeze\(\)$"),
    ],
)
def test_what_keras_lacks_is_refused_by_name(layers, words, tmp_path):
    refused(tmp_path, layers, words)


def test_paddings_that_keras_calls_by_name(keras, tmp_path, rng):
    x = rng.normal(size=(2, 7, 3)).astype(np.float32)
    for padding, dilation in (((0, 0), 1), ((1, 1), 1), ((4, 0), 2), ((1, 2), 1), ((2, 2), 2)):
        size = {(1, 2): 4}.get(padding, 3)
        model = Sequential([Conv1D(3, 4, size, padding=padding, dilation=dilation, seed=1), LSTM(4, 2)])
        files.save(model, tmp_path / "m.keras")
        keras_model = keras.saving.load_model(tmp_path / "m.keras", compile=False)
        assert largest(answer(keras_model, x), model(x)) <= WITHIN


def test_normalization_of_one_number_beside_several(keras, tmp_path, rng):
    x = rng.normal(size=(2, 4, 3)).astype(np.float32)
    for layer in (Normalization(1.0, 2.0), Normalization((1.0, 2.0, 3.0), 2.0), Normalization(1.0, (1.0, 2.0, 3.0))):
        files.save(Sequential([layer, LSTM(3, 2, seed=1)]), tmp_path / "m.keras")
        keras_model = keras.saving.load_model(tmp_path / "m.keras", compile=False)
        assert largest(answer(keras_model, x), Sequential([layer, LSTM(3, 2, seed=1)])(x)) <= WITHIN


# What Keras 2 wrote


def cudnn(rng, I, H):
    """Weights as cuDNN has them, and the same as an LSTM of Keras has them."""
    matrices = {name: rng.normal(size=(4, H, rows)).astype(np.float32) for name, rows in (("W", I), ("R", H))}
    biases = rng.normal(size=(2, 4, H)).astype(np.float32)
    cudnn_weights = {
        "kernel": np.concatenate([gate.reshape(I, H) for gate in matrices["W"]], axis=1),
        "recurrent_kernel": np.concatenate([*matrices["R"]], axis=1),
        "bias": biases.ravel(),
    }
    usual = {
        "kernel": np.concatenate([gate.T for gate in matrices["W"]], axis=1),
        "recurrent_kernel": np.concatenate([gate.T for gate in matrices["R"]], axis=1),
        "bias": biases.sum(axis=0).ravel(),
    }
    return cudnn_weights, usual


def test_cudnn_lstms(old_file, tmp_path, rng):
    """In one direction and in both: what an LSTM of the usual layout gives."""
    common = {"trainable": True, "dtype": "float32", "unit_forget_bias": True, "stateful": False, "return_state": False}
    config = {**common, "name": "cu_dnnlstm_1", "units": 2, "return_sequences": True, "go_backwards": False}
    both = {
        "name": "both",
        "trainable": True,
        "merge_mode": "sum",
        "layer": {"class_name": "CuDNNLSTM", "config": config},
    }
    (first, usual), (ahead, usual_ahead), (back, usual_back) = cudnn(rng, 3, 2), cudnn(rng, 2, 2), cudnn(rng, 2, 2)
    of_both = {f"forward_cu_dnnlstm_1/{name}": array for name, array in ahead.items()}
    of_both |= {f"backward_cu_dnnlstm_1/{name}": array for name, array in back.items()}
    layers = [("CuDNNLSTM", {**config, "batch_input_shape": [None, 4, 3]}), ("Bidirectional", both)]
    path = old_file(tmp_path / "m.h5", layers, {"cu_dnnlstm_1": first, "both": of_both})
    glasscell_model = files.load(path)
    x = rng.normal(size=(2, 4, 3)).astype(np.float32)
    expected = Sequential(
        [
            LSTM.from_keras(usual),
            LSTM.from_keras({"forward": usual_ahead, "backward": usual_back}, bidirectional="sum"),
        ]
    )
    np.testing.assert_allclose(glasscell_model(x), expected(x), rtol=0, atol=1e-6)
    with pytest.raises(
        ValueError, match=r"the weights of a CuDNNLSTM must have the shapes \(I, 4H\), \(H, 4H\) and \(8H,\), got"
    ):
        codec.from_cudnn({**first, "bias": first["bias"][:8]})


def test_an_embedding_of_keras_2_0_says_the_type_of_its_input(old_file, tmp_path, rng):
    table = rng.normal(size=(7, 3)).astype(np.float32)
    config = {"name": "e", "dtype": "int32", "input_dim": 7, "output_dim": 3, "batch_input_shape": [None, 5]}
    path = old_file(tmp_path / "m.h5", [("Embedding", config)], {"e": {"embeddings": table}}, "2.0.2")
    np.testing.assert_array_equal(files.load(path)([[1, 2]]), table[[[1, 2]]])
    lstm = {"name": "l", "units": 2, "dtype": "int8"}
    path = old_file(tmp_path / "m.h5", [("LSTM", lstm)], {"l": cudnn(rng, 3, 2)[1]}, "2.0.2")
    with pytest.raises(ValueError, match="the layer 'l': quantized: its dtype 'int8' cannot be represented"):
        files.load(path)


@pytest.mark.parametrize("version", ["1.2.2", ""])
def test_keras_1_is_refused_by_what_it_is(version, old_file, h5py, tmp_path, rng):
    config = {"name": "lstm_1", "output_dim": 2, "init": "glorot_uniform", "inner_activation": "hard_sigmoid"}
    weights = {f"lstm_1_{part}_{gate}": rng.normal(size=(2, 2)) for gate in "icfo" for part in "WUb"}
    path = old_file(tmp_path / "m.h5", [("LSTM", config)], {"lstm_1": weights}, version)
    with pytest.raises(ValueError, match=r"Keras 1 wrote it, .* load it in Keras 2, which converts it"):
        files.load(path)
    with h5py.File(path, "a") as file:  # its weights alone
        group = file["model_weights"]
        for name in group.attrs:
            file.attrs[name] = group.attrs[name]
        file.move("model_weights/lstm_1", "lstm_1")
        del file.attrs["model_config"], file["model_weights"]
    with pytest.raises(ValueError, match="Keras 1 wrote it"):
        files.load(path)


def test_weights_alone_of_a_model_with_dropout(keras, tmp_path, rng):
    """Layers that compute nothing outside training do not prevent reading the rest."""
    L = keras.layers
    quiet = [L.Dropout(0.2), L.SpatialDropout1D(0.2), L.GaussianNoise(0.1), L.AlphaDropout(0.1)]
    model = keras.Sequential(
        [keras.Input((T, F)), L.LSTM(4, return_sequences=True), *quiet, L.LSTM(5), L.Dropout(0.5), L.Dense(2)]
    )
    with_random_weights(model, rng)
    x = rng.normal(size=(4, T, F)).astype(np.float32)
    path = saved(model, tmp_path / "m.weights.h5")
    head, first, second = files.layers_of(path)
    glasscell_model = files.load(path, architecture=[first, second, "last", head])
    assert largest(glasscell_model(x), answer(model, x)) <= WITHIN


def test_another_recurrent_layer_is_what_a_refusal_names(keras, tmp_path):
    """Also behind a layer that cannot be read either."""
    L = keras.layers
    model = keras.Sequential([keras.Input((T, F)), L.PReLU(), L.RNN(L.GRUCell(3), name="culprit")])
    path = saved(model, tmp_path / "m.keras")
    with pytest.raises(ValueError, match="the layer 'culprit' is a RNN, another recurrent layer than LSTM, GRU"):
        files.load(path)
