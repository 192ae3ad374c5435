"""Execute a notebook's source, ``….py`` in py:percent, into the ``….ipynb`` beside it.

python notebooks/execute.py notebooks/Make_copy.py
"""

import sys
from pathlib import Path

import jupytext
import nbclient
import nbformat


def execute(source: Path) -> nbformat.NotebookNode:
    """The executed notebook, with nothing in it that would differ between two runs of the same results."""
    notebook = jupytext.read(source)
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", record_timing=False).execute(
        cwd=source.parent
    )
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"]}
    return notebook


if __name__ == "__main__":
    source = Path(sys.argv[1])
    nbformat.write(execute(source), source.with_suffix(".ipynb"))
