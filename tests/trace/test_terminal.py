"""Law: the characters of the terminal view are the values of the trace; colors follow the environment."""

import io
import re
import sys

import numpy as np
import pytest

from glasscell import LSTM, CopyLSTM, Embedding, Linear, Sequential
from glasscell.layers import FinalState
from glasscell.tasks import Copy
from glasscell.trace.colormaps import rgb, to_xterm256
from glasscell.trace.display import ColorScale, block_means, escape_control_characters, scale_of, units_by_peak
from glasscell.trace.terminal import color_depth, render
from glasscell.trace.terminal.layout import ASCII_SHADES
from glasscell.trace.terminal.painting import SIGNED_SHADES, shades

ESCAPE = re.compile(r"\x1b\[([0-9;]*)m")


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in ("NO_COLOR", "COLORTERM", "TERM", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)


def copying(rng, bits=(1, 1, 0, 1), hidden_size=6, layers=1, **options):
    model = CopyLSTM(hidden_size, task=Copy(4, **options), num_layers=layers, dtype=np.float64)
    model.parameters.vector[:] = rng.normal(scale=2, size=model.parameters.vector.size)
    return model.trace(bits)


def panel(text, title, columns, margin=11):
    """The lines of a drawing, from the left edge of a heat map, below its title."""
    lines = text.splitlines()
    found = (re.search(rf"(?<!\S){title}(?=:|\s|$)", line) for line in lines[3:])
    head, left = next((k, match.start()) for k, match in enumerate(found, 3) if match)
    return [line[left : left + columns].ljust(columns) for line in lines[head + 1 :]], [
        line[: margin - 2].strip() for line in lines[head + 1 :]
    ]


def stream(monkeypatch, *, terminal, encoding="utf-8"):
    """A standard output of that kind."""
    written = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    written.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stdout", written)


def test_every_character_is_its_number(rng):
    trace = copying(rng)
    layer, T = trace.layer[0], 9
    text = render(trace, color=False, width=200)
    order = units_by_peak(layer)
    for symbol in "ifogc":
        values, scale = getattr(layer, symbol), scale_of(symbol, getattr(layer, symbol))
        characters = ASCII_SHADES if symbol in "ifo" else SIGNED_SHADES
        lines, labels = panel(text, symbol, 2 * T)
        for unit in order:
            line = lines[labels.index(str(unit))]
            fractions = (values[:, unit] - scale.low) / (scale.high - scale.low)
            expected = [characters[min(int(share * len(characters)), len(characters) - 1)] for share in fractions]
            assert line == "".join(2 * character for character in expected)
    _, labels = panel(text, "i", 2 * T)
    assert [label for label in labels if label.isdigit()][: layer.H] == [str(unit) for unit in order]


def test_units_are_sorted_by_their_peaks_or_selected(rng):
    trace = copying(rng)
    peaks = np.abs(trace.layer[0].c).argmax(axis=0)[units_by_peak(trace.layer[0])]
    assert (np.diff(peaks) >= 0).all()
    _, labels = panel(render(trace, color=False, units=[4, -5, 2]), "i", 9)
    assert [label for label in labels if label.isdigit()] == ["4", "1", "2"]
    with pytest.raises(IndexError, match="unit must be from -6 to 5, got 6"):
        render(trace, units=[6])


def test_bits_are_above_and_below_their_steps(rng):
    trace = copying(rng)
    lines, labels = panel(render(trace, color=False, symbols="f"), "f", 18)
    cells = {
        label: [line[k : k + 2].strip() for k in range(0, 18, 2)] for label, line in zip(labels, lines, strict=True)
    }
    answers = (trace.outputs[5:, 0] > 0).astype(int)
    assert lines[0][::2] == "1101....."
    assert cells["delimiter"] == list("....|....")
    last = len(labels) - 1 - labels[::-1].index("bit")
    assert lines[last].replace(" ", "") == "".join(map(str, answers))
    assert lines[last][:10].strip() == ""
    wrong = answers != [1, 1, 0, 1]
    assert cells["wrong"] == [""] * 5 + ["^" if bad else "" for bad in wrong]
    assert cells["target"] == [""] * 5 + list("1101")
    assert cells["step"][0] == "0"


def test_only_wrong_predictions_are_marked(rng):
    trace = copying(rng)
    trace.outputs[:] = np.where(trace.targets > 0, 1.0, -1.0)
    assert "wrong" not in render(trace, color=False)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 1), (1, 3), (3, 4), (7, 5), (9, 9)])
def test_a_summary_is_the_mean_of_blocks(rows, columns, rng):
    values = rng.normal(size=(7, 9))
    found = block_means(values, rows, columns)
    assert found.shape == (-(-7 // rows), -(-9 // columns))
    for r, c in np.ndindex(found.shape):
        block = values[r * rows : (r + 1) * rows, c * columns : (c + 1) * columns]
        assert found[r, c] == pytest.approx(block.mean(), rel=1e-12)


def test_large_heat_maps_are_reduced_with_a_note(rng):
    model = LSTM(2, 40, seed=1, dtype=np.float64)
    trace = model.trace(rng.normal(size=(300, 2)))
    text = render(trace, color=False, width=100, height=10, symbols="f")
    assert "each cell is the mean of 4 units and 4 steps" in text
    assert max(map(len, text.splitlines())) <= 100
    lines, labels = panel(text, "f", 300 // 4)
    drawn = lines[2:12]  # below two inputs
    means = block_means(trace.layer[0].f[:, units_by_peak(trace.layer[0])].T, 4, 4)
    expected = ["".join(line) for line in shades(means, ColorScale(0, 1, "sequential"))]
    assert drawn == expected
    assert not any(label.isdigit() for label in labels)
    assert "mean" not in render(trace[:20], color=False, width=120, height=40)


@pytest.mark.parametrize("color", [False, True])
@pytest.mark.parametrize(("width", "height"), [(20, 1), (37, 3), (80, 12), (100, 40), (300, 200)])
def test_it_fits(width, height, color, rng, monkeypatch):
    stream(monkeypatch, terminal=False)
    trace = copying(rng, rng.integers(2, size=30), 50)
    lines = ESCAPE.sub("", render(trace, color=color, width=width, height=height)).splitlines()
    tops = [k for k, line in enumerate(lines) if line.strip().startswith("deli")]
    assert tops
    for top in tops:
        end = next(k for k in range(top + 1, len(lines)) if lines[k].strip().startswith(("bit", "step")))
        assert 0 < end - top - 1 <= height
        last = next(k for k in range(end, len(lines)) if lines[k].strip().startswith("step"))
        assert max(map(len, lines[top - 2 : last + 2])) <= width


def test_blocks_without_values_are_blank(rng):
    text = render(copying(rng, rng.integers(2, size=60)), color=False, width=60, symbols="f")
    row = [line for line in text.splitlines() if line.strip().startswith("bit")][-1]
    answers = row[11:].ljust(41)
    assert not answers[:20].strip()
    assert answers[21:].strip()


def test_symbols_can_be_any_that_the_trace_has(rng):
    trace = copying(rng, layers=2)
    text = render(trace, color=False, width=300, symbols=["z_f", "d_z_o", "d_c", "h", "x", "tanh_c"], layer=0)
    layer = trace.layer[0]
    order = units_by_peak(layer)
    for symbol, values in (("z_f", layer.gate("z", "f")), ("d_z_o", layer.gate("d_z", "o")), ("tanh_c", layer.tanh_c)):
        lines, _ = panel(text, symbol, 18)
        expected = shades(values[:, order].T, scale_of(symbol, values))
        assert [line[::2] for line in lines[2:8]] == ["".join(line) for line in expected]
    lines, _ = panel(text, "x", 18)
    assert [line[::2] for line in lines[2:4]] == ["".join(row) for row in shades(layer.x.T, scale_of("x", layer.x))]
    assert "layer l0:" in text
    with pytest.raises(ValueError, match="got 'q'"):
        render(trace, symbols=["q"])
    with pytest.raises(ValueError, match="symbols must have at least one"):
        render(trace, symbols=[])
    with pytest.raises(ValueError, match="width must be at least 20, got 3"):
        render(trace, width=3)
    with pytest.raises(ValueError, match="height must be at least 1, got 0"):
        render(trace, height=0)
    with pytest.raises(IndexError, match="layer must be from -2 to 1, got 2"):
        render(trace, layer=2)


def test_gradients_are_drawn_where_there_are_some(rng):
    model = LSTM(2, 3, seed=0)
    x = rng.normal(size=(5, 2))
    assert "|dL/dc|" not in render(model.trace(x), color=False)
    trace = model.trace(x, np.zeros((5, 3)))
    lines, labels = panel(render(trace, color=False, symbols="f"), "f", 10)
    norms = np.linalg.norm(trace.layer[0].d_c, axis=1)
    bars = lines[labels.index("|dL/dc|")][::2]
    assert bars[norms.argmax()] == ASCII_SHADES[-1]
    ranks = [ASCII_SHADES.index(bar) for bar in bars]
    assert (np.diff(np.array(ranks)[np.argsort(norms)]) >= 0).all()


# Colour


def colors(text):
    """Of each half block, in order: the upper and the lower colour."""
    found = []
    for codes, blocks in re.findall(r"\x1b\[([0-9;]*)m(▀+)", text):
        fore, ground = re.fullmatch(r"38;2;(\d+;\d+;\d+);(?:48;2;(\d+;\d+;\d+)|49)", codes).groups()
        found += [(fore, ground)] * len(blocks)
    return found


def test_half_blocks_have_the_colours_of_two_units(rng, monkeypatch):
    stream(monkeypatch, terminal=False)
    monkeypatch.setenv("COLORTERM", "truecolor")
    trace = copying(rng, hidden_size=5)
    layer, order = trace.layer[0], units_by_peak(trace.layer[0])
    found = colors(render(trace, color=True, symbols="f"))[::2]  # two columns a step
    expected = rgb(layer.f[:, order].T, ColorScale(0, 1, "sequential"))
    assert len(found) == 3 * 9
    for k, (fore, ground) in enumerate(found):
        row, t = divmod(k, 9)
        assert fore == ";".join(map(str, expected[2 * row, t]))
        assert ground == (None if row == 2 else ";".join(map(str, expected[2 * row + 1, t])))


def test_scales_have_the_colors_of_their_limits():
    gates, signed = ColorScale(0, 1, "sequential"), ColorScale(-2, 2, "diverging")
    assert rgb(np.array([0.0, 1.0]), gates).tolist() == [[241, 239, 232], [11, 51, 70]]
    low, zero, high = rgb(np.array([-2.0, 0.0, 2.0]), signed).astype(int)
    assert low[2] > low[0]
    assert zero.tolist() == [241, 239, 232]
    assert high[0] > high[2]
    assert rgb(np.array([-9.0, 9.0]), signed).tolist() == [low.tolist(), high.tolist()]
    lightness = rgb(np.linspace(0, 1, 50), gates) @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(lightness) < 0).all()  # closed is light, open is dark


def test_the_nearest_of_256_colours():
    levels = [0, 95, 135, 175, 215, 255]
    for r, g, b in np.ndindex(6, 6, 6):
        color = np.array([levels[r], levels[g], levels[b]], np.uint8)
        number = int(to_xterm256(color))
        assert number == 16 + 36 * r + 6 * g + b or (r == g == b and number >= 232)
    assert int(to_xterm256(np.array([128, 128, 128], np.uint8))) == 244
    assert int(to_xterm256(np.array([8, 8, 8], np.uint8))) == 232


@pytest.mark.parametrize(
    ("variables", "is_terminal", "expected"),
    [
        ({"TERM": "xterm-256color"}, True, "256"),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, True, "24 bit"),
        ({"TERM": "xterm", "COLORTERM": "24bit"}, True, "24 bit"),
        ({"TERM": "xterm-256color", "NO_COLOR": ""}, True, "256"),
        ({"TERM": "xterm-256color", "NO_COLOR": "0"}, True, None),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor", "NO_COLOR": "1"}, True, None),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, False, None),
        ({"TERM": "dumb", "COLORTERM": "truecolor"}, True, None),
        ({"TERM": "vt100"}, True, None),
        ({}, True, None),
    ],
    ids=str,
)
def test_colors_depend_on_the_environment(variables, is_terminal, expected, monkeypatch, rng):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    stream(monkeypatch, terminal=is_terminal)
    assert color_depth(None) == expected
    text = render(copying(rng))
    assert ("\x1b" in text) == (expected is not None)
    assert ("38;2;" in text) == (expected == "24 bit")
    assert ("38;5;" in text) == (expected == "256")
    if expected is None:
        assert text.isascii()


def test_the_argument_overrides_the_environment(monkeypatch, rng):
    stream(monkeypatch, terminal=False)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" in render(copying(rng), color=True)
    stream(monkeypatch, terminal=True)
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "xterm-256color")
    assert "\x1b" not in render(copying(rng), color=False)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_an_encoding_without_blocks_gets_ascii(encoding, monkeypatch, rng):
    stream(monkeypatch, terminal=True, encoding=encoding)
    monkeypatch.setenv("COLORTERM", "truecolor")
    assert render(copying(rng), color=True).isascii()


@pytest.mark.parametrize("color", [False, True])
def test_control_characters_are_escaped(color, monkeypatch, rng):
    """A title or a step that holds an escape would move the cursor, or worse."""
    stream(monkeypatch, terminal=False)
    model = Sequential([Embedding(3, 2), LSTM(2, 3), Linear(3, 3)])
    names = ["\x1b[2J", "\n", "\x07"]
    trace = model.trace(
        [0, 1, 2],
        [1, 2, 0],
        loss="categorical_cross_entropy",
        title="a\x1b]0;b\x07",
        step_names=names,
        output_names=names,
    )
    text = render(trace, color=color)
    assert not any(c in text for c in "\x07\t\r")
    assert set(ESCAPE.sub("", text)) & {"\x1b"} == set()
    assert text.splitlines()[0].endswith("a?]0;b?") or "a?]0;b?" in text.splitlines()[0]
    assert escape_control_characters("a\nb\tc\x00\u202ed") == "a↵b→c??d"


def test_wide_characters_keep_their_columns(rng):
    model = Sequential([Embedding(4, 2), LSTM(2, 3)])
    trace = model.trace([0, 1, 2, 3], step_names=list("漢字ab"))
    line = next(line for line in render(trace, color=False, symbols="f").splitlines() if "input" in line)
    assert line.endswith("漢字a b")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_names_that_an_encoding_lacks_keep_their_columns(encoding, monkeypatch, rng):
    """And numbers keep their signs, which are ASCII."""
    stream(monkeypatch, terminal=False, encoding=encoding)
    model = Sequential([Embedding(4, 2), LSTM(2, 3), Linear(3, 1)])
    trace = model.trace([0, 1, 2, 3], np.full((4, 1), -5.0), step_names=list("漢字éb"), output_names=["−é"])
    text = render(trace, color=False, symbols=["f", "c"])
    text.encode(encoding)
    assert text.count("\n") == render(trace, color=False, symbols=["f", "c"]).count("\n")
    line = next(line for line in text.splitlines() if "input" in line)
    assert line.split()[1] == {"ascii": "?????", "latin-1": "????é", "utf-8": "漢字é"}[encoding]
    assert text.splitlines()[-2].split()[1].startswith("-")


def test_classes_and_vectors(rng):
    model = Sequential([Embedding(3, 2, seed=1), LSTM(2, 3, seed=2), Linear(3, 3, seed=3)])
    trace = model.trace([0, 1, 2, 1], [1, 2, 0, 1], loss="categorical_cross_entropy", output_names=list("abc"))
    lines, labels = panel(render(trace, color=False, symbols="f"), "f", 8)
    assert lines[labels.index("input")] == "0 1 2 1 "
    assert lines[labels.index("output")].split() == ["abc"[k] for k in trace.outputs.argmax(axis=1)]
    last = Sequential([LSTM(2, 3, seed=2), FinalState(), Linear(3, 2, seed=3)])
    trace = last.trace(rng.normal(size=(5, 2)), [1.0, 0.0])
    assert f"output: {trace.outputs[0]:.3g} {trace.outputs[1]:.3g}; target 1 0" in render(trace, color=False)


def test_many_features_are_summarised(rng):
    text = render(LSTM(40, 3).trace(rng.normal(size=(4, 40))), color=False, symbols="f")
    assert "x0.." in text
    assert sum(line.strip().startswith("x") for line in text.splitlines()) == 8


def test_unsupported_traces_raise_an_error(rng):
    model = LSTM(2, 3)
    with pytest.raises(ValueError, match=r"a batch: choose trace.sequence\(0\)"):
        render(model.trace(rng.normal(size=(2, 4, 2))))
    with pytest.raises(ValueError, match="got one step"):
        render(model.trace(rng.normal(size=(4, 2)))[0])
    with pytest.raises(ValueError, match="without steps"):
        render(model.trace(np.zeros((0, 2))))
