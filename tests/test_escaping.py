"""Law: a name from a file acts on no terminal and no page: it is shown, in one line, wherever it is printed."""

import json
import sys

import numpy as np
import pytest
from safetensors.numpy import save

import glasscell as gc
from glasscell import checkpoint
from glasscell.checkpoint import Checkpoint
from glasscell.cli import main
from glasscell.convert import torch
from glasscell.escaping import MAX_LENGTH, escape, one_line
from glasscell.layers import FinalState, Function
from glasscell.trace.html_report.page import page
from glasscell.trace.html_report.payload import payload_of
from glasscell.trace.terminal import render
from glasscell.verify import Check
from glasscell.verify.html import page as page_of_claims

NASTY = "a\x1b[2J\x07\r\nb\u202ec\u2028d\x85e\x9bf\u2066g\x7fh"
ACTS = {c for c in NASTY if not c.isprintable()}


def harmless(text, *, lines=True):
    """Nothing in it acts; a text of ours may have lines."""
    for line in text.split("\n") if lines else [text]:
        assert line.isprintable(), ascii(line)


def model():
    layers = [gc.LSTM(2, 3, engine="numpy"), FinalState(), gc.Linear(3, 2), Function("Tanh")]
    return gc.Sequential(layers, [NASTY, "last", "head", "act"])


def refused(read, path):
    with pytest.raises(ValueError, match=r"\w") as caught:
        read(path)
    harmless(str(caught.value), lines=False)
    return str(caught.value)


def test_what_is_escaped_is_printable_and_says_what_it_was():
    codes = {*range(0x300), 0x200E, 0x202E, 0x2028, 0x2029, 0x2066, 0xFEFF, 0xD800, 0xE000, 0x10FFFF} - {ord("\\")}
    for character in map(chr, codes):
        shown = escape(character)
        assert shown.isprintable()
        assert (shown == character) == character.isprintable()
        assert shown.encode("ascii", "backslashreplace").decode("unicode_escape") == character
        assert escape(character, "?") == (character if character.isprintable() else "?")


def test_text_of_any_script_stays():
    for text in ("lstm", "слой", "层", "طبقة", "ĥ", "a b", "😀", "\\x1b", ""):
        assert escape(text) == text


def test_one_line_is_one_line_of_some_length():
    assert one_line("a\n  b\t\x1bc") == "a b \\x1bc"
    assert len(one_line("x" * 10**6)) == MAX_LENGTH
    assert one_line(ValueError("é")) == "é"


def test_the_representation_of_a_model():
    harmless(repr(model()))
    assert "\\x1b[2J" in repr(model())


def test_errors_of_readers(tmp_path):
    weight = {f"{NASTY}.weight": np.ones((2, 2), np.float32)}
    file = tmp_path / "a.safetensors"
    layer = {"kind": "Linear", "input_size": 2, "output_size": 2, "bias": False}
    for kind, config, tensors in (
        ("Sequential", {"names": [NASTY], "layers": [layer | {"input_size": 3}]}, weight),
        ("Sequential", {"names": [NASTY], "layers": [{"kind": NASTY}]}, weight),
        ("Sequential", {"names": ["b"], "layers": [layer]}, weight),
        ("Sequential", {"names": [NASTY, NASTY + ".b"], "layers": [layer, layer]}, weight),
        ("LSTM", {"input_size": 2, "hidden_size": 2, NASTY: 1}, weight),
        (NASTY, {}, weight),
        ("x" * 10**5, {}, weight),
    ):
        checkpoint.save(Checkpoint(kind, config, tensors), file)
        for read in (gc.Sequential.load, gc.CopyLSTM.load, gc.convert.load, gc.load):
            assert len(refused(read, file)) < 1000
        stream = gc.LSTM(2, 2).stream()
        refused(stream.load, file)
    file.write_bytes(save(weight, {"glasscell": json.dumps({"format": NASTY})}))
    refused(gc.Sequential.load, file)
    file.write_bytes(save(weight | {NASTY: np.ones(1, np.float32)}))
    refused(gc.convert.load, file)
    file.write_bytes(save({f"{NASTY}{k}.{part}": np.ones(1, np.float32) for k in range(3000) for part in "ab"}))
    assert len(refused(gc.convert.load, file)) < 1000
    torch.write({NASTY: {f"{NASTY}.q": np.ones(3)}, "b": {"c": np.ones(2)}}, tmp_path / "a.pt")
    refused(gc.convert.load, tmp_path / "a.pt")


def test_errors_of_onnx(tmp_path):
    onnx = pytest.importorskip("onnx")
    given = [onnx.helper.make_tensor_value_info(NASTY, 1, ["b", "t", 1])]
    for op in ("Relu", "Atan", NASTY):
        node = onnx.helper.make_node(op, [NASTY, "w"], [NASTY + "y"], name=NASTY)
        graph = onnx.helper.make_graph([node], "g", given, [onnx.helper.make_tensor_value_info(NASTY + "z", 1, None)])
        onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)]), tmp_path / "a.onnx")
        refused(gc.convert.load, tmp_path / "a.onnx")


def test_errors_of_keras(tmp_path):
    pytest.importorskip("h5py")
    file = tmp_path / "a.keras"
    gc.convert.save(gc.Sequential([gc.Linear(2, 2)], ["dense"]), file)
    import zipfile  # noqa: PLC0415

    with zipfile.ZipFile(file) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(entries["config.json"])
    for change in (
        {"class_name": NASTY},
        {"config": {"name": NASTY, "units": -1}},
        {"class_name": "Dense", "config": NASTY},
    ):
        changed = json.loads(json.dumps(config))
        changed["config"]["layers"][-1].update(change)
        with zipfile.ZipFile(file, "w") as archive:
            for name, content in (entries | {"config.json": json.dumps(changed)}).items():
                archive.writestr(name, content)
        refused(gc.convert.load, file)


def test_views_of_a_trace():
    x, names = np.ones((3, 2)), [NASTY, "b", "c"]
    trace = model().trace(x, [0.0, 1.0], step_names=names, input_names=names[:2], title=NASTY)
    harmless(repr(trace))
    harmless(render(trace, color=False))
    equations = trace.equations(0, 0)
    for text in (equations.text, equations.html, equations.latex, page(payload_of(trace))):
        harmless(text)


def test_figures_of_a_trace():
    pytest.importorskip("matplotlib")
    from glasscell.trace import figures  # noqa: PLC0415

    x, names = np.ones((3, 2)), [NASTY, "b", "c"]
    trace = model().trace(x, [0.0, 1.0], step_names=names, input_names=names[:2], title=NASTY)
    figure = trace.plot()
    figure.canvas.draw()  # a character without a glyph would be a warning
    for axes in [*figure.axes, figures.cell_traces(trace), figures.saturation(trace), figures.half_lives(trace)]:
        harmless(axes.get_title(loc="left"))
        harmless(axes.get_ylabel())


def test_the_page_of_claims():
    check = Check(NASTY, NASTY, 1, 1e-3, 1e-2, NASTY)
    harmless(page_of_claims([check, check._replace(error=None)], NASTY, NASTY))


def test_the_command_line(tmp_path, capsys):
    model().save(tmp_path / "a.safetensors")
    file = str(tmp_path / "a.safetensors")
    commands = (
        ["inspect", file, "--input", "1,0; 0,1", "--ascii", "--step", "1"],
        ["convert", file, str(tmp_path / "b.safetensors")],
        ["convert", file, str(tmp_path / "b.pt"), "--weights-only"],
        ["convert", file, str(tmp_path / "b.pth")],
        ["inspect", str(tmp_path / "b.pt"), "--input", "1,0; 0,1"],
    )
    for command in commands:
        main(command)
        out, err = capsys.readouterr()
        assert out or err
        for text in (out, err):
            harmless(text)
    assert sys.stdout is not None
