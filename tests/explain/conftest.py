"""Helper modules of the tests of explanations, and models whose answers are known."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("explained_models", "intervention_cases", "known_models", "known_systems")

from known_models import Latch, make_latch  # noqa: E402 - after the path

import glasscell as gc  # noqa: E402


@pytest.fixture(scope="session")
def latch() -> Latch:
    """A model that latches one bit of six."""
    return make_latch()


@pytest.fixture(scope="session")
def trained() -> gc.CopyLSTM:
    """A model that copies four bits."""
    task = gc.tasks.Copy(width=4)
    model = gc.CopyLSTM(16, task=task, seed=0)
    gc.fit(model, task, updates=400, seed=0, progress=False)
    return model
