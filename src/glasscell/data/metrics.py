"""Losses and metrics by name, averaged exactly over batches of different sizes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from glasscell.core import losses
from glasscell.core.types import Array
from glasscell.data.batch import Batch
from glasscell.data.predictions import has_largest_output, has_right_sign

Mask: TypeAlias = NDArray[np.bool_]
Loss: TypeAlias = Callable[..., tuple[float, Array]]
"""``loss, d_outputs = f(outputs, targets, weights)``; a weighted mean, as those of :mod:`glasscell.core.losses`."""
Metric: TypeAlias = Callable[[Array, Batch], float | tuple[float, float]]
"""A number for each batch, averaged over its sequences; or (sum, count), averaged exactly."""


class WeightedSum(NamedTuple):
    """A sum, and the number of elements in it."""

    total: float
    number: float


@dataclass(frozen=True)
class ScaledSquaredError:
    """The squared error in units of the variance of each target: the mean of (y - t)² / variance.

    Parameters
    ----------
    variance : tuple of float, (O,)
    """

    variance: tuple[float, ...]

    def __call__(self, outputs: Array, targets: Array, weights: Array | None = None) -> tuple[float, Array]:
        """Return the loss and its gradient on the outputs."""
        factor = (1 / np.sqrt(self.variance)).astype(outputs.dtype)
        # The difference first: outputs and targets may be large numbers that differ little.
        difference = (outputs - _same_shape(targets, outputs)) * factor
        loss, gradient = losses.squared_error(difference, np.zeros_like(difference), weights)
        return loss, gradient * factor


def _same_shape(targets: Array, outputs: Array) -> Array:
    if targets.shape != outputs.shape:
        raise ValueError(f"targets have shape {targets.shape}; expected that of the outputs, {outputs.shape}")
    return targets


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
    function: Loss = getattr(losses, loss)
    return function


def loss_count(batch: Batch) -> float:
    """Return Σ w over the elements of a batch, the weight of its mean loss in an average."""
    size = float(batch.targets.size)
    if batch.weights is None:
        return size
    weights = batch.weights
    return float(weights.sum(dtype=np.float64)) * (size / max(1, weights.size))


def _valid(batch: Batch, shape: tuple[int, ...]) -> Mask:
    """Return a mask (of this shape) of elements with a weight above 0."""
    if batch.weights is None:
        return np.ones(shape, np.bool_)
    weights = batch.weights
    if weights.ndim == len(shape) + 1:
        weights = weights[..., 0]
    return np.broadcast_to(weights > 0, shape)


def _correct(outputs: Array, batch: Batch) -> tuple[Mask, Mask]:
    """Return masks of correct and of valid predictions: classes by the largest output, binary targets by the sign.

    A prediction that is NaN is not correct.
    """
    targets = batch.targets
    by_class = targets.ndim == outputs.ndim - 1
    correct = has_largest_output(outputs, targets) if by_class else has_right_sign(outputs, targets)
    return correct, _valid(batch, correct.shape)


def accuracy(outputs: Array, batch: Batch) -> WeightedSum:
    """Count correct predictions: the class of the largest output, or for binary targets the sign of each logit."""
    correct, valid = _correct(outputs, batch)
    return WeightedSum(float(correct[valid].sum()), float(valid.sum()))


def sequence_accuracy(outputs: Array, batch: Batch) -> WeightedSum:
    """Count sequences in which all predictions are correct."""
    correct, valid = _correct(outputs, batch)
    axes = tuple(range(1, correct.ndim))
    return WeightedSum(float((correct | ~valid).all(axis=axes).sum()), float(len(correct)))


def mean_absolute_error(outputs: Array, batch: Batch) -> WeightedSum:
    """Sum |y - t|."""
    valid = _valid(batch, outputs.shape)
    return WeightedSum(float(np.abs(outputs - batch.targets, dtype=np.float64)[valid].sum()), float(valid.sum()))


def mean_squared_error(outputs: Array, batch: Batch) -> WeightedSum:
    """Sum (y - t)²."""
    valid = _valid(batch, outputs.shape)
    difference = (outputs - batch.targets).astype(np.float64)
    return WeightedSum(float((difference * difference)[valid].sum()), float(valid.sum()))


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
    functions: dict[str, Metric] = {}
    for metric in metrics:
        if not isinstance(metric, str) and not callable(metric):
            raise TypeError(f"metrics must be names or functions, got {metric!r}")
        name = metric if isinstance(metric, str) else getattr(metric, "__name__", type(metric).__name__)
        if isinstance(metric, str) and metric not in METRICS:
            raise ValueError(f"metrics must be of {', '.join(METRICS)}, or functions, got {metric!r}")
        if name in functions or name == "loss":
            raise ValueError(f"metrics must have different names, and none may be 'loss', got {name!r} again")
        functions[name] = METRICS[metric] if isinstance(metric, str) else metric
    return functions


class Average:
    """Exact means of metrics over batches."""

    def __init__(self) -> None:
        self._means: dict[str, WeightedSum] = {}

    def add(self, name: str, value: float | tuple[float, float], sequences: int) -> None:
        """Add a metric of a batch: (sum, count), or a mean over its sequences.

        Raises
        ------
        TypeError, ValueError
            If the metric is not a number, or NaN.
        """
        try:
            total, count = map(float, value) if isinstance(value, tuple) else (float(value) * sequences, sequences)
        except (TypeError, ValueError):
            raise TypeError(f"metrics must return a number or (sum, count), got {value!r:.100} of {name!r}") from None
        if math.isnan(total) or math.isnan(count):
            raise ValueError(f"metrics must be numbers, got NaN for {name!r}")
        self.add_mean(name, total / count if count else 0.0, count)

    def add_mean(self, name: str, mean: float, count: float) -> None:
        """Add a mean over `count` elements."""
        before, counted = self._means.get(name, WeightedSum(0.0, 0.0))
        counted += count
        fraction = count / counted if counted else 0.0
        # The mean of a single batch stays as it is, to the last bit.
        self._means[name] = WeightedSum(mean if fraction == 1 else before + (mean - before) * fraction, counted)

    def means(self) -> dict[str, float]:
        """Return the mean of each metric; NaN where nothing was counted."""
        return {name: mean if count else math.nan for name, (mean, count) in self._means.items()}
