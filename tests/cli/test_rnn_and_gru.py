"""Law: the commands work for models with an RNN or a GRU, or refuse by one line."""

import numpy as np
import pytest

import glasscell as gc
from glasscell.cli import main


@pytest.fixture(params=["RNN", "GRU"])
def files(request, tmp_path, rng):
    kind = getattr(gc, request.param)
    model = gc.Sequential([kind(3, 4), gc.layers.FinalState(), gc.Linear(4, 2)], names=["cell", "final", "head"])
    model.save(tmp_path / "model.safetensors")
    kind(3, 4).save(tmp_path / "layer.safetensors")
    np.save(tmp_path / "x.npy", rng.normal(size=(5, 3)).astype(np.float32))
    return request.param, tmp_path


@pytest.mark.parametrize("name", ["model", "layer"])
def test_inspect(name, files, capsys):
    kind, folder = files
    arguments = [
        "inspect",
        str(folder / f"{name}.safetensors"),
        "--input",
        str(folder / "x.npy"),
        "--ascii",
        "--equations",
    ]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "h: hidden state" in out
    assert ("longest memory: half-life of the hidden state" in out) == (kind == "GRU")
    assert ("tanh(a_n)" if kind == "GRU" else "tanh(z)") in out
    assert main([*arguments, "--html", str(folder / "page.html")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--html must be left out for a model with an RNN or a GRU: --png writes a picture" in error
    assert not (folder / "page.html").exists()


@pytest.mark.parametrize("name", ["model", "layer"])
def test_convert(name, files, capsys):
    pytest.importorskip("h5py")
    _, folder = files
    source, x = folder / f"{name}.safetensors", np.load(folder / "x.npy")
    assert main(["convert", str(source), str(folder / "m.keras")]) == 0
    np.testing.assert_allclose(gc.convert.load(folder / "m.keras")(x), gc.load(source)(x), atol=1e-6)
    capsys.readouterr()
    assert main(["convert", str(source), str(folder / "m.onnx")]) == 2
    assert "ONNX" in capsys.readouterr().err


def test_verify(files, capsys):
    _, folder = files
    assert main(["verify", str(folder / "model.safetensors"), "--shape", "2,5"]) == 0
    out = capsys.readouterr().out
    assert "finite differences" in out
    rows = [line for line in out.splitlines() if "float64" in line and "finite differences" not in line]
    assert rows
    assert all("only LSTMs are compared" in line for line in rows)
    assert "no case" not in out


def test_bits_are_for_the_copy_model(files, capsys):
    _, folder = files
    assert main(["predict", str(folder / "model.safetensors"), "1010"]) == 2
    assert capsys.readouterr().err.startswith("glasscell: 1010 must be a .csv, ")
    assert main(["predict", str(folder / "model.safetensors"), "10", "11"]) == 2
    assert "input must be one file for a Sequential, got 2 arguments" in capsys.readouterr().err
