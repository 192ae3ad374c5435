"""Means and variances of features, over all steps of the training part, weighted as the loss is.

Inputs are weighted by the weights of the sequences alone: a step whose target has no weight is read as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from glasscell.data.arrays import ArrayData
    from glasscell.data.batch import AnyArray

SMALLEST_DEVIATION = 1e-7  # the smallest that a Normalization divides by
ROWS = 1 << 16  # steps that are converted to float64 at a time


class FeatureScale(NamedTuple):
    """Mean and variance of each feature; the variance of a constant feature is stated as 1."""

    mean: tuple[float, ...]
    variance: tuple[float, ...]


def input_scale(data: ArrayData, features: int) -> FeatureScale:
    """Return the scale of the inputs over all valid steps.

    Raises
    ------
    ValueError
        If the inputs do not have this number of features, or a feature varies too little to be scaled.
    """
    return _scale("x", _rows("x", data.x, data, features, per_step=True), _row_weights(data, per_step=True))


def target_scale(data: ArrayData, features: int) -> FeatureScale:
    """Return the scale of the targets, over sequences or over valid steps, whose weights count if they have any."""
    rows = _rows("y", data.y, data, features, per_step=data.per_step)
    if data.step_weights is None:
        return _scale("y", rows, _row_weights(data, per_step=data.per_step))
    steps = [entry[:length] for entry, length in zip(data.step_weights, data.lengths, strict=True)]
    return _scale("y", rows, np.concatenate(steps))


def _rows(
    name: str, entries: AnyArray | list[AnyArray], data: ArrayData, features: int, *, per_step: bool
) -> list[AnyArray]:
    """Return arrays (n, F) of rows, which together are all valid ones."""
    if isinstance(entries, np.ndarray) and (not per_step or (data.lengths == entries.shape[1]).all()):
        parts = [entries.reshape(-1, entries.shape[-1])] if entries.ndim == (3 if per_step else 2) else [entries]
    else:
        parts = [entry[:length] for entry, length in zip(entries, data.lengths, strict=True)]
    shape = parts[0].shape
    if len(shape) != 2 or shape[1] != features:
        raise ValueError(f"{name} must have {features} features per {'step' if per_step else 'sequence'}, got {shape}")
    return parts


def _row_weights(data: ArrayData, *, per_step: bool) -> NDArray[np.float64] | None:
    """Return the weight of each row: that of its sequence."""
    weights = data.sample_weights
    return weights if weights is None or not per_step else np.repeat(weights, data.lengths)


def _scale(name: str, parts: list[AnyArray], weights: NDArray[np.float64] | None) -> FeatureScale:
    """Return mean and variance of all rows; two passes, in float64."""
    joined = parts[0] if len(parts) == 1 else np.concatenate(parts)
    count = len(joined) if weights is None else weights.sum()
    if not count:
        raise ValueError(f"{name} must have at least one step, got none")
    mean, variance, largest = (np.zeros(joined.shape[1]) for _ in range(3))
    with np.errstate(over="ignore", invalid="ignore"):
        for block, w in _blocks(joined, weights):
            mean += (block * w).sum(axis=0) / count
            np.maximum(largest, np.abs(block).max(axis=0), out=largest)
        for block, w in _blocks(joined, weights):
            variance += (np.square(block - mean) * w).sum(axis=0) / count
    if not np.isfinite(variance).all():
        k = int(np.flatnonzero(~np.isfinite(variance))[0])
        raise ValueError(
            f"{name} must have features whose variance is a number, got {largest[k]:.3g} as the largest value of "
            f"feature {k}: change its unit"
        )
    deviation: NDArray[np.float64] = np.sqrt(variance)
    constant = deviation <= np.finfo(np.float32).eps * largest  # as far as float32 can represent
    small = ~constant & (deviation < SMALLEST_DEVIATION)
    if small.any():
        k = int(np.flatnonzero(small)[0])
        raise ValueError(
            f"{name} must have features whose standard deviation is at least {SMALLEST_DEVIATION:g} or 0, "
            f"got {deviation[k]:.3g} for feature {k}: change its unit"
        )
    return FeatureScale(tuple(mean.tolist()), tuple(np.where(constant, 1.0, variance).tolist()))


def _blocks(
    rows: AnyArray, weights: NDArray[np.float64] | None
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64] | float]]:
    """Yield the rows in float64, a limited number at a time, and their weights (n, 1)."""
    for start in range(0, len(rows), ROWS):
        part = slice(start, start + ROWS)
        yield rows[part].astype(np.float64), 1.0 if weights is None else weights[part, None]
