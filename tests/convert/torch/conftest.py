"""Fixtures of the tests of PyTorch's files."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for torch_file_builders
pytest.register_assert_rewrite("torch_file_builders")


@pytest.fixture
def file(tmp_path):
    return tmp_path / "m.pt"
