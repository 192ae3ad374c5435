"""Property: the tables of docs/formats.md agree with the declarations of layouts, files, operations and options."""

import re
from pathlib import Path

import numpy as np
import pytest
from case_loops import loop_over

from glasscell import checkpoint, weight_layouts
from glasscell.convert import files
from glasscell.convert.operations import FINALS, OPERATIONS
from glasscell.layers import LSTM
from glasscell.recurrent.config import LSTMConfig

PAGE = Path(__file__).parents[2] / "docs" / "formats.md"
FORMATS = ("PyTorch", "ONNX", "Keras")
SIZES = {"input_size": 2, "hidden_size": 3}
ROWS = {  # row of the table of features: options of LSTMs
    "stacked, bidirectional, no bias": [{"num_layers": 2}, {"bidirectional": True}, {"bias": False}],
    "merges other than concatenation": [
        {"bidirectional": True, "merge": merge} for merge in ("sum", "average", "multiply")
    ],
    "only the reverse direction": [{"reverse": True}],
    "projection": [{"proj_size": 2}],
    "peepholes, clip, f = 1 - i": [{"peepholes": True}, {"clip": 1.0}, {"coupled": "input"}],
    "i = 1 - f, layer normalisation, zoneout, no forget gate": [
        {"coupled": "forget"},
        *({"layer_norm": kind} for kind in ("haste", "tflite", "contrib")),
        {"zoneout": 0.1},
        {"zoneout_cell": 0.1},
        {"forget_gate": False},
    ],
    "dropout between layers": [{"num_layers": 2, "dropout": 0.1}],
    "dropout of inputs, recurrent": [{"input_dropout": 0.1}, {"recurrent_dropout": 0.1}],
}


@pytest.fixture(scope="module")
def page():
    if not PAGE.is_file():
        pytest.skip("docs/formats.md is not part of an installed package")
    return PAGE.read_text()


def table(page, title):
    """Return the cells of each row of the first table of a section."""
    section = page.split(f"## {title}\n")[1].split("\n## ")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]


def test_layouts(page):
    rows = {row[0]: row for row in table(page, "Weight layouts: the order of the gates")}
    for name, layout in (
        ("Glasscell, in memory", weight_layouts.GLASSCELL),
        ("PyTorch", weight_layouts.TORCH),
        ("ONNX", weight_layouts.ONNX),
        ("Keras", weight_layouts.KERAS),
    ):
        assert tuple(re.sub(r"\(.*?\)", "", rows[name][1]).split()) == layout.gates
        assert tuple(rows[name][4].split()) == layout.peepholes
        assert ("(I, 4H)" in rows[name][2]) == layout.transposed
    gates, peepholes = rows["Glasscell, `.safetensors`"][1], rows["Glasscell, `.safetensors`"][4]
    assert tuple(gates.removesuffix(", as PyTorch").split()) == weight_layouts.TORCH.gates
    assert tuple(peepholes.split()) == weight_layouts.GLASSCELL.peepholes


def test_own_files_have_the_layout_of_the_table(tmp_path):
    layer = LSTM(2, 3, peepholes=True)
    layer.parameters.vector[:] = np.arange(layer.parameters.vector.size)
    layer.save(tmp_path / "lstm.safetensors")
    weights = checkpoint.load(tmp_path / "lstm.safetensors").weights
    blocks = dict(zip("ifog", layer.parameters["kernel_l0"].reshape(4, 3, 6), strict=True))
    np.testing.assert_array_equal(weights["weight_hh_l0"], np.concatenate([blocks[gate][:, :3] for gate in "ifgo"]))
    np.testing.assert_array_equal(weights["peepholes_l0"], layer.parameters["peepholes_l0"])


def test_extensions(page):
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in page.split("## Weights alone")[0].splitlines()
        if line.startswith("| `.")
    ]
    documented = {extension for row in rows for extension in re.findall(r"`(\.\w+)`", row[0])}
    assert documented == {*files.SUFFIXES} - {".hdf5"}
    assert all(extension in page for extension in files.WRITTEN_SUFFIXES if extension != ".hdf5")


def test_operations(page):
    section = page.split("## Weights alone\n")[1].split("\n## ")[0]
    rows = [line.strip().strip("|").split("|") for line in section.splitlines() if line.startswith("  | `")]
    items = [item for row in rows for item in re.findall(r"`([a-z]+(?::[^`]+)?)`", row[0])]
    modules = ("table", "norm", "rnn", "module", "operation")
    operations = {item.partition(":")[0] for item in items} - {*modules}
    assert operations <= {*OPERATIONS, "final"}
    finals = {item.partition(":")[2] for row in rows for item in re.findall(r"`(final:[a-z]+)`", "".join(row))}
    assert finals == {*FINALS} - {""}


@loop_over("row", ROWS)
@loop_over("name", FORMATS)
def test_options(name, row, page):
    header, _, *rows = table(page, "Supported features")
    [cells] = [cells for cells in rows if cells[0].startswith(row)]
    documented = bool(cells[header.index(name)])
    consumer = {"PyTorch": "torch", "ONNX": "onnx", "Keras": "keras"}[name]
    for options in ROWS[row]:
        unsupported = LSTMConfig(**SIZES, **options).unsupported(consumer)
        if consumer == "keras":
            unsupported.pop("num_layers", None)  # a stack becomes several Keras layers
            unsupported.pop("dropout", None)
        if consumer == "onnx" and options == {"coupled": "forget"}:
            continue  # supported is another value of the option: the exporter checks it
        assert (not unsupported) == documented, options
