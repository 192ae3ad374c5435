"""Laws of `glasscell sweep`: rows are those of the training command, go on after kills, and mistakes are one line."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
from training_commands import without_pictures, write_data

import glasscell as gc
from glasscell.cli import main, run_processes
from glasscell.cli.run_manifest import Manifest
from glasscell.cli.sweep_options import plan_of
from glasscell.sweeps import SweepResult

COPY = ["copy", "--width", "4", "--updates", "30", "--batch-size", "4"]


@pytest.fixture(autouse=True)
def folder(in_an_empty_folder):
    write_data()


@pytest.fixture
def in_this_process(monkeypatch):
    """Run without processes, which take seconds to start."""

    class Immediate:
        def __init__(self, *_):
            pass

        def submit(self, function, *arguments):
            future = Future()
            future.set_result(function(*arguments))
            return future

        def shutdown(self, **_):
            pass

    monkeypatch.setattr(run_processes, "ProcessPoolExecutor", Immediate)
    without_pictures(monkeypatch)


def parsed(*words):
    from glasscell.cli.command_line import parser  # noqa: PLC0415

    return parser(["sweep", *words]).parse_args(["sweep", *words])


def test_rows_and_models_are_those_of_the_training_command(capsys, no_picture):
    line = ["--hidden-size", "3", "5", "--learning-rate", "0.01", "--seeds", "2", "--processes", "1", "--keep-models"]
    assert main(["sweep", *COPY, *line]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Sweep of glasscell copy: 4 runs.\nhidden_size   runs   validation_loss ")
    assert re.search(r"\n5 +2 +\d\.\d+ \(\d\.\d+ to \d\.\d+\) ", out)
    assert "Written to runs/sweep-copy: rows.jsonl, table.md, table.csv, plot.png, 4 models\n" in out
    result = SweepResult.load("runs/sweep-copy")
    assert [(row["setting"], row["seed"]) for row in result.rows] == [
        ({"hidden_size": H}, seed) for H in (3, 5) for seed in (0, 1)
    ]
    assert main([*COPY, "--hidden-size", "5", "--learning-rate", "0.01", "--seed", "1", "--out", "single"]) == 0
    rows = Path("single/history.csv").read_text().splitlines()
    last = dict(zip(rows[0].split(","), rows[-1].split(","), strict=True))
    scores = result.rows[3]["scores"]
    assert scores["validation_loss"] == float(last["validation_loss"])
    assert scores["updates"] == 30
    assert result.rows[3]["curve"]["update"] == [25.0, 30.0]
    assert Path("runs/sweep-copy", scores["model"]).read_bytes() == Path("single/model.safetensors").read_bytes()
    assert not Path("runs/sweep-copy/.runs").exists()
    members = result.models(hidden_size=5)
    assert [member.hidden_size for member in members] == [5, 5]
    assert gc.Ensemble(members).copy([1, 0, 1, 1]).shape == (4,)
    with pytest.raises(ValueError, match="hidden_size must be one of 3, 5, got 4"):
        result.models(hidden_size=4)
    assert main(["runs", "--check"]) == 0
    assert "runs/sweep-copy: finished, 4 runs in " in capsys.readouterr().out


def without_seconds(file):
    rows = [json.loads(line) for line in Path(file).read_text().splitlines()[1:]]
    return sorted(json.dumps({k: v for k, v in row.items() if k not in ("seconds", "crc32")}) for row in rows)


def start(*words):
    program = "from glasscell.cli import main; import sys; sys.exit(main())"
    return subprocess.Popen([sys.executable, "-c", program, *words], stderr=subprocess.PIPE, start_new_session=True)


def wait_for_rows(file, number, process):
    while process.poll() is None and (not file.exists() or file.read_bytes().count(b'"seed":') < number):
        time.sleep(0.01)


@pytest.mark.skipif(os.name != "posix", reason="needs signals of POSIX")
def test_a_sweep_goes_on_after_an_interrupt_and_a_kill(capsys, in_this_process):
    """On one process: an interrupt keeps the rows, a kill as well; the result is that of an undisturbed sweep."""
    line = ["sweep", *COPY, "--hidden-size", "3", "5", "--seeds", "3", "--processes", "1"]
    rows = Path("runs/sweep-copy/rows.jsonl")
    process = start(*line)
    wait_for_rows(rows, 1, process)
    process.send_signal(signal.SIGINT)
    message = process.communicate()[1].decode()
    assert process.returncode == 130, message
    number = rows.read_bytes().count(b'"seed":')
    assert f"glasscell: interrupted; {number} of 6 rows are kept in runs/sweep-copy; to go on: " in message
    assert "Traceback" not in message
    process = start("sweep", "copy", "--resume", "runs/sweep-copy")
    wait_for_rows(rows, number + 1, process)
    process.kill()
    process.communicate()
    assert main(["runs", "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert (listed["state"], listed["resume"]) == ("killed", "sweep copy --resume runs/sweep-copy")
    assert main(["sweep", "copy", "--resume", "runs/sweep-copy", "--hidden-size", "3"]) == 2
    assert "--hidden-size must include 3 5, as in runs/sweep-copy, got 3" in capsys.readouterr().err
    assert main(["sweep", "copy", "--out", "runs/sweep-copy"]) == 2
    assert "contains an unfinished sweep: --resume runs/sweep-copy continues it" in capsys.readouterr().err
    assert main(["sweep", "copy", "--resume", "runs/sweep-copy", "--processes", "2"]) == 0
    assert main([*line[:-1], "2", "--out", "whole"]) == 0
    assert without_seconds(rows) == without_seconds("whole/rows.jsonl")
    assert main(["sweep", "copy", "--resume", "runs/sweep-copy"]) == 0
    assert "is finished: nothing is left to do" in capsys.readouterr().out


def test_a_sweep_is_extended_by_seeds_and_values(capsys, in_this_process):
    """Finished runs keep rows and models; the result is that of a sweep which had all seeds and values at once."""
    line = ["sweep", *COPY, "--processes", "1", "--keep-models", "--hidden-size", "3", "5", "--seeds"]
    folder = Path("runs/sweep-copy")
    assert main([*line, "1"]) == 0
    kept = {path.name: path.read_bytes() for path in folder.glob("model-*")}
    rows = (folder / "rows.jsonl").read_bytes()
    capsys.readouterr()
    extension = ["--seeds", "2", "--hidden-size", "3", "4", "5"]
    assert main(["sweep", "copy", "--resume", str(folder), *extension]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Sweep of glasscell copy: 6 runs. Until now it had --seeds 1, --hidden-size 3 5.\n")
    assert (folder / "rows.jsonl").read_bytes().startswith(rows)
    assert {name: (folder / name).read_bytes() for name in kept} == kept
    assert len(list(folder.glob("model-*"))) == 6
    assert main([*line[:-3], "3", "4", "5", "--seeds", "2", "--out", "whole"]) == 0
    together, apart = SweepResult.load("whole/rows.jsonl"), SweepResult.load(folder / "rows.jsonl")
    for row, other in zip(together.rows, apart.rows, strict=True):
        assert (row["setting"], row["seed"]) == (other["setting"], other["seed"])
        names = [entry["scores"].pop("model") for entry in (row, other)]
        assert row["scores"] == other["scores"]
        assert Path("whole", names[0]).read_bytes() == (folder / names[1]).read_bytes()
    assert main(["runs", "--check"]) == 0
    assert "runs/sweep-copy: finished, 6 runs in " in capsys.readouterr().out
    assert main(["sweep", "copy", "--resume", str(folder), *extension]) == 0
    assert "is finished: nothing is left to do" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--seeds 1", "--seeds must be at least 2, as in runs/sweep-copy, got 1"),
        ("--hidden-size 3 4", "--hidden-size must include 3 5, as in runs/sweep-copy, got 3 4"),
        ("--hidden-size 3 3", "--hidden-size must include 3 5, as in runs/sweep-copy, got 3 3"),
        ("--width 4 5", "--width must be 4, as in runs/sweep-copy, got 4 5"),
        ("--seeds 3 --width 5", "--width must be 4, as in runs/sweep-copy, got 5"),
        ("--seeds 3 --seed 1", "--seed must be 0, as in runs/sweep-copy, got 1"),
        ("--seeds 3 --learning-rate 0.1", "--learning-rate must be its default, as in runs/sweep-copy, got 0.1"),
        ("--hidden-size 3 5 0", "--hidden-size must be at least 1, got 0"),
        ("--hidden-size 3 5 3", "--hidden-size must have different values, got 3 twice"),
    ],
)
def test_an_extension_changes_nothing_else(options, message, capsys, in_this_process):
    assert main(["sweep", *COPY, "--updates", "1", "--hidden-size", "3", "5", "--seeds", "2", "--processes", "1"]) == 0
    before = {path: path.read_bytes() for path in Path("runs").rglob("*") if path.is_file()}
    capsys.readouterr()
    assert main(["sweep", "copy", "--resume", "runs/sweep-copy", *options.split()]) == 2
    assert capsys.readouterr().err.startswith(f"glasscell: {message}")
    assert {path: path.read_bytes() for path in Path("runs").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("line", "further", "message"),
    [
        ("text cat.txt cat.txt", "cat.txt cat.txt s.csv", "FILE must be cat.txt cat.txt, as in sweep, got cat.txt cat"),
        (
            "classify rows.csv --label kind --ignore-column a --ignore-column b",
            "--ignore-column a --ignore-column b --ignore-column c",
            "--ignore-column must be a b, as in sweep, got a b c",
        ),
    ],
    ids=["files", "repeated option"],
)
def test_files_and_repeated_options_are_not_values(line, further, message, capsys):
    command, *words = line.split()
    Path("sweep").mkdir()
    Manifest(f"sweep {command}", [*words, "--hidden-size", "2", "3"]).write(Path("sweep"))
    before = Path("sweep/manifest.json").read_bytes()
    assert main(["sweep", command, *further.split(), "--resume", "sweep"]) == 2
    assert capsys.readouterr().err.startswith(f"glasscell: {message}")
    assert Path("sweep/manifest.json").read_bytes() == before


def test_several_files_of_an_option_belong_to_a_working_directory(monkeypatch, capsys, tmp_path):
    Path("sweep").mkdir()
    Manifest("sweep classify", ["rows.csv", "--label", "kind", "--test", "rows.csv", "s.csv"]).write(Path("sweep"))
    began, folder = Path.cwd(), Path("sweep").resolve()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["sweep", "classify", "--resume", str(folder)]) == 2
    message = f"--resume with several values of --test must be run in {began}"
    assert capsys.readouterr().err == f"glasscell: {message}\n"


def test_values_in_another_order_are_the_same(capsys, in_this_process):
    assert main(["sweep", *COPY, "--hidden-size", "3", "5", "--seeds", "1", "--processes", "1"]) == 0
    capsys.readouterr()
    assert main(["sweep", "copy", "--resume", "runs/sweep-copy", "--hidden-size", "5", "3"]) == 0
    assert "is finished: nothing is left to do" in capsys.readouterr().out


def test_options_of_an_extension_come_before_the_files():
    from glasscell.cli.resuming import _with_options  # noqa: PLC0415

    words = ["--hidden-size", "3", "4", "--", "book.txt"]
    extended = _with_options(words, ["--hidden-size", "3", "4", "5", "--seeds", "7"])
    assert extended == [*words[:3], "--hidden-size", "3", "4", "5", "--seeds", "7", "--", "book.txt"]
    options = parsed("text", *extended)
    assert (options.hidden_size, options.seeds, options.files) == ([3, 4, 5], 7, ["book.txt"])
    plan = plan_of(options)
    assert list(plan.seeds) == list(range(7))


def test_runs_that_fail_are_rows_and_are_repeated_on_request(capsys, in_this_process):
    line = ["sweep", *COPY, "--hidden-size", "3", "--learning-rate", "0.01", "1e30", "--seeds", "1", "--processes", "1"]
    assert main(line) == 1
    out, err = capsys.readouterr()
    assert re.search(r"\n1e\+30 +0 +1 +– ", out)
    assert "failed: --learning-rate 1e+30, seed 0: " in err
    assert "Traceback" not in err
    assert "sweep copy --resume runs/sweep-copy --retry-failed\n" in out
    before = Path("runs/sweep-copy/rows.jsonl").read_text().count("\n")
    assert main(["sweep", "copy", "--resume", "runs/sweep-copy", "--retry-failed"]) == 1
    assert Path("runs/sweep-copy/rows.jsonl").read_text().count("\n") == before + 1


@pytest.mark.parametrize(
    ("line", "score"),
    [
        ("text cat.txt --hidden-size 4 6 --num-layers 1 --steps 10 --streams 6 --epochs 1", "validation_loss"),
        ("classify rows.csv --label kind --hidden-size 4 --updates 5 --pooling mean max --bidirectional", "accuracy"),
        ("forecast s.csv --column sales --hidden-size 4 --updates 5 --window 20 --horizon 6 --lags 1 1,2", "mase"),
    ],
    ids=lambda value: value.split()[0],
)
def test_text_labels_and_series(line, score, in_this_process):
    assert main(["sweep", *line.split(), "--seeds", "1", "--processes", "1"]) == 0
    (folder,) = Path("runs").iterdir()
    result = SweepResult.load(folder)
    assert all(isinstance(row["scores"][score], float) for row in result.rows)
    assert len(result) == 2
    assert score in Path(folder, "table.md").read_text().splitlines()[0]
    assert f"{score} median" in Path(folder, "table.csv").read_text().splitlines()[0]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("copy --hidden-size 0", "--hidden-size must be at least 1, got 0"),
        ("copy --hidden-size 4 8 4", "--hidden-size must have different values, got 4 twice"),
        ("copy --hidden-size 4 none", "argument --hidden-size: invalid int value: 'none'"),
        ("copy --hiden-size 4", "unrecognized arguments: --hiden-size 4; did you mean --hidden-size?"),
        ("copy --steps 0", "--steps must be at least 1, got 0"),
        ("copy --steps 5 0", "--steps must be at least 1, got 0"),
        ("copy --steps 5 5", "--steps must have different values, got 5 twice"),
        ("copy --width 8 80", "--width must be from 1 to 64, got 80"),
        ("copy --mode echo loud", "argument --mode: invalid choice: 'loud'"),
        ("copy --seeds 0", "--seeds must be at least 1, got 0"),
        ("copy --seed -1", "--seed must be at least 0, got -1"),
        ("copy --processes 0", "--processes must be at least 1, got 0"),
        ("copy --seeds 3000000", "a sweep must have at most 1,000,000 runs, got 3,000,000"),
        ("copy --checkpoint-every 3", "unrecognized arguments: --checkpoint-every 3"),
        ("copy --no-checkpoints", "unrecognized arguments: --no-checkpoints"),
        ("copy --retry-failed", "--retry-failed needs --resume"),
        ("copy --score accuracy", "argument --score: invalid choice: 'accuracy'"),
        ("copy --resume nothing", "there is no run in nothing: it has no manifest.json"),
        ("text nothing.txt --hidden-size 3 4", "there is no file nothing.txt"),
        ("classify rows.csv --label color", "--label must name a column of rows.csv"),
        ("forecast s.csv --column sales --plot", "unrecognized arguments: --plot"),
        ("nothing", "argument command: invalid choice: 'nothing'"),
    ],
)
def test_a_mistake_is_one_line(line, message, capsys):
    try:
        status = main(["sweep", *line.split()])
    except SystemExit as error:
        status = error.code
    out, err = capsys.readouterr()
    assert status == 2
    assert not out
    assert err.startswith(f"glasscell: {message}")
    assert err.count("\n") == 1
    assert not Path("runs").exists()


def test_arguments_of_runs_mean_the_options_of_the_sweep():
    plan = plan_of(parsed("classify", "rows.csv", "--label", "a b", "--column", "x", "--column=-y", "--dropout",
                          "0.1", "--per-step", "--hidden-size", "4", "8", "--seed", "3", "--seeds", "2"))  # fmt: skip
    assert plan.grid == {"hidden_size": [4, 8]}
    assert list(plan.seeds) == [3, 4]
    assert sorted(plan.arguments[:-2]) == ["--column=-y", "--column=x", "--dropout=0.1", "--label=a b", "--per-step"]
    assert plan.arguments[-2:] == ["--", "rows.csv"]
    plan = plan_of(parsed("text", "a.txt", "-", "--words", "--tied", "--learning-rate", "1e-3", "0.1"))
    assert plan.grid == {"learning_rate": [0.001, 0.1]}
    assert plan.arguments == ["--words", "--tied", "--", "a.txt", "-"]
    assert list(plan.seeds) == [0, 1, 2, 3, 4]


def test_help_lists_the_options_of_the_training(capsys):
    with pytest.raises(SystemExit):
        parsed("copy", "--help")
    text = " ".join(capsys.readouterr().out.split())
    assert "--hidden-size H [H ...]" in text
    assert "--seeds K" in text
    assert "--checkpoint-every" not in text
    assert np.all([option in text for option in ("--keep-models", "--processes N", "--retry-failed", "--out FOLDER")])
