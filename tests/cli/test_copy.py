"""Property: `glasscell copy` says the truth about what it trained, and no run ever costs an earlier one a byte."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import glasscell
from glasscell import CopyLSTM
from glasscell.cli import copy, main
from glasscell.tasks import encode

FILES = ["gates.png", "history.csv", "manifest.json", "model.safetensors"]
TINY = ["copy", "--width", "4", "--hidden-size", "6", "--steps", "40", "--batch-size", "8"]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _small_picture(request, monkeypatch):
    """Draw the picture of the gates as a few pixels of the weights, which is much quicker: other tests look at it."""
    if "whole_picture" in request.fixturenames:
        return
    from matplotlib.figure import Figure  # noqa: PLC0415 - optional

    def plot_weights(model, _):
        figure = Figure(figsize=(1, 1))
        figure.figimage(model.parameters.vector[:100].reshape(10, 10))
        return figure

    monkeypatch.setattr("glasscell.trace.figures.plot_gates", plot_weights)


@pytest.fixture
def whole_picture():
    """Draw the whole picture of the gates."""


def contents(folder):
    """Every file below the folder, with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def refused(arguments, capsys):
    """Return the single line on standard error of a command that ends with status 2."""
    capsys.readouterr()
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line.removeprefix("glasscell: ")


# The command where Matplotlib is not installed, which takes most of a second to import.
WITHOUT_PICTURE = (
    "-c",
    "import sys; sys.modules['matplotlib'] = None; from glasscell.cli import main; sys.exit(main())",
)


# Several commands in one process, each with a copy of its streams; the arguments are one JSON list of them.
SEVERAL = (
    "-c",
    """
import contextlib, io, json, sys
from glasscell.cli import main

def run(arguments):
    out, err = (io.TextIOWrapper(io.BytesIO(), stream.encoding, stream.errors) for stream in (sys.stdout, sys.stderr))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(arguments)
        except SystemExit as exit:
            status = exit.code or 0
    return [status, *(stream.seek(0) or stream.read() for stream in (out, err))]

print(json.dumps([run(arguments) for arguments in json.loads(sys.argv[1])]))
""",
)


def process(*arguments, program=("-m", "glasscell"), **environment):
    """Run the command in a separate process, with warnings as errors."""
    root = str(Path(glasscell.__file__).parents[1])
    return subprocess.run(
        [sys.executable, "-W", "error", *program, *arguments],
        capture_output=True,
        check=False,
        env=os.environ | {"PYTHONPATH": root, "PYTHONIOENCODING": "utf-8"} | environment,
    )


def processes(commands, **environment):
    """Return status, standard output and standard error of each command, all run in one separate process."""
    done = process(json.dumps(commands), program=SEVERAL, **environment)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def trained(*_, **__):
    raise AssertionError("training began")


# What it writes


@pytest.mark.usefixtures("whole_picture")
def test_a_run(capsys):
    assert main(TINY) == 0
    out, err = capsys.readouterr()
    assert sorted(contents("runs/copy")) == FILES
    assert "runs/copy" in out
    assert all(file in out for file in FILES if file != "manifest.json")
    assert err.splitlines()[-1].startswith("update 40 of 40")
    assert Path("runs/copy/gates.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


@pytest.mark.parametrize("steps", ["1", "600"])
def test_the_table_is_what_the_model_gives_back(steps, capsys):
    main([*TINY, "--steps", steps])
    out, model = capsys.readouterr().out, CopyLSTM.load("runs/copy")
    held_out = model.task.held_out_integers()
    rows = re.findall(r"^ +(\d+)   ([01 ]+?)   ([01 ]+?) +([✓✗])$", out, re.MULTILINE)
    assert [int(integer) for integer, *_ in rows] == held_out.tolist()
    for integer, shown, back, sign in rows:
        bits = encode(int(integer), 4)
        assert shown.split() == [str(bit) for bit in bits]
        assert back.split() == [str(bit) for bit in model.copy(bits)]
        assert sign == ("✓" if shown.split() == back.split() else "✗")


def test_share_and_losses_are_those_of_the_model(capsys):
    main([*TINY, "--width", "6", "--steps", "200"])
    out, model = capsys.readouterr().out, CopyLSTM.load("runs/copy")
    batch = model.task.held_out_batch()
    scores, count = model.evaluate(batch), len(batch.inputs)
    assert (
        f"exactly: {round(scores['sequence_accuracy'] * count)} of {count} ({scores['sequence_accuracy']:.1%})" in out
    )
    losses = re.search(r"([\d.]+); without memory it would be at least ([\d.]+)", out)
    assert float(losses[1]) == pytest.approx(scores["loss"], abs=1e-4)
    assert float(losses[2]) == pytest.approx(model.task.memoryless_baseline_loss(batch), abs=1e-4)


def test_the_history_has_a_line_an_update():
    main(TINY)
    with Path("runs/copy/history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["update"]) for row in rows] == list(range(1, 41))
    losses = np.array([float(row["loss"]) for row in rows])
    assert np.isfinite(losses).all()
    assert len(set(losses)) == 40
    assert rows[-1]["validation_sequence_accuracy"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--noise", "0.25"], {"noise": 0.25}),
        (["--min-width", "3"], {"shortest_width": 3}),
    ],
)
def test_options_of_the_training_data_reach_the_task(options, expected):
    assert main([*TINY, *options]) == 0
    task = CopyLSTM.load("runs/copy").task
    assert {name: getattr(task, name) for name in expected} == expected


@pytest.mark.usefixtures("whole_picture")
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--mode", "echo"], {"mode": "echo"}),
        (["--bits-per-step", "2"], {"bits_per_step": 2}),
        (["--width", "1"], {"width": 1, "shortest_width": 1}),
        (["--width", "64", "--min-width", "64", "--steps", "1"], {"width": 64, "shortest_width": 64}),
    ],
)
def test_options_of_the_task_reach_it_and_its_picture_is_drawn(options, expected):
    assert main([*TINY, *options]) == 0
    task = CopyLSTM.load("runs/copy").task
    assert {name: getattr(task, name) for name in expected} == expected


@pytest.mark.parametrize("updates", ["--updates", "--steps"])
def test_options_of_training_reach_it(monkeypatch, updates):
    given = {}
    monkeypatch.setattr(copy, "fit", lambda _, __, steps, **options: given.update(options, steps=steps) or sys.exit())
    with pytest.raises(SystemExit):
        main(["copy", updates, "7", "--batch-size", "5", "--learning-rate", "0.003", "--seed", "11"])
    assert (given["steps"], given["batch_size"], given["seed"]) == (7, 5, 11)
    assert given["optimizer"].learning_rate == 0.003


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("steps_of_payload", range(1, 6))
def test_lengths_begin_at_half_the_width(k, steps_of_payload, monkeypatch):
    """In whole steps, and one step at least."""
    tasks = []
    monkeypatch.setattr(copy, "fit", lambda _, task, *__, **___: tasks.append(task) or sys.exit())
    with pytest.raises(SystemExit):
        main(["copy", "--width", str(k * steps_of_payload), "--bits-per-step", str(k)])
    assert tasks[0].shortest_width == k * max(1, steps_of_payload // 2)


def test_options_of_the_model_reach_it():
    assert main([*TINY, "--num-layers", "2"]) == 0
    model = CopyLSTM.load("runs/copy")
    assert (model.hidden_size, model.lstm.num_layers) == (6, 2)


@pytest.mark.usefixtures("whole_picture")
def test_a_seed_decides_every_bit():
    for name in "ab":
        main([*TINY, "--out", name, "--seed", "5"])
    a, b = (CopyLSTM.load(name).parameters.vector for name in "ab")
    assert a.tobytes() == b.tobytes()
    assert contents("a")["history.csv"] == contents("b")["history.csv"]
    assert contents("a")["gates.png"] == contents("b")["gates.png"]


@pytest.fixture(scope="module")
def run_on_an_ascii_terminal(tmp_path_factory):
    """The output and the folder of a command in a separate process."""
    folder = tmp_path_factory.mktemp("separate") / "a"
    done = process(*TINY, "--out", str(folder), program=WITHOUT_PICTURE, PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    return done.stdout.decode("ascii"), folder


def test_a_seed_decides_every_bit_in_another_process_too(run_on_an_ascii_terminal):
    a = run_on_an_ascii_terminal[1]
    main([*TINY, "--out", "b"])
    assert CopyLSTM.load(a).parameters.vector.tobytes() == CopyLSTM.load("b").parameters.vector.tobytes()
    assert contents(a)["history.csv"] == contents("b")["history.csv"]


def test_another_seed_changes_the_model():
    for name, seed in (("a", "5"), ("b", "6")):
        main([*TINY, "--out", name, "--seed", seed])
    a, b = (CopyLSTM.load(name).parameters.vector for name in "ab")
    assert (a != b).mean() > 0.5


def test_the_learning_rate_counts():
    main([*TINY, "--out", "a"])
    main([*TINY, "--out", "b", "--learning-rate", "0.001"])
    assert (CopyLSTM.load("a").parameters.vector != CopyLSTM.load("b").parameters.vector).any()


def test_without_matplotlib_there_is_no_picture(monkeypatch, capsys):
    monkeypatch.setattr(copy, "is_installed", lambda _: False)
    assert main(TINY) == 0
    assert sorted(contents("runs/copy")) == FILES[1:]
    assert "Matplotlib is not installed" in capsys.readouterr().out


# No earlier run is lost


def test_a_second_run_goes_beside_the_first(capsys):
    main(TINY)
    first = contents("runs/copy")
    for n in (2, 3):
        assert main([*TINY, "--seed", str(n)]) == 0
        assert f"runs/copy-{n}" in capsys.readouterr().out
        assert sorted(contents(f"runs/copy-{n}")) == FILES
    assert contents("runs/copy") == first


HEADS = {
    "gates.png": b"\x89PNG\r\n\x1a\n",
    "history.csv": b"update,loss",
    "manifest.json": b'{\n "glasscell_run": 1}',
    "model.safetensors": b"12345678{}",
}


@pytest.mark.parametrize("left", FILES)
def test_an_explicit_folder_with_any_file_of_a_run_is_refused(left, monkeypatch, capsys):
    Path("mine").mkdir()
    Path("mine", left).write_bytes(HEADS[left])
    monkeypatch.setattr(copy, "fit", trained)
    message = refused([*TINY, "--out", "mine"], capsys)
    assert all(part in message for part in ("mine", left, "--out", "--overwrite"))
    assert contents(".") == {f"mine/{left}": HEADS[left]}


@pytest.mark.parametrize("out", [[], ["--out", "mine"]])
def test_overwrite_replaces_the_run_and_nothing_else(out):
    folder = Path("mine" if out else "runs/copy")
    main([*TINY, *out])
    (folder / "notes.txt").write_text("not yours")
    before = contents(folder)
    assert main([*TINY, *out, "--overwrite", "--seed", "9"]) == 0
    after = contents(folder)
    assert sorted(after) == sorted([*FILES, "notes.txt"])
    assert [name for name in before if before[name] == after[name]] == ["notes.txt"]


def test_a_folder_with_other_files_is_used():
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("not yours")
    assert main([*TINY, "--out", "mine"]) == 0
    assert sorted(contents("mine")) == sorted([*FILES, "notes.txt"])
    assert Path("mine/notes.txt").read_text() == "not yours"


@pytest.mark.parametrize("error", [KeyboardInterrupt, FloatingPointError("loss nan")])
@pytest.mark.parametrize("options", [[], ["--out", "runs/copy", "--overwrite"]])
def test_a_run_that_does_not_end_writes_nothing(error, options, monkeypatch, capsys):
    main(TINY)
    before = contents(".")
    capsys.readouterr()

    def fails(*_, **__):
        raise error

    monkeypatch.setattr(copy, "fit", fails)
    assert main([*TINY, *options]) == (130 if error is KeyboardInterrupt else 2)
    assert contents(".") == before
    err = capsys.readouterr().err
    assert ("interrupted" if error is KeyboardInterrupt else "loss nan") in err
    assert "Traceback" not in err


# What is refused, before any training


@pytest.mark.parametrize("out", ["file", "file/below", "file/far/below"])
def test_a_folder_that_cannot_be_is_refused(out, monkeypatch, capsys):
    Path("file").write_bytes(b"precious")
    monkeypatch.setattr(copy, "fit", trained)
    assert out in refused([*TINY, "--out", out], capsys)
    assert contents(".") == {"file": b"precious"}


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--width", "0"], ["--width", "1 to 64", "0"]),
        (["--width", "99"], ["--width", "1 to 64", "99"]),
        (["--width", "-1"], ["--width", "-1"]),
        (["--min-width", "5"], ["--min-width must be at most --width = 4, got 5"]),
        (["--min-width", "0"], ["--min-width", "0"]),
        (["--bits-per-step", "0"], ["--bits-per-step", "0"]),
        (["--bits-per-step", "3"], ["--width must be a multiple of --bits-per-step = 3, got 4"]),
        (["--noise", "-1"], ["--noise", "-1"]),
        (["--noise", "nan"], ["--noise", "nan"]),
        (["--hidden-size", "0"], ["--hidden-size", "0"]),
        (["--num-layers", "0"], ["--num-layers", "0"]),
        (["--learning-rate", "-1"], ["--learning-rate", "-1"]),
        (["--learning-rate", "nan"], ["--learning-rate", "nan"]),
        (["--updates", "0"], ["--updates", "0"]),
        (["--batch-size", "0"], ["--batch-size", "0"]),
        (["--seed", "-1"], ["--seed", "at least 0", "-1"]),
    ],
)
def test_bad_options_are_refused(options, parts, capsys):
    message = refused([*TINY, *options], capsys)
    assert all(part in message for part in parts)
    assert contents(".") == {}


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["foo"], ["foo"]),
        (["copy", "--mode", "foo"], ["foo", "recall", "echo"]),
        (["copy", "--width", "x"], ["--width", "'x'"]),
        (["copy", "--steps", "1.5"], ["--steps", "'1.5'"]),
    ],
)
def test_what_is_no_command_line_is_refused(arguments, parts, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert all(part in last for part in parts)


# In a separate process


def test_the_module_is_the_command():
    done = process(*TINY)
    assert done.returncode == 0
    assert "✗" in done.stdout.decode() or "✓" in done.stdout.decode()
    assert sorted(contents("runs/copy")) == FILES


def test_no_traceback():
    Path("file").touch()
    done = process(*TINY, "--out", "file/below")
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr
    assert not done.stdout
    for status, out, err in processes([[*TINY, "--width", "99"], [*TINY, "--mode", "foo"]]):
        assert status == 2
        assert "Traceback" not in err
        assert not out


def test_an_ascii_terminal(run_on_an_ascii_terminal):
    assert re.search(r" (yes|NO)$", run_on_an_ascii_terminal[0], re.MULTILINE)


def test_help_on_an_ascii_terminal():
    done = process("copy", "--help", PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert b"usage: glasscell" in done.stdout
    for status, out, _ in processes([["--help"], ["predict", "--help"]], PYTHONIOENCODING="ascii"):
        assert status == 0
        assert "usage: glasscell" in out


def test_a_reader_that_has_seen_enough_costs_nothing():
    command = [sys.executable, "-u", "-m", "glasscell", *TINY]
    root = str(Path(glasscell.__file__).parents[1])
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": root}
    ) as run:
        run.stdout.readline()
        run.stdout.close()
        assert run.wait() == 0
    assert sorted(contents("runs/copy")) == FILES


def test_an_empty_folder_of_the_user_survives_a_failure(monkeypatch):
    Path("mine").mkdir()
    monkeypatch.setattr(copy, "fit", trained)
    for out in ("mine", "new"):
        with pytest.raises(AssertionError, match="training began"):
            main([*TINY, "--out", out])
    assert Path("mine").is_dir()
    assert not Path("new").exists()
