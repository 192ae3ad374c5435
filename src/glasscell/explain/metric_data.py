"""Batches of a data set, and the score of a model on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np

from glasscell.core.buffers import BufferPool
from glasscell.core.losses import LOSSES
from glasscell.core.types import Array
from glasscell.data.arrays import ArrayData
from glasscell.data.batch import Batch, check_batch
from glasscell.data.metrics import METRICS, Average, Metric, loss_count, loss_function, metric_functions
from glasscell.tasks.binary import encode
from glasscell.tasks.copy import ENUMERABLE_WIDTH, Copy
from glasscell.validation import choice, type_name

Which: TypeAlias = Literal["held_out", "all"]


def named_metric(metric: str | Metric | None, data: Any) -> tuple[str, Metric]:
    """Return the name of a metric, and the function of outputs and a batch."""
    if metric is None:
        by_default = tuple(getattr(data, "metrics", ()))
        if not by_default:
            raise ValueError("metric must be passed for data that have none of their own")
        metric = by_default[0]
    loss_or_name: Any = metric
    if metric == "loss":
        loss_or_name = getattr(data, "loss", None)
        if loss_or_name is None:
            raise ValueError("metric must be the name of a loss or metric for data without a loss, got 'loss'")
    if metric == "loss" or (isinstance(metric, str) and metric in LOSSES):
        loss = loss_function(loss_or_name)

        def mean_loss(outputs: Array, batch: Batch) -> tuple[float, float]:
            count = loss_count(batch)
            return loss(outputs, batch.targets, batch.weights)[0] * count, count

        return str(metric), mean_loss
    if isinstance(metric, str) and metric not in METRICS:
        raise ValueError(f"metric must be of {', '.join([*METRICS, *LOSSES])}, 'loss', or a function, got {metric!r}")
    ((label, function),) = metric_functions([metric]).items()
    return label, function


def read_batches(data: Any, dtype: np.dtype[Any], which: Which, size: int) -> list[Batch]:
    """Return the batches of data, of at most `size` sequences unless one continues another."""
    choice("which", which, ("held_out", "all"))
    if which == "all" and not isinstance(data, Copy):
        raise ValueError(
            f"which must be 'held_out' for data other than a copy task, got 'all' for {type(data).__name__}"
        )
    if isinstance(data, Copy):
        batches = [_copy_batch(data, dtype, which)]
    elif isinstance(data, Batch):
        batches = [data]
    elif isinstance(data, ArrayData):
        return data.in_order(size, dtype)
    elif isinstance(data, tuple) and len(data) == 2:
        return ArrayData(*data).in_order(size, dtype)
    elif hasattr(data, "test_batch"):
        batches = [data.test_batch(dtype=dtype)]
    elif hasattr(data, "validation"):
        batches = list(data.validation(size, dtype) or ())
    elif isinstance(data, Iterable) and not isinstance(data, str | bytes):
        batches = list(data)
    else:
        raise TypeError(f"data must be a task, (x, y), or batches, got {type_name(data)}")
    for batch in batches:
        check_batch(batch)
    if not any(len(batch.inputs) for batch in batches):
        raise ValueError("data must have at least one sequence, got none: a source of batches needs validation data")
    if any(batch.continues for batch in batches):
        return batches
    return [part for batch in batches for part in _parts(batch, size)]


def _copy_batch(task: Copy, dtype: np.dtype[Any], which: Which) -> Batch:
    if which == "held_out":
        return task.held_out_batch(dtype=dtype)
    if task.width > ENUMERABLE_WIDTH:
        raise ValueError(f"which must be 'held_out' for more than {ENUMERABLE_WIDTH} bits, got 'all' of {task.width}")
    return task.make_batch([encode(np.arange(1 << task.width), task.width)], dtype)


def _parts(batch: Batch, size: int) -> Iterator[Batch]:
    """Yield the sequences of a batch, at most `size` at a time."""
    B = len(batch.inputs)
    for start in range(0, B, size):
        rows = slice(start, start + size)
        weights = batch.weights
        if weights is not None and weights.ndim and len(weights) == B:
            weights = weights[rows]
        lengths = None if batch.lengths is None else batch.lengths[rows]
        yield Batch(batch.inputs[rows], batch.targets[rows], weights, lengths)


def score(model: Any, batches: Sequence[Batch], name: str, metric: Callable[..., Any]) -> float:
    """Return the exact mean of a metric over batches."""
    average, states, buffers = Average(), None, BufferPool()
    for batch in batches:
        if hasattr(model, "train_forward"):
            result = model.infer(batch, states if batch.continues else None, buffers)
            outputs, states = result.outputs, result.states
        else:
            outputs, states = model.infer(batch.inputs, states if batch.continues else None, lengths=batch.lengths)
        average.add(name, metric(outputs, batch), len(batch.inputs))
    return average.means()[name]
