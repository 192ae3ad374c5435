"""Law: the exit status of `glasscell verify` is 1 if a claim fails, and the table says what was checked."""

import pytest

import glasscell as gc
from glasscell import verify as room
from glasscell.cli import main
from glasscell.convert import files
from glasscell.verify import Claim

GOOD = Claim("finite differences", "all gradients", 3, 1e-12, 1e-8)
BAD = Claim("PyTorch", "outputs", 4, 2e-3, 1e-9)
OPEN = Claim("Keras", "outputs", 0, None, 1e-6, "not installed: pip install keras")


@pytest.fixture
def claims(monkeypatch):
    given = []
    monkeypatch.setattr(room, "checks", lambda *arguments: iter(given))
    return given


def test_all_hold(claims, capsys):
    claims += [GOOD, OPEN]
    assert main(["verify"]) == 0
    out = capsys.readouterr().out
    assert "1.0e-12" in out
    assert "1e-08  ✓" in out
    assert "not installed: pip install keras" in out
    assert "1 of 2 claims hold, 1 could not be checked." in out


def test_one_fails(claims, capsys, tmp_path):
    claims += [GOOD, BAD]
    assert main(["verify", "--html", str(tmp_path / "table.html")]) == 1
    assert "1 of 2 claims hold, 1 FAIL." in capsys.readouterr().out
    assert "✗ no" in (tmp_path / "table.html").read_text()


def test_a_model_of_the_users(capsys, tmp_path):
    files.save(gc.LSTM(3, 4, layer_norm="haste"), tmp_path / "m.safetensors")
    assert main(["verify", str(tmp_path / "m.safetensors"), "--shape", "2,4"]) == 0
    out = capsys.readouterr().out
    assert "finite differences  all gradients" in out
    assert "FAIL" not in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.safetensors"], "missing.safetensors"),
        (["--shape", "2,4"], "--shape is for a model"),
        (["m.onnx", "--shape", "2"], "'2' is not two numbers"),
        (["m.onnx", "--shape", "0,4"], "below 1"),
        (["--html", "no/such/folder/t.html"], "there is no folder"),
        (["--seed", "-1"], "seed must be"),
    ],
)
def test_a_mistake_is_one_line(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        status = main(["verify", *arguments])
    except SystemExit as stop:
        status = stop.code
    captured = capsys.readouterr()
    assert status == 2
    assert words in captured.err
    assert captured.err.count("\n") == 1
