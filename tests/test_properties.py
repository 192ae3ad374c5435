"""Short form of ``benchmarks/torture/properties.py``: examples of every public function of core and layers.

GLASSCELL_EXAMPLES=1000 checks as many of each instead of some twenty.
"""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from case_loops import loop_over

from glasscell.core import losses

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
EXAMPLES = int(os.environ.get("GLASSCELL_EXAMPLES", "12"))
if not (BENCHMARKS / "torture").is_dir():
    pytest.skip("benchmarks are not part of an installed package", allow_module_level=True)
sys.path.insert(0, str(BENCHMARKS))
from torture import properties  # noqa: E402 - after the path is set


def run_examples(name: str, count: int) -> None:
    for number in range(count):
        properties.run_example(name, 0, number)


@loop_over("name", properties.PROPERTIES)
def test_finite_gives_finite_and_illegal_the_documented_error(name: str) -> None:
    run_examples(name, EXAMPLES)


def test_a_function_without_the_property_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exponentials overflow."""
    example = properties.PROPERTIES["sigmoid"].__globals__["elementwise"](lambda z: np.exp(z), lambda _, a: a)
    monkeypatch.setitem(properties.PROPERTIES, "exponential", example)
    with pytest.raises((AssertionError, RuntimeWarning)):
        run_examples("exponential", 50)


def test_infinite_targets_are_refused_although_the_loss_is_minus_infinity() -> None:
    for shape in ((), (1,), (2, 3)):
        z, y = np.full(shape, 5.0), np.full(shape, 0.5)
        y.flat[-1] = np.inf
        with pytest.raises(ValueError, match=r"targets must be in \[0, 1\], got inf"):
            losses.binary_cross_entropy(z, y)


def test_losses_of_arrays_without_axes_are_arrays() -> None:
    for loss in (losses.squared_error, losses.binary_cross_entropy):
        for weights in (None, np.ones(()), np.zeros(())):
            value, gradient = loss(np.array(2.0), np.array(0.5), weights)
            assert np.isfinite(value)
            assert gradient.shape == ()
