"""Law: figures have the values of the trace, every unit of every gate once, and open no window."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import glasscell
from glasscell import LSTM, CopyLSTM, Embedding, Linear, Sequential
from glasscell.core.activations import sigmoid
from glasscell.layers import FinalState
from glasscell.tasks import Copy
from glasscell.trace import diagnostics, figures
from glasscell.trace.colormaps import STOPS
from glasscell.trace.display import ColorScale, step_marks, units_by_peak
from glasscell.trace.figures import plot_gates
from glasscell.trace.figures.style import colors_of

matplotlib = pytest.importorskip("matplotlib")

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


@pytest.fixture(scope="module", params=TASKS, ids=str)
def drawn(request):
    """A model of random weights, bits, and their picture: drawn once, for tests that only read it."""
    task, seed = request.param, [request.config.getoption("--seed"), request.param_index]
    print(f"numpy.random.default_rng({seed})")
    rng = np.random.default_rng(seed)
    model, bits = random_model(rng, task), rng.integers(2, size=task.width)
    return model, bits, plot_gates(model, bits)


def test_the_picture_shows_the_tape(drawn):
    model, bits, figure = drawn
    task, shown = model.task, images(figure)
    batch = task.make_batch([bits[None]], np.float64)
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


def test_bits_are_written_on_input_and_output(drawn):
    model, bits, figure = drawn
    task, k, copied = model.task, model.task.bits_per_step, model.copy(bits)
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


def test_the_title_states_whether_all_bits_are_correct(rng):
    model, titles = random_model(rng, Copy(4, "echo"), layers=1), set()
    for bits in np.ndindex(2, 2, 2, 2):
        title = plot_gates(model, bits).get_suptitle()
        assert "".join(map(str, bits)) in title
        assert ("not all bits correct" in title) == (model.copy(bits).tolist() != list(bits))
        titles.add("not all" in title)
    assert True in titles


@pytest.mark.parametrize(("hidden_size", "layers", "bits"), [(1, 1, [1, 0]), (40, 3, [1] * 40), (3, 1, [0])], ids=str)
def test_any_size_can_be_saved(hidden_size, layers, bits, rng):
    picture = io.BytesIO()
    plot_gates(random_model(rng, Copy(4), hidden_size, layers), bits).savefig(picture, format="png", dpi=20)
    assert picture.getvalue().startswith(b"\x89PNG")


def test_an_untrained_model_can_be_plotted():
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
def test_invalid_bits_raise_an_error(bits, error, parts, rng):
    with pytest.raises(error) as caught:
        plot_gates(random_model(rng, Copy(4, bits_per_step=2)), bits)
    assert all(part in str(caught.value) for part in parts)


# One thing on an ax


OF_A_TRACE = {
    "heat_map": lambda trace, **options: figures.heat_map(trace, "f", **options),
    "cell_traces": figures.cell_traces,
    "gradient_flow": figures.gradient_flow,
    "saturation": figures.saturation,
    "vanishing": figures.gradient_decay,
    "half_lives": figures.half_lives,
}


def traced(rng, **options):
    """A trace with gradients, in float64."""
    model = LSTM(**{"input_size": 2, "hidden_size": 5, "seed": 1, "dtype": np.float64} | options)
    model.parameters.vector[:] = rng.normal(scale=1.5, size=model.parameters.vector.size)
    return model.trace(rng.normal(size=(8, 2)), rng.normal(size=(8, model.output_size)))


def lines(ax):
    """Curves by the names in the legend."""
    return {line.get_label(): line.get_ydata() for line in ax.lines if not line.get_label().startswith("_")}


@pytest.mark.parametrize("name", OF_A_TRACE)
def test_an_ax_is_drawn_on_and_returned(name, rng):
    from matplotlib.figure import Figure  # noqa: PLC0415 - after importorskip

    trace, draw = traced(rng, num_layers=2), OF_A_TRACE[name]
    ax = Figure().add_subplot()
    assert draw(trace, ax=ax) is ax
    assert ax.has_data()
    new = draw(trace.layer[0])
    assert new.figure.axes[0] is new
    with pytest.raises(TypeError, match="ax must be a Matplotlib Axes, got 3"):
        draw(trace, ax=3)
    with pytest.raises(IndexError, match="layer must be from"):
        draw(trace, layer=2)
    with pytest.raises(ValueError, match="without steps"):
        draw(trace[:0])


@pytest.mark.parametrize(
    "options",
    [
        {"dtype": np.float32},
        {"num_layers": 3, "bidirectional": True},
        {"reverse": True, "proj_size": 2, "peepholes": True},
        {"coupled": "input"},
        {"layer_norm": "haste"},
        {"layer_norm": "contrib", "zoneout": 0.1},
        {"gate_activation": "HardSigmoid", "candidate_activation": "Relu"},
        {"hidden_size": 1},
    ],
    ids=str,
)
def test_every_kind_of_lstm_can_be_drawn_and_saved(options, rng):
    trace = traced(rng, **options)
    figure, picture = figures.plot(trace), io.BytesIO()
    figure.savefig(picture, format="png", dpi=20)
    assert picture.getvalue().startswith(b"\x89PNG")
    for draw in OF_A_TRACE.values():
        assert draw(trace, ax=figure.add_subplot()).has_data()


@pytest.mark.parametrize("name", OF_A_TRACE)
@pytest.mark.parametrize(("T", "H"), [(1, 1), (120, 60)])
def test_one_picture_of_any_size_can_be_saved(name, T, H, rng):
    trace = LSTM(1, H, seed=0).trace(rng.normal(size=(T, 1)), np.ones((T, H)))
    picture = io.BytesIO()
    OF_A_TRACE[name](trace).figure.savefig(picture, format="png", dpi=20)
    assert picture.getvalue().startswith(b"\x89PNG")


@pytest.mark.parametrize("symbol", ["i", "c", "d_c", "z_f", "d_z_o", "tanh_c", "h_prev"])
def test_a_heat_map_has_the_selected_units(symbol, rng):
    trace = traced(rng)
    layer, units = trace.layer[0], [3, 0, -1]
    values = layer.gate(*symbol.rsplit("_", 1)) if symbol in ("z_f", "d_z_o") else layer.value(symbol)
    ax = figures.heat_map(trace, symbol, units=units)
    np.testing.assert_array_equal(ax.images[0].get_array(), values[:, units].T)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["3", "0", "4"]
    everything = figures.heat_map(trace, symbol).images[0].get_array()
    np.testing.assert_array_equal(everything, values[:, units_by_peak(layer)].T)


def test_colours_of_gates_are_from_0_to_1_and_of_others_around_0(rng):
    trace = traced(rng)
    limits = {symbol: figures.heat_map(trace, symbol).images[0].get_clim() for symbol in ("f", "g", "c", "d_c", "x")}
    assert limits["f"] == (0, 1)
    assert limits["g"] == (-1, 1)
    for symbol in ("c", "d_c", "x"):
        low, high = limits[symbol]
        assert low == -high
        assert high == max(np.abs(trace.layer[0].value(symbol)).max(), symbol != "d_c")


def test_cell_states_and_their_events(rng):
    trace = traced(rng)
    layer = trace.layer[0]
    ax = figures.cell_traces(trace, units=[2, -5])
    shown = lines(ax)
    assert list(shown) == ["unit 2", "unit 0"]
    np.testing.assert_array_equal(shown["unit 2"], layer.c[:, 2])
    happened = diagnostics.events(layer)
    dots = [line.get_xdata().tolist() for line in ax.lines if line.get_marker() == "o"]
    crosses = [line.get_xdata().tolist() for line in ax.lines if line.get_marker() == "x"]
    assert dots == [np.flatnonzero(happened.write[:, k]).tolist() for k in (2, 0)]
    assert crosses == [np.flatnonzero(happened.erase[:, k]).tolist() for k in (2, 0)]
    changing = lines(figures.cell_traces(traced(rng, hidden_size=9)))
    assert len(changing) == 5


def test_the_flow_of_gradients_is_their_norms_by_path(rng):
    trace = traced(rng)
    norms, shown = diagnostics.gradient_norms(trace.layer[0]), lines(figures.gradient_flow(trace))
    for name, expected in (
        ("on the cell states", norms.c),
        ("… from the output of this step", norms.output),
        ("on the inputs", norms.x),
    ):
        np.testing.assert_array_equal(shown[name], expected)
    np.testing.assert_array_equal(shown["… along the cell"][:-1], norms.cell[:-1])
    assert np.isnan(shown["… along the cell"][-1])
    np.testing.assert_array_equal(shown["… through $h$"][:-1], norms.recurrent[:-1])
    assert np.isnan(shown["… through $h$"][-1])  # nothing comes back at the last step
    assert list(lines(figures.gradient_flow(traced(rng, layer_norm="haste")))) == [
        "on the cell states",
        "on the inputs",
    ]
    with pytest.raises(ValueError, match="d_h needs a target"):
        figures.gradient_flow(LSTM(2, 3).trace(np.ones((4, 2))))


def test_saturation_is_a_dot_for_each_unit(rng):
    trace = traced(rng, hidden_size=20)
    ax = figures.saturation(trace)
    for dots, gate in zip(ax.collections, "ifo", strict=True):
        left, right = diagnostics.saturation(trace.layer[0].value(gate))
        shares = {
            tuple(place): round((size - 14) / 11)
            for place, size in zip(dots.get_offsets(), dots.get_sizes(), strict=True)
        }
        assert sum(shares.values()) == 20
        assert set(shares) == set(zip(right, left, strict=True))


def test_half_lives_fall_from_left_to_right(rng):
    trace = traced(rng, hidden_size=6)
    ax = figures.half_lives(trace)
    lives = diagnostics.half_life(trace.layer[0].f)
    dots = np.concatenate([dots.get_offsets() for dots in ax.collections[1:]])
    np.testing.assert_allclose(dots[:, 1], np.sort(lives)[::-1], rtol=1e-12)
    assert [int(label.get_text()) for label in ax.get_xticklabels()] == np.argsort(-lives, kind="stable").tolist()


def test_half_lives_of_0_and_infinity_are_triangles(rng):
    model = LSTM(1, 3, seed=0, dtype=np.float64, gate_activation="HardSigmoid")
    model.parameters["bias_l0" if "bias_l0" in model.parameters else "kernel_l0"][3:6, -1] = [99, -99, 0]
    trace = model.trace(np.zeros((4, 1)))
    assert diagnostics.half_life(trace.layer[0].f)[:2].tolist() == [np.inf, 0]
    _, dots, above, below = figures.half_lives(trace).collections
    assert [len(each.get_offsets()) for each in (dots, above, below)] == [1, 1, 1]
    assert below.get_offsets()[0][1] < dots.get_offsets()[0][1] < above.get_offsets()[0][1]


def test_the_decay_figure_has_the_measured_values(rng):
    trace = traced(rng)
    shown, expected = lines(figures.gradient_decay(trace)), diagnostics.gradient_decay(trace.layer[0])
    np.testing.assert_array_equal(shown["this LSTM"], expected.lstm)
    np.testing.assert_array_equal(shown["an untrained tanh RNN"], expected.tanh_rnn)


def grid_of(ax):
    return ax.images[0].get_array().filled(np.nan)


def test_text_has_the_colors_of_its_values(rng):
    text = "ab\ncdefg$h"
    values = rng.uniform(-1, 1, len(text))
    ax = figures.colored_text(values, text, width=5)
    grid = grid_of(ax)
    assert grid.shape == (3, 5)
    assert [ax_text.get_text() for ax_text in ax.texts] == [*list("ab↵cdefg"), r"\$", "h"]
    for drawn, value in zip(ax.texts, values, strict=True):
        column, row = map(round, drawn.get_position())
        assert grid[row, column] == value
    assert [round(drawn.get_position()[1]) for drawn in ax.texts] == [0, 0, 0, 1, 1, 1, 1, 1, 2, 2]
    assert ax.images[0].get_clim() == (-1, 1)
    assert figures.colored_text(np.abs(values), text).images[0].get_clim() == (0, 1)


def test_words_have_the_width_of_their_characters(rng):
    ax = figures.colored_text([0.1, 0.2, 0.3], ["the", "cat", "sleeps"], width=8)
    np.testing.assert_array_equal(grid_of(ax), [[0.1] * 3 + [0.2] * 3, [0.3] * 6])


@pytest.mark.parametrize(
    ("values", "text", "part"),
    [
        ([0.1, 0.2], "abc", r"got \(2,\) for 3"),
        ([[0.1]], "a", r"got \(1, 1\)"),
        ([], "", "T ≥ 1"),
        ([np.nan], "a", "must be finite"),
    ],
)
def test_text_and_values_must_fit(values, text, part):
    with pytest.raises(ValueError, match=part):
        figures.colored_text(values, text)


# The overview


def test_the_overview_of_another_model(rng):
    vocabulary = ["a", "$b$", "\n"]
    model = Sequential([Embedding(3, 2, seed=1), LSTM(2, 4, num_layers=2, seed=2), Linear(4, 3, seed=3)])
    x, y = [0, 1, 2, 1], [1, 2, 1, 0]
    names = {"step_names": [vocabulary[k] for k in x], "output_names": vocabulary}
    trace = model.trace(x, y, loss="categorical_cross_entropy", title="costs $5 & <b>", **names)
    figure = figures.plot(trace, layer=0)
    right = bool((trace.outputs.argmax(axis=1) == y).all())
    assert figure.get_suptitle() == rf"costs \$5 & <b>: {'all' if right else 'not all'} predictions correct"
    panels = [ax for ax in figure.axes if ax.get_ylabel()]
    assert [text.get_text() for text in panels[0].texts] == ["a", r"\$b\$", "↵", r"\$b\$"]
    answers = [vocabulary[k] for k in trace.outputs.argmax(axis=1)]
    assert [text.get_text() for text in panels[6].texts] == [
        text.replace("$", r"\$").replace("\n", "↵") for text in answers
    ]
    reds = [text.get_color() == "#d64545" for text in panels[6].texts]
    assert reds == (trace.outputs.argmax(axis=1) != y).tolist()
    for ax, symbol in zip(panels[1:6], "ifogc", strict=True):
        layer = trace.layer[0]
        np.testing.assert_array_equal(ax.images[0].get_array(), layer.value(symbol)[:, units_by_peak(layer)].T)
    assert len(panels) == 8
    figure.savefig(io.BytesIO(), format="png", dpi=20)


def test_the_overview_without_a_target_or_outputs_of_steps(rng):
    model = Sequential([LSTM(2, 3, seed=2), FinalState(), Linear(3, 2, seed=3)])
    x = rng.normal(size=(5, 2))
    for y, panels in ((None, 6), (np.zeros(2), 7)):
        figure = figures.plot(model.trace(x, y))
        assert len([ax for ax in figure.axes if ax.get_ylabel()]) == panels
        np.testing.assert_allclose(figure.axes[0].images[0].get_array(), x.T, rtol=1e-6)
    with pytest.raises(ValueError, match="a batch: choose trace"):
        figures.plot(model.trace(x[None]))


def test_no_window_and_no_file_remains(tmp_path):
    """pyplot, which keeps figures and opens windows, is not even imported."""
    program = """
import sys
from glasscell import CopyLSTM
from glasscell.trace.figures import plot_gates
from glasscell.trace.figures.style import colors_of
assert "matplotlib" not in sys.modules
plot_gates(CopyLSTM(4), [1, 0, 1]).savefig(sys.argv[1], dpi=20)
assert "matplotlib.figure" in sys.modules
assert "matplotlib.pyplot" not in sys.modules
"""
    environment = os.environ | {"PYTHONPATH": str(Path(glasscell.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "p.png")], check=True, env=environment)
    assert (tmp_path / "p.png").stat().st_size


@pytest.mark.parametrize(("width", "columns"), [(3.0, 2), (7.0, 3), (12.0, 5)])
def test_names_of_gradients_stay_within_narrow_axes(width, columns):
    from matplotlib.figure import Figure  # noqa: PLC0415 - optional

    figure = Figure(figsize=(width, 3))
    ax = figures.gradient_flow(CopyLSTM(8).trace([1, 0, 1, 1]), ax=figure.subplots())
    assert ax.get_legend()._ncols == columns


@pytest.mark.parametrize(("width", "named"), [(3.0, False), (12.0, True)])
def test_units_are_numbered_if_the_numbers_fit(width, named):
    from matplotlib.figure import Figure  # noqa: PLC0415 - optional

    figure = Figure(figsize=(width, 3))
    ax = figures.half_lives(CopyLSTM(32).trace([1, 0, 1, 1]), ax=figure.subplots())
    assert (ax.get_xlabel() == "unit") is named


# Units, bits and delimiter


def numbers_of_rows(ax):
    """Labels of the rows, as row → text."""
    ticks = [*ax.yaxis.get_major_ticks(), *ax.yaxis.get_minor_ticks()]
    return {round(tick.get_loc()): tick.label1.get_text() for tick in ticks}


@pytest.mark.parametrize(("H", "interval"), [(3, 1), (16, 1), (17, 1), (48, 1), (49, 2), (100, 3)])
def test_rows_have_the_numbers_of_their_units(H, interval, rng):
    trace = LSTM(1, H, seed=0).trace(rng.normal(size=(5, 1)))
    order = units_by_peak(trace.layer[0])
    expected = {row: str(order[row]) for row in range(0, H, interval)}
    assert numbers_of_rows(figures.heat_map(trace, "f")) == expected
    maps = [ax for ax in figures.plot(trace).axes if ax.get_ylabel().startswith("cell state")]
    assert numbers_of_rows(maps[0]) == expected


def test_a_map_of_a_copy_task_has_its_bits_and_its_delimiter(rng):
    model = CopyLSTM(5, task=Copy(width=3), seed=0)
    trace = model.trace([1, 0, 1])
    ax = figures.heat_map(trace, "f")
    assert [(text.get_position()[0], text.get_text()) for text in ax.texts] == list(enumerate("101|101"))
    assert [list(line.get_xdata()) for line in ax.lines] == [[3, 3]]
    assert not figures.heat_map(trace.layer[0], "f").texts  # a layer knows no task
    pairs = CopyLSTM(5, task=Copy(width=4, bits_per_step=2), seed=0).trace([1, 0, 1, 1])
    assert step_marks(pairs) == (("10", "11", "|", "10", "11"), (2,))
    echo = CopyLSTM(5, task=Copy(width=2, mode="echo"), seed=0).trace([1, 0])
    assert step_marks(echo) == (("1", "0"), ())
    named = LSTM(1, 3, seed=0).trace(rng.normal(size=(2, 1)), step_names=["a", "$b$"])
    assert [text.get_text() for text in figures.heat_map(named, "f").texts] == ["a", r"\$b\$"]
    long = LSTM(1, 3, seed=0).trace(rng.normal(size=(61, 1)), step_names=["a"] * 61)
    assert not figures.heat_map(long, "f").texts


def test_figures_and_pages_have_one_color_code():
    sources = Path(__file__).parents[2] / "web" / "report" / "colors.js"
    text = sources.read_text("utf-8")
    light = re.search(r"light: \{(.*?)\}", text)[1]
    for kind, name in (("sequential", "gate"), ("diverging", "state")):
        constant = re.search(rf"{name}: (\w+)", light)[1]
        stops = re.search(rf"const {constant} = \[(.*?)\]", text)[1].replace('"', "").split(", ")
        assert STOPS[kind].split() == stops
        ends = [matplotlib.colors.to_hex(colors_of(ColorScale(-1, 1, kind))["cmap"](x)) for x in (0.0, 1.0)]
        assert ends == [stops[0], stops[-1]]
