"""Law: the benchmarks of classic tasks, music and labels stop, score and exit as their texts say."""

import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import glasscell as gc
from glasscell.tasks import adding

SCRIPTS = Path(__file__).parents[2] / "benchmarks" / "real_data"
MUSIC = SCRIPTS.parents[2] / "shared" / "data" / "music"

pytestmark = pytest.mark.skipif(not SCRIPTS.exists(), reason="benchmarks are not part of an installed package")


@pytest.fixture(scope="module")
def classic():
    return runpy.run_path(str(SCRIPTS / "classic_tasks.py"))


@pytest.fixture(scope="module")
def music():
    return runpy.run_path(str(SCRIPTS / "music.py"))


@pytest.mark.parametrize("script", ["classic", "music"])
def test_a_name_that_selects_nothing_is_refused(script, request, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [script, "--only", "Nothing"])
    with pytest.raises(SystemExit) as stopped:
        request.getfixturevalue(script)["main"]()
    assert stopped.value.code == 2
    assert "--only must be a part of" in capsys.readouterr().err


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


def test_training_stops_when_the_most_recent_sequences_are_correct(classic, rng):
    task = gc.tasks.Adding(20)
    recorded = classic["Recorded"](task, adding.is_correct, 0.01, 4000)
    errors = np.concatenate([[0.03] * 20, [0.05], rng.uniform(-0.019, 0.019, 5000)])  # one wrong, then none
    for k in range(0, len(errors), 10):
        batch = task.batch(len(errors[k : k + 10]), rng, np.float64)
        recorded.recorded_loss(batch.targets + errors[k : k + 10, None], batch.targets, None)
        assert recorded(None) == (len(recorded.correct) >= 4021)
        if recorded.stopped:
            break
    assert (recorded.criterion, recorded.stopped) == (2030, 4030)  # the first whole batches


@pytest.mark.parametrize(("error", "expected"), [(0.009, True), (0.011, False)])
def test_the_average_error_must_be_small_too(classic, error, expected, rng):
    recorded = classic["Recorded"](gc.tasks.Adding(20), adding.is_correct, 0.01, 2000)
    targets = rng.uniform(0, 1, (2000, 1))
    recorded.recorded_loss(targets + error, targets, None)
    assert recorded(None) is expected


def test_errors_of_classes_are_those_of_probabilities(classic, rng):
    logits, targets = rng.normal(size=(5, 4)), np.array([0, 3, 1, 1, 2])
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = np.abs(p - np.eye(4)[targets]).mean(axis=1)
    np.testing.assert_allclose(classic["absolute_errors"](logits, targets), expected)


def test_reber_counts_strings(classic):
    result = classic["reber"](0, 20)
    assert result.criterion is result.stopped is None
    assert 200 < result.wrong <= 256


@pytest.fixture
def rolls(music, tmp_path, rng):
    lengths = {"train": [9, 4, 6], "valid": [5, 3], "test": [7, 8]}
    arrays, expected = {}, {}
    for part, sizes in lengths.items():
        expected[part] = [(rng.random((n, 88)) < 0.3).astype(np.uint8) for n in sizes]
        arrays |= {f"{part}_len": sizes, f"{part}_bits": np.packbits(np.concatenate(expected[part]), axis=1)}
    np.savez(tmp_path / "rolls.npz", **arrays)
    rolls = music["read_rolls"](tmp_path / "rolls.npz")
    for part in lengths:
        for roll, same in zip(rolls[part], expected[part], strict=True):
            np.testing.assert_array_equal(roll, same)
    return rolls


def test_the_score_is_that_of_padded_batches(music, rolls):
    """Law: scoring sequences one by one equals the validation loss of fit, in which short ones are padded."""
    model = gc.Sequential([gc.LSTM(88, 5), gc.Linear(5, 88)])
    pairs, score = music["pairs"], music["evaluate"](model, rolls["valid"])
    options = {"loss": music["nll"], "validation": pairs(rolls["valid"]), "learning_rates": {"*": 1e-20}}
    history = gc.fit(model, pairs(rolls["train"]), 1, **options)
    assert history["validation_loss"][-1] == pytest.approx(score, rel=1e-6)
    equal = gc.Sequential([gc.LSTM(88, 5), gc.Linear(5, 88)], seed=None)
    for values in equal.parameters.values():
        values[:] = 0
    assert music["evaluate"](equal, rolls["test"]) == pytest.approx(88 * np.log(2), rel=1e-6)


def test_baselines_by_counting(music, rolls):
    key, given = 0.0, 0.0
    x, y = (np.concatenate(part) for part in music["pairs"](rolls["train"]))
    xs, ys = (np.concatenate(part) for part in music["pairs"](rolls["test"]))
    for k in range(88):
        for now, target in zip(xs[:, k], ys[:, k], strict=True):
            p = (y[:, k].sum() + 0.5) / (len(y) + 1)
            same = y[:, k][x[:, k] == now]
            q = (same.sum() + 0.5) / (len(same) + 1)
            key -= np.log(p if target else 1 - p)
            given -= np.log(q if target else 1 - q)
    assert music["baselines"](rolls) == pytest.approx((key / len(ys), given / len(ys)), rel=1e-5)


def test_the_chorales_have_the_sizes_of_their_source(music):
    path = MUSIC / "JSB_Chorales.npz"
    if not path.exists():
        pytest.skip(f"{path} does not exist")
    rolls = music["read_rolls"](path)
    assert [(len(rolls[part]), sum(map(len, rolls[part]))) for part in ("train", "valid", "test")] == [
        (229, 13_807),
        (76, 4_602),
        (77, 4_725),
    ]


@pytest.mark.parametrize("fraction", [0.0, 0.5, 1.0])
def test_inputs_and_targets_are_transposed_alike(music, fraction, rng):
    rolls = [np.pad((rng.random((9, 60)) < 0.3).astype(np.float32), ((0, 0), (14, 14))) for _ in range(200)]
    data, shifts = music["Transposed"](rolls, fraction), []
    originals = {roll[:, 14:74].tobytes(): roll for roll in rolls}
    for batch in data.batches(16, np.random.default_rng(0), np.float32):
        for x, y in zip(batch.inputs, batch.targets, strict=True):
            np.testing.assert_array_equal(x[1:], y[:-1])
            roll = np.concatenate([x, y[-1:]])
            (found,) = [k for k in range(-6, 7) if roll[:, 14 + k : 74 + k].tobytes() in originals]
            shifts.append(found)
    assert len(shifts) == 200
    assert {*shifts} == ({0} if not fraction else {*range(-6, 7)})
    assert np.mean(np.array(shifts) != 0) == pytest.approx(fraction * 12 / 13, abs=0.12)


def test_the_learning_rate_falls_in_the_last_fifth(music):
    schedule = music["constant_then_linear"](1000)
    assert [schedule(k) for k in (0, 799, 800, 900, 1000)] == pytest.approx([1, 1, 1, 0.5, 0])


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
