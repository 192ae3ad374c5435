"""The notebook that is read is the one that runs: it executes without an error, and agrees with its source."""

from pathlib import Path

import pytest

jupytext = pytest.importorskip("jupytext", reason="needs the notebook extra")
nbclient = pytest.importorskip("nbclient", reason="needs the notebook extra")

FOLDER = Path(__file__).parent.parent / "notebooks"
SOURCE, EXECUTED = FOLDER / "Make_copy.py", FOLDER / "Make_copy.ipynb"


def cells(notebook):
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def test_the_executed_notebook_has_the_cells_of_the_source():
    assert cells(jupytext.read(EXECUTED)) == cells(jupytext.read(SOURCE))


def test_the_executed_notebook_shows_results_and_no_errors():
    outputs = [output for cell in jupytext.read(EXECUTED).cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 6
    assert not [output for output in outputs if output.output_type == "error"]


def test_the_source_executes():
    notebook = jupytext.read(SOURCE)
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute(cwd=FOLDER)
    printed = "".join(output.text for cell in notebook.cells for output in cell.get("outputs", []) if "text" in output)
    assert "held-out sequences copied exactly: 100.0%" in printed
