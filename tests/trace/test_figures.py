"""Law: the picture shows the numbers of the tape, every unit of every gate once, and shows nothing on a screen."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import glasscell
from glasscell import CopyLSTM
from glasscell.core.activations import sigmoid
from glasscell.tasks import Copy
from glasscell.trace.figures import plot_gates

pytest.importorskip("matplotlib")

ROWS = ["input", "i", "f", "o", "g", "c", "output"]
TASKS = [Copy(6), Copy(6, "echo"), Copy(6, bits_per_step=2), Copy(6, "echo", 3), Copy(1)]


def random_model(rng, task, hidden_size=7, layers=2):
    model = CopyLSTM(hidden_size, task=task, num_layers=layers, dtype=np.float64)
    model.parameters.vector[:] = rng.normal(size=model.parameters.vector.size)
    return model


def images(figure):
    """What each row of the picture shows, by name; silence is NaN."""
    shown = [axes.images[0].get_array().filled(np.nan) for axes in figure.axes if axes.images and axes.get_ylabel()]
    assert len(shown) == len(ROWS)
    return dict(zip(ROWS, shown, strict=True))


def writing(figure, row):
    """The texts in a row of the picture, as (feature, step) → text."""
    axes = [axes for axes in figure.axes if axes.images and axes.get_ylabel()][ROWS.index(row)]
    return {(round(text.get_position()[1]), round(text.get_position()[0])): text for text in axes.texts}


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_the_picture_shows_the_tape(task, rng):
    model, bits = random_model(rng, task), rng.integers(2, size=task.width)
    shown = images(plot_gates(model, bits))
    batch = task.present([bits[None]], np.float64)
    logits, _, tape = model.forward(batch.inputs)
    top = tape.lstm.layers[-1]
    order = [int(np.flatnonzero((unit == top.c[:, :, 0].T).all(axis=1))[0]) for unit in shown["c"]]
    assert sorted(order) == list(range(7))
    for name in "ifogc":
        np.testing.assert_array_equal(shown[name], getattr(top, name)[:, order, 0].T)
    largest = np.abs(shown["c"]).argmax(axis=1)
    assert (np.diff(largest) >= 0).all()
    np.testing.assert_array_equal(np.nan_to_num(shown["input"]), batch.inputs[0].T)
    asked = batch.weights[0, :, 0] > 0
    np.testing.assert_allclose(shown["output"][:, asked], sigmoid(logits[0, asked].T), rtol=1e-12)
    assert np.isnan(shown["output"][:, ~asked]).all()


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_bits_are_written_on_input_and_output(task, rng):
    model, k = random_model(rng, task), task.bits_per_step
    bits = rng.integers(2, size=task.width)
    figure, copied = plot_gates(model, bits), model.copy(bits)
    first = task.width // k + 1 if task.mode == "recall" else 0
    shown, answered = writing(figure, "input"), writing(figure, "output")
    for place, (bit, back) in enumerate(zip(bits, copied, strict=True)):
        step, feature = divmod(place, k)
        assert shown[feature, step].get_text() == str(bit)
        text = answered[feature, first + step]
        assert text.get_text() == str(back)
        assert (text.get_color() == "#d64545") == (bit != back)
    assert len(answered) == task.width
    delimiters = [place for place, text in shown.items() if text.get_text() == "|"]
    assert delimiters == ([(k, task.width // k)] if task.mode == "recall" else [])


def test_the_title_says_whether_every_bit_is_right(rng):
    model, titles = random_model(rng, Copy(4, "echo"), layers=1), set()
    for bits in np.ndindex(2, 2, 2, 2):
        title = plot_gates(model, bits).get_suptitle()
        assert "".join(map(str, bits)) in title
        assert ("not every bit right" in title) == (model.copy(bits).tolist() != list(bits))
        titles.add("not every" in title)
    assert True in titles


@pytest.mark.parametrize(("hidden_size", "layers", "bits"), [(1, 1, [1, 0]), (40, 3, [1] * 40), (3, 1, [0])], ids=str)
def test_any_size_can_be_saved(hidden_size, layers, bits, rng):
    picture = io.BytesIO()
    plot_gates(random_model(rng, Copy(4), hidden_size, layers), bits).savefig(picture, format="png", dpi=20)
    assert picture.getvalue().startswith(b"\x89PNG")


def test_a_model_that_is_not_trained_can_be_seen():
    model = CopyLSTM()
    assert images(plot_gates(model, [1, 0, 0, 1, 1, 0, 1, 0]))["f"].shape == (32, 17)


@pytest.mark.parametrize(
    ("bits", "error", "parts"),
    [
        ([0, 2], ValueError, ["0 and 1", "2"]),
        ("01", TypeError, ["0 and 1"]),
        ([[0, 1]], ValueError, ["(1, 2)", "(n,)"]),
        (1, ValueError, ["()", "(n,)"]),
        ([0, 1, 1], ValueError, ["(3,)", "bits_per_step = 2"]),
        ([], ValueError, ["(0,)", "n ≥ 1"]),
    ],
)
def test_wrong_bits_are_refused(bits, error, parts, rng):
    with pytest.raises(error) as caught:
        plot_gates(random_model(rng, Copy(4, bits_per_step=2)), bits)
    assert all(part in str(caught.value) for part in parts)


def test_nothing_is_shown_or_left_behind(tmp_path):
    """pyplot, which keeps figures and opens windows, is not even imported."""
    program = """
import sys
from glasscell import CopyLSTM
from glasscell.trace.figures import plot_gates
assert "matplotlib" not in sys.modules
plot_gates(CopyLSTM(4), [1, 0, 1]).savefig(sys.argv[1])
assert "matplotlib.figure" in sys.modules
assert "matplotlib.pyplot" not in sys.modules
"""
    environment = os.environ | {"PYTHONPATH": str(Path(glasscell.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "p.png")], check=True, env=environment)
    assert (tmp_path / "p.png").stat().st_size
