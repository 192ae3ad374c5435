"""Law: settings and weights that no layer has raise an error that names the layer and what is wrong."""

import json
import zipfile

import numpy as np
import pytest
from case_loops import loop_over

import glasscell as gc
from glasscell.convert import keras as files
from glasscell.layers import Linear, Masking, Normalization, Pool
from glasscell.models import Sequential

F = np.float32
LSTM = {"kernel": np.zeros((3, 8), F), "recurrent_kernel": np.zeros((2, 8), F), "bias": np.zeros(8, F)}
GRU = {"kernel": np.zeros((3, 6), F), "recurrent_kernel": np.zeros((2, 6), F)}
DENSE = {"kernel": np.zeros((3, 2), F), "bias": np.zeros(2, F)}
STEPS, VECTOR = {"batch_input_shape": [None, 5, 3]}, {"batch_input_shape": [None, 3]}
MASKED = ("Masking", {"name": "m", **STEPS})
BOTH = {f"{part}_lstm/{name}": array for part in ("forward", "backward") for name, array in LSTM.items()}


def one(kind, config=None, weights=None, shape=STEPS):
    """Return a model of one layer, which has the name l."""
    return [(kind, {"name": "l", **shape, **(config or {})})], weights or {}


def masked(kind, config, weights):
    return [MASKED, (kind, {"name": "l", **config})], weights


def wrapped(name, **config):
    return {"class_name": name, "config": {"name": "inner", "units": 2, **config}}


SETTINGS = {
    "a number": (one("LeakyReLU", {"alpha": "0.3"}), "alpha must be a finite number, got '0.3'"),
    "a finite number": (one("ELU", {"alpha": float("inf")}), "alpha must be a finite number, got inf"),
    "an integer": (one("MaxPooling1D", {"pool_size": 2.5}), r"pool_size must be an integer, got 2\.5"),
    "one integer": (one("MaxPooling1D", {"pool_size": [2, 3]}), r"pool_size must be an integer, got \[2, 3\]"),
    "one number per feature": (
        one("Rescaling", {"scale": [[1.0, 2.0], [3.0, 4.0]]}),
        r"scale must be a number, or one per feature, got \[\[1\.0, 2\.0\]",
    ),
    "numbers": (one("Rescaling", {"scale": "two"}), "scale must be a number, or one per feature, got 'two'"),
    "a padding": (one("MaxPooling1D", {"padding": "reflect"}), "padding must be valid or same, got 'reflect'"),
    "one step": (one("RepeatVector", {"n": 3}), "its input must be one vector per sequence, got one per step"),
    "steps": (one("MaxPooling1D", {}, shape=VECTOR), "its input must be a sequence, got one vector per sequence"),
    "the last axis": (one("Normalization", {"axis": 1, "mean": 0.0, "variance": 1.0}), "axis must be the last one"),
    "features": (
        one("LayerNormalization", {"center": False, "scale": False}, shape={"batch_input_shape": [None, 5, None]}),
        "the number of features must be known: it has no weights",
    ),
}
WEIGHTS = {
    "no kernel of a Dense": (one("Dense", {}, {"bias": DENSE["bias"]}), r"it has no kernel of .* axes, but \{'bias'"),
    "a kernel of three axes": (one("Dense", {}, {"kernel": np.zeros((3, 2, 1), F)}), "it has no kernel of"),
    "a Dense of other features": (
        one("Dense", {}, DENSE, {"batch_input_shape": [None, 5, 4]}),
        "for 4 features, got 3",
    ),
    "no embeddings": (one("Embedding", {}, {"kernel": np.zeros((3, 2), F)}), r"it has no embeddings of .* axes, but"),
    "a convolution of two axes": (one("Conv1D", {}, DENSE), "it has no kernel of three axes, but"),
    "no kernel of an LSTM": (one("LSTM", {}, {"bias": LSTM["bias"]}), "it has no kernel"),
    "no recurrent kernel": (one("LSTM", {}, {"kernel": LSTM["kernel"]}), "it has no recurrent_kernel"),
    "no recurrent kernel of a GRU": (one("GRU", {}, {"kernel": GRU["kernel"]}), "it has no recurrent_kernel"),
    "a GRU of two kinds": (one("GRU", {"use_bias": False}, GRU), "reset_after must be in the configuration of a GRU"),
    "a masked LSTM that ends in 0": (
        masked("LSTM", {"zero_output_for_mask": True}, LSTM),
        "Keras gives 0 for a sequence that ends masked",
    ),
    "a masked GRU that ends in 0": (
        masked("GRU", {"zero_output_for_mask": True, "reset_after": False}, GRU),
        "Keras gives 0 for a sequence that ends masked",
    ),
    "two kinds in two directions": (
        one("Bidirectional", {"layer": wrapped("LSTM"), "backward_layer": wrapped("GRU")}, BOTH),
        "its layer 'inner' is a GRU; expected an LSTM",
    ),
    "a merge that is none": (
        one("Bidirectional", {"layer": wrapped("LSTM"), "merge_mode": "max"}, BOTH),
        "merge_mode must be concat, sum, ave or mul, got 'max'",
    ),
}
REFUSED = {**SETTINGS, **WEIGHTS}


@loop_over("name", REFUSED)
def test_what_no_layer_has_is_refused_by_name(name, old_file, tmp_path):
    (layers, weights), words = REFUSED[name]
    path = old_file(tmp_path / "m.h5", layers, {"l": weights}, "2.4.0")
    with pytest.raises(ValueError, match=words) as caught:
        files.load(path)
    assert str(caught.value).startswith(f"{path}: the layer 'l': ")


OLDER = {
    "a weight twice": (
        {"lstm": ("lstm/a/kernel:0", "lstm/b/kernel:0")},
        "the layer 'lstm' has the weight 'kernel' twice",
    ),
    "a list with a name twice": (
        {"lstm": ("lstm/kernel:0", "lstm/kernel:0")},
        "weight_names of /lstm has a name twice",
    ),
}


def write_names(h5py, path, layers, version="2.13.1"):
    """Write weights alone in the format of Keras 2: small matrices, at the listed paths of each layer."""
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = version
        file.attrs["layer_names"] = np.array([name.encode() for name in layers])
        for layer, names in layers.items():
            group = file.create_group(layer)
            group.attrs["weight_names"] = np.array([name.encode() for name in names])
            for name in dict.fromkeys(names):
                group[name] = np.zeros((2, 8) if "recurrent" in name else (3, 8), F)
    return path


@pytest.mark.parametrize("name", OLDER)
def test_lists_of_weights_that_are_ambiguous_are_refused(name, h5py, tmp_path):
    layers, words = OLDER[name]
    with pytest.raises(ValueError, match=words):
        files.layers_of(write_names(h5py, tmp_path / "m.h5", layers))


def test_lists_of_weights_in_parts_are_one_list(h5py, tmp_path):
    """Keras divides a list that is too long for one attribute."""
    path = write_names(h5py, tmp_path / "m.h5", {"a": ("a/kernel:0",), "b": ("b/kernel:0",), "c": ("c/kernel:0",)})
    with h5py.File(path, "a") as file:
        del file.attrs["layer_names"]
        file.attrs["layer_names0"], file.attrs["layer_names1"] = np.array([b"c", b"a"]), np.array([b"b"])
    assert list(files.layers_of(path)) == ["c", "a", "b"]
    with h5py.File(path, "a") as file:
        del file["b"].attrs["weight_names"]
    with pytest.raises(ValueError, match="/b has no list weight_names"):
        files.layers_of(path)


@pytest.mark.parametrize("version", ["2.2.4", "2.3.0"])
def test_two_directions_of_weights_alone_in_the_older_format(version, h5py, tmp_path):
    """Before Keras 2.3 the default of the recurrent activation depends on the back end."""
    names = [
        f"both/{part}_lstm/{name}:0" for part in ("forward", "backward") for name in ("kernel", "recurrent_kernel")
    ]
    path = write_names(h5py, tmp_path / "m.h5", {"both": names}, version)
    if version == "2.2.4":
        with pytest.raises(ValueError, match=r"Keras 2\.2\.4 wrote it, where an LSTM has one of two recurrent activ"):
            files.layers_of(path)
        return
    layer = files.layers_of(path)["both"]
    assert isinstance(layer, gc.LSTM)
    assert layer.options.bidirectional
    assert layer.input_size == 3


def test_weights_that_no_layer_has_are_named_by_their_place(h5py, tmp_path):
    path = write_names(h5py, tmp_path / "m.h5", {"p": ("p/a/kernel:0", "p/b/scale:0")})
    assert list(files.layers_of(path).other) == ["p"]


def nested(*inner):
    return {"class_name": "Sequential", "config": {"name": "s", "layers": list(inner)}}


@pytest.mark.parametrize(
    ("layers", "paths", "words"),
    [
        ([wrapped("Dense")], {"s": ("other/kernel:0",)}, "kernel:0 must belong to a layer of 's'"),
        (
            [wrapped("Dense", use_bias=False), {"class_name": "Dense", "config": {"name": "second", "units": 8}}],
            {"s": ("inner/kernel:0",)},
            "the weights of 's' are not those of its layer 'second'",
        ),
    ],
)
def test_weights_of_a_model_in_a_model_are_those_of_its_layers(layers, paths, words, h5py, tmp_path):
    path = write_names(h5py, tmp_path / "m.h5", paths)
    with pytest.raises(ValueError, match=words):
        files.load(path, config={"class_name": "Sequential", "config": {"layers": [nested(*layers)]}})


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ([wrapped("Dense"), {"class_name": "Dense", "config": {"name": "second"}}], "the model has 2 layers"),
        (
            [{"class_name": "Bidirectional", "config": {"name": "both", "layer": wrapped("LSTM")}}],
            "the weights of 'l' are not those of the Bidirectional 'both'",
        ),
    ],
)
def test_weights_of_another_model_are_refused(layers, words, h5py, tmp_path):
    path = write_names(h5py, tmp_path / "m.h5", {"l": ("l/kernel:0",)})
    with pytest.raises(ValueError, match=words):
        files.load(path, config={"class_name": "Sequential", "config": {"layers": layers}})


CONFIG = {"class_name": "Sequential", "config": {"layers": [wrapped("Dense", units=2)]}}


@loop_over(
    ("datasets", "words"),
    [
        ({"other/x": 0}, "it contains no Keras layers"),
        ({"layers/lstm/vars/0": 0}, "the layer 'inner' has no weights: there is no /layers/dense"),
        ({"layers/dense/x": 0}, "/layers/dense/vars is missing"),
        ({"layers/dense/vars": 0}, "/layers/dense/vars must be a group"),
        ({"layers/dense/vars/0": 0}, "/layers/dense/vars must contain kernel, bias for a Dense, got 0"),
        ({"layers/dense/vars/0/x": 0, "layers/dense/vars/1": 0}, "/layers/dense/vars/0 must be a dataset"),
    ],
)
def test_weights_alone_that_are_missing_are_named_by_their_place(datasets, words, h5py, tmp_path):
    with h5py.File(tmp_path / "m.weights.h5", "w") as file:
        for name in datasets:
            file[name] = np.zeros((3, 2), F)
    with pytest.raises(ValueError, match=words):
        files.load(tmp_path / "m.weights.h5", config=CONFIG)


def test_layers_of_one_name_are_called_by_their_groups(h5py, tmp_path, rng):
    """Keras names layers in an attribute, in which a damaged file may repeat a name."""
    path = tmp_path / "m.weights.h5"
    with h5py.File(path, "w") as file:
        for name in ("dense", "dense_1"):
            file[f"layers/{name}/vars/0"] = rng.normal(size=(3, 2)).astype(F)
            file[f"layers/{name}/vars"].attrs["name"] = "one"
    assert list(files.layers_of(path)) == ["dense", "dense_1"]


@pytest.mark.parametrize(
    ("group", "weights", "words"),
    [
        ("dense", {"0": (3, 2, 2)}, r"the layer 'dense': its weights are .* which are not those of a Dense"),
        ("dense", {"0": (3, 2), "1": (5,)}, r"the layer 'dense': its weights are .* which are not those of a Dense"),
        ("embedding", {"0": (3, 2, 2)}, r"the layer 'embedding': its weights are .* not those of an Embedding"),
    ],
)
def test_weights_alone_of_other_shapes_are_refused_by_name(group, weights, words, h5py, tmp_path):
    with h5py.File(tmp_path / "m.weights.h5", "w") as file:
        for name, shape in weights.items():
            file[f"layers/{group}/vars/{name}"] = np.zeros(shape, F)
    with pytest.raises(ValueError, match=words):
        files.layers_of(tmp_path / "m.weights.h5")


def test_normalization_of_settings_as_keras_serialises_arrays(old_file, tmp_path):
    """An array of shape (1, 1, 3) is three numbers; without an axis, one number is that of all features."""
    array = {"class_name": "__numpy__", "config": {"value": [[[1.0, 2.0, 3.0]]], "dtype": "float32"}}
    config = {"axis": -1, "mean": array, "variance": {"config": {"value": [4.0, 9.0, 16.0]}}}
    for name, setting, expected in (
        ("per_feature", config, Normalization((1.0, 2.0, 3.0), (4.0, 9.0, 16.0))),
        ("of_all", {"axis": None, "mean": 1.0, "variance": 4.0}, Normalization(1.0, 4.0)),
    ):
        path = old_file(tmp_path / f"{name}.h5", *one("Normalization", setting), "2.13.1")
        x = np.arange(30, dtype=F).reshape(2, 5, 3)
        np.testing.assert_array_equal(files.load(path)(x), Sequential([expected])(x))


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ([Masking(0.0), Masking(1.0), gc.LSTM(3, 2)], "the layer '1': steps are masked already"),
        (
            [Masking(0.0), gc.LSTM(3, 2, masked_outputs="zero"), Pool("max")],
            "the layer '2': Keras' maximum is over masked",
        ),
        (
            [Masking(0.0), gc.LSTM(3, 2, bidirectional=True, masked_outputs="repeat")],
            "the layer '1': Keras gives 0 where steps are masked if there are two directions",
        ),
    ],
)
def test_masks_that_keras_does_not_keep_are_refused(layers, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        files.save(Sequential(layers), tmp_path / "m.keras")


def test_what_is_no_model_is_not_written(tmp_path):
    with pytest.raises(TypeError, match="model must be a Sequential or an LSTM, got Linear"):
        files.save(Linear(3, 2), tmp_path / "m.keras")


@pytest.mark.usefixtures("h5py")
def test_names_that_keras_uses_are_continued(tmp_path, rng):
    """The name of the input, and names that become equal as valid names of Keras."""
    layers = [Linear(3, 4, seed=1), Linear(4, 3, seed=2), Linear(3, 2, seed=3)]
    model = Sequential(layers, ["input_layer", "a.b", "a/b"])
    files.save(model, tmp_path / "m.keras")
    x = rng.normal(size=(2, 5, 3)).astype(F)
    again = files.load(tmp_path / "m.keras")
    assert again.names == ("input_layer", "a_b", "a_b_")
    np.testing.assert_array_equal(again(x), model(x))


def test_an_entry_that_is_shorter_than_it_says_is_refused(tmp_path):
    """The size in the directory is that of another content."""
    with zipfile.ZipFile(tmp_path / "m.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("metadata.json", "config.json", "model.weights.h5"):
            archive.writestr(name, json.dumps({"keras_version": "3.0.0"}))
    content = bytearray((tmp_path / "m.keras").read_bytes())
    directory = content.index(b"PK\x01\x02")
    content[directory + 24] -= 1  # the uncompressed size
    (tmp_path / "m.keras").write_bytes(content)
    with pytest.raises(ValueError, match=r"metadata\.json must have 23 bytes|not a complete zip archive"):
        files.load(tmp_path / "m.keras")


def test_a_file_of_another_format_is_refused(tmp_path):
    (tmp_path / "m.h5").write_bytes(b"not HDF5")
    with pytest.raises(ValueError, match="it is not a Keras file, neither a zip archive nor HDF5"):
        files.load(tmp_path / "m.h5")


def test_weights_alone_are_told_from_a_model(old_file, h5py, tmp_path):
    """Of the content, not of the name."""
    model = old_file(tmp_path / "model.h5", *one("Dense", {}, {"l": {}}))
    assert not gc.convert.files.is_weights_alone(model)
    assert gc.convert.files.is_weights_alone(write_names(h5py, tmp_path / "weights.h5", {"l": ("l/kernel:0",)}))
    (tmp_path / "damaged.h5").write_bytes(b"")
    with pytest.raises(ValueError, match=r"damaged\.h5: it is not a Keras file"):
        gc.convert.files.is_weights_alone(tmp_path / "damaged.h5")
