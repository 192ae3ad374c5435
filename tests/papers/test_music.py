"""Law: music is read, transposed and scored as its docstring says."""

from pathlib import Path

import numpy as np
import pytest

import glasscell as gc
from glasscell.papers import music

MUSIC = Path(__file__).parents[3] / "shared" / "data" / "music"


@pytest.fixture
def rolls(tmp_path, rng):
    lengths = {"train": [9, 4, 6], "valid": [5, 3], "test": [7, 8]}
    arrays, expected = {}, {}
    for part, sizes in lengths.items():
        expected[part] = [(rng.random((n, 88)) < 0.3).astype(np.uint8) for n in sizes]
        arrays |= {f"{part}_len": sizes, f"{part}_bits": np.packbits(np.concatenate(expected[part]), axis=1)}
    np.savez(tmp_path / "rolls.npz", **arrays)
    rolls = music.read_rolls(tmp_path / "rolls.npz")
    for part in lengths:
        for roll, same in zip(rolls[part], expected[part], strict=True):
            np.testing.assert_array_equal(roll, same)
    return rolls


def test_the_score_is_that_of_padded_batches(rolls):
    """Law: scoring sequences one by one equals the validation loss of fit, in which short ones are padded."""
    model = gc.Sequential([gc.LSTM(88, 5), gc.Linear(5, 88)])
    pairs, score = music.pairs, music.evaluate(model, rolls["valid"])
    options = {"loss": music.nll, "validation": pairs(rolls["valid"]), "learning_rates": {"*": 1e-20}}
    history = gc.fit(model, pairs(rolls["train"]), 1, **options)
    assert history["validation_loss"][-1] == pytest.approx(score, rel=1e-6)
    equal = gc.Sequential([gc.LSTM(88, 5), gc.Linear(5, 88)], seed=None)
    for values in equal.parameters.values():
        values[:] = 0
    assert music.evaluate(equal, rolls["test"]) == pytest.approx(88 * np.log(2), rel=1e-6)


def test_baselines_by_counting(rolls):
    key, given = 0.0, 0.0
    x, y = (np.concatenate(part) for part in music.pairs(rolls["train"]))
    xs, ys = (np.concatenate(part) for part in music.pairs(rolls["test"]))
    for k in range(88):
        for now, target in zip(xs[:, k], ys[:, k], strict=True):
            p = (y[:, k].sum() + 0.5) / (len(y) + 1)
            same = y[:, k][x[:, k] == now]
            q = (same.sum() + 0.5) / (len(same) + 1)
            key -= np.log(p if target else 1 - p)
            given -= np.log(q if target else 1 - q)
    assert music.baselines(rolls) == pytest.approx((key / len(ys), given / len(ys)), rel=1e-5)


def test_the_chorales_have_the_sizes_of_their_source():
    path = MUSIC / "JSB_Chorales.npz"
    if not path.exists():
        pytest.skip(f"{path} does not exist")
    rolls = music.read_rolls(path)
    assert [(len(rolls[part]), sum(map(len, rolls[part]))) for part in ("train", "valid", "test")] == [
        (229, 13_807),
        (76, 4_602),
        (77, 4_725),
    ]


@pytest.mark.parametrize("fraction", [0.0, 0.5, 1.0])
def test_inputs_and_targets_are_transposed_alike(fraction, rng):
    rolls = [np.pad((rng.random((9, 60)) < 0.3).astype(np.float32), ((0, 0), (14, 14))) for _ in range(200)]
    data, shifts = music.Transposed(rolls, fraction), []
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


def test_the_learning_rate_falls_in_the_last_fifth():
    schedule = music.constant_then_linear(1000)
    assert [schedule(k) for k in (0, 799, 800, 900, 1000)] == pytest.approx([1, 1, 1, 0.5, 0])
