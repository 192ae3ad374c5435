"""Property: `glasscell predict MODEL FILE` writes what the model returns for the sequences of the file."""

import csv
import io

import numpy as np
import pytest

import glasscell as gc
from glasscell.cli import main
from glasscell.layers import FinalState

LABELS = ["down", "up"]


@pytest.fixture
def folder(tmp_path, rng, monkeypatch):
    """A folder with files of six sequences of 5 steps and 2 features, and one label each."""
    monkeypatch.chdir(tmp_path)
    x = rng.normal(size=(6, 5, 2))
    labels = [LABELS[k] for k in (0, 1, 1, 0, 1, 0)]
    wide = ["class," + ",".join(f"{name}{step}" for step in range(5) for name in "pq")]
    wide += [",".join([label, *map(repr, row.ravel().tolist())]) for row, label in zip(x, labels, strict=True)]
    (tmp_path / "wide.csv").write_text("\n".join(wide) + "\n")
    steps = [f"run {n},{t},{p!r},{q!r},{labels[n]}" for n in range(6) for t, (p, q) in enumerate(x[n].tolist())]
    (tmp_path / "long.csv").write_text("\n".join(["run,time,p,q,class", *steps]) + "\n")
    np.savez("arrays.npz", x=x, y=np.array(labels))
    series = ["1 2 3 : 4 5 6 : a", "7 8 : 1 0 : b"]
    (tmp_path / "data.ts").write_text(
        "@problemName t\n@univariate false\n@dimensions 2\n@equalLength false\n@classLabel true a b\n@data\n"
        + "\n".join(line.replace(" : ", ":").replace(" ", ",") for line in series)
        + "\n"
    )
    return x, labels


def random_weights(model, rng):
    model.parameters.vector[:] = rng.normal(scale=0.5, size=model.parameters.vector.size)
    return model


def classifier(rng, **options):
    model = random_weights(gc.SequenceClassifier(2, LABELS, 4, **options), rng)
    model.save("model.safetensors")
    return model


def table(text):
    header, *rows = csv.reader(io.StringIO(text))
    return header, rows


def predict(capsys, *arguments):
    assert main(["predict", *arguments]) == 0
    out, err = capsys.readouterr()
    return *table(out), err


def refused(capsys, *arguments):
    assert main(["predict", *arguments]) == 2
    out, err = capsys.readouterr()
    assert not out
    (line,) = err.splitlines()
    return line.removeprefix("glasscell: ")


FORMS = {
    "wide.csv": ["--label", "class"],
    "long.csv": ["--label", "class", "--id", "run", "--time", "time"],
    "arrays.npz": ["--label", "y"],
}


@pytest.mark.parametrize("file", FORMS)
def test_labels_and_probabilities_of_a_classifier(file, folder, rng, capsys):
    x, labels = folder
    model = classifier(rng)
    logits = model.predict(x)
    model.readout.parameters["bias"][0] += np.median(logits[:, 1] - logits[:, 0])  # both labels are predicted
    model.save("model.safetensors")
    assert set(model.classify(x)) == set(LABELS)
    header, rows, err = predict(capsys, "model.safetensors", file, *FORMS[file])
    assert header == ["sequence", "label", "prediction", "probability of down", "probability of up"]
    assert [row[1] for row in rows] == labels
    assert [row[2] for row in rows] == model.classify(x)
    written = np.array([row[3:] for row in rows], model.dtype)
    assert np.array_equal(written, model.predict_proba(list(x.astype(model.dtype))))
    correct = sum(a == b for a, b in zip(labels, model.classify(x), strict=True))
    assert f"Accuracy: {correct} of 6" in err
    assert f"{file}" in err


def test_a_file_without_labels(folder, rng, capsys):
    model = classifier(rng)
    header, rows, err = predict(capsys, "model.safetensors", "wide.csv", "--ignore-column", "class")
    assert header[:2] == ["sequence", "prediction"]
    assert [row[:2] for row in rows] == [[f"line {k + 2}", label] for k, label in enumerate(model.classify(folder[0]))]
    assert "Accuracy" not in err


def test_a_table_is_written_to_a_file(folder, rng, capsys, tmp_path):
    classifier(rng)
    arguments = ["model.safetensors", "wide.csv", "--label", "class"]
    assert main(["predict", *arguments]) == 0
    expected = capsys.readouterr().out
    assert main(["predict", *arguments, "--out", "y.csv"]) == 0
    out, err = capsys.readouterr()
    assert (tmp_path / "y.csv").read_text() == expected
    assert not err
    assert "Written to y.csv: 6 rows" in out
    assert "Accuracy" in out
    assert "y.csv" in refused(capsys, *arguments, "--out", "y.csv")
    assert "--out must end in .csv" in refused(capsys, *arguments, "--out", "y.txt")
    assert main(["predict", *arguments, "--out", "y.csv", "--overwrite"]) == 0


def test_a_ts_file_declares_its_labels(folder, rng, capsys):
    model = random_weights(gc.SequenceClassifier(2, ["a", "b"], 4), rng)
    model.save("model.safetensors")
    header, rows, _ = predict(capsys, "model.safetensors", "data.ts")
    x = [np.array([[1, 4], [2, 5], [3, 6]]), np.array([[7, 1], [8, 0]])]
    assert header[1] == "label"
    assert [row[1:3] for row in rows] == [[label, got] for label, got in zip("ab", model.classify(x), strict=True)]


def test_a_label_per_step(folder, rng, capsys):
    x, labels = folder
    model = classifier(rng, per_step=True)
    arguments = ["--id", "run", "--time", "time", "--label", "class"]
    header, rows, err = predict(capsys, "model.safetensors", "long.csv", *arguments)
    assert header[:4] == ["sequence", "step", "label", "prediction"]
    assert [row[:3] for row in rows] == [[f"run {n}", str(t), labels[n]] for n in range(6) for t in range(5)]
    assert [row[3] for row in rows] == [label for entry in model.classify(x) for label in entry]
    assert "of 30" in err
    _, single, _ = predict(
        *(capsys, "model.safetensors", "long.csv", "--rows", "steps", "--column", "p", "--column", "q")
    )
    assert [row[:2] for row in single] == [["the file", str(step)] for step in range(30)]
    assert [row[2] for row in single] == model.classify(x.reshape(30, 2))


@pytest.mark.parametrize("outputs", [1, 2])
def test_estimates_of_a_regressor(outputs, folder, rng, capsys):
    x, _ = folder
    model = random_weights(gc.SequenceRegressor(2, outputs, 4), rng)
    model.save("model.safetensors")
    header, rows, _ = predict(capsys, "model.safetensors", "wide.csv", "--ignore-column", "class")
    assert header == ["sequence", *(["prediction"] if outputs == 1 else ["prediction 1", "prediction 2"])]
    written = np.array([row[1:] for row in rows], model.dtype)
    assert np.array_equal(written, model.predict(list(x.astype(model.dtype))))


def test_the_errors_of_a_regressor(folder, rng, capsys):
    x, _ = folder
    model = random_weights(gc.SequenceRegressor(2, 1, 4), rng)
    model.save("model.safetensors")
    target = x.sum(axis=(1, 2))
    np.savez("targets.npz", x=x, y=target)
    header, rows, err = predict(capsys, "model.safetensors", "targets.npz", "--label", "y")
    assert header == ["sequence", "target", "prediction"]
    assert np.array_equal([float(row[1]) for row in rows], target)
    error = model.predict(list(x))[:, 0] - target
    assert f"Mean absolute error: {np.abs(error).mean():.4g}"[:-1] in err
    assert f"root mean squared error: {np.sqrt(np.square(error).mean()):.4g}"[:-1] in err


@pytest.mark.parametrize("kind", ["lstm", "sequential", "onnx", "torch"])
def test_outputs_of_any_model(kind, folder, rng, capsys):
    x, _ = folder
    lstm = random_weights(gc.LSTM(2, 3), rng)
    model, path = lstm, "model.safetensors"
    if kind == "torch":
        path = "model.pt"
    elif kind != "lstm":
        model = gc.Sequential([lstm, FinalState(), gc.Linear(3, 2)])
        path = "model.onnx" if kind == "onnx" else path
    if kind == "onnx":
        pytest.importorskip("onnx")
    gc.convert.save(model, path)
    arguments = ["--id", "run", "--column", "p", "--column", "q"]
    header, rows, _ = predict(capsys, path, "long.csv", *arguments)
    outputs = model(x.astype(np.float32))
    if outputs.ndim == 3:
        assert header == ["sequence", "step", "output 1", "output 2", "output 3"]
        assert [row[1] for row in rows] == [str(step) for _ in range(6) for step in range(5)]
        outputs = outputs.reshape(30, 3)
    else:
        assert header == ["sequence", "output 1", "output 2"]
    assert np.allclose(np.array([row[-outputs.shape[1] :] for row in rows], np.float64), outputs, rtol=1e-5, atol=1e-6)


def test_class_numbers_for_an_embedding(tmp_path, rng, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = gc.Sequential([gc.Embedding(4, 3), gc.LSTM(3, 3), FinalState(), gc.Linear(3, 1)])
    random_weights(model, rng).save("model.safetensors")
    (tmp_path / "ids.csv").write_text("1,2,3\n0,1,2\n")
    header, rows, _ = predict(capsys, "model.safetensors", "ids.csv")
    assert header == ["sequence", "output"]
    written = np.array([row[1] for row in rows], np.float32)
    assert np.array_equal(written, model.predict(np.array([[1, 2, 3], [0, 1, 2]]))[:, 0])
    (tmp_path / "ids.csv").write_text("1,2,3\n0,1.5,2\n")
    assert refused(capsys, "model.safetensors", "ids.csv") == (
        "ids.csv, line 2: must have class numbers, integers from 0, got 1.5"
    )


def test_a_forecast(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    values = 10 + np.sin(np.arange(60.0))
    model = gc.Forecaster(horizon=3, hidden_size=4)
    model.training_data(values, held_out=12)
    model.calibrate(values, steps=12)
    model.save("model.safetensors")
    months = [f"{1990 + k // 12}-{k % 12 + 1:02d}" for k in range(63)]
    lines = [f"{month},{value!r}" for month, value in zip(months[:60], values.tolist(), strict=True)]
    (tmp_path / "series.csv").write_text("\n".join(["month,v", *lines]) + "\n")
    forecast = gc.load("model.safetensors").forecast(values)
    header, rows, err = predict(capsys, "model.safetensors", "series.csv", "--column", "v", "--time", "month")
    assert header == ["month", "v", "v_lower", "v_upper"]
    assert [row[0] for row in rows] == months[60:]
    expected = np.stack([forecast.values, forecast.lower, forecast.upper], axis=1)
    assert np.array_equal([[float(cell) for cell in row[1:]] for row in rows], expected)
    assert "conformal" in err
    _, longer, _ = predict(capsys, "model.safetensors", "series.csv", "--column", "v", "--horizon", "5")
    assert [row[0] for row in longer] == [str(step) for step in range(60, 65)]
    line = refused(capsys, "model.safetensors", "series.csv")
    assert line == "--column must name 1 column of series.csv, as many as the model has, got 0"
    line = refused(capsys, "model.safetensors", "series.csv", "--column", "v", "--id", "month")
    assert line == "--id is for models of sequences, got a Forecaster"


def test_a_language_model_is_referred_to_its_commands(tmp_path, capsys):
    gc.LanguageModel(gc.data.Vocabulary("ab"), hidden_size=2).save(tmp_path / "model.safetensors")
    line = refused(capsys, str(tmp_path / "model.safetensors"), "text.txt")
    assert "use `glasscell text sample` or `glasscell text score`" in line


def test_the_copied_bits_can_be_written_to_a_file(tmp_path, capsys):
    model = gc.CopyLSTM(4, task=gc.tasks.Copy(4, "echo"))
    model.save(tmp_path / "model.safetensors")
    main(["predict", str(tmp_path), "1101", "0010", "--out", str(tmp_path / "y.csv")])
    header, rows = table((tmp_path / "y.csv").read_text())
    assert header == ["input", "output"]
    assert rows == [[bits, "".join(map(str, model.copy([int(bit) for bit in bits])))] for bits in ("1101", "0010")]


WRONG = {
    "nowhere.csv": "there is no file nowhere.csv",
    "wide.csv": "wide.csv (comma, a header): must have a multiple of the model's 2 features in a row, got 11 columns, "
    "'class', 'p0', 'q0', 'p1', 'q1', 'p2', …: --label, --ignore-column and --column select columns",
    "wide.csv --label kind": "--label must name a column of wide.csv (comma, a header), "
    "'class', 'p0', 'q0', 'p1', 'q1', 'p2', 'q2', 'p3', …, got 'kind'",
    "wide.csv --label class --known p": "--known is for forecasters, got a SequenceClassifier",
    "wide.csv long.csv": "input must be one file for a SequenceClassifier, got 2 arguments",
    "long.csv --id run": "long.csv, line 2, column 'class': must be a number, got 'down'",
    "long.csv --id run --ignore-column class": "long.csv (comma, a header): one row per step, sequences by 'run', "
    "features 'time', 'p', 'q': must have 2 features, as the model, got 3 ('time', 'p', 'q')",
    "long.csv --column p --column q": "long.csv (comma, a header): one row per sequence, 2 features per step, features "
    "'p', 'q': each row is one step. Pass --rows steps if the file is one sequence, --id COLUMN if it has several, or "
    "--rows sequences if each row is a sequence of one step",
    "arrays.npz --id run": "--id is for tables such as .csv, got arrays.npz",
    "data.ts --label x": "--label must be left out for a .ts file, which declares its labels, got 'x'",
    "data.ts": "data.ts, line 7: the label must be one of the classes of the model, down, up, got 'a'",
    "wide.csv --rows steps --features-per-step 2": "--features-per-step must be left out if each row is a step, got 2",
    "wide.csv --rows sequences --id class": "--rows must be steps with --id, got sequences",
    "wide.csv --time class": "--time must be left out if each row is a sequence, got 'class'",
    "arrays.npz --label z": "--label must name an array of arrays.npz, x, y, got 'z'",
    "long.csv --id class": "long.csv, line 2, column 'run': must be a number, got 'run 0'",
    "long.csv --id kind": "--id must name a column of long.csv (comma, a header), 'run', 'time', 'p', 'q', 'class', "
    "got 'kind'",
    "long.csv --id run --label run": "--label, --id, --time, --column and --ignore-column must name different columns, "
    "got 'run' twice",
    "wide.csv --label class --delimiter x": "--delimiter must be one of ',', ';', '\\t', '|', ' ', got 'x'",
    "long.csv --rows steps --time time --column p --column q": "long.csv, line 7, column 'time': must increase "
    "within a sequence, got 0, which is not after the row before",
    "long.csv --rows steps --time p --column p": "--label, --id, --time, --column and --ignore-column must name "
    "different columns, got 'p' twice",
    "long.csv --rows steps --label class": "--id must name the sequences for one label per sequence, got none",
}


@pytest.mark.parametrize("arguments", WRONG)
def test_wrong_files_and_options(arguments, folder, rng, capsys):
    classifier(rng)
    assert refused(capsys, "model.safetensors", *arguments.split()) == WRONG[arguments]


def test_an_unknown_label_is_named_with_its_line_and_column(folder, rng, capsys, tmp_path):
    classifier(rng)
    for file, arguments, line in (("wide.csv", [], 4), ("long.csv", ["--id", "run", "--time", "time"], 12)):
        text = (tmp_path / file).read_text().splitlines(keepends=True)
        text[line - 1 :] = [row.replace("up", "north") for row in text[line - 1 :]]
        (tmp_path / file).write_text("".join(text))
        assert refused(capsys, "model.safetensors", file, "--label", "class", *arguments) == (
            f"{file}, line {line}, column 'class': must be one of the classes of the model, down, up, got 'north'"
        )


def test_a_missing_value_is_named_or_filled(folder, rng, capsys, tmp_path):
    classifier(rng)
    lines = (tmp_path / "long.csv").read_text().splitlines()
    lines[3] = "run 0,2,,1.0,down"
    (tmp_path / "long.csv").write_text("\n".join(lines))
    arguments = ["model.safetensors", "long.csv", "--rows", "steps", "--column", "p", "--column", "q"]
    problem = "must be a number, got a missing value: --fill linear or --fill previous replaces missing values"
    assert refused(capsys, *arguments) == f"long.csv, line 4, column 'p': {problem}"
    predict(capsys, *arguments, "--fill", "linear")
    line = refused(capsys, "model.safetensors", "long.csv", "--id", "run", "--time", "time", "--label", "class")
    assert line == (
        "long.csv, line 4, column 'p': must be a number, got a missing value: "
        "--fill linear or --fill previous replaces missing values"
    )


def test_labels_of_another_shape_are_refused(folder, rng, capsys):
    classifier(rng, per_step=True)
    line = refused(capsys, "model.safetensors", "arrays.npz", "--label", "y")
    assert line.endswith("must have one label per step, as the model, got one per sequence")
    gc.LSTM(2, 3).save("model.safetensors")
    line = refused(capsys, "model.safetensors", "wide.csv", "--label", "class")
    assert line == (
        "--label must be left out for a LSTM, whose outputs have no labels, got 'class': "
        "--ignore-column leaves a column out"
    )


def test_files_are_read_as_in_the_run_of_classify(folder, capsys, tmp_path):
    arguments = ["--label", "class", "--id", "run", "--time", "time", "--updates", "2", "--hidden-size", "2"]
    assert main(["classify", "long.csv", *arguments, "--test", "long.csv", "--out", "run"]) == 0
    capsys.readouterr()
    _, expected, _ = predict(capsys, "run", "long.csv", *arguments[:6])
    _, rows, err = predict(capsys, "run", "long.csv")
    assert rows == expected
    assert "--id, --time, --label as in run/settings.json" in err
    text = (tmp_path / "long.csv").read_text()
    (tmp_path / "other.csv").write_text(text.replace("time,p,q,class", "time,q,p,class"))
    assert refused(capsys, "run", "other.csv").endswith("feature 1 must be 'p', as in training, got 'q'")
    without_labels = "\n".join(line.rpartition(",")[0] for line in text.splitlines())
    (tmp_path / "other.csv").write_text(without_labels)
    header, rows, _ = predict(capsys, "run", "other.csv")
    assert header[:2] == ["sequence", "prediction"]
    assert [row[1:] for row in rows] == [row[2:] for row in expected]
    changed = '{"command": "classify", "features": [], "options": {"ragged": {"a": 1}}}'  # no option has such a value
    numbers = changed.replace("[]", "[1]").replace('{"a": 1}', "null")
    for settings in ("[]", changed, changed.replace('{"a": 1}', f'"{"x" * 5000}"'), numbers):
        (tmp_path / "run" / "settings.json").write_text(settings)
        assert refused(capsys, "run", "other.csv") == (
            "run/settings.json must be the settings of `glasscell classify`: move the model to use it without them"
        )


@pytest.mark.parametrize("kind", ["classifier", "regressor", "layers"])
def test_a_value_that_is_infinite_in_the_model_is_refused(kind, folder, rng, capsys, tmp_path):
    models = {
        "classifier": lambda dtype: gc.SequenceClassifier(2, LABELS, 4, dtype=dtype),
        "regressor": lambda dtype: gc.SequenceRegressor(2, 1, 4, dtype=dtype),
        "layers": lambda dtype: gc.Sequential([gc.LSTM(2, 3, dtype=dtype), gc.Linear(3, 1, dtype=dtype)]),
    }
    (tmp_path / "large.csv").write_text("p,q\n1,2\n3,1e39\n")
    models[kind](np.float32).save("model.safetensors")
    assert "features must be finite in float32, got 1e+39 in line 3: change its unit" in refused(
        capsys, "model.safetensors", "large.csv", "--rows", "sequences"
    )
    models[kind](np.float64).save("double.safetensors")
    predict(capsys, "double.safetensors", "large.csv", "--rows", "sequences")
