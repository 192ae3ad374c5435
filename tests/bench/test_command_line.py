"""The command line prints a table, writes only the named files, and reports a mistake in one line before any work."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import speed
from speed import subprocesses
from speed.cases import CASES
from speed.command_line import main
from speed.results import Benchmark, Implementation, Row

BENCHMARK = Benchmark(
    "streaming",
    "One step",
    (
        Row(
            "H = 32",
            (
                Implementation("Glasscell", "1 thread", (1e-6,), ours=True),
                Implementation("PyTorch", "1 thread", (9e-6,)),
            ),
        ),
    ),
)


HUGE = "1000000000"

WRONG = [  # the command line, and words of the message
    ("extra", ["extra"]),
    ("--only jogging", ["--only", "'jogging'"]),
    ("--only ''", ["--only", "''"]),
    ("--only training,", ["--only", "''"]),
    ("--turns 0", ["--turns", "0"]),
    (f"--turns {HUGE}000", ["--turns", "memory"]),
    ("--shapes", ["--shapes"]),
    ("--shapes 1,2,3", ["'1,2,3'"]),
    ("--only training-steps --shapes pages", ["--shapes", "'characters'", "'pages'"]),
    ("--shapes 1,2,3,0", ["B must be"]),
    (f"--shapes 1,{HUGE},3,4", ["memory"]),
    (f"--shapes 1,2,3,4,{HUGE}", ["L must be at most 1000"]),
    ("--only cold --shapes 1,2,3,4", ["--shapes is for"]),
    ("--out x.txt", ["--out", ".json", "x.txt"]),
    ("--out m.safetensors", ["--out", ".json", "m.safetensors"]),
    ("--out /dev/null", ["--out", ".json", "/dev/null"]),
    ("--plot x.jpg", ["--plot", ".png", "x.jpg"]),
    ("--plot x.png --only memory", ["--plot", "ratios"]),
]


@pytest.fixture
def asked(monkeypatch):
    asked = []

    def run_benchmarks(*arguments, **options):
        asked.append(arguments)
        return iter([BENCHMARK])

    monkeypatch.setattr(speed, "run_benchmarks", run_benchmarks)
    monkeypatch.setattr(speed, "has_ratios", lambda kinds: "memory" not in kinds)  # of what is not installed here
    return asked


def test_the_defaults(asked, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([]) == 0
    assert asked == [(speed.DEFAULT, speed.SHAPES, tuple(CASES.values()), 15)]
    out = capsys.readouterr().out
    assert "9.00 (9.00 to 9.00)" in out
    assert "numpy" in out
    assert not list(tmp_path.iterdir())


def test_models_are_chosen_by_name(asked):
    assert main(["--only", "training-steps", "--shapes", "bytes", "tagger", "--turns", "1"]) == 0
    assert asked == [(("training-steps",), speed.SHAPES, (CASES["bytes"], CASES["tagger"]), 1)]


def test_files_and_choices(asked, tmp_path):
    out, picture = tmp_path / "r.json", tmp_path / "r.svg"
    more = ["--shapes", "1,2,3,4", "1,2,3,4,5", "--turns", "3", "--out", str(out), "--plot", str(picture)]
    assert main(["--only", "forward,streaming", *more]) == 0
    assert asked == [(("forward", "streaming"), ((1, 2, 3, 4, 1), (1, 2, 3, 4, 5)), tuple(CASES.values()), 3)]
    assert json.loads(out.read_text())["races"].keys() == {"streaming"}
    first = picture.read_bytes()
    assert b"<svg" in first
    assert b"dc:date" not in first


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--only", "jogging"], "--only must be one of 'training', 'training-steps'"),
        (["--turns", "0"], "--turns must be"),
        (["--turns", "x"], "--turns"),
        (["--shapes", "1,2"], "'1,2' is no shape"),
        (["--shapes", "1,2,3,0"], "B must be"),
        (["--only", "cold", "--shapes", "1,2,3,4"], "--shapes is for training, forward and"),
        (["--out", "no/such/folder/r.json"], "there is no folder"),
        (["--plot", "no/such/folder/r.png"], "there is no folder"),
        (["--plot", "r.xyz"], "must end in"),
        (["--plot", "r.png", "--only", "memory"], "--plot draws ratios"),
    ],
)
def test_a_mistake_is_one_line(arguments, words, asked, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        status = main([*arguments])
    except SystemExit as stop:
        status = stop.code
    captured = capsys.readouterr()
    assert status == 2
    assert words in captured.err
    assert captured.err.count("\n") == 1
    assert not asked


def test_the_picture_needs_matplotlib(asked, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    assert main(["--plot", "r.png"]) == 2
    assert "--plot requires Matplotlib" in capsys.readouterr().err
    assert not asked


@pytest.mark.parametrize(("line", "parts"), WRONG, ids=[line[:60] for line, _ in WRONG])
def test_a_wrong_command_line(line, parts, asked, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        status = main(shlex.split(line))
    except SystemExit as stop:
        status = stop.code
    out, err = capsys.readouterr()
    assert (status, out) == (2, "")
    [message] = err.splitlines()
    assert message.startswith("glasscell: ")
    assert all(part in message for part in parts), message
    assert not asked
    assert not list(tmp_path.iterdir())


FILES = [("--out", ".json"), ("--plot", ".svg")]


@pytest.mark.parametrize(("option", "suffix"), FILES)
def test_a_file_is_replaced_only_with_overwrite_and_only_by_its_kind(option, suffix, asked, capsys, tmp_path):
    pytest.importorskip("matplotlib")
    file, other = tmp_path / f"x{suffix}", tmp_path / f"other{suffix}"
    assert main([option, str(file)]) == 0
    content = file.read_bytes()
    other.write_bytes(b"\x00precious")
    (tmp_path / f"link{suffix}").symlink_to(other)
    asked.clear()
    assert main([option, str(file)]) == 2
    assert "exists already; --overwrite replaces it" in capsys.readouterr().err
    assert main([option, str(other), "--overwrite"]) == 2
    assert "something other than" in capsys.readouterr().err
    assert main([option, str(tmp_path / f"link{suffix}"), "--overwrite"]) == 2
    assert "a symbolic link" in capsys.readouterr().err
    assert not asked
    assert main([option, str(file), "--overwrite"]) == 0
    assert file.read_bytes() == content
    assert other.read_bytes() == b"\x00precious"


def test_an_interrupt_names_the_file_that_is_not_written(monkeypatch, capsys, tmp_path):
    def interrupt(*_, **__):
        yield from []
        raise KeyboardInterrupt

    monkeypatch.setattr(speed, "run_benchmarks", interrupt)
    file = tmp_path / "x.json"
    assert main(["--out", str(file)]) == 130
    assert capsys.readouterr().err == f"\nglasscell: interrupted; {file} not written\n"
    assert not file.exists()


def test_ascii_output(asked, capsys):
    assert main(["--only", "cold", "--ascii"]) == 0
    assert capsys.readouterr().out.isascii()


@pytest.mark.parametrize("command", [[str(Path(speed.__file__).parent)], ["-m", "speed"]])
def test_the_package_is_run_by_its_folder_or_its_name(command):
    """In a process, where the module jax.py of the package must not hide the library."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(subprocesses.PACKAGES)}
    done = subprocess.run(
        [sys.executable, *command, "--help"], capture_output=True, text=True, check=False, env=environment
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: speed")
