"""Property: `glasscell convert` writes what it read in another format, or writes nothing and says why in one line."""

import numpy as np
import pytest

import glasscell as gc
from glasscell.cli import main
from glasscell.convert import files
from glasscell.convert import torch as torch_files


@pytest.fixture
def source(tmp_path, rng):
    lstm = gc.LSTM(3, 4, bidirectional=True)
    lstm.parameters.vector[:] = rng.normal(size=lstm.parameters.vector.size)
    files.save(lstm, tmp_path / "m.pt")
    return tmp_path / "m.pt", lstm


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".onnx", ".keras"])
def test_there_and_what_it_was(suffix, source, capsys, rng):
    pytest.importorskip({".onnx": "onnx", ".keras": "h5py"}.get(suffix, "numpy"))
    path, lstm = source
    target = path.with_name(f"n{suffix}")
    assert main(["convert", str(path), str(target)]) == 0
    assert "LSTM(3, 4, bidirectional=True" in capsys.readouterr().out
    x = rng.normal(size=(2, 5, 3)).astype(np.float32)
    np.testing.assert_array_equal(files.load(target).forward(x)[0], lstm.forward(x)[0])


def test_a_target_is_not_overwritten_unasked(source, capsys):
    path, _ = source
    target = path.with_name("n.safetensors")
    target.write_text("precious")
    assert main(["convert", str(path), str(target)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert target.read_text() == "precious"
    assert main(["convert", str(path), str(target), "--overwrite"]) == 2
    assert "something other than a .safetensors file" in capsys.readouterr().err
    assert target.read_text() == "precious"
    target.unlink()
    files.save(gc.LSTM(1, 1, 2), target)
    assert main(["convert", str(path), str(target), "--overwrite"]) == 0
    assert files.load(target).num_layers == 1


def test_options_reach_the_reader(tmp_path, rng, capsys):
    weights = {f"rnn.{name}": array for name, array in gc.LSTM(3, 4).to_torch().items()}
    weights |= {"out.weight": np.ones((2, 4), np.float32), "out.bias": np.ones(2, np.float32)}
    torch_files.write({"a": weights, "b": weights}, tmp_path / "m.pt")
    assert main(["convert", str(tmp_path / "m.pt"), str(tmp_path / "m.safetensors")]) == 2
    assert "--key must be one of the keys of weights, 'a', 'b', got None" in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "m.pt"), str(tmp_path / "m.safetensors"), "--key", "b"]) == 2
    assert "--architecture rnn,out" in capsys.readouterr().err
    arguments = ["--key", "b", "--architecture", "rnn,last,out"]
    assert main(["convert", str(tmp_path / "m.pt"), str(tmp_path / "m.safetensors"), *arguments]) == 0
    assert files.load(tmp_path / "m.safetensors")(np.ones((1, 3, 3))).shape == (1, 2)


CASES = [  # the target, options, and what it lacks of a graph with states and numbers of steps
    ("n.onnx", [], {"lstm": "h_0, c_0, lengths", "chain": "a.h_0, a.c_0, lengths, a.h_n, a.c_n"}),
    ("n.onnx", ["--states"], {"lstm": "lengths", "chain": "lengths"}),
    ("n.keras", [], {"lstm": "h_0, c_0, lengths, h_n, c_n", "chain": "a.h_0, a.c_0, lengths, a.h_n, a.c_n"}),
    ("n.safetensors", [], {"lstm": "", "chain": ""}),
]


@pytest.mark.parametrize("kind", ["lstm", "chain"])
@pytest.mark.parametrize(("target", "options", "lacking"), CASES)
def test_dropped_inputs_and_outputs_are_named(target, options, lacking, kind, tmp_path, capsys):
    pytest.importorskip("onnx")
    pytest.importorskip("h5py")
    lstm = gc.LSTM(3, 4, 2, masked_outputs="zero")
    model = lstm if kind == "lstm" else gc.Sequential([lstm, gc.Linear(4, 2)], ["a", "b"])
    gc.convert.onnx.save(model, tmp_path / "m.onnx", lengths=True, states=True)
    assert main(["convert", str(tmp_path / "m.onnx"), str(tmp_path / target), *options]) == 0
    said = capsys.readouterr().err
    words = f"{tmp_path / target} does not contain {lacking[kind]} of the graph in {tmp_path / 'm.onnx'}\n"
    assert said == (words if lacking[kind] else "")
    if options:
        assert main(["convert", str(tmp_path / target), str(tmp_path / "again.onnx"), *options]) == 0
        assert capsys.readouterr().err == ""
        assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / target).read_bytes()
        in_place = [str(tmp_path / target)] * 2
        assert main(["convert", *in_place, "--overwrite"]) == 0
        assert "does not contain " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.pt", "n.safetensors"], "none.pt"),
        (["m.pt", "n.txt"], "target must end in .safetensors or .pt"),
        (["m.pt", "no/n.safetensors"], "no folder"),
        (["bad.pt", "n.safetensors"], "bad.pt"),
        (["m.pt", "n.safetensors", "--config", "a.json"], "config is for"),
        (["m.pt", "n.safetensors", "--states"], "states are for .onnx files"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(arguments, words, source, capsys, monkeypatch):
    path, _ = source
    monkeypatch.chdir(path.parent)
    (path.parent / "bad.pt").write_bytes(path.read_bytes()[:-20])
    before = sorted(path.parent.iterdir())
    assert main(["convert", *arguments]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1
    assert sorted(path.parent.iterdir()) == before


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_data_outside_the_layers_are_named(suffix, tmp_path, capsys):
    models = {
        "the labels: outputs are logits of up, down, in this order": gc.SequenceClassifier(2, ["up", "down"], 3),
        "the vocabulary: ": gc.LanguageModel(gc.data.Vocabulary("ab"), hidden_size=2, num_layers=1),
        "scaling, differences and intervals: ": gc.Forecaster(horizon=2, hidden_size=3),
        "": gc.LSTM(2, 3),
    }
    for k, (text, model) in enumerate(models.items()):
        model.save(tmp_path / f"{k}.safetensors")
        options = ["--weights-only"] if suffix == ".pt" else []
        target = tmp_path / f"{k}-copy{suffix}"
        assert main(["convert", str(tmp_path / f"{k}.safetensors"), str(target), *options]) == 0
        named = f"{target} does not contain {text}" in capsys.readouterr().err
        assert named == (suffix == ".pt" and text != "")
