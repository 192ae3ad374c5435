"""Values and training functions that are unusual: none of them loses a row, damages the file or ends the sweep."""

import os
from concurrent.futures import Executor, Future

import numpy as np
import pytest

import glasscell as gc
from glasscell.manifest_files import decode_floats, encode_floats
from glasscell.sweeps import SweepInterrupted, SweepResult


def rows(result):
    return [(row["setting"], row["seed"], row["status"], row["scores"]) for row in result.rows]


def appends(seed, layers, sizes):
    layers.append(seed)
    sizes[0].clear()
    return {"number": len(layers)}


def test_a_function_that_changes_its_setting_changes_no_row(tmp_path):
    grid = {"layers": [[1], [2, 3]], "sizes": [([4],)]}
    result = gc.sweep(appends, seeds=2, file=tmp_path / "rows", **grid)
    assert [(row["setting"]["layers"], row["scores"]["number"]) for row in result.rows] == [
        *[([1], 2)] * 2,
        *[([2, 3], 3)] * 2,
    ]
    assert all(row["setting"]["sizes"] == ([4],) for row in result.rows)
    assert rows(SweepResult.load(tmp_path / "rows")) == rows(
        gc.sweep(appends, seeds=2, file=tmp_path / "rows", resume=True, layers=[[1], [2, 3]], sizes=[[[4]]])
    )


@pytest.mark.parametrize(
    "scores",
    [
        {"$": "float", "value": "nan"},
        {"$": "object", "value": 1},
        {"$": "float", "value": float("nan")},
        {"$": float("inf"), "value": "float"},
        {np.str_("text"): 1.0},
        {"\ud800": "\udfff", "": 2, "a\n|b": True},
    ],
    ids=ascii,
)
def test_any_names_of_scores_are_read_back(scores, tmp_path):
    result = gc.sweep(lambda seed: scores, seeds=1, file=tmp_path / "rows")
    again = SweepResult.load(tmp_path / "rows")
    assert repr(again.rows) == repr(result.rows)
    assert repr(list(again.rows[0]["scores"].items())) == repr([(str(name), value) for name, value in scores.items()])


def test_names_of_the_grid_that_floats_have_in_the_file(tmp_path):
    grid = {"$": ["float", "object"], "value": ["nan", "inf", float("nan")]}
    result = gc.sweep(lambda seed, **_: {}, seeds=1, file=tmp_path / "rows", **grid)
    assert repr(SweepResult.load(tmp_path / "rows").settings) == repr(result.settings)
    assert result.is_complete


def test_objects_with_the_names_of_encoded_floats_are_decoded_exactly():
    value = {"$": "float", "value": {"$": "object", "value": {"$": "float", "value": float("-inf")}}}
    for _ in range(3):
        value = {"$": "object", "value": value}
        assert decode_floats(encode_floats(value)) == value


@pytest.mark.parametrize("value", [10**400, -(2**1000), 10**5000], ids=["400 digits", "negative", "5000 digits"])
def test_integers_too_large_for_a_float_fail_one_run(value, tmp_path):
    result = gc.sweep(lambda seed: {"n": value if seed == 1 else 2**1000 - 1}, seeds=3, file=tmp_path / "rows")
    assert [row["status"] for row in result.rows] == ["finished", "failed", "finished"]
    assert "score n must be an integer of at most 1000 bits" in result.rows[1]["error"]
    assert result.summary()[0].scores["n"].median == float(2**1000 - 1)
    assert result.table()
    with pytest.raises(ValueError, match="at most 1000 bits"):
        gc.sweep(lambda seed, a: {}, seeds=1, a=[value])
    with pytest.raises(ValueError, match="at most 1000 bits"):
        gc.sweep(lambda seed: {}, seeds=[value])


def test_nested_lists_have_a_limit(tmp_path):
    deep: list = []
    for _ in range(19):
        deep = [deep]
    gc.sweep(lambda seed, a: {}, seeds=1, a=[deep], file=tmp_path / "rows")
    assert SweepResult.load(tmp_path / "rows").rows[0]["setting"] == {"a": deep}
    itself: list = []
    itself.append(itself)
    for value in ([deep], itself):
        with pytest.raises(ValueError, match="a must have at most 20 levels of lists"):
            gc.sweep(lambda seed, a: {}, seeds=1, a=[value])


def test_a_huge_range_is_refused_before_it_is_copied():
    for arguments in ({"seeds": range(10**15)}, {"seeds": 1, "a": range(10**15)}):
        with pytest.raises(ValueError, match="at most 1,000,000 runs"):
            gc.sweep(lambda seed, a=0: {}, **arguments)


def test_a_change_of_the_current_folder_removes_no_other_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inner").mkdir()
    other = tmp_path / "inner" / "rows"
    other.write_text("of another program")

    def train(seed):
        os.chdir(tmp_path / "inner")
        raise KeyboardInterrupt

    with pytest.raises(SweepInterrupted):
        gc.sweep(train, seeds=1, file="rows")
    assert other.read_text() == "of another program"
    assert not (tmp_path / "rows").exists()


def test_models_are_found_after_a_change_of_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inner").mkdir()

    def train(seed):
        gc.CopyLSTM(2, seed=seed).save(tmp_path / "model.safetensors")
        os.chdir(tmp_path / "inner")
        return {"model": "model.safetensors"}

    assert len(gc.sweep(train, seeds=1, file="rows").models()) == 1


def test_models_of_equal_values_of_other_types_are_distinguished(tmp_path):
    def train(seed, a):
        gc.CopyLSTM(2 + (a is True), seed=seed).save(tmp_path / f"{a!r}.safetensors")
        return {"model": f"{a!r}.safetensors"}

    result = gc.sweep(train, seeds=1, a=[1, True, float("nan")], file=tmp_path / "rows")
    assert [model.hidden_size for model in result.models(a=1)] == [2]
    assert [model.hidden_size for model in result.models(a=True)] == [3]
    assert len(result.models(a=1.0)) == len(result.models(a=np.float32("nan"))) == 1
    assert len(result.models()) == 3


@pytest.mark.parametrize("scores", ["loss", 5, {"loss"}])
def test_table_needs_a_list_of_names(scores):
    result = gc.sweep(lambda seed: {"loss": 1.0}, seeds=1)
    with pytest.raises(TypeError, match="scores must be a list of names"):
        result.table(scores)


class Answering(Executor):
    """An executor whose futures have another result than that of the function."""

    def __init__(self, change):
        self.change = change

    def submit(self, function, /, *arguments, **options):
        future: Future = Future()
        future.set_result(self.change(function(*arguments, **options)))
        return future


@pytest.mark.parametrize("change", [lambda row: "text", lambda row: {**row, "seed": 9}, lambda row: {**row, "seed": 0}])
def test_an_executor_that_returns_other_results_is_an_error(change):
    with pytest.raises(TypeError, match="executor must return the result"):
        gc.sweep(lambda seed: {}, seeds=2, executor=Answering(change))
