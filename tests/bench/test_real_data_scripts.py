"""Law: the benchmark of labels scores and exits as its text says."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

SCRIPTS = Path(__file__).parents[2] / "benchmarks" / "real_data"

pytestmark = pytest.mark.skipif(not SCRIPTS.exists(), reason="benchmarks are not part of an installed package")


@pytest.mark.parametrize(
    ("name", "scores", "seconds", "expected"),
    [
        ("digits", (0.98, 0.96, 0.98), 20, True),
        ("digits", (0.97, 0.97, 0.98), 1, False),  # the median
        ("digits", (0.98, 0.95, 0.98), 1, False),  # the worst seed
        ("digits", (0.98, 0.98, 0.98), 21, False),
        ("GunPoint", (0.5, 0.5, 0.5), 21, True),  # no bar
    ],
)
def test_a_bar_of_labels_is_missed_by_the_median_a_seed_or_the_time(name, scores, seconds, expected, monkeypatch):
    measure = runpy.run_path(str(SCRIPTS / "labels.py"))["measure"]
    for replaced, value in {
        "load": lambda *_: ([0], [0]),
        "nearest_neighbour": lambda *_: 0.5,
        "logistic_regression": lambda *_: None,
        "train_and_test": lambda *arguments: (scores[arguments[-1]], seconds, 1.0),
    }.items():
        monkeypatch.setitem(measure.__globals__, replaced, value)
    assert measure(name, Path(), len(scores)) is expected


def test_crops_are_parts_of_sequences_with_their_labels(rng):
    with_crops = runpy.run_path(str(SCRIPTS / "labels.py"))["with_crops"]
    data = SimpleNamespace(x=[rng.normal(size=(n, 2)) for n in (10, 25, 1)], labels=["a", "b", "c"])
    x, labels = with_crops(data, 50, 0)
    assert labels == ["a", "b", "c"] * 51
    for k, part in enumerate(x):
        whole = data.x[k % 3]
        assert len(part) >= max(1, int(0.4 * len(whole)))
        assert any(np.array_equal(whole[start : start + len(part)], part) for start in range(len(whole)))
    assert {len(part) for part in x[::3]} == {*range(4, 11)}
    assert len(with_crops(data, 0, 0)[0]) == 3
