"""Law: `glasscell bench` prints a table, writes only what it is asked to, and says a mistake in one line, at once."""

import json

import pytest

from glasscell import bench as room
from glasscell.bench.results import Race, Row, Side
from glasscell.cli import main

RACE = Race(
    "streaming",
    "One step",
    (Row("H = 32", (Side("Glasscell", "1 thread", (1e-6,), ours=True), Side("PyTorch", "1 thread", (9e-6,)))),),
)


@pytest.fixture
def asked(monkeypatch):
    asked = []

    def races(*arguments, **options):
        asked.append(arguments)
        return iter([RACE])

    monkeypatch.setattr(room, "races", races)
    monkeypatch.setattr(room, "with_ratios", lambda kinds: "memory" not in kinds)  # of what is not installed here
    return asked


def test_the_defaults(asked, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["bench"]) == 0
    assert asked == [(("training", "forward", "streaming", "cold"), room.SHAPES, 15)]
    out = capsys.readouterr().out
    assert "9.00 (9.00 to 9.00)" in out
    assert "numpy" in out
    assert not list(tmp_path.iterdir())


def test_files_and_choices(asked, tmp_path):
    out, picture = tmp_path / "r.json", tmp_path / "r.svg"
    more = ["--shapes", "1,2,3,4", "1,2,3,4,5", "--turns", "3", "--out", str(out), "--plot", str(picture)]
    assert main(["bench", "--only", "forward,streaming", *more]) == 0
    assert asked == [(("forward", "streaming"), ((1, 2, 3, 4, 1), (1, 2, 3, 4, 5)), 3)]
    assert json.loads(out.read_text())["races"].keys() == {"streaming"}
    first = picture.read_bytes()
    assert b"<svg" in first
    assert b"dc:date" not in first


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--only", "jogging"], "--only is 'jogging'; known are"),
        (["--turns", "0"], "--turns must be"),
        (["--turns", "x"], "--turns"),
        (["--shapes", "1,2"], "'1,2' is no shape"),
        (["--shapes", "1,2,3,0"], "B must be"),
        (["--only", "cold", "--shapes", "1,2,3,4"], "--shapes is for training and forward"),
        (["--out", "no/such/folder/r.json"], "there is no folder"),
        (["--plot", "no/such/folder/r.png"], "there is no folder"),
        (["--plot", "r.xyz"], "must end in"),
        (["--plot", "r.png", "--only", "memory"], "--plot draws ratios"),
    ],
)
def test_a_mistake_is_one_line(arguments, words, asked, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        status = main(["bench", *arguments])
    except SystemExit as stop:
        status = stop.code
    captured = capsys.readouterr()
    assert status == 2
    assert words in captured.err
    assert captured.err.count("\n") == 1
    assert not asked


def test_the_picture_needs_matplotlib(asked, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    assert main(["bench", "--plot", "r.png"]) == 2
    assert "--plot needs Matplotlib" in capsys.readouterr().err
    assert not asked
