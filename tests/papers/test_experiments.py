"""Law: every experiment is complete, and a run of it over seeds becomes a result that can be read again."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from glasscell.papers import EXPERIMENTS, Experiment, Outcome, Reproduction, find, registry, run_rows
from glasscell.papers.page import page, read_folder, section, table

DOCS = Path(__file__).parents[2] / "docs"


def train(seed, *, quick, data, size=1):
    if seed == 2:
        raise ValueError("seed 2 fails")
    return {"score": size * (1 if quick else 10) + seed, "nan": float("nan")}


def outcome(rows):
    best = max(row["scores"]["score"] for row in rows)
    return Outcome(f"best {best}", best >= 21)


FAKE = Experiment(
    "fake", "A & B (1997)", "it works", "12", "best at least 21", ("One difference.",), train, outcome, 2, 1,
    "size 1", {"size": (1, 2)},
)  # fmt: skip


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(registry, "EXPERIMENTS", {"fake": FAKE})


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_is_complete(name):
    experiment = EXPERIMENTS[name]
    assert experiment.name == name == name.lower()
    assert experiment.quick_seeds <= experiment.seeds
    for text in (experiment.paper, experiment.claim, experiment.paper_figure, experiment.criterion):
        assert text
        assert not text.endswith(".")
        assert "\n" not in text
    assert experiment.differences
    assert all(difference.endswith(".") for difference in (*experiment.differences, experiment.remark or "."))


def test_a_run_becomes_a_result(fake, tmp_path):
    rows = run_rows("fake", file=tmp_path / "fake.jsonl")
    assert [(row["setting"]["size"], row["seed"], row["scores"]["score"]) for row in rows] == [
        (1, 0, 10),
        (1, 1, 11),
        (2, 0, 20),
        (2, 1, 21),
    ]
    result = Reproduction.of(FAKE, rows, quick=False, version="1")
    assert (result.figure, result.met, result.failures, result.quick) == ("best 21", True, 0, None)
    assert result.command == "glasscell reproduce fake"
    assert all(row["scores"]["nan"] is None and row["scores"]["processor_seconds"] >= 0 for row in result.rows)
    (tmp_path / "fake.json").write_text(result.json())
    assert read_folder(tmp_path) == [result]


def test_failures_are_kept_and_decide(fake):
    rows = run_rows("fake", seeds=3)
    result = Reproduction.of(FAKE, rows, quick=False, version="1")
    assert [row["error"] for row in rows if row["status"] == "failed"] == ["ValueError: seed 2 fails"] * 2
    assert (result.met, result.failures, result.seeds) == (False, 2, 3)
    assert result.command.endswith("--seeds 3")
    assert "2 of 6 trainings ended with an error" in section(result)


def test_a_quick_run_decides_nothing(fake):
    result = Reproduction.of(FAKE, run_rows("fake", quick=True), quick=True, version="1")
    assert (result.met, result.quick) == (None, "1 instead of 2 seeds, size 1")
    assert "| fake (quick) | 12 | best 2 | 1 | not decided |" in table([result])


def test_a_quick_run_states_that_the_remark_is_of_the_full_run(fake):
    remarked = replace(FAKE, remark="All learn.")
    for quick, line in ((True, "- On the full run of docs/papers: All learn."), (False, "- All learn.")):
        result = Reproduction.of(remarked, run_rows("fake", quick=quick, seeds=1), quick=quick, version="1")
        assert line in section(result).splitlines()


def test_rows_are_not_repeated(fake, tmp_path):
    file = tmp_path / "fake.jsonl"
    (one, two) = run_rows("fake", seeds=1, file=file)
    rows = run_rows("fake", seeds=2, file=file, resume=True)
    assert [(row["setting"]["size"], row["seed"]) for row in rows] == [(1, 0), (1, 1), (2, 0), (2, 1)]
    assert [rows[k]["seconds"] for k in (0, 2)] == [one["seconds"], two["seconds"]]


@pytest.mark.parametrize("content", ["", "{", "[1]", "{}"])
def test_another_file_is_refused(content, tmp_path):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(ValueError, match=r"x\.json is not the result of an experiment"):
        Reproduction.read(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("name", "nearest"), [("adding100", "adding-100"), ("Embeded-Reber", "embedded-reber"), ("copy", "vector-copy")]
)
def test_an_unknown_name_lists_the_nearest(name, nearest):
    with pytest.raises(ValueError, match=f"there is no experiment '{name}'; the nearest names are .*{nearest}"):
        find(name)


def test_a_name_is_a_text():
    with pytest.raises(TypeError, match="name must be a str, got an int"):
        find(3)


@pytest.mark.parametrize("name", ["", "xyz"])
def test_a_name_like_no_other_refers_to_the_list(name):
    with pytest.raises(ValueError, match=f"there is no experiment '{name}'; `glasscell reproduce --list` prints all"):
        find(name)


def test_a_tiny_experiment_learns():
    """Real training, in a second: the quick form of the embedded Reber grammar."""
    (row,) = run_rows("embedded-reber", seeds=1, quick=True)
    result = Reproduction.of(EXPERIMENTS["embedded-reber"], [row], quick=True, version="1")
    assert row["status"] == "finished", row["error"]
    assert row["scores"]["stopped"] - row["scores"]["criterion"] >= 200
    assert result.figure.startswith("1 of 1 seeds after")


@pytest.mark.skipif(not DOCS.exists(), reason="docs are not part of an installed package")
def test_the_page_is_generated_from_the_results():
    results = read_folder(DOCS / "papers")
    assert results
    assert (DOCS / "papers.md").read_text("utf-8") == page(results), "run `make papers-page`"


@pytest.mark.skipif(not DOCS.exists(), reason="docs are not part of an installed package")
@pytest.mark.parametrize("path", sorted((DOCS / "papers").glob("*.json")), ids=lambda path: path.stem)
def test_results_are_those_of_the_definitions(path):
    """Law: texts and outcome of a result are those that the code makes of its rows."""
    result = Reproduction.read(path)
    again = Reproduction.of(find(path.stem), result.rows, quick=False, version=result.version)
    assert json.loads(again.json()) == json.loads(result.json())
