"""Property: saved models load unchanged in every format; golden files have the outputs of their frameworks."""

from pathlib import Path

import numpy as np
import pytest
from case_loops import loop_over

import glasscell as gc
from glasscell.convert import files
from glasscell.convert import torch as torch_files
from glasscell.layers import FinalState, Step

FORMATS = Path(__file__).parents[2].parent / "shared" / "conformance" / "formats"
golden = pytest.mark.skipif(not FORMATS.is_dir(), reason="the golden files are not next to the repository")


def random_model(rng, **options):
    lstm = gc.LSTM(3, 4, 2, bidirectional=True, **options)
    model = gc.Sequential([lstm, FinalState("both"), gc.Linear(lstm.output_size, 2)], ["encoder", "final", "head"])
    model.parameters.vector[:] = rng.normal(scale=0.5, size=model.parameters.vector.size)
    return model


def close(a, b, bound=1e-6):
    np.testing.assert_allclose(a, b, rtol=0, atol=bound)


@golden
@pytest.mark.parametrize("name", ["torch_lstm.safetensors", "torch_state_dict.pt", "torch_state_dict_legacy.pt"])
def test_pytorchs_own_files(name):
    expected, lstm = np.load(FORMATS / "torch_expected.npz"), files.load(FORMATS / name)
    y, state, _ = lstm.forward(expected["x"])
    for values, key in ((y, "y"), (state.h, "h_n"), (state.c, "c_n")):
        close(values, expected[key])
    for key, weight in lstm.to_torch().items():
        if key.startswith("weight"):
            np.testing.assert_array_equal(weight, expected[f"param/{key}"])


@golden
def test_a_projection():
    expected, lstm = np.load(FORMATS / "torch_proj_expected.npz"), files.load(FORMATS / "torch_proj_state_dict.pt")
    y, state, _ = lstm.forward(expected["x"])
    for values, key in ((y, "y"), (state.h, "h_n"), (state.c, "c_n")):
        close(values, expected[key])


@golden
@pytest.mark.parametrize("read", ["last", "final"])
def test_a_nested_checkpoint(read):
    expected = np.load(FORMATS / "torch_checkpoint_expected.npz")
    path = FORMATS / "torch_checkpoint_nested.pt"
    lstm, head = gc.convert.weights(path)
    model = files.load(path, key="model_state_dict", architecture=f"{lstm},{read},{head}")
    close(model(expected["x"]), expected["logits"])
    every = files.load(path, architecture=[lstm, head])
    close(every(expected["x"])[:, -1], expected["logits"])


@golden
@pytest.mark.parametrize(
    ("name", "arrays", "steps_first"),
    [
        ("torch_export_lstm_bi2.onnx", "torch_expected.npz", False),
        ("torch_export_dynamo_lstm_bi2.onnx", "torch_expected.npz", False),
        ("torch_export_clf.onnx", "torch_checkpoint_expected.npz", False),
        ("cntk_bidirectional.onnx", "cntk_bidirectional_expected.npz", True),
        ("keras_model.keras", "keras_expected.npz", False),
        ("keras_legacy_model.h5", "keras_expected.npz", False),
    ],
)
def test_files_that_say_what_they_are(name, arrays, steps_first):
    pytest.importorskip("onnx" if name.endswith("onnx") else "h5py")
    expected = np.load(FORMATS / arrays)
    x = expected["x"].swapaxes(0, 1) if steps_first else expected["x"]
    y = files.load(FORMATS / name).forward(x)[0]
    close(y.swapaxes(0, 1) if steps_first else y, expected[next(key for key in ("y", "logits") if key in expected)])


@golden
def test_keras_weights_alone_with_the_model_beside_them():
    pytest.importorskip("h5py")
    expected = np.load(FORMATS / "keras_expected.npz")
    model = files.load(FORMATS / "keras.weights.h5", config=FORMATS / "keras_model.keras")
    close(model(expected["x"]), expected["y"])


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".onnx", ".keras", ".h5"])
def test_a_model_goes_there_and_back(suffix, rng, tmp_path):
    pytest.importorskip({".onnx": "onnx", ".keras": "h5py", ".h5": "h5py"}.get(suffix, "numpy"))
    model, x = random_model(rng), rng.normal(size=(2, 5, 3)).astype(np.float32)
    path = tmp_path / f"model{suffix}"
    gc.convert.save(model, path, weights_only=suffix == ".pt")
    chain = "encoder,final,head" if suffix == ".pt" else None
    back = gc.convert.load(path, architecture=chain)
    np.testing.assert_array_equal(back(x), model(x))
    again = tmp_path / f"again{suffix}"
    gc.convert.save(back, again, weights_only=suffix == ".pt")
    np.testing.assert_array_equal(gc.convert.load(again, architecture=chain)(x), model(x))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bidirectional": True, "num_layers": 2, "bias": False},
        {"peepholes": True, "coupled": "forget", "proj_size": 2, "projection_bias": True},
        {"layer_norm": "haste", "zoneout": 0.2, "reverse": True, "outputs_in": "processing"},
        {"layer_norm": "tflite", "epsilon": 1e-3, "clip": 2.0, "learn_initial_state": True},
        {
            "gate_activation": ("HardSigmoid", 0.25, 0.5),
            "candidate_activation": "Relu",
            "merge": "sum",
            "bidirectional": True,
        },
    ],
    ids=str,
)
def test_every_kind_of_lstm_is_saved_and_loaded(options, rng, tmp_path):
    lstm = gc.LSTM(3, 4, dtype=np.float64, **options)
    lstm.parameters.vector[:] = rng.normal(size=lstm.parameters.vector.size)
    files.save(lstm, tmp_path / "lstm.safetensors")
    loaded = files.load(tmp_path / "lstm.safetensors")
    assert loaded.options == lstm.options
    np.testing.assert_array_equal(loaded.parameters.vector, lstm.parameters.vector)


def test_a_graph_of_an_lstm_alone_is_an_lstm(rng, tmp_path):
    onnx = pytest.importorskip("onnx")
    lstm = gc.LSTM(3, 4, 2, bidirectional=True)
    lstm.parameters.vector[:] = rng.normal(size=lstm.parameters.vector.size)
    for path in (tmp_path / "m.onnx", tmp_path / "n.onnx"):
        files.save(lstm, path)
        assert [value.name for value in onnx.load(path).graph.output] == ["y", "h_n", "c_n"]
        loaded = files.load(path)
        assert isinstance(loaded, gc.LSTM)
        assert loaded.options == lstm.options
        np.testing.assert_array_equal(loaded.parameters.vector, lstm.parameters.vector)
        lstm = loaded


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_copy_model_is_saved(suffix, rng, tmp_path):
    model = gc.CopyLSTM(hidden_size=6)
    files.save(model, tmp_path / f"m{suffix}")
    names = ",".join(model.as_sequential().names)
    loaded = files.load(tmp_path / f"m{suffix}", architecture=names if suffix == ".pt" else None)
    x = rng.normal(size=(2, 5, model.lstm.input_size)).astype(np.float32)
    np.testing.assert_array_equal(loaded.forward(x)[0], model.forward(x)[0])


def test_pytorch_opens_what_we_write(torch, rng, tmp_path):
    model = random_model(rng)
    files.save(model, tmp_path / "m.pt", weights_only=True)

    class Module(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = torch.nn.LSTM(3, 4, 2, bidirectional=True, batch_first=True)
            self.head = torch.nn.Linear(8, 2)

        def forward(self, x):
            _, (h, _) = self.encoder(x)
            return self.head(torch.cat([h[-2], h[-1]], dim=1))

    module = Module()
    module.load_state_dict(torch.load(tmp_path / "m.pt", weights_only=True))
    x = rng.normal(size=(2, 5, 3)).astype(np.float32)
    close(model(x), module(torch.tensor(x)).detach().numpy())
    for path in (tmp_path / "m.pt", tmp_path / "legacy.pt"):
        torch_files.write(model.to_torch(), path, legacy="legacy" in path.name)
        assert set(torch.load(path, weights_only=True)) == set(module.state_dict())


def state_dict(rng):
    shapes = {
        "embedding.weight": (7, 3),
        "rnn.weight_ih_l0": (16, 3),
        "rnn.weight_hh_l0": (16, 4),
        "rnn.bias_ih_l0": (16,),
        "rnn.bias_hh_l0": (16,),
        "out.weight": (2, 4),
        "out.bias": (2,),
    }
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def test_layers_are_told_by_the_shapes_of_their_weights(rng, tmp_path):
    weights = state_dict(rng)
    torch_files.write(weights, tmp_path / "m.pt")
    model = files.load(tmp_path / "m.pt", architecture="embedding,rnn,last,out")
    assert [type(layer).__name__ for layer in model.layers] == ["Embedding", "LSTM", "Step", "Linear"]
    assert model.layers[2] == Step(-1)
    assert model([[1, 2, 6]]).shape == (1, 2)
    for name, weight in model.to_torch().items():
        if "bias_" not in name:
            np.testing.assert_array_equal(weight, weights[name])


@loop_over(
    ("change", "words"),
    [
        (
            lambda w: w.update({"norm.weight": np.ones(4)}),
            ["norm (weight (4,))", "must use every module", "ignore=['norm']"],
        ),
        (lambda w: w.pop("rnn.weight_hh_l0"), ["'rnn'", "'weight_hh_l0'", "missing"]),
        (lambda w: w.update({"rnn.bias_ih_l0": np.ones(15)}), ["'rnn'", "'bias_ih_l0'", "(15,)", "(16,)"]),
        (lambda w: w.update({"out.bias": np.ones(3)}), ["'out'", "bias (3,)", "(2,)"]),
        (lambda w: w.update({"out.weight": np.ones((2, 5))}), ["'out'", "5 features", "'last'", "4"]),
        (lambda w: [w.pop(name) for name in list(w) if name.startswith("rnn")], ["got 'rnn'"]),
        (lambda w: w["out.weight"].__setitem__((0, 0), np.nan), ["out.weight", "NaN"]),
        (lambda w: w.update({"rnn.weight_ih_l2": np.ones((16, 4))}), ["'rnn'", "got [0, 2]"]),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(change, words, rng, tmp_path):
    weights = state_dict(rng)
    change(weights)
    torch_files.write(weights, tmp_path / "m.pt")
    with pytest.raises(ValueError, match=r"m\.pt") as caught:
        files.load(tmp_path / "m.pt", architecture="embedding,rnn,last,out")
    assert all(word in str(caught.value) for word in words), caught.value


@loop_over(
    ("call", "error", "words"),
    [
        (lambda p: files.load(p / "m.tflite"), FileNotFoundError, ["m.tflite"]),
        (lambda p: files.load(p / "m.pt"), FileNotFoundError, ["m.pt"]),
        (lambda p: files.load(p), FileNotFoundError, ["model.safetensors"]),
        (lambda p: files.load(p / "m.onnx", architecture="lstm"), ValueError, ["architecture", ".pt"]),
        (lambda p: files.load(p / "m.keras", prefix="lstm"), ValueError, ["prefix", ".pt"]),
        (lambda p: gc.convert.weights(p / "m.onnx"), FileNotFoundError, ["m.onnx"]),
        (lambda p: files.save(gc.LSTM(2, 3), p / "m.xyz"), ValueError, ["known are"]),
        (lambda p: files.save(gc.Linear(2, 3), p / "m.pt"), TypeError, ["Linear"]),
        (lambda p: files.save(gc.LSTM(2, 3, peepholes=True), p / "m.pt"), ValueError, ["peepholes", "nn.LSTM"]),
        (
            lambda p: files.save(gc.Sequential([gc.LSTM(2, 3, clip=1.0)], ["top"]), p / "m.pt"),
            ValueError,
            ["'top'", "clip"],
        ),
        (lambda p: files.save(gc.LSTM(2, 3), p / "m.keras", states=True), ValueError, ["states", ".onnx", "m.keras"]),
        (lambda p: files.save(gc.LSTM(2, 3), p / "no" / "m.pt"), FileNotFoundError, ["no folder"]),
    ],
)
def test_errors_name_the_file_and_the_culprit(call, error, words, tmp_path):
    with pytest.raises(error) as caught:
        call(tmp_path)
    assert all(word in str(caught.value) for word in words), caught.value
    assert not list(tmp_path.iterdir())
