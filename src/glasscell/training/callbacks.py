"""Callbacks of a training run, and their argument."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from glasscell.core.parameters import Parameters
from glasscell.training.history import History


class TrainingState(NamedTuple):
    """Argument of a callback, after each update.

    Attributes
    ----------
    model : Trainable, or a recurrent layer
        That of the call of :func:`glasscell.fit`.
    history : History
        Its last row is this update; the callback may add to it.
    gradients : Parameters
        After clipping; valid until the next update.
    training : Training
        The run; :meth:`glasscell.training.Training.state` copies what a checkpoint needs.
    """

    model: Any
    history: History
    gradients: Parameters
    training: Any


Callback: TypeAlias = Callable[[TrainingState], bool | None]
"""Called after every update. True ends the training; False and None are the only other values."""


def ends_training(returned: object) -> bool:
    """Return whether a callback's result ends the training."""
    if returned is None or isinstance(returned, bool | np.bool_):
        return bool(returned)
    raise TypeError(f"a callback must return True, which ends the training, False or None, got {returned!r:.200}")
