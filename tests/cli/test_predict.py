"""Property: `glasscell predict` prints the outputs of model.copy; the status is 1 if one is wrong, 2 for an error."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import glasscell
from glasscell import CopyLSTM
from glasscell.cli import main
from glasscell.tasks import Copy

SEQUENCES = ["".join(map(str, bits)) for bits in np.ndindex(2, 2, 2, 2)]


@pytest.fixture
def model(tmp_path, rng):
    """Save and return a model that copies about half of the sequences."""
    model = CopyLSTM(4, task=Copy(4, "echo", min_width=2))
    model.parameters.vector[:] = rng.normal(scale=0.1, size=model.parameters.vector.size)
    kernel = model.parameters["lstm.kernel_l0"]
    kernel[:, 4:] += 2 * np.sign(kernel[:, 4:])
    model.save(tmp_path / "model.safetensors")
    return model


def rows(out):
    """Return input, output, mark and note of each row."""
    found = [re.fullmatch(r"  ([01 ]+?) {3,}([01 ]+?) {3,}(\S+)(?: {3}(.+))?", line) for line in out.splitlines()]
    return [(row[1].replace(" ", ""), row[2].replace(" ", ""), row[3], row[4]) for row in found]


def refused(arguments, capsys):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert not out
    (line,) = err.splitlines()
    return line


def process(*arguments, stdout=subprocess.PIPE, **environment):
    root = str(Path(glasscell.__file__).parents[1])
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "glasscell", "predict", *map(str, arguments)],
        stdout=stdout,
        stderr=subprocess.PIPE,
        check=False,
        env=os.environ | {"PYTHONPATH": root, "PYTHONIOENCODING": "utf-8"} | environment,
    )


@pytest.mark.parametrize("file", ["", "model.safetensors"])
def test_it_shows_what_the_model_gives_back(file, model, tmp_path, capsys):
    status = main(["predict", str(tmp_path / file), *SEQUENCES])
    out, err = capsys.readouterr()
    assert not err
    shown = rows(out)
    assert [row[0] for row in shown] == SEQUENCES
    for given, back, mark, note in shown:
        assert back == "".join(map(str, model.copy([int(bit) for bit in given])))
        assert mark == ("✓" if back == given else "✗")
        assert note is None
    marks = {row[2] for row in shown}
    assert marks == {"✓", "✗"}
    assert status == 1
    right = [row[0] for row in shown if row[2] == "✓"]
    assert main(["predict", str(tmp_path / file), *right]) == 0


def test_marks_of_a_model_that_is_always_right(tmp_path, capsys):
    model = CopyLSTM(1, task=Copy(4, "echo"))
    model.parameters.vector[:] = 0
    model.parameters["lstm.kernel_l0"][[0, 2, 3], [3, 3, 1]] = 9  # input and output gate open, candidate the bit
    model.parameters["lstm.kernel_l0"][1, 3] = -9  # what was is forgotten
    model.parameters["readout.weight"][:] = 1
    model.save(tmp_path / "right.safetensors")
    model.parameters["readout.weight"][:] = -1
    model.save(tmp_path / "wrong.safetensors")
    for name, mark in (("right", "✓"), ("wrong", "✗")):
        assert main(["predict", str(tmp_path / f"{name}.safetensors"), *SEQUENCES]) == (name == "wrong")
        assert [row[2] for row in rows(capsys.readouterr().out)] == [mark] * 16


def test_lengths_that_training_never_saw_are_noted(model, tmp_path, capsys):
    main(["predict", str(tmp_path), "1", "10", "100", "1000", "10000"])
    notes = [row[3] for row in rows(capsys.readouterr().out)]
    assert notes[1:4] == [None] * 3
    assert "trained on 2 to 4 bits, not on 1" in notes[0]
    assert "trained on 2 to 4 bits, not on 5" in notes[4]


@pytest.mark.parametrize("bits", ["", "1012", "11 01", "one", "0.1", "¹"])
def test_what_is_no_sequence_is_refused(bits, model, tmp_path, capsys):
    line = refused(["predict", str(tmp_path), "1101", bits], capsys)
    assert repr(bits) in line
    assert "0 and 1" in line


def test_a_length_that_is_no_whole_number_of_steps_is_refused(tmp_path, capsys):
    CopyLSTM(4, task=Copy(4, bits_per_step=2)).save(tmp_path / "m.safetensors")
    line = refused(["predict", str(tmp_path / "m.safetensors"), "110"], capsys)
    assert all(part in line for part in ("'110'", "multiple of 2", "got 3"))


def test_a_missing_model_is_named(tmp_path, capsys):
    for path in (tmp_path, tmp_path / "nowhere"):
        line = refused(["predict", str(path), "1101"], capsys)
        assert "there is no model" in line
        assert str(path) in line


@pytest.mark.parametrize("size", [0, 7, 100, -1])
def test_a_truncated_model_is_named(size, model, tmp_path, capsys):
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    line = refused(["predict", str(tmp_path), "1101"], capsys)
    assert "not a complete safetensors file" in line
    assert str(file) in line


def test_a_file_of_another_kind_is_named(tmp_path, capsys):
    (tmp_path / "gates.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    assert "gates.png" in refused(["predict", str(tmp_path / "gates.png"), "1101"], capsys)


def test_sequences_are_needed(tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["predict", str(tmp_path)])
    assert caught.value.code == 2


@pytest.mark.parametrize("bits", ["1101", "12", ""])
def test_no_traceback(bits, model, tmp_path):
    done = process(tmp_path, bits)
    assert done.returncode in ((0, 1) if bits == "1101" else (2,))
    assert b"Traceback" not in done.stderr
    assert len(done.stdout.splitlines()) == (bits == "1101")


def test_an_ascii_terminal(model, tmp_path):
    done = process(tmp_path, *SEQUENCES, PYTHONIOENCODING="ascii")
    marks = {row[2] for row in rows(done.stdout.decode("ascii"))}
    assert marks <= {"yes", "NO"}
    assert done.returncode == ("NO" in marks)


def test_a_reader_that_has_gone_is_no_error(model, tmp_path):
    """The status is that of the sequences."""
    wrong = any(model.copy([int(bit) for bit in text]).tolist() != [int(bit) for bit in text] for text in SEQUENCES)
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = process(tmp_path, *SEQUENCES, stdout=writer)
    finally:
        os.close(writer)
    assert done.returncode == wrong
    assert not done.stderr


def test_try_is_an_alias(tmp_path, capsys):
    CopyLSTM(4, task=Copy(width=4)).save(tmp_path / "model.safetensors")
    results = [(main([command, str(tmp_path), "1101"]), capsys.readouterr().out) for command in ("predict", "try")]
    assert results[0] == results[1]
    assert results[0][1]
