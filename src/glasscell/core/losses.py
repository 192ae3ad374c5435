"""Losses, each with its gradient: ``loss, gradient = f(outputs, targets, weights)``.

A loss is the mean over all elements, or their weighted mean Σ w·l / Σ w. Weight 0 excludes an element, such as padding
or a step without a target. Weights are finite and 0 or more. If all weights are 0, the loss is 0. Sums are computed in
float64 for every dtype.
"""

from math import inf

import numpy as np
from numpy.typing import NDArray

from glasscell.core.activations import softmax_terms
from glasscell.core.norms import sum_of_squares
from glasscell.core.types import Array

LOSSES = ("squared_error", "binary_cross_entropy", "categorical_cross_entropy")  # names of the functions in this module


@np.errstate(under="ignore", invalid="ignore")
def binary_cross_entropy(logits: Array, targets: Array, weights: Array | None = None) -> tuple[float, Array]:
    """Compute -[y log σ(z) + (1 - y) log(1 - σ(z))], in nats, from logits z and targets y.

    Computed as max(z, 0) - z y + log(1 + e^-|z|), without overflow and log of 0.

    Parameters
    ----------
    logits : array, any shape
    targets : array, same shape
        In [0, 1].
    weights : array, broadcasts to the shape, optional
        Finite, 0 or more. Default: 1.

    Returns
    -------
    loss : float
        In nats.
    gradient : array
        dL/dz = w (σ(z) - y) / Σ w.
    """
    targets = _same_shape(targets, logits)
    if 1 in (targets * targets > targets).ravel("K").tobytes():  # a fifth of the cost of two reductions
        raise ValueError(f"targets must be in [0, 1], got {_first_outside_unit_interval(targets)}")
    odds = np.exp(-np.abs(logits))
    losses = np.maximum(logits, 0) - logits * targets + np.log1p(odds)
    smaller_probability = odds / (1 + odds)  # σ(-|z|), precise also near targets of 0 and 1
    gradient = np.where(logits > 0, (1 - targets) - smaller_probability, smaller_probability - targets)
    loss, gradient = _weighted_mean(losses, gradient, weights)
    if not loss < inf and not np.isfinite(targets).all():  # checked only if the loss is not finite
        raise ValueError(f"targets must be in [0, 1], got {_first_outside_unit_interval(targets)}")
    return loss, gradient


@np.errstate(under="ignore")
def categorical_cross_entropy(
    logits: Array, targets: NDArray[np.integer], weights: Array | None = None, axis: int = -1
) -> tuple[float, Array]:
    """Compute -log softmax(z)_y, in nats, from logits z and class numbers y.

    Parameters
    ----------
    logits : array
        V logits along `axis`.
    targets : array of int
        Shape of `logits` without `axis`; from 0 to V - 1.
    weights : array, broadcasts to the shape of `targets`, optional
        Finite, 0 or more. Default: 1.
    axis : int

    Returns
    -------
    loss : float
        In nats.
    gradient : array
        dL/dz = w (softmax(z) - onehot(y)) / Σ w, the shape of `logits`.
    """
    V = logits.shape[axis]
    if targets.dtype.kind not in "iu":
        raise TypeError(f"targets must be class numbers, of an integer dtype, got {targets.dtype}")
    if targets.shape != tuple(size for k, size in enumerate(logits.shape) if k != axis % logits.ndim):
        raise ValueError(f"targets have shape {targets.shape}; expected that of the logits, {logits.shape}, without V")
    if targets.size and not 0 <= targets.min() <= targets.max() < V:
        raise ValueError(
            f"targets are from {targets.min()} to {targets.max()}; expected classes from 0 to V - 1 = {V - 1}"
        )
    index = np.expand_dims(targets, axis)
    shifted, gradient, total = softmax_terms(logits, axis)
    losses = np.minimum(np.log(total) - np.take_along_axis(shifted, index, axis), np.finfo(logits.dtype).max)
    gradient /= total
    np.put_along_axis(gradient, index, np.take_along_axis(gradient, index, axis) - 1, axis)
    if weights is not None:
        weights = np.expand_dims(np.broadcast_to(weights, targets.shape), axis)
    return _weighted_mean(losses, gradient, weights)


@np.errstate(under="ignore")
def squared_error(outputs: Array, targets: Array, weights: Array | None = None) -> tuple[float, Array]:
    """Compute (y - t)², without a factor ½, as in PyTorch's MSELoss.

    Parameters
    ----------
    outputs, targets : array, same shape
    weights : array, broadcasts to the shape, optional
        Finite, 0 or more. Default: 1.

    Returns
    -------
    loss : float
    gradient : array
        dL/dy = 2 w (y - t) / Σ w.
    """
    difference = outputs - _same_shape(targets, outputs)
    if weights is not None:
        loss, gradient = _weighted_mean(np.square(difference, dtype=np.float64), 2 * difference, weights)
    else:
        count = max(1, difference.size)
        loss = sum_of_squares(difference.ravel("K")) / count
        gradient = np.multiply(difference, np.array(2 / count, difference.dtype), out=difference)
    if not loss < inf and not np.isfinite(targets).all():  # checked only if the loss is not finite
        raise ValueError("targets must be finite, got NaN or infinite values")
    return loss, gradient


def _first_outside_unit_interval(targets: Array) -> object:
    """Return the first value outside [0, 1]."""
    return targets[~((targets >= 0) & (targets <= 1))].flat[0]


def _same_shape(targets: Array, outputs: Array) -> Array:
    if targets.shape != outputs.shape:
        raise ValueError(f"targets have shape {targets.shape}; expected that of the outputs, {outputs.shape}")
    return targets if targets.dtype == outputs.dtype else targets.astype(outputs.dtype)


def _weighted_mean(losses: Array, gradient: Array, weights: Array | None) -> tuple[float, Array]:
    """Return the weighted mean of the losses, and its gradient; both arrays are overwritten."""
    count = float(losses.size)
    if weights is not None:
        smallest = weights.min(initial=inf)
        total = float(weights.sum(dtype=np.float64))
        if not (smallest >= 0 and total < inf):
            raise ValueError(f"weights must be finite and 0 or more, got {total if smallest >= 0 else smallest}")
        losses *= weights
        gradient *= weights
        count = total * (losses.size // max(1, weights.size))
    if count == 0:
        gradient[...] = 0
        return 0.0, gradient
    gradient /= count
    return float(losses.sum(dtype=np.float64)) / count, gradient
