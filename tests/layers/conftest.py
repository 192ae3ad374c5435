"""Helper modules of the tests of layers: problems, and comparisons with references."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("comparison", "keras_lstms", "layer_cases", "lstm_problems")
