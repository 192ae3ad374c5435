"""Run small `glasscell copy` commands, and processes that are interrupted."""

import os
from pathlib import Path

import glasscell

SOURCE = str(Path(glasscell.__file__).parents[1])

TINY = ["copy", "--width", "4", "--hidden-size", "3", "--steps", "30", "--batch-size", "4"]

ENDLESS = ["copy", "--width", "4", "--hidden-size", "3", "--steps", "10000000", "--batch-size", "4"]

# The command where neither Matplotlib nor Numba is installed, each of which takes most of a second to import.
WITH_NUMPY_ALONE = (
    "-c",
    "import sys; sys.modules['matplotlib'] = sys.modules['numba'] = None; from glasscell.cli import main; "
    "sys.exit(main())",
)


def raising(*_, **__):
    raise RuntimeError("it does not work")


def environment_of(**environment):
    return os.environ | {"PYTHONPATH": SOURCE, "PYTHONIOENCODING": "utf-8", "OPENBLAS_NUM_THREADS": "1"} | environment
