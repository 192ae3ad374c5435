"""Errors and warnings about the checkpoints of a training."""

from __future__ import annotations

from typing import Any


class CheckpointWarning(RuntimeWarning):
    """A checkpoint that is damaged or could not be written, or a training that goes on under other conditions."""


class CheckpointError(OSError):
    """The last checkpoint of a training could not be written; the training is complete in memory.

    Attributes
    ----------
    history : History
    training : Training
        ``CheckpointFolder(another).save(training)`` writes its state elsewhere.
    """

    history: Any
    training: Any
