"""Property: the exit status of `glasscell verify` is 1 if a check fails, and the table says what was checked."""

import pytest

import glasscell as gc
from glasscell import verify as verify_package
from glasscell.cli import main
from glasscell.convert import files
from glasscell.verify import Check

GOOD = Check("finite differences", "all gradients", 3, 1e-12, 1e-8)
BAD = Check("PyTorch", "outputs", 4, 2e-3, 1e-9)
OPEN = Check("Keras", "outputs", 0, None, 1e-6, "not installed: pip install keras")


@pytest.fixture
def checks(monkeypatch):
    results = []
    monkeypatch.setattr(verify_package, "iter_checks", lambda *arguments: iter(results))
    return results


def test_all_hold(checks, capsys):
    checks += [GOOD, OPEN]
    assert main(["verify"]) == 0
    out = capsys.readouterr().out
    assert "1.0e-12" in out
    assert "1e-08  ✓" in out
    assert "not installed: pip install keras" in out
    assert "1 of 2 checks hold, 1 skipped." in out


def test_one_fails(checks, capsys, tmp_path):
    checks += [GOOD, BAD]
    assert main(["verify", "--html", str(tmp_path / "table.html")]) == 1
    assert "1 of 2 checks hold, 1 FAIL." in capsys.readouterr().out
    assert "✗ no" in (tmp_path / "table.html").read_text()


def test_a_model_of_the_users(capsys, tmp_path):
    files.save(gc.LSTM(3, 4, layer_norm="haste"), tmp_path / "m.safetensors")
    assert main(["verify", str(tmp_path / "m.safetensors"), "--shape", "2,4"]) == 0
    out = capsys.readouterr().out
    assert "finite differences  all gradients" in out
    assert "FAIL" not in out


def test_weights_alone(capsys, tmp_path, monkeypatch):
    """Report that the checks do not cover the choice of the computation."""
    monkeypatch.setattr(verify_package, "iter_checks", lambda *_: iter([GOOD, GOOD._replace(note="its bound is 1e-3")]))
    model = gc.Sequential([gc.LSTM(3, 4), gc.Linear(4, 2)], ["lstm", "fc"])
    files.save(model, tmp_path / "m.pt")
    files.save(model, tmp_path / "m.safetensors")
    files.save(gc.LSTM(3, 4), tmp_path / "n.pt")
    assert main(["verify", str(tmp_path / "m.pt")]) == 2
    assert "--architecture lstm,fc" in capsys.readouterr().err
    page = tmp_path / "t.html"
    for arguments, words in (
        (["m.pt", "--architecture", "lstm,fc"], "the computation is that of --architecture lstm,fc. It cannot"),
        (["n.pt"], "the computation is that of its single layer. It cannot"),
        (["m.safetensors"], ""),
    ):
        path = str(tmp_path / arguments[0])
        assert main(["verify", path, *arguments[1:], "--html", str(page), "--overwrite"]) == 0
        out = capsys.readouterr().out
        assert ("contains only weights" in out) is bool(words)
        assert words in out
        assert words in page.read_text()
        assert "its bound is 1e-3" in out
        assert "its bound is 1e-3" in page.read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.safetensors"], "missing.safetensors"),
        (["--shape", "2,4"], "--shape must be left out without a model"),
        (["m.onnx", "--shape", "2"], "must be two numbers such as 4,12, got '2'"),
        (["m.onnx", "--shape", "0,4"], "of at least 1, got '0,4'"),
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
