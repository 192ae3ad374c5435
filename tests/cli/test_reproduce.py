"""Law: `glasscell reproduce` prints rows and figures, writes its files, and reports mistakes in one line."""

import json
import multiprocessing
import os
import pickle
import time
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from types import MappingProxyType

import pytest

from glasscell.cli import main, reproduce
from glasscell.cli.run_processes import run_processes
from glasscell.papers import Experiment, Outcome, registry
from glasscell.papers.reproduction import train_experiment


def train(seed, *, quick, data):
    return {"score": seed / (4 if quick else 1)}


def outcome(rows):
    return Outcome(f"{len(rows)} rows", len(rows) >= 2)


def experiment(name, **options):
    return Experiment(name, "A (1997)", "it works", "12", "two rows", ("One difference.",), train, outcome, **options)


@pytest.fixture(autouse=True)
def fake(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    fakes = [experiment("one", seeds=3), experiment("two", seeds=2), experiment("music", files=("music/x.npz",))]
    monkeypatch.setattr(registry, "EXPERIMENTS", MappingProxyType({fake.name: fake for fake in fakes}))


def test_one_experiment(capsys, tmp_path):
    assert main(["reproduce", "one", "--out", "results"]) == 0
    out, progress = capsys.readouterr()
    assert "seed 2: score 2" in progress
    assert "- Paper: 12." in out
    assert "- Here: 3 rows." in out
    assert "**Met**" in out
    assert "One difference." in out
    written = json.loads((tmp_path / "results" / "one.json").read_text())
    assert [row["seed"] for row in written["rows"]] == [0, 1, 2]
    assert "| one | 12 | 3 rows | 3 | met |" in (tmp_path / "results" / "one.md").read_text()


def test_a_missed_criterion_is_the_exit_status(capsys):
    assert main(["reproduce", "one", "--seeds", "1"]) == 1
    assert "**Missed**" in capsys.readouterr().out


def test_all_quick(capsys, tmp_path):
    assert main(["reproduce", "--all", "--quick"]) == 0
    out = capsys.readouterr().out
    assert "music: skipped, needs --data FOLDER with music/x.npz" in out
    assert "| two (quick) | 12 | 2 rows | 2 | not decided |" in out
    assert (tmp_path / "runs" / "papers" / "one-quick.json").exists()


def test_results_are_replaced_or_continued_when_that_is_said(capsys):
    assert main(["reproduce", "two"]) == 0
    assert main(["reproduce", "two"]) == 2
    assert "two.jsonl exists already; --overwrite replaces it, --continue adds to it" in capsys.readouterr().err
    assert main(["reproduce", "two", "--continue", "--seeds", "3"]) == 0
    assert "seed 1" not in (progress := capsys.readouterr().err)
    assert "seed 2" in progress
    assert main(["reproduce", "two", "--overwrite"]) == 0
    assert "seed 0" in capsys.readouterr().err


def test_the_list(capsys):
    assert main(["reproduce", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["one", "two", "music"]
    assert "needs music/x.npz" in lines[2]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["on"], "there is no experiment 'on'; the nearest names are one"),
        (["one", "twoo"], "there is no experiment 'twoo'; the nearest names are two"),
        ([], "must have names of experiments or --all"),
        (["one", "--all"], "must have names of experiments or --all, and not both"),
        (["one", "--list"], "NAME must be left out with --list"),
        (["one", "--seeds", "0"], "--seeds must be at least 1, got 0"),
        (["one", "--processes", "0"], "--processes must be at least 1, got 0"),
        (["one", "--data", "none"], "--data: there is no folder none"),
        (["music"], "music needs --data FOLDER with music/x.npz"),
        (["music", "--data", "."], "music needs --data FOLDER with music/x.npz"),
        (["one", "--overwrite", "--continue"], "not allowed with"),
        (["one", "two", "one"], "NAME must be different experiments, got one twice"),
        (["one", "--out", "/dev/null/x"], "--out must be a folder, got /dev/null/x: /dev/null is a file"),
    ],
)
def test_a_mistake_is_one_line(arguments, words, capsys, tmp_path):
    try:
        status = main(["reproduce", *arguments])
    except SystemExit as stopped:
        status = stopped.code
    captured = capsys.readouterr()
    assert status == 2
    assert words in captured.err
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_an_interrupt_names_the_rows_that_are_kept(monkeypatch, capsys):
    def interrupted(seed, *, quick, data):
        if seed == 1:
            raise KeyboardInterrupt
        return {"score": 1.0}

    monkeypatch.setattr(registry, "EXPERIMENTS", {"one": replace(experiment("one"), train=interrupted)})
    assert main(["reproduce", "one"]) == 130
    assert (
        "interrupted; 1 row in runs/papers/one.jsonl; to go on: the same command with --continue"
        in capsys.readouterr().err
    )


def test_processes_run_the_trainings(tmp_path, monkeypatch):
    """Threads stand for them here: what they are sent can be pickled, and the rows are the same."""
    asked = []

    def executor(processes):
        asked.append(processes)
        return ThreadPoolExecutor(processes)

    assert main(["reproduce", "two", "--out", "a"]) == 0
    monkeypatch.setattr(reproduce, "_executor", executor)
    assert main(["reproduce", "two", "--out", "b", "--processes", "2"]) == 0
    rows = [json.loads((tmp_path / folder / "two.json").read_text())["rows"] for folder in "ab"]
    assert [[row["scores"]["score"] for row in some] for some in rows] == [[0, 1]] * 2
    assert asked == [2]
    sent = partial(train_experiment, "two", quick=True, data=None)
    assert pickle.loads(pickle.dumps(sent))(seed=1)["score"] == 0.25  # noqa: S301 - our own


def test_overwrite_keeps_the_rows_of_experiments_that_do_not_run(tmp_path, capsys):
    (tmp_path / "data" / "music").mkdir(parents=True)
    (tmp_path / "data" / "music" / "x.npz").touch()
    assert main(["reproduce", "--all", "--quick", "--data", "data"]) == 0
    rows = tmp_path / "runs" / "papers" / "music-quick.jsonl"
    before = rows.read_bytes()
    assert main(["reproduce", "--all", "--quick", "--overwrite"]) == 0
    assert "music: skipped" in capsys.readouterr().out
    assert main(["reproduce", "music", "--quick", "--overwrite"]) == 2
    assert main(["reproduce", "music", "one", "--quick", "--overwrite", "--data", "runs"]) == 2
    assert rows.read_bytes() == before


def test_only_rows_of_experiments_with_files_belong_to_a_folder_of_data(tmp_path, capsys):
    for folder in ("a", "b"):
        (tmp_path / folder / "music").mkdir(parents=True)
        (tmp_path / folder / "music" / "x.npz").touch()
    assert main(["reproduce", "two", "music", "--quick", "--data", "a"]) == 0
    for options in ([], ["--data", "b"]):
        assert main(["reproduce", "two", "--quick", "--continue", *options]) == 0
    capsys.readouterr()
    assert main(["reproduce", "two", "music", "--quick", "--continue", "--seeds", "3", "--data", "b"]) == 2
    out, error = capsys.readouterr()
    assert not out  # before the first experiment
    assert error.startswith("glasscell: --out: runs/papers/music-quick.jsonl has other rows: train is ")
    assert error.endswith("; pass the same --data, or another --out\n")
    assert main(["reproduce", "music", "--quick", "--continue", "--data", "a"]) == 0


def test_seeds_are_checked_before_the_first_training_and_before_rows_are_removed(tmp_path, capsys):
    assert main(["reproduce", "one", "two", "--seeds", "3"]) == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    capsys.readouterr()
    for options, message in (
        (["--continue"], "--seeds must be at least 3, as in runs/papers/two.jsonl, got 2"),
        (["--overwrite", "--seeds", "1000001"], "a sweep must have at most 1,000,000 runs, got 1,000,001"),
    ):
        assert main(["reproduce", "one", "two", *options]) == 2
        assert capsys.readouterr() == ("", f"glasscell: {message}\n")
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_errors_with_surrogates_are_written(tmp_path, monkeypatch, capsys):
    def fails(seed, *, quick, data):
        raise ValueError("no file \udcff")

    monkeypatch.setattr(registry, "EXPERIMENTS", {"one": replace(experiment("one"), train=fails)})
    assert main(["reproduce", "one", "--seeds", "1"]) == 1
    written = json.loads((tmp_path / "runs" / "papers" / "one.json").read_text("utf-8"))
    assert written["rows"][0]["error"] == "ValueError: no file \udcff"
    assert "written" in capsys.readouterr().out


class Broken(ThreadPoolExecutor):
    """An executor whose second run does not return."""

    def submit(self, function, /, *arguments, **options):
        if arguments[0].seed == 1:
            future = Future()
            future.set_exception(BrokenExecutor("a process died"))
            return future
        return super().submit(function, *arguments, **options)


def test_a_process_that_dies_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(reproduce, "_executor", Broken)
    assert main(["reproduce", "two", "--processes", "2"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("glasscell: the executor failed (BrokenExecutor: a process died); ")
    assert error.endswith(
        ("; 1 row in runs/papers/two.jsonl; to go on: the same command with --continue", "; nothing is kept")
    )


def test_processes_end_with_the_command_during_a_run():
    with run_processes(1) as executor:
        assert executor.submit(os.getenv, "OMP_NUM_THREADS").result() == os.environ.get("OMP_NUM_THREADS", "1")
        executor.submit(time.sleep, 1000)
        (process,) = multiprocessing.active_children()
    assert not process.is_alive()
