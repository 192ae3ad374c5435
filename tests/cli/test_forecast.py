"""Laws of `glasscell forecast`: its tables and files are what the model and the file give; a mistake costs no run."""

import csv
import re
import shlex
import signal
from pathlib import Path

import numpy as np
import pytest

import glasscell as gc
from glasscell.cli import forecast, forecast_report, main
from glasscell.data.series import evaluation

TINY = ["--hidden-size", "4", "--updates", "5", "--window", "20", "--horizon", "6"]
FILES = ["evaluation.csv", "forecast.csv", "history.csv", "manifest.json", "model.safetensors", "settings.json"]


@pytest.fixture
def y(tmp_path, monkeypatch):
    """A file of 120 months with a season, and its values."""
    monkeypatch.chdir(tmp_path)
    t = np.arange(120)
    y = (50 + 10 * np.sin(t * 2 * np.pi / 12) + np.random.default_rng(0).normal(size=120)).round(2)
    rows = [f"{2000 + k // 12}-{k % 12 + 1:02},{value},{k % 7}" for k, value in enumerate(y)]
    Path("s.csv").write_text("\n".join(["month,sales,day", *rows]))
    return y


def run(*arguments):
    return main(["forecast", "s.csv", "--column", "sales", *TINY, *arguments])


def refused(capsys, *arguments, file="s.csv"):
    """Return the line on standard error of a command that ends with status 2 and writes nothing."""
    capsys.readouterr()
    assert main(["forecast", file, *TINY, *arguments]) == 2
    assert not Path("runs").exists()
    (line,) = capsys.readouterr().err.splitlines()
    return line.removeprefix("glasscell: ")


def table(name):
    with Path("runs/forecast", name).open(newline="") as file:
        return list(csv.reader(file))


def test_a_run(y, capsys):
    assert run("--time", "month", "--season", "12", "--differences", "12", "--ar-order", "5") == 0
    out = capsys.readouterr().out
    assert sorted(path.name for path in Path("runs/forecast").iterdir()) == FILES
    assert "s.csv: 120 values of sales, step 1 month." in out
    assert (
        "Split: training 2000-01 to 2006-12 (84 values); calibration 2007-01 to 2007-12 (12 values); "
        "test 2008-01 to 2009-12 (24 values)." in out
    )
    model = gc.load("runs/forecast")
    assert model.features.transformation.differences == (12,)
    origins = evaluation.rolling_origins(120, 96, 6, 1)
    actual, scale = evaluation.actual_values(y, origins, 6), evaluation.seasonal_scale(y[:96], 12)
    result = model.rolling_forecast(y, origins)
    expected = evaluation.baseline_forecasts(y, origins, 6, season=12, order=5) | {"LSTM": result.values}
    header, *rows = table("evaluation.csv")
    assert header == ["method", "mase", "mae", "coverage", "width"]
    assert [row[0] for row in rows] == list(expected) == ["naive", "seasonal naive", "AR(5)", "LSTM"]
    for row, forecasts in zip(rows, expected.values(), strict=True):
        mase = evaluation.mean_absolute_scaled_error(forecasts, actual, scale)
        np.testing.assert_allclose(
            [float(cell) for cell in row[1:3]], [mase, evaluation.mean_absolute_error(forecasts, actual)], rtol=1e-5
        )
        assert re.search(rf"^  {re.escape(row[0])} +{mase:.3f} ", out, re.MULTILINE)
    coverage, width = evaluation.interval_scores(result.lower, result.upper, actual)
    assert (float(rows[-1][3]), pytest.approx(float(rows[-1][4]))) == (coverage, width)
    assert f"{coverage:.0%}, {width:.4g}" in out


def test_the_forecast_is_that_of_the_model(y, capsys):
    assert run("--time", "month") == 0
    out = capsys.readouterr().out
    expected = gc.load("runs/forecast").forecast(y)
    header, *rows = table("forecast.csv")
    assert header == ["month", "sales", "sales_lower", "sales_upper"]
    assert [row[0] for row in rows] == [f"2010-{k:02}" for k in range(1, 7)]
    values = np.array([[float(cell) for cell in row[1:]] for row in rows])
    np.testing.assert_allclose(values, np.stack(expected[:3], axis=1), rtol=1e-5)
    printed = re.findall(r"^  (2010-\d\d) +(\S+)   (\S+) to (\S+)$", out, re.MULTILINE)
    np.testing.assert_allclose([[float(cell) for cell in row[1:]] for row in printed], values, rtol=1e-4)


def test_training_uses_the_training_part_alone(y):
    """Other values after it give the same weights; the seed decides them."""
    assert run("--out", "one") == 0
    lines = Path("s.csv").read_text().splitlines()
    changed = [lines[0], *lines[1:85], *(f"{line.split(',')[0]},{k % 5},0" for k, line in enumerate(lines[85:]))]
    Path("s.csv").write_text("\n".join(changed))
    assert run("--out", "two") == 0
    assert run("--out", "three", "--seed", "1") == 0
    one, two, three = (gc.load(name).parameters.vector for name in ("one", "two", "three"))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, three)


def test_several_series_members_and_known_inputs(y, capsys):
    future = "\n".join(f"2010-{k:02},,{k}" for k in range(1, 8))
    Path("s.csv").write_text(Path("s.csv").read_text() + "\n" + future)
    assert run("--time", "month", "--known", "day", "--members", "2") == 0
    model = gc.load("runs/forecast")
    assert isinstance(model, gc.ForecasterEnsemble)
    days = np.concatenate([np.arange(120) % 7, np.arange(1, 7)])
    expected = model.forecast(y, known_exogenous=days.astype(float))
    np.testing.assert_allclose([float(row[1]) for row in table("forecast.csv")[1:]], expected.values, rtol=1e-5)
    assert main(["forecast", "s.csv", "--column", "sales", *TINY, "--known", "day", "--horizon", "8"]) == 2
    message = "s.csv: --known columns must have values for the 8 steps after the last observation, got 7"
    assert message in capsys.readouterr().err
    Path("s.csv").write_text("\n".join(Path("s.csv").read_text().splitlines()[:121]))
    assert main(["forecast", "s.csv", "--column", "sales", "--column", "day", *TINY, "--out", "both"]) == 0
    assert "day_upper" in Path("both/forecast.csv").read_text()


def test_predict_reads_the_file_as_the_run_did(y, capsys):
    """Without options, `predict` has the forecast of the run; options that are passed replace those of the run."""
    lines = [line.replace(",", ";").replace(".", ",") for line in Path("s.csv").read_text().splitlines()]
    del lines[40]
    future = [f"2010-{k:02};;{k}" for k in range(1, 8)]
    Path("s.csv").write_text("\n".join([*lines, *future]))
    options = ["--time", "month", "--known", "day", "--fill", "linear", "--decimal", ",", "--level", "0.7"]
    assert run(*options) == 0
    assert "2 missing values filled." in capsys.readouterr().out
    assert main(["predict", "runs/forecast", "s.csv"]) == 0
    printed, notes = capsys.readouterr()
    assert "--column, --time, --known, --fill, --decimal, --level as in runs/forecast/settings.json" in notes
    rows = [line.split(",") for line in printed.splitlines()]
    expected = table("forecast.csv")
    assert rows[0] == expected[0]
    assert [row[0] for row in rows] == [row[0] for row in expected]
    numbers = [np.array([[float(cell) for cell in row[1:]] for row in part[1:]]) for part in (rows, expected)]
    np.testing.assert_allclose(*numbers, rtol=1e-4)
    assert main(["predict", "runs/forecast", "s.csv", "--level", "0.5"]) == 0
    narrow = [line.split(",") for line in capsys.readouterr().out.splitlines()[1:]]
    assert all(float(new[2]) > float(old[2]) for new, old in zip(narrow, rows[1:], strict=True))
    Path("runs/forecast/settings.json").write_text('{"command": "classify", "options": {}}')
    assert main(["predict", "runs/forecast", "s.csv"]) == 2
    assert "must be the settings of `glasscell forecast`" in capsys.readouterr().err


def test_errors_name_the_options_of_the_command(y, capsys):
    lines = Path("s.csv").read_text().splitlines()
    Path("s.csv").write_text("\n".join([*lines[:40], *lines[41:]]))
    assert refused(capsys, "--column", "sales", "--time", "month").endswith(
        "; --fill linear or --fill previous fills it"
    )
    Path("s.csv").write_text("sales\n1;5\n".replace("1;5", '"1,5"'))
    assert refused(capsys, "--column", "sales").endswith("; --decimal , reads decimal commas")


@pytest.mark.parametrize("members", ["1", "2"])
def test_the_printed_command_forecasts_again(y, capsys, members):
    assert run("--time", "month", "--past", "day", "--level", "0.7", "--members", members) == 0
    (line,) = re.findall(
        r"^Forecast again, when the file has more values: (.*)$", capsys.readouterr().out, re.MULTILINE
    )
    assert main(shlex.split(line.partition("glasscell ")[2])) == 0
    printed = [line.split(",") for line in capsys.readouterr().out.splitlines() if line.startswith("2010-")]
    expected = np.array([[float(cell) for cell in row[1:]] for row in table("forecast.csv")[1:]])
    np.testing.assert_allclose([[float(cell) for cell in row[1:]] for row in printed], expected, rtol=1e-4)


def test_without_test_and_calibration(y, capsys):
    assert run("--test-values", "0", "--calibration-values", "0") == 0
    assert "evaluation.csv" not in capsys.readouterr().out
    assert gc.load("runs/forecast").forecast(y).interval == "quantile"


@pytest.mark.parametrize("level", ["0.8", "0.95"])
def test_the_default_calibration_is_enough_for_the_level(y, level):
    short = Path("short.csv")
    short.write_text("sales\n" + "\n".join(f"{value}" for value in y[:40]) + "\n")
    arguments = ["forecast", "short.csv", "--column", "sales", "--horizon", "1", "--level", level, "--updates", "2"]
    assert main([*arguments, "--hidden-size", "4"]) == 0
    assert gc.load("runs/forecast").forecast(y, level=float(level)).interval == "conformal"


def test_the_picture(y):
    pytest.importorskip("matplotlib")
    assert run("--plot", "--time", "month") == 0
    assert Path("runs/forecast/forecast.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


@pytest.mark.parametrize(
    ("first", "end", "season", "expected"),
    [
        (72, 156, 12, [72, 84, 96, 108, 120, 132, 144]),
        (0, 90, 12, [0, 24, 48, 72]),
        (5, 25, 12, [5, 8, 11, 14, 17, 20, 23]),
        (3, 5, 1, [3, 4]),
        (10, 110, 1, [10, 25, 40, 55, 70, 85, 100]),
    ],
)
def test_labels_of_the_time_axis_have_equal_distances_of_whole_seasons(first, end, season, expected):
    assert list(forecast_report.labelled_steps(first, end, season)) == expected


def test_a_picture_that_cannot_be_drawn_costs_no_model(y, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(forecast, "figure", lambda *_: 1 / 0)
    assert run("--plot") == 1
    assert "forecast.png could not be written: division by zero; the model is kept in runs/forecast" in (
        capsys.readouterr().err
    )
    assert sorted(path.name for path in Path("runs/forecast").iterdir()) == FILES


def test_an_interrupt_keeps_the_model(y, monkeypatch, capsys):
    fit = forecast.fit

    def interrupted(model, data, updates, *, callbacks, **options):
        def press(state):
            if state.history.updates == 2:
                signal.raise_signal(signal.SIGINT)

        return fit(model, data, updates, callbacks=[press, *callbacks], **options)

    monkeypatch.setattr(forecast, "fit", interrupted)
    assert run() == 130
    assert "interrupted; the model of 2 updates is kept in runs/forecast" in capsys.readouterr().err
    assert sorted(path.name for path in Path("runs/forecast").iterdir()) == ["checkpoints", *FILES]


def test_an_earlier_run_is_kept(y, capsys):
    assert run("--out", "a") == 0
    before = Path("a/model.safetensors").read_bytes()
    assert run("--out", "a", "--seed", "1") == 2
    assert "a contains an earlier run" in capsys.readouterr().err
    assert Path("a/model.safetensors").read_bytes() == before
    assert run("--out", "a", "--seed", "1", "--overwrite") == 0
    assert Path("a/model.safetensors").read_bytes() != before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--column", "price"],
            "--column must name a column of s.csv (comma, a header), 'month', 'sales', 'day', got 'price'",
        ),
        (["--column", "month"], "s.csv, line 2, column 'month': must be a number, got '2000-01'"),
        (["--column", "sales", "--horizon", "0"], "--horizon must be at least 1, got 0"),
        (
            ["--column", "sales", "--horizon", "60"],
            "s.csv must have more values than the 60 of --test-values and 120 of --calibration-values, got 120; "
            "their defaults depend on --horizon 60",
        ),
        (["--column", "sales", "--test-values", "5"], "--test-values must be 0 or at least the horizon 6, got 5"),
        (
            ["--column", "sales", "--calibration-values", "8"],
            "--calibration-values must be 0 or at least 9 for a --level of 0.8, got 8",
        ),
        (["--column", "sales", "--season", "84"], "--season must be less than 84, the training part, got 84"),
        (["--column", "sales", "--level", "1"], "--level must be between 0 and 1, got 1.0"),
        (["--column", "sales", "--members", "0"], "--members must be at least 1, got 0"),
        (["--column", "sales", "--members", "1001"], "--members must be at most 1000, got 1001"),
        (["--column", "sales", "--window", "79"], "window must be at most 78, the steps of the training part"),
        (
            ["--column", "sales", "--differences", "80"],
            "series must have at least 88 values before the 0 of validation ",
        ),
        (["--column", "day", "--log"], "log needs values above 0, got 0"),
        (["--column", "sales", "--hidden-size", "9999999"], "this training needs at least "),
        (["--column", "sales", "--ar-order", "0"], "--ar-order must be at least 1, got 0"),
    ],
)
def test_mistakes(y, capsys, arguments, message):
    assert refused(capsys, *arguments).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "s.csv must have at least one line, got an empty file"),
        ("sales\n" + "5\n" * 90, "series must vary in the training part, got 5 at every step"),
        (
            "sales\n" + "5\n6\n" * 30 + "nan\n",
            "s.csv, line 62, column 'sales': must have a value in every row",
        ),
        (
            "sales\n5\n6\n",
            "s.csv must have more values than the 6 of --test-values and 12 of --calibration-values, got 2",
        ),
    ],
)
def test_files_that_cannot_be_used(y, capsys, text, message):
    Path("s.csv").write_text(text)
    assert refused(capsys, "--column", "sales").startswith(message)


@pytest.mark.parametrize(
    ("arguments", "differences"),
    [
        ([], ()),
        (["--season", "6"], (6,)),
        (["--season", "6", "--differences", "0"], ()),
        (["--season", "6", "--differences", "6,1"], (6, 1)),
    ],
)
def test_differences_are_those_of_the_season_by_default(y, arguments, differences):
    assert run(*arguments) == 0
    assert gc.load("runs/forecast").features.transformation.differences == differences


def test_options_that_cannot_be_parsed(y, capsys):
    for option, value in (("--differences", "12;1"), ("--lags", "a"), ("--fill", "drop")):
        with pytest.raises(SystemExit):
            run(option, value)
        assert "must be integers such as 12,1" in capsys.readouterr().err or option == "--fill"
    assert refused(capsys, "--column", "sales", file="none.csv") == "none.csv: No such file or directory"
