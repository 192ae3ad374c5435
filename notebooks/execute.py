"""Execute the source of a notebook, ``….py`` in py:percent, and write the ``….ipynb`` to the same folder.

python notebooks/execute.py notebooks/Make_copy.py
"""

import sys
from pathlib import Path

import jupytext
import nbclient
import nbformat


def execute(source: Path) -> nbformat.NotebookNode:
    """Return the executed notebook, without metadata that differ between runs."""
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
