"""Losses, each with its gradient: ``loss, gradient = f(outputs, targets, weights)``.

A loss is the mean over all elements, or their weighted mean Σ w·l / Σ w. Weight 0 excludes an element, such as padding
or a step without a target. Weights are finite and 0 or more. If all weights are 0, the loss is 0. Sums are computed in
float64 for every dtype.
"""

from math import inf, prod

import numpy as np
from numpy.typing import NDArray

from glasscell.core.norms import sum_of_squares
from glasscell.core.products import for_each
from glasscell.core.types import Array

Index = NDArray[np.intp]

SOFTMAX_BLOCK = 1 << 17  # logits treated at a time: they stay in a core's second cache
LOSSES = ("squared_error", "binary_cross_entropy", "categorical_cross_entropy")  # names of the functions in this module


@np.errstate(over="ignore", under="ignore", invalid="ignore")
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
    loss, gradient = weighted_mean(losses, gradient, weights)
    if not abs(loss) < inf and not np.isfinite(targets).all():  # checked only if the loss is not finite
        raise ValueError(f"targets must be in [0, 1], got {_first_outside_unit_interval(targets)}")
    return loss, gradient


def categorical_cross_entropy(
    logits: Array,
    targets: NDArray[np.integer],
    weights: Array | None = None,
    axis: int = -1,
    *,
    out: Array | None = None,
) -> tuple[float, Array]:
    """Compute -log softmax(z)_y, in nats, from logits z and class numbers y.

    Fastest if the logits of an element lie side by side in memory: each block of them is read and written once, while
    it is in cache.

    Parameters
    ----------
    logits : array
        V logits along `axis`.
    targets : array of int
        Shape of `logits` without `axis`; from 0 to V - 1.
    weights : array, broadcasts to the shape of `targets`, optional
        Finite, 0 or more. Default: 1.
    axis : int
    out : array, shape of `logits`, optional
        Where the gradient is written; may be `logits` itself. Default: a new array.

    Returns
    -------
    loss : float
        In nats.
    gradient : array
        dL/dz = w (softmax(z) - onehot(y)) / Σ w, the shape of `logits`.
    """
    V, axis = logits.shape[axis], axis % logits.ndim
    if targets.dtype.kind not in "iu":
        raise TypeError(f"targets must be class numbers, of an integer dtype, got {targets.dtype}")
    if targets.shape != logits.shape[:axis] + logits.shape[axis + 1 :]:
        raise ValueError(f"targets have shape {targets.shape}; expected that of the logits, {logits.shape}, without V")
    if targets.size and not 0 <= targets.min() <= targets.max() < V:
        raise ValueError(
            f"targets are from {targets.min()} to {targets.max()}; expected classes from 0 to V - 1 = {V - 1}"
        )
    w: Array = np.ones(targets.shape, np.float64) if weights is None else np.broadcast_to(weights, targets.shape)
    count = _total_weight(w, targets.size)
    gradient = np.empty_like(logits) if out is None else out
    if count == 0:
        gradient[...] = 0
        return 0.0, gradient
    # From here on axes are in the order of memory: P elements, before V, and Q elements, behind it.
    order = sorted(range(logits.ndim), key=lambda k: (-abs(logits.strides[k]), k))
    elements = [k - (k > axis) for k in order if k != axis]
    P = prod(logits.shape[k] for k in order[: order.index(axis)])
    z, d = logits.transpose(order).reshape(P, V, -1), gradient.transpose(order)
    y, w = targets.transpose(elements).reshape(P, -1), w.transpose(elements).reshape(P, -1)
    written = d.reshape(z.shape) if d.flags.c_contiguous else np.empty(z.shape, d.dtype)
    total = _write_softmax_gradient(z, y.astype(np.intp, copy=False), w, count, written)
    if not d.flags.c_contiguous:
        d[...] = written.reshape(d.shape)
    return total / count, gradient


@np.errstate(over="ignore", under="ignore")
def _write_softmax_gradient(z: Array, targets: Index, weights: Array, count: float, gradient: Array) -> float:
    """Write the gradient of the mean cross-entropy, block by block, and return the sum of the weighted losses.

    Parameters
    ----------
    z : array (P, V, Q)
    targets, weights : array (P, Q)
    count : float
        By which the sum is to be divided.
    gradient : array (P, V, Q)
        C-contiguous; may be z.
    """
    P, V, Q = z.shape
    limits, length = np.finfo(z.dtype), max(1, SOFTMAX_BLOCK // max(1, V * Q))
    sums = np.zeros(-(-P // length))

    def write_block(k: int) -> None:
        block = slice(k * length, (k + 1) * length)
        z_block, y, w, d = z[block], targets[block], weights[block], gradient[block]
        d_of_target, place = d.reshape(-1), (np.arange(len(d))[:, None] * V + y) * Q + np.arange(Q)
        np.subtract(z_block, z_block.max(axis=1, keepdims=True, initial=limits.min), out=d)
        shifted = d_of_target[place]
        np.exp(d, out=d)
        total = d.sum(axis=1)
        losses = np.minimum(np.log(total) - shifted, limits.max)
        sums[k] = (losses * w).sum(dtype=np.float64)
        d_of_target[place] -= total
        np.multiply(d, np.divide(w / count, total, dtype=np.float64).astype(d.dtype)[:, None], out=d)

    for_each(write_block, range(len(sums)))
    return float(sums.sum())


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
    difference = np.asarray(outputs - _same_shape(targets, outputs))  # NumPy makes scalars of arrays without axes
    if weights is not None:
        loss, gradient = weighted_mean(np.square(difference, dtype=np.float64), 2 * difference, weights)
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


def _total_weight(weights: Array | None, size: int) -> float:
    """Return Σ w over elements of this number, to which the weights broadcast."""
    if weights is None:
        return float(size)
    smallest, total = weights.min(initial=inf), float(weights.sum(dtype=np.float64))
    if not (smallest >= 0 and total < inf):
        raise ValueError(f"weights must be finite and 0 or more, got {total if smallest >= 0 else smallest}")
    return total * (size // max(1, weights.size))


def weighted_mean(losses: Array, gradient: Array, weights: Array | None) -> tuple[float, Array]:
    """Return the weighted mean of the losses, and its gradient; both arrays are overwritten."""
    losses, gradient = np.asarray(losses), np.asarray(gradient)
    count = _total_weight(weights, losses.size)
    if weights is not None:
        losses *= weights
        gradient *= weights
    if count == 0:
        gradient[...] = 0
        return 0.0, gradient
    gradient /= count
    return float(losses.sum(dtype=np.float64)) / count, gradient
