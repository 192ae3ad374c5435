"""Property: `glasscell inspect` prints the content of the trace for every form of input; an error is one line."""

import re

import numpy as np
import pytest

import glasscell as gc
from glasscell.cli import main
from glasscell.cli.inputs import characters_to_ids, numbers_of, parse_inputs, parse_targets
from glasscell.layers import Embedding, FinalState
from glasscell.trace.diagnostics import half_life, saturation
from glasscell.trace.terminal import render

VOCABULARY = "abc $"


@pytest.fixture
def copy_model(tmp_path):
    model = gc.CopyLSTM(6, task=gc.tasks.Copy(4))
    model.save(tmp_path / "copy.safetensors")
    return model, str(tmp_path / "copy.safetensors")


def saved(model, path):
    gc.convert.save(model, path)
    return str(path)


@pytest.fixture
def lstm(tmp_path):
    model = gc.LSTM(2, 3, num_layers=2, seed=1)
    return model, saved(model, tmp_path / "lstm.safetensors")


@pytest.fixture
def text_model(tmp_path):
    model = gc.Sequential([Embedding(5, 3, seed=1), gc.LSTM(3, 4, seed=2), gc.layers.Linear(4, 5, seed=3)])
    return model, saved(model, tmp_path / "text.safetensors")


def shown(capsys, *arguments):
    assert main(["inspect", *arguments]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def refused(capsys, *arguments):
    assert main(["inspect", *arguments]) == 2
    out, err = capsys.readouterr()
    assert not out
    [line] = err.splitlines()
    return line


# What is shown


def test_bits_and_what_came_back(copy_model, capsys):
    model, path = copy_model
    for bits in ([1, 0, 1, 1], [0, 0, 0, 1, 1, 0]):
        out = shown(capsys, path, "--input", "".join(map(str, bits)))
        back = model.copy(bits).tolist()
        assert f"input   {' '.join(map(str, bits))}\n" in out
        assert f"output  {' '.join(map(str, back))}   {'✓' if back == bits else '✗'}\n" in out
        assert render(model.trace(bits)) in out


def test_symbols_layer_and_unit_are_chosen(lstm, capsys):
    model, path = lstm
    out = shown(capsys, path, "--input", "1,2;3,4;-1,0", "--symbols", "c, z_f", "--layer", "0", "--unit", "2")
    trace = model.trace([[1.0, 2.0], [3.0, 4.0], [-1.0, 0.0]])
    assert render(trace, symbols=["c", "z_f"], layer=0, units=[2]) in out
    assert "layer l0:" in out


def test_colour_where_it_is_asked_for(copy_model, capsys):
    assert "\x1b[" not in shown(capsys, copy_model[1], "--input", "10")
    assert "\x1b[" in shown(capsys, copy_model[1], "--input", "10", "--color", "always")
    assert "\x1b[" not in shown(capsys, copy_model[1], "--input", "10", "--color", "always", "--ascii")


def test_the_equations_of_a_step_and_unit(copy_model, capsys):
    model, path = copy_model
    trace = model.trace([1, 0])
    assert "z_i = " not in shown(capsys, path, "--input", "10")
    out = shown(capsys, path, "--input", "10", "--step", "-1", "--unit", "4")
    assert str(trace.equations(-1, 4)) in out
    longest = int(np.argmax(half_life(trace.layer[0].f)))
    assert str(trace.equations(3, longest)) in shown(capsys, path, "--input", "10", "--step", "3")
    assert str(trace.equations(0, longest)) in shown(capsys, path, "--input", "10", "--equations")


def test_units_that_remember_and_gates_that_saturate(lstm, capsys):
    model, path = lstm
    model.parameters["kernel_l1"][3, -1], model.parameters["kernel_l1"][5, -1] = 9, -9  # f of units 0 and 2
    gc.convert.save(model, path)
    out = shown(capsys, path, "--input", "1,2;3,4")
    f = model.trace([[1.0, 2.0], [3.0, 4.0]]).layer[1].f
    remembering, saturated = re.findall(r"^  f   (.*)", out, re.MULTILINE)
    units = [int(unit) for unit in re.findall(r"(\d+) \(", remembering)]
    assert units == list(np.argsort(-half_life(f)))
    assert saturation(f).left[2] == saturation(f).right[0] == 1
    assert {"0 (0%, 100%)", "2 (100%, 0%)"} <= set(saturated.split("   "))


def test_text_and_its_target(text_model, capsys):
    model, path = text_model
    out = shown(capsys, path, "--input", "ab $c", "--target", "b $ca", "--vocabulary", VOCABULARY, "--symbols", "d_c")
    names = {"step_names": list("ab $c"), "output_names": list(VOCABULARY)}
    trace = model.trace([0, 1, 3, 4, 2], [1, 3, 4, 2, 0], loss="categorical_cross_entropy", **names)
    assert render(trace, symbols=["d_c"]) in out
    assert render(model.trace([3, 1, 4])) in shown(capsys, path, "--input", "3, 1, 4")


def test_an_answer_to_the_whole_sequence_has_a_target(tmp_path, capsys):
    model = gc.Sequential([gc.LSTM(1, 4), FinalState(), gc.layers.Linear(4, 3)])
    path = saved(model, tmp_path / "last.safetensors")
    x = [[1.0], [0.0]]
    assert render(model.trace(x, [1.0, 2.0, 3.0])) in shown(capsys, path, "--input", "1;0", "--target", "1,2,3")
    of_classes = render(model.trace(x, 2, loss="categorical_cross_entropy"))
    given = ["--target", "2", "--loss", "categorical_cross_entropy"]
    assert of_classes in shown(capsys, path, "--input", "1;0", *given)


def test_a_picture_is_written(copy_model, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    for kind, start in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")):
        out = shown(capsys, copy_model[1], "--input", "10", "--png", str(tmp_path / f"x.{kind}"))
        assert (tmp_path / f"x.{kind}").read_bytes().startswith(start)
        assert f"Written: {tmp_path / f'x.{kind}'}" in out


def test_a_page_is_written(copy_model, tmp_path, capsys):
    model, path = copy_model
    shown(capsys, path, "--input", "10", "--html", str(tmp_path / "x.html"))
    model.trace([1, 0]).report(tmp_path / "y.html")
    assert (tmp_path / "x.html").read_text("utf-8") == (tmp_path / "y.html").read_text("utf-8")


# How inputs are written


def test_numbers_of_files_and_of_the_line_are_the_same(tmp_path, rng):
    numbers = rng.normal(size=(4, 3))
    np.save(tmp_path / "x.npy", numbers)
    np.savetxt(tmp_path / "x.csv", numbers, delimiter=",")
    (tmp_path / "names.csv").write_text("p,q,r\n" + (tmp_path / "x.csv").read_text())
    line = "; ".join(",".join(map(repr, map(float, row))) for row in numbers)
    for text in (
        *(str(tmp_path / name) for name in ("x.npy", "x.csv", "names.csv")),
        line,
        line.replace(",", " "),
        f" {line};",
    ):
        np.testing.assert_array_equal(numbers_of("--input", text), numbers)


def test_one_number_a_step(tmp_path, lstm):
    np.save(tmp_path / "x.npy", np.arange(3))
    assert parse_inputs(lstm[0], str(tmp_path / "x.npy"), None).x.tolist() == [[0], [1], [2]]
    assert parse_inputs(lstm[0], "0;1;2", None).x.tolist() == [[0], [1], [2]]


def test_characters_are_numbers_or_features(text_model):
    text = "cab $"
    numbers = characters_to_ids("--input", text, VOCABULARY)
    assert [VOCABULARY[k] for k in numbers] == list(text)
    assert parse_inputs(text_model[0], text, VOCABULARY).x.tolist() == numbers.tolist()
    of_features = parse_inputs(gc.LSTM(5, 2), text, VOCABULARY)
    assert (of_features.x.argmax(axis=1) == numbers).all()
    assert of_features.x.sum() == len(text)
    assert of_features.metadata == {"step_names": list(text), "input_names": list(VOCABULARY)}
    assert parse_targets(text, "categorical_cross_entropy", VOCABULARY, (5, 5)).tolist() == numbers.tolist()


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--input", "1012"], ["'1012'", "0 and 1"]),
        (["--input", ""], ["0 and 1"]),
        (["--input", "10", "--layer", "1"], ["--layer must be from", "got 1"]),
        (["--input", "10", "--unit", "6"], ["--unit must be from", "got 6"]),
        (["--input", "10", "--step", "9"], ["--step must be from", "got 9"]),
        (["--input", "10", "--symbols", "f,q"], ["'q'", "symbol must be one of"]),
        (["--input", "10", "--symbols", ","], ["symbols must have at least one entry"]),
        (["--input", "10", "--target", "11"], ["--target"]),
        (["--input", "10", "--vocabulary", "01"], ["--vocabulary"]),
        (["--input", "10", "--png", "x.jpg"], ["x.jpg", ".png"]),
        (["--input", "10", "--html", "x.txt"], ["x.txt", ".html"]),
        (["--input", "10", "--html", "nowhere/x.html"], ["no folder nowhere"]),
    ],
)
def test_mistakes_with_bits(arguments, parts, copy_model, capsys):
    line = refused(capsys, copy_model[1], *arguments)
    assert all(part in line for part in parts)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--input", "1,2;3"], ["must have 2 numbers in step 1", "got 1"]),
        (["--input", "1,2,3"], ["--input", "I = 2"]),
        (["--input", "1,x"], ["'x'", "must be numbers"]),
        (["--input", "nan,1"], ["finite", "nan"]),
        (["--input", " ; "], ["at least one step"]),
        (["--input", "missing.csv"], ["missing.csv does not exist"]),
        (["--input", "1,2", "--target", "1,2"], ["y must have shape", "(1, 2)", "(1, 3)"]),
        (["--input", "1,2", "--loss", "squared_error"], ["--loss", "--target"]),
        (["--input", "1,2", "--target", "1.5", "--loss", "categorical_cross_entropy"], ["class numbers", "1.5"]),
        (["--input", "ab", "--vocabulary", "abc"], ["must have 2 characters", "got 3"]),
        (["--input", "1,2", "--symbols", "d_c"], ["d_c", "target"]),
    ],
)
def test_mistakes_with_numbers(arguments, parts, lstm, capsys):
    line = refused(capsys, lstm[1], *arguments)
    assert all(part in line for part in parts)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--input", "abx", "--vocabulary", VOCABULARY], ["'x'", "position 2"]),
        (["--input", "ab", "--target", "b\n", "--vocabulary", VOCABULARY], ["--target", r"'\n'", "position 1"]),
        (["--input", "ab", "--vocabulary", "aba"], ["each character once, got 'a'", "0, 2"]),
        (["--input", "ab", "--vocabulary", ""], ["at least one character"]),
        (["--input", "", "--vocabulary", VOCABULARY], ["at least one step"]),
        (["--input", "1,2.5"], ["class numbers", "2.5"]),
        (["--input", "1,5"], ["from 0 to 4", "1 to 5"]),
    ],
)
def test_mistakes_with_text(arguments, parts, text_model, capsys):
    line = refused(capsys, text_model[1], *arguments)
    assert all(part in line for part in parts)


@pytest.mark.parametrize("content", [b"", b"a,b\n", b"1,b\n1,2\n", b"a,b\n1,2\nc,d\n", b"1,2\n3\n", b"\x93NUMPY"])
@pytest.mark.parametrize("kind", ["csv", "npy"])
def test_a_file_without_numbers_is_named(content, kind, lstm, tmp_path, capsys):
    file = tmp_path / f"x.{kind}"
    file.write_bytes(content)
    line = refused(capsys, lstm[1], "--input", str(file))
    assert str(file) in line
    assert "must be a table of numbers" in line


def test_pickles_are_never_read(lstm, tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.array([{}], object), allow_pickle=True)
    assert "must be a table of numbers" in refused(capsys, lstm[1], "--input", str(tmp_path / "x.npy"))


def test_a_missing_model_is_named(tmp_path, capsys):
    for path in (tmp_path, tmp_path / "nowhere"):
        line = refused(capsys, str(path), "--input", "10")
        assert f"there is no model at {path}" in line
