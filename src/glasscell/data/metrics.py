"""Losses and metrics by name, averaged exactly over batches of different sizes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from glasscell.core import losses
from glasscell.core.types import Array
from glasscell.data.batch import Batch

Mask: TypeAlias = NDArray[np.bool_]
Loss: TypeAlias = Callable[..., tuple[float, Array]]
"""``loss, d_outputs = f(outputs, targets, weights)``; a weighted mean, as those of :mod:`glasscell.core.losses`."""
Metric: TypeAlias = Callable[[Array, Batch], float | tuple[float, float]]
"""A number for each batch, averaged over its sequences; or (sum, count), averaged exactly."""


class Part(NamedTuple):
    """A sum, and the number of elements in it."""

    total: float
    number: float


def loss_function(loss: str | Loss) -> Loss:
    """Return a loss function by its name.

    Raises
    ------
    ValueError
        If there is no loss of this name.
    """
    if callable(loss):
        return loss
    if loss not in losses.LOSSES:
        raise ValueError(f"loss must be one of {', '.join(losses.LOSSES)}, or a function, got {loss!r}")
    found: Loss = getattr(losses, loss)
    return found


def loss_count(batch: Batch) -> float:
    """Return Σ w over the elements of a batch: what its mean loss has to be weighted with."""
    size = float(batch.targets.size)
    if batch.weights is None:
        return size
    weights = batch.weights
    return float(weights.sum(dtype=np.float64)) * (size / max(1, weights.size))


def _valid(batch: Batch, shape: tuple[int, ...]) -> Mask:
    """Return True for each element that counts, of this shape."""
    if batch.weights is None:
        return np.ones(shape, np.bool_)
    weights = batch.weights
    if weights.ndim == len(shape) + 1:
        weights = weights[..., 0]
    return np.broadcast_to(weights > 0, shape)


def _right(outputs: Array, batch: Batch) -> tuple[Mask, Mask]:
    """Return which answers are right, and which count: classes by their largest output, others by the sign."""
    targets = batch.targets
    by_class = targets.ndim == outputs.ndim - 1
    right: Mask = outputs.argmax(axis=-1) == targets if by_class else (outputs > 0) == (targets > 0.5)
    return right, _valid(batch, right.shape)


def accuracy(outputs: Array, batch: Batch) -> Part:
    """Count right answers: the class of the largest output, or for binary targets the sign of each logit."""
    right, valid = _right(outputs, batch)
    return Part(float(right[valid].sum()), float(valid.sum()))


def sequence_accuracy(outputs: Array, batch: Batch) -> Part:
    """Count sequences in which every answer is right."""
    right, valid = _right(outputs, batch)
    axes = tuple(range(1, right.ndim))
    return Part(float((right | ~valid).all(axis=axes).sum()), float(len(right)))


def mean_absolute_error(outputs: Array, batch: Batch) -> Part:
    """Sum |y - t|."""
    valid = _valid(batch, outputs.shape)
    return Part(float(np.abs(outputs - batch.targets, dtype=np.float64)[valid].sum()), float(valid.sum()))


def mean_squared_error(outputs: Array, batch: Batch) -> Part:
    """Sum (y - t)²."""
    valid = _valid(batch, outputs.shape)
    difference = (outputs - batch.targets).astype(np.float64)
    return Part(float((difference * difference)[valid].sum()), float(valid.sum()))


METRICS: dict[str, Metric] = {
    "accuracy": accuracy,
    "bit_accuracy": accuracy,
    "sequence_accuracy": sequence_accuracy,
    "mean_absolute_error": mean_absolute_error,
    "mean_squared_error": mean_squared_error,
}


def metric_functions(metrics: Iterable[str | Metric] | Mapping[str, Metric]) -> dict[str, Metric]:
    """Return metrics by name.

    Raises
    ------
    ValueError
        If there is no metric of a name, or two have the same.
    """
    if isinstance(metrics, str):
        metrics = [metrics]
    if not isinstance(metrics, Iterable):
        raise TypeError(f"metrics must be a list of names or functions, got {metrics!r}")
    if isinstance(metrics, Mapping):
        for name, metric in metrics.items():
            if name == "loss" or not callable(metric):
                raise TypeError(f"metrics must map names other than 'loss' to functions, got {name!r}: {metric!r}")
        return dict(metrics)
    found: dict[str, Metric] = {}
    for metric in metrics:
        if not isinstance(metric, str) and not callable(metric):
            raise TypeError(f"metrics must be names or functions, got {metric!r}")
        name = metric if isinstance(metric, str) else getattr(metric, "__name__", type(metric).__name__)
        if isinstance(metric, str) and metric not in METRICS:
            raise ValueError(f"metrics must be of {', '.join(METRICS)}, or functions, got {metric!r}")
        if name in found or name == "loss":
            raise ValueError(f"metrics must have different names, and none may be 'loss', got {name!r} again")
        found[name] = METRICS[metric] if isinstance(metric, str) else metric
    return found


class Average:
    """Exact means of metrics over batches."""

    def __init__(self) -> None:
        self._means: dict[str, Part] = {}

    def add(self, name: str, value: float | tuple[float, float], sequences: int) -> None:
        """Add a metric of a batch: (sum, count), or a mean over its sequences.

        Raises
        ------
        ValueError
            If the metric is not a number.
        """
        total, count = value if isinstance(value, tuple) else (float(value) * sequences, float(sequences))
        if math.isnan(total) or math.isnan(count):
            raise ValueError(f"metrics must be numbers, got NaN for {name!r}")
        self.add_mean(name, total / count if count else 0.0, count)

    def add_mean(self, name: str, mean: float, count: float) -> None:
        """Add a mean over `count` elements."""
        before, counted = self._means.get(name, Part(0.0, 0.0))
        counted += count
        share = count / counted if counted else 0.0
        # The mean of a single batch stays as it is, to the last bit.
        self._means[name] = Part(mean if share == 1 else before + (mean - before) * share, counted)

    def means(self) -> dict[str, float]:
        """Return the mean of each metric; NaN where nothing was counted."""
        return {name: mean if count else math.nan for name, (mean, count) in self._means.items()}
