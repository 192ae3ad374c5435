"""Helper modules of the tests of explanations."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("explained_models", "intervention_cases")
