"""Evaluation of a model during training: scores, and which of two is better."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from glasscell.core.buffers import BufferPool
from glasscell.data.batch import Batch, check_batch
from glasscell.data.metrics import METRICS, Average, Loss, Metric, loss_count
from glasscell.models.protocol import Trainable
from glasscell.training.failures import check_scores


def evaluate(
    model: Trainable, batches: Iterable[Batch], loss: Loss, metrics: Mapping[str, Metric], buffers: BufferPool
) -> dict[str, float]:
    """Return loss and metrics, averaged exactly over batches; an empty dictionary if there are none."""
    return average_of(measure(model, batches, loss, metrics, buffers))


class Measurement(NamedTuple):
    """Loss and metrics of a batch.

    Attributes
    ----------
    loss, weight : float
        Mean loss of the elements, and their weight.
    metrics : dict of str to float or (sum, count)
    sequences : int
    """

    loss: float
    weight: float
    metrics: dict[str, Any]
    sequences: int


def measure(
    model: Trainable, batches: Iterable[Batch], loss: Loss, metrics: Mapping[str, Metric], buffers: BufferPool
) -> Iterator[Measurement]:
    """Yield loss and metrics of each batch."""
    states = None
    for batch in batches:
        check_batch(batch)
        result = model.infer(batch, states if batch.continues else None, buffers)
        states = result.states
        mean = loss(result.outputs, batch.targets, batch.weights)[0]
        values = {name: metric(result.outputs, batch) for name, metric in metrics.items()}
        yield Measurement(mean, loss_count(batch), values, len(batch.inputs))


def average_of(measurements: Iterable[Measurement]) -> dict[str, float]:
    """Return loss and metrics, averaged exactly over batches in this order."""
    average = Average()
    for measurement in measurements:
        average.add_mean("loss", measurement.loss, measurement.weight)
        for name, value in measurement.metrics.items():
            average.add(name, value, measurement.sequences)
    return average.means()


def try_metrics(
    model: Trainable, batches: Iterable[Batch], loss: Loss, metrics: Mapping[str, Metric], buffers: BufferPool
) -> None:
    """Call the metrics of the user on one batch: their errors are raised before the first update."""
    of_user = {name: metric for name, metric in metrics.items() if metric not in METRICS.values()}
    batch = next(iter(batches), None) if of_user else None
    with np.errstate(over="ignore", invalid="ignore"):
        evaluate(model, [batch] if batch else [], loss, of_user, buffers)


def score(training: Any) -> dict[str, float]:
    """Evaluate, add the scores to the last row of the history, and remember the weights if they are the best."""
    history, monitor = training.history, training.options.monitor
    scores: dict[str, float] = training.evaluate()
    history.rows[-1] |= {f"validation_{name}": value for name, value in scores.items()}
    value = scores.get(monitor, math.nan)
    if is_better(monitor, value, training.best_score):
        training.best_score, history.best_update = value, history.updates
        training.best_weights = training.model.parameters.vector.copy()
    check_scores(training, scores)
    return scores


def is_better(name: str, value: float, best: float) -> bool:
    """Return whether a score beats the best one: losses and errors are better when lower, all others when higher."""
    if math.isnan(value) or math.isnan(best):
        return not math.isnan(value)
    return value < best if lower_is_better(name) else value > best


def lower_is_better(name: str) -> bool:
    """Return whether a score of this name is better when lower."""
    return name.endswith(("loss", "error"))


def meets_target(scores: Mapping[str, float], stop_at: Mapping[str, float]) -> bool:
    """Return whether all scores have reached their values in `stop_at`."""
    return all(
        scores[name] <= value if lower_is_better(name) else scores[name] >= value for name, value in stop_at.items()
    )
