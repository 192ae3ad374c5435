"""Checks of what a file of a forecaster contains, before memory is allocated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from glasscell.core.types import Array
from glasscell.data.series.series import Values, finite_values
from glasscell.models.forecast import ForecastingModel
from glasscell.validation import integer
from glasscell.weight_layouts import check_lstm_sizes

RESIDUALS = "calibration.residuals"  # name of the residuals among the weights


def check_sizes(options: Mapping[str, Any], weights: Mapping[str, Array]) -> None:
    """Raise ValueError if the sizes of a configuration are not those of the weights."""
    shapes = {name: array.shape for name, array in weights.items()}
    check_lstm_sizes(options, weights)
    I, O = shapes.get("lstm.weight_ih_l0", (0, 0))[-1], shapes.get("readout.weight", (0,))[0]
    counts = ("horizon", "targets", "known_exogenous", "past_exogenous")
    h, C, K, J = (integer(name, options[name]) for name in counts)
    expected = C * (1 + len(options["lags"])) + J + K * (h + 1), h * C * max(1, len(options["quantiles"]))
    if expected != (I, O):
        raise ValueError(f"there are weights for {I} inputs and {O} outputs, expected {expected[0]} and {expected[1]}")


def check_scaling(scaling: Mapping[str, Any], sizes: Mapping[str, int]) -> dict[str, Values]:
    """Return the arrays of a scaling; scales are above 0."""
    if scaling.keys() != sizes.keys():
        raise ValueError(f"scaling must have {', '.join(sizes)}, got {', '.join(map(str, scaling))}")
    arrays: dict[str, Values] = {}
    for name, size in sizes.items():
        array = finite_values(name, scaling[name])
        if array.shape != (size,) or (name.endswith("scale") and not array.min() > 0):
            raise ValueError(f"{name} must be {size} numbers, scales above 0, got {scaling[name]!r:.100}")
        arrays[name] = array
    return arrays


def check_residuals(residuals: Array, model: ForecastingModel) -> Values:
    """Return the residuals of a calibration, if they are of the shape that the model has."""
    C, Q = model.features.targets, max(1, len(model.quantiles))
    if residuals.ndim != 4 or not residuals.size or residuals.shape[2:] != (C, Q):
        raise ValueError(f"{RESIDUALS} must have shape (n, h, {C}, {Q}), got {residuals.shape}")
    return residuals.astype(np.float64)
