"""Measure how much rounding alone changes the outputs and gradients of a model.

Two correct computations in float32 differ by amplified rounding errors. The amplification is measured in float64:
weights, inputs and states are perturbed by random relative errors of one rounding, and the largest change of the
results counts. The checked results are not used: a wrong float32 result does not raise its bound.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from glasscell.core.types import Array
from glasscell.models import Sequential

UNITS = 2.0**-24, 2.0**-52  # relative: one rounding in float32; the smallest change in float64
DRAWS = 3
SAFETY = 16  # errors of correct computations were 0.3 to 10 times the response, for weights of any size


class Response(NamedTuple):
    """Largest relative changes of results by rounding their inputs.

    Attributes
    ----------
    values, gradients : float
        In float32.
    values64, gradients64 : float
        In float64.
    """

    values: float
    gradients: float
    values64: float
    gradients64: float


Perturb = Callable[[Array], Array]


def response(distance: Callable[[Perturb], tuple[float, float]], seed: int = 0) -> Response:
    """Measure the response of a computation.

    Parameters
    ----------
    distance : callable
        From a function that perturbs arrays to the relative changes of values and of gradients.
    seed : int
    """
    rng = np.random.default_rng(seed)
    changes: list[float] = []
    for unit in UNITS:

        def perturb(array: Array, unit: float = unit) -> Array:
            changed: Array = array * (1 + unit * rng.uniform(-1, 1, array.shape))
            return changed

        with np.errstate(all="ignore"):
            draws = np.array([distance(perturb) for _ in range(DRAWS)])
        changes += [float(value) if np.isfinite(value) else 0.0 for value in draws.max(axis=0)]
    return Response(*changes)


def sequential_response(model: Sequential, x: Any) -> Response:
    """Measure how much rounding changes the outputs of a model in float64."""
    weights, has_ids = model.to_torch(), np.asarray(x).dtype.kind in "iu"
    exact = model(x)

    def distance(perturb: Perturb) -> tuple[float, float]:
        changed = Sequential.from_weights(model.config, {name: perturb(array) for name, array in weights.items()})
        y = changed(x if has_ids else perturb(np.asarray(x)))
        size = max(float(np.abs(exact).max(initial=0.0)), 1.0)
        return float(np.abs(y - exact).max(initial=0.0)) / size, 0.0

    return response(distance)
