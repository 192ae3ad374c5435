"""The loss of the outputs of a trace."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glasscell.core import losses
from glasscell.core.types import Array
from glasscell.validation import finite_array


def compute_loss(
    loss: str, outputs: Array, y: ArrayLike, weights: ArrayLike | None
) -> tuple[float, Array, NDArray[Any], Array | None]:
    """Validate targets and weights, and return the loss, its gradient on outputs (…, O), targets and weights."""
    of_classes = loss == "categorical_cross_entropy"
    expected = outputs.shape[:-1] if of_classes else outputs.shape
    targets: NDArray[Any] = np.asarray(y)
    if of_classes and targets.dtype.kind not in "iu":
        raise TypeError(f"y must be class numbers for {loss}, and has dtype {targets.dtype}")
    if not of_classes:
        targets = finite_array("y", y, outputs.dtype)
    if targets.shape != expected:
        raise ValueError(f"y must have shape {expected} for outputs {outputs.shape} and {loss}, got {targets.shape}")
    counted = None
    if weights is not None:
        given = finite_array("weights", weights, outputs.dtype)
        try:
            counted = np.broadcast_to(given, expected)
        except ValueError:
            raise ValueError(f"weights has shape {given.shape}, which does not broadcast to {expected}") from None
    function: Any = getattr(losses, loss)
    value, d_outputs = function(outputs, targets, counted)
    return value, d_outputs, targets, counted
