"""Let the tests of sweeps, and their processes, import sweep_functions."""

import os
import sys
from pathlib import Path

import pytest

FOLDER = str(Path(__file__).parent)
sys.path.insert(0, FOLDER)


@pytest.fixture
def importable(monkeypatch):
    """Let new processes import sweep_functions."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([FOLDER, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]))
