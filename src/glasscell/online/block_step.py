"""Parts of a step of memory blocks: its squashing functions, and what it leaves for the learning rule."""

from typing import NamedTuple

import numpy as np

from glasscell.core.activations import sigmoid, sigmoid_derivative
from glasscell.core.types import Array
from glasscell.validation import finite_number


class Step(NamedTuple):
    """What a step leaves for the learning rule."""

    u: Array  # (K,)  inputs of the hidden units
    v: Array  # inputs of the output units
    h: Array  # (M,)  h(s)
    h_slope: Array  # (M,)  h'(s)
    output_gate: Array  # (G,)
    y: Array  # (O,)


def range_of(name: str, value: tuple[float, float]) -> tuple[float, float]:
    """Return the lower and the upper end of a range."""
    if not hasattr(value, "__len__") or len(value) != 2:
        raise ValueError(f"{name} must be two numbers, got {value!r:.100}")
    low, high = (finite_number(name, end) for end in value)
    if not 0 < high - low < np.inf:
        raise ValueError(f"{name} must be from a lower to a higher number, got {value!r:.100}")
    return low, high


def squash(z: Array, ends: tuple[float, float]) -> tuple[Array, Array]:
    """Return the logistic function with this range, and its derivative."""
    low, high = ends
    s = sigmoid(z)
    return low + (high - low) * s, (high - low) * sigmoid_derivative(s)
