"""What the tests of the mathematics share: the derivative of anything, by finite differences."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for variant_problems
pytest.register_assert_rewrite("variant_problems")

Function = Callable[[float], np.ndarray]


@pytest.fixture(scope="session")
def slope() -> Callable[[Function], np.ndarray]:
    """df(s)/ds at s = 0, by central differences of fourth order: wrong by about step⁴ and by 1e-16 / step."""

    def slope(f: Function, step: float = 1e-4) -> np.ndarray:
        return (8 * (f(step) - f(-step)) - (f(2 * step) - f(-2 * step))) / (12 * step)

    return slope
