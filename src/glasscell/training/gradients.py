"""Loss and gradients of an update: of one window, or averaged over several."""

from __future__ import annotations

from typing import Any

import numpy as np

from glasscell.data.metrics import loss_and_gradient, loss_count


def compute_gradients(training: Any) -> float:
    """Compute loss and gradients of the next windows with targets, and return the loss.

    With `accumulate`, gradients of several windows of one epoch are averaged, each weighted with its number of targets.
    """
    total = training.gradient_sum
    if total is None:
        return _of_window(training)[0]
    total[:], losses, counts = 0, 0.0, 0.0
    for done in range(training.accumulate):
        if done and training.epoch_ended():
            break
        loss, count = _of_window(training)
        losses, counts = losses + loss * count, counts + count
        total += training.gradients.vector * total.dtype.type(count)
    np.divide(total, total.dtype.type(counts), out=training.gradients.vector)
    return losses / counts


def _of_window(training: Any) -> tuple[float, float]:
    """Compute loss and gradients of the next window; return the loss and how much it counts."""
    window = training.windows.next(training.forward)
    result = training.forward(window)
    loss, d_outputs = loss_and_gradient(training.loss, result.outputs, window, overwrite=training.overwrites_outputs)
    training.attempt.d_outputs = d_outputs
    training.model.train_backward(result.tape, d_outputs, training.gradients, training.buffers)
    return loss, 1.0 if training.gradient_sum is None else loss_count(window)
