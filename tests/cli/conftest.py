"""Fixtures of the tests of commands."""

import sys
from pathlib import Path

import pytest

from glasscell.cli import copy

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "training" / "parallel")]  # for copy_runs
pytest.register_assert_rewrite("copy_runs")


@pytest.fixture
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def no_picture(monkeypatch):
    monkeypatch.setattr(copy, "is_installed", lambda _: False)  # Matplotlib takes a second
