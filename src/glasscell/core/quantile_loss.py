"""Quantile (pinball) loss, which several quantiles of each target minimise: Koenker & Bassett (1978)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from glasscell.core.losses import weighted_mean
from glasscell.core.types import Array


class QuantileLoss:
    """Mean of max(q e, (q − 1) e), e = target − output, over all quantiles q of all targets.

    Parameters
    ----------
    quantiles : sequence of float
        Q increasing numbers between 0 and 1.

    Examples
    --------
    >>> loss = QuantileLoss((0.1, 0.5, 0.9))
    >>> loss(np.zeros((1, 3)), np.ones((1, 1)))[0]
    0.5
    """

    def __init__(self, quantiles: Sequence[float]) -> None:
        self.quantiles = check_quantiles(quantiles)

    def __call__(self, outputs: Array, targets: Array, weights: Array | None = None) -> tuple[float, Array]:
        """Compute the loss and its gradient.

        Parameters
        ----------
        outputs : array (..., F Q)
            For each of F targets its Q quantiles.
        targets : array (..., F)
        weights : array, broadcasts to the targets, optional
            Finite, 0 or more. Default: 1.

        Returns
        -------
        loss : float
            Mean over targets and quantiles, weighted.
        gradient : array (..., F Q)
            0 where an output equals its target.
        """
        Q = len(self.quantiles)
        if outputs.shape != (*targets.shape[:-1], targets.shape[-1] * Q):
            raise ValueError(f"outputs must have {Q} quantiles for each of {targets.shape}, got shape {outputs.shape}")
        quantiles = np.asarray(self.quantiles, outputs.dtype)
        errors = targets[..., None] - outputs.reshape(*targets.shape, Q)
        losses = np.maximum(quantiles * errors, (quantiles - 1) * errors)
        gradient = np.where(errors > 0, -quantiles, 1 - quantiles)
        gradient[errors == 0] = 0
        if weights is not None:
            weights = np.broadcast_to(weights, targets.shape)[..., None]
        loss, gradient = weighted_mean(losses, gradient, weights)
        return loss, gradient.reshape(outputs.shape)

    def __repr__(self) -> str:
        return f"QuantileLoss({self.quantiles})"


def check_quantiles(quantiles: Sequence[float]) -> tuple[float, ...]:
    """Return the quantiles as floats, if they are increasing numbers between 0 and 1."""
    try:
        values = tuple(float(q) for q in quantiles)
    except (TypeError, ValueError):
        raise TypeError(f"quantiles must be a list of numbers, got {quantiles!r:.100}") from None
    if not values or not all(a < b for a, b in zip((0.0, *values), (*values, 1.0), strict=True)):
        raise ValueError(f"quantiles must be increasing numbers between 0 and 1, got {values}")
    return values
