"""Advice after a training on the copy task that did not learn it."""

from __future__ import annotations

import math

import numpy as np

from glasscell.training.history import History

MEMORYLESS = 0.9  # of the loss without memory: from here on the loss is about that
GAIN = 0.01  # a smaller relative gain is none
MIN_EVALUATIONS = 4


def advice(history: History, loss: float, baseline: float, *, is_exact: bool) -> list[str]:
    """Return lines that name what went wrong and what to try; none if nothing did.

    Parameters
    ----------
    history : History
    loss : float
        On the held-out sequences, in nats per bit.
    baseline : float
        The smallest loss of a model without memory.
    is_exact : bool
        Whether all held-out sequences are copied exactly.
    """
    if is_exact:
        return []
    if 0 < baseline < math.inf and loss > MEMORYLESS * baseline:
        return [
            "The model does not use its memory: its loss is about the one without memory, or above.",
            "Try more --updates, another --learning-rate or --seed, a larger --hidden-size, or a smaller --width.",
        ]
    plateau = plateau_of(history)
    if plateau is None:
        return ["The loss still falls: try more --updates."] if "validation_loss" in history.columns else []
    best, update = plateau
    return [
        f"The loss is at a plateau: no gain in the last half of the updates (best {best:.4f}, at update {update}).",
        "Try a smaller --learning-rate, a larger --hidden-size, or another --seed.",
    ]


def plateau_of(history: History) -> tuple[float, int] | None:
    """Return the best validation loss and its update, if the last half of the updates did not improve it."""
    if "validation_loss" not in history.columns:
        return None
    losses = history["validation_loss"]
    updates = np.flatnonzero(~np.isnan(losses))
    if len(updates) < MIN_EVALUATIONS:
        return None
    first, last = (losses[part] for part in np.array_split(updates, 2))
    if last.min() < (1 - GAIN) * first.min():
        return None
    best = int(updates[np.argmin(losses[updates])])
    return float(losses[best]), best + 1
