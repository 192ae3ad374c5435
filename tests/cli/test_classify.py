"""`glasscell classify` states what it read, how it split it and what it learned, and loses no work."""

import csv
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import glasscell as gc
from glasscell.cli import classify, main

DATA = Path(__file__).parents[3] / "shared" / "data"
TINY = ["--hidden-size", "6", "--updates", "25"]
FILES = ["confusion.png", "history.csv", "manifest.json", "model.safetensors", "scores.json", "settings.json"]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)


def table(name: str = "rows.csv", rows: int = 40, labels: str = "ab", seed: int = 0) -> str:
    """Write sequences of 4 steps, whose label is the sign of their sum."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, 4))
    lines = [f"{labels[int(row.sum() > 0)]},{','.join(f'{value:.4f}' for value in row)}" for row in values]
    Path(name).write_text("kind,p,q,r,s\n" + "\n".join(lines) + "\n")
    return name


def refused(arguments: list[str], capsys: Any) -> str:
    """Return the single line on standard error of a command that ends with status 2."""
    capsys.readouterr()
    assert main(["classify", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return str(line).removeprefix("glasscell: ")


def test_a_run_states_its_split_and_writes_a_model_that_agrees_with_it(capsys: Any) -> None:
    assert (
        main(
            ["classify", table(), "--label", "kind", "--header", "--seed", "3", "--updates", "60", "--hidden-size", "8"]
        )
        == 0
    )
    out = capsys.readouterr().out
    folder = Path("runs/classify")
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert out.startswith("rows.csv (comma, a header): one row per sequence, 1 feature per step, label 'kind'")
    data = gc.data.read_csv("rows.csv", label="kind")
    train, test = data.split(0.2, seed=3)
    assert f"Training: {len(train)} sequences (a: {train.counts()['a']}, b: {train.counts()['b']})" in out
    assert f"Test: 20% of each class, drawn with seed 3: {len(test)} sequences" in out
    assert out.splitlines()[-1].endswith("predict runs/classify rows.csv --label kind --header")
    assert main(["predict", "runs/classify", "rows.csv", "--label", "kind", "--header", "--out", "y.csv"]) == 0
    model = gc.load(folder)
    assert isinstance(model, gc.SequenceClassifier)
    right = sum(a == b for a, b in zip(model.classify(test.x), test.labels or [], strict=True))
    assert f"Test accuracy: {right / len(test):.1%} ({right} of {len(test)} sequences)" in out
    scores, settings = (json.loads((folder / f"{name}.json").read_text()) for name in ("scores", "settings"))
    assert scores["accuracy"] == right / len(test)
    assert np.sum(scores["confusion_matrix"]) == len(test)
    assert (settings["classes"], settings["options"]["seed"]) == (["a", "b"], 3)
    with (folder / "history.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 60
    steps = np.concatenate(train.x)
    np.testing.assert_allclose(model.layers[0].mean, steps.mean(axis=0))  # of the training part alone


def test_a_test_file_validation_weights_and_seeds(capsys: Any) -> None:
    arguments = [table(), "--label", "kind", "--test", table("test.csv", seed=1), "--seeds", "3", *TINY]
    arguments += ["--validation-fraction", "0.25", "--class-weights", "a=1,b=2", "--bidirectional", "--pooling", "max"]
    assert main(["classify", *arguments, "--out", "run"]) == 0
    out = capsys.readouterr().out
    assert "Validation: 10 sequences" in out
    assert "Test: test.csv: 40 sequences" in out
    assert "Median of 3 seeds:" in out
    assert list(json.loads(Path("run/scores.json").read_text())["accuracy_of_seeds"]) == ["0", "1", "2"]


def test_one_label_per_step_of_one_long_file(capsys: Any) -> None:
    rng = np.random.default_rng(0)
    states = np.repeat(rng.integers(0, 2, 20), 5)
    lines = [f"{k},{state + rng.normal(0, 0.2):.3f},{'up' if state else 'down'}" for k, state in enumerate(states)]
    Path("steps.csv").write_text("t,v,state\n" + "\n".join(lines) + "\n")
    arguments = ["steps.csv", "--label", "state", "--per-step", "--time", "t", "--window", "10", *TINY]
    assert main(["classify", *arguments, "--class-weights", "balanced"]) == 0
    out = capsys.readouterr().out
    assert "Training: 1 sequence (down" in out
    assert "Test: the last 20 steps of the file: 1 sequence" in out
    assert "of 20 steps)" in out


def test_arrays_with_a_test_part(capsys: Any) -> None:
    rng = np.random.default_rng(0)
    arrays = {"x": rng.normal(size=(12, 5, 2)), "y": np.arange(12) % 3, "lengths": rng.integers(1, 6, 12)}
    np.savez("a.npz", **arrays, **{f"{name}_test": value[:6] for name, value in arrays.items()})
    assert main(["classify", "a.npz", *TINY]) == 0
    out = capsys.readouterr().out
    assert "Test: arrays x_test and y_test of a.npz: 6 sequences (0: 2, 1: 2, 2: 2)" in out
    assert gc.load("runs/classify").classes == [0, 1, 2]  # type: ignore[union-attr]


def test_real_sequences_of_unequal_lengths(capsys: Any) -> None:
    train = DATA / "ts" / "JapaneseVowels" / "JapaneseVowels_TRAIN.ts"
    if not train.exists():
        pytest.skip("../shared/data is missing")
    assert (
        main(
            ["classify", str(train), "--hidden-size", "16", "--updates", "150", "--bidirectional", "--pooling", "mean"]
        )
        == 0
    )
    assert "Test: 20% of each class, drawn with seed 0: 54 sequences (1: 6, 2: 6" in capsys.readouterr().out
    assert json.loads(Path("runs/classify/scores.json").read_text())["accuracy"] > 0.8


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (
            "kind,p\na,1\na,2\n",
            [],
            "t.csv (comma, a header): one row per sequence, 1 feature per step, label 'kind', features 'p': "
            "labels must be of at least two classes, got 'a' only",
        ),
        ("kind,p\na,1\nb,x\n", [], "t.csv, line 3, column 'p': must be a number, got 'x'"),
        (
            "id,kind,p\nx,a,1\ny,b,2\n",
            [],
            "t.csv, line 2, column 'id': must be a number, got 'x'; --id names a column of ids, "
            "--ignore-column one that is not a feature",
        ),
        ("", [], "t.csv must have at least one line, got an empty file"),
        (
            "kind,p\na,1\nb,2\n",
            ["--test", "other.csv"],
            "other.csv, line 2, column 'kind': must be one of the classes of the model, a, b, got 'c'",
        ),
        ("kind,p\na,1\nb,2\n", ["--test", "none.csv"], "there is no file none.csv"),
        ("kind,p\na,1\nb,2\n", [], "a split must leave sequences in both parts, got 2 to split"),
        ("kind,p\na,1\nb,2\na,3\nb,4\n", ["--test-fraction", "2"], "--test-fraction must be between 0 and 1, got 2.0"),
        ("kind,p\na,1\nb,2\na,3\nb,4\n", ["--window", "3"], "--window is for --per-step, got none"),
        (
            "kind,p\na,1\nb,2\na,3\nb,4\n",
            ["--class-weights", "a:2"],
            "--class-weights must be balanced or LABEL=W,LABEL=W,..., got 'a:2'",
        ),
        (
            "kind,p\na,1\nb,2\na,3\nb,4\n",
            ["--class-weights", "a=2"],
            "--class-weights must have a weight for every class, got none for b",
        ),
        ("kind,p\na,1\nb,2\na,3\nb,4\n", ["--updates", "0"], "--updates must be at least 1, got 0"),
        ("kind,p\na,1\nb,2\na,3\nb,4\n", ["--hidden-size", "0"], "--hidden-size must be at least 1, got 0"),
        ("kind,p\na,1\nb,2\na,3\nb,4\n", ["--hidden-size", "9999999"], "this training needs at least "),
        ("kind,p\na,1\nb,2\na,3\nb,4\n", ["--dropout", "1"], "dropout must be "),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    content: str, arguments: list[str], message: str, capsys: Any
) -> None:
    Path("t.csv").write_text(content)
    Path("other.csv").write_text("kind,p\nc,1\n")
    assert refused(["t.csv", "--label", "kind", "--rows", "sequences", *arguments], capsys).startswith(message)
    assert not Path("runs").exists()


def test_the_test_file_must_have_the_same_features(capsys: Any) -> None:
    rows = "run,kind,{}\nA,a,1\nB,b,2\n"
    for name, column in (("one.csv", "p"), ("two.csv", "q")):
        Path(name).write_text(rows.format(column))
    line = refused(["one.csv", "--label", "kind", "--id", "run", "--test", "two.csv"], capsys)
    assert line.endswith("features must be those of the training file, p, got q")


def test_labels_must_be_named(capsys: Any) -> None:
    assert refused([table()], capsys) == "--label must name the column of the labels of rows.csv, got none"


def test_an_interrupt_keeps_the_model_and_says_so(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fit = classify.fit

    def interrupt(*arguments: Any, callbacks: Any, **options: Any) -> Any:
        def press(state: Any) -> None:
            if state.history.updates == 7:
                os.kill(os.getpid(), signal.SIGINT)

        return fit(*arguments, callbacks=[press, *callbacks], **options)

    monkeypatch.setattr(classify, "fit", interrupt)
    assert main(["classify", table(), "--label", "kind", "--seeds", "3", *TINY]) == 130
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("glasscell: interrupted; the model of 7 updates is kept in runs/classify; to go on: ")
    assert last.endswith("glasscell classify --resume runs/classify")
    assert gc.load("runs/classify").hidden_size == 6  # type: ignore[union-attr]


def test_a_run_is_replaced_only_on_request(capsys: Any) -> None:
    arguments = [table(), "--label", "kind", "--out", "run", *TINY]
    assert main(["classify", *arguments]) == 0
    before = Path("run/model.safetensors").read_bytes()
    assert refused(arguments, capsys).startswith("run contains an earlier run (model.safetensors, history.csv")
    assert Path("run/model.safetensors").read_bytes() == before
    assert main(["classify", *arguments, "--overwrite", "--seed", "1"]) == 0
    assert Path("run/model.safetensors").read_bytes() != before


def test_labels_that_only_a_held_out_part_has_end_before_the_training(capsys: Any) -> None:
    steps = [f"{step},{'ab'[step % 2] if step < 45 else 'c'}" for step in range(50)]
    Path("steps.csv").write_text("v,tag\n" + "\n".join(steps) + "\n")
    error = refused(["steps.csv", "--label", "tag", "--per-step", *TINY], capsys)
    assert error.endswith(
        "labels of the test part must be labels of the classes 'a', 'b', got 'c', which the training part does not have"
    )
    rng = np.random.default_rng(0)
    np.savez("train.npz", x=rng.normal(size=(20, 3)), y=np.arange(20) % 2)
    np.savez("test.npz", x=rng.normal(size=(4, 3)), y=np.array(["0", "1", "0", "1"]))
    error = refused(["train.npz", "--test", "test.npz", *TINY], capsys)
    assert "labels of the test part must be labels of the classes 0, 1, got '0'" in error
    assert not Path("runs").exists()


def test_weights_of_classes_that_are_numbers(capsys: Any) -> None:
    rng = np.random.default_rng(0)
    for name, y in (("text", np.array(["0", "1.5"])), ("numbers", np.array([0, 1.5]))):
        np.savez(f"{name}.npz", x=np.round(rng.normal(size=(2, 3)), 2)[np.arange(20) % 2], y=y[np.arange(20) % 2])
        assert main(["classify", f"{name}.npz", "--class-weights", "0=0,1.5=3", "--out", name, *TINY]) == 0
        scores = json.loads(Path(name, "scores.json").read_text())
        assert scores["accuracy"] == 0.5  # the class of weight 0 is never predicted
    capsys.readouterr()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--class-weights", "a=1,b=2,c=3"], "--class-weights must be of the classes a, b, got 'c'"),
        (["--class-weights", "a=1,a=2"], "--class-weights must have each label once, got 'a' twice"),
        (["--class-weights", "a"], "--class-weights must be balanced or LABEL=W,LABEL=W,..., got 'a'"),
        (["--seed", "-1"], "--seed must be at least 0, got -1"),
    ],
)
def test_weights_and_seeds_that_cannot_be_used(options: list[str], message: str, capsys: Any) -> None:
    assert refused([table(), "--label", "kind", *options], capsys) == message
    assert not Path("runs").exists()
