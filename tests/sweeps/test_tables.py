"""Laws of summaries, tables and plots: quartiles are those of NumPy, and what is drawn are their numbers."""

import csv
import io
import math

import numpy as np
import pytest
import sweep_functions as functions

import glasscell as gc
from glasscell.sweeps.summary import quartiles


@pytest.fixture(scope="module")
def result():
    return gc.sweep(functions.scores, seeds=7, width=[3, 1, 2], rate=[0.5, 0.25])


def values(result, score, **setting):
    rows = [row for row in result.rows if all(row["setting"][name] == value for name, value in setting.items())]
    return np.array([row["scores"][score] for row in rows])


@pytest.mark.parametrize("n", range(1, 12))
def test_quartiles_are_those_of_numpy(rng, n):
    numbers = rng.normal(size=n)
    summary = quartiles(numbers.tolist())
    expected = np.quantile(numbers, [0.5, 0.25, 0.75, 0, 1])
    actual = [summary.median, summary.lower, summary.upper, summary.smallest, summary.largest]
    np.testing.assert_allclose(actual, expected, rtol=1e-14, atol=1e-15)
    assert summary.count == n


def test_infinite_numbers_and_nan():
    summary = quartiles([math.inf, 1.0, math.inf, math.inf])
    assert (summary.median, summary.upper, summary.smallest) == (math.inf, math.inf, 1.0)
    assert quartiles([-math.inf, -math.inf, 0.0]).median == -math.inf
    assert math.isnan(quartiles([1.0, math.nan]).median)
    assert math.isnan(quartiles([]).median)


def test_summaries_are_those_of_each_setting(result):
    for summary in result.summary():
        numbers = values(result, "loss", **summary.setting)
        assert summary.finished == len(numbers) == 7
        assert summary.scores["loss"].median == pytest.approx(np.median(numbers), abs=1e-15)
        assert "name" not in summary.scores
        assert "nothing" not in summary.scores
        assert summary.scores["solved"].smallest in (0, 1)


def test_the_text_is_aligned_and_complete(result):
    lines = result.table(["loss", "count"]).splitlines()
    assert lines[0].split() == ["width", "rate", "runs", "loss", "count", "seconds"]
    assert len(lines) == 7
    starts = [lines[0].index(name) for name in ("rate", "runs", "loss", "count")]
    assert all(line[start - 1] == " " and line[start] != " " for line in lines for start in starts)
    summary = result.summary()[0].scores["loss"]
    assert f"{summary.median:.4g} ({summary.lower:.4g} to {summary.upper:.4g})" in lines[1]


def test_csv_has_all_digits(result):
    rows = list(csv.DictReader(io.StringIO(result.table(format="csv"))))
    assert [(row["width"], row["rate"]) for row in rows] == [(str(w), str(r)) for w in (3, 1, 2) for r in (0.5, 0.25)]
    for row, summary in zip(rows, result.summary(), strict=True):
        assert float(row["loss upper"]) == summary.scores["loss"].upper
        assert row["nan median"] == "nan"
        assert int(row["runs"]) == 7


def test_markdown_escapes_bars_and_control_characters():
    result = gc.sweep(lambda seed, name: {"loss": 1.0}, seeds=1, name=["a|b", "c\x1b[1m\n"])
    lines = result.table(format="markdown").splitlines()
    assert lines[0] == "| name | runs | loss | seconds |"
    assert lines[1] == "| --- | --- | --- | --- |"
    assert lines[2].startswith(r"| a\|b | 1 | 1 |")
    assert "\x1b" not in lines[3]
    assert len(lines) == 4


def test_failures_have_a_column_and_missing_scores_a_dash():
    def train(seed, width):
        if width == 1:
            raise ValueError("no")
        return {"loss": 1.0, "other": 2.0} if seed else {"loss": 3.0}

    result = gc.sweep(train, seeds=2, width=[1, 2])
    lines = [line.split() for line in result.table().splitlines()]
    assert lines[0] == ["width", "runs", "failed", "loss", "other", "seconds"]
    assert lines[1][:5] == ["1", "0", "2", "–", "–"]
    assert lines[2][:3] == ["2", "2", "0"]
    assert result.summary()[1].scores["other"].count == 1


def test_wrong_scores_and_formats(result):
    with pytest.raises(ValueError, match=r"score must be one of loss, half, .*, got 'los'"):
        result.table(["los"])
    with pytest.raises(ValueError, match="format must be one of 'text', 'markdown', 'csv', got 'html'"):
        result.table(format="html")
    with pytest.raises(ValueError, match=r"score must be one of .*, got 'name'"):
        result.plot("name")
    with pytest.raises(ValueError, match="over must be one of width, rate, update, got 'depth'"):
        result.plot("loss", over="depth")
    with pytest.raises(ValueError, match=r"score must be a column of the histories \(none, because train returned no"):
        result.plot("loss", over="update")


def test_medians_are_drawn_over_sorted_numbers(result):
    ax = result.plot("loss", over="width")
    assert [line.get_label() for line in ax.get_lines()] == ["rate 0.5", "rate 0.25"]
    for line, rate in zip(ax.get_lines(), (0.5, 0.25), strict=True):
        assert list(line.get_xdata()) == [1, 2, 3]
        medians = [np.median(values(result, "loss", width=width, rate=rate)) for width in (1, 2, 3)]
        np.testing.assert_allclose(line.get_ydata(), medians, atol=1e-15)
    band = ax.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(
        max(np.quantile(values(result, "loss", width=w, rate=0.5), 0.75) for w in (1, 2, 3))
    )
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("width", "loss")


def test_texts_are_categories_in_their_order():
    result = gc.sweep(lambda seed, kind: {"loss": len(kind)}, seeds=2, kind=["long", "ab", "x"])
    ax = result.plot("loss")
    assert [label.get_text() for label in ax.get_xticklabels()] == ["long", "ab", "x"]
    assert list(ax.get_lines()[0].get_ydata()) == [4, 2, 1]
    assert ax.get_legend() is None
    result = gc.sweep(lambda seed, kind, n: {"loss": n + seed}, seeds=3, kind=["a", "b"], n=[1, 5])
    container = result.plot("loss").containers[1]
    assert list(container.lines[0].get_ydata()) == [6, 6]
    assert [segment[:, 1].tolist() for segment in container.lines[2][0].get_segments()] == [[5.5, 6.5]] * 2


def test_learning_curves_are_medians_of_histories():
    result = gc.sweep(functions.history, seeds=3, hidden_size=[2, 3])
    ax = result.plot("validation_loss", over="update")
    (first, second) = ax.get_lines()
    assert list(first.get_xdata()) == [2, 4, 6]
    curves = [row["curve"]["validation_loss"] for row in result.rows[3:]]
    np.testing.assert_allclose(second.get_ydata(), np.median(curves, axis=0))
    assert second.get_label() == "hidden_size 3"
    with pytest.raises(ValueError, match=r"score must be a column of the histories \(loss, validation_loss, .*got 'x'"):
        result.plot("x", over="update")


def test_a_sweep_of_seeds_alone_has_a_plot():
    ax = gc.sweep(functions.scores, seeds=3).plot("loss")
    assert len(ax.get_lines()[0].get_ydata()) == 1


@pytest.mark.parametrize(
    "grid",
    [
        {"$a$b$": [1, 2], "_b": ["$\\q$", "_x", "a\nb", "\ud800", "x$"]},
        {"a": [0.1, math.inf, math.nan, -1.0]},
        {"a": [1, 10**200, -(10**200)], "_b": [None, True, 1]},
    ],
    ids=["texts", "not finite", "large"],
)
@pytest.mark.parametrize("score", ["$\\bad$ é\n", "huge"], ids=["text", "large"])
def test_any_names_and_values_are_drawn_literally(grid, score):
    def train(seed, **setting):
        return {"$\\bad$ é\n": 1.0, "huge": 10**200 * (-1) ** seed}

    result = gc.sweep(train, seeds=2, **grid)
    for over in grid:
        ax = result.plot(score, over=over)
        ax.figure.savefig(io.BytesIO(), format="svg")
        if others := [name for name in grid if name != over]:
            assert len(ax.get_legend().get_texts()) == len(grid[others[0]])
