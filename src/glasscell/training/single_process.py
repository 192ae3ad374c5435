"""Parts of a training that its process decides alone; :mod:`glasscell.training.parallel` replaces them."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

from glasscell.core.buffers import BufferPool
from glasscell.core.parameters import Parameters
from glasscell.core.types import Array
from glasscell.data.batch import Data
from glasscell.models.protocol import States
from glasscell.training.arguments import Setup
from glasscell.training.callbacks import TrainingState, ends_training
from glasscell.training.checkpointing import TrainingCheckpoints
from glasscell.training.diagnosis import Cause, Window, find_cause, states_are_finite
from glasscell.training.divergence import loss_of_zeros
from glasscell.training.evaluation import evaluate
from glasscell.training.failures import TrainingWarning
from glasscell.training.history import History


class SingleProcess(Setup):
    """A training of one process; the attributes are those of :class:`glasscell.training.Training`.

    Attributes
    ----------
    num_ranks : int
        Number of processes that train together.
    accepts_ranks : bool
        Whether there may be several.
    """

    accepts_ranks: ClassVar = False
    num_ranks = 1
    history: History
    gradients: Parameters
    states: States | None
    attempt: list[Window]
    d_outputs: Array | None
    validation: Any
    evaluation_buffers: BufferPool
    _user_model: Any

    def source_of_batches(self) -> Data:
        """Return the source of training batches."""
        return self.data

    def make_checkpoints(self) -> TrainingCheckpoints:
        """Return the checkpoints of the run."""
        return TrainingCheckpoints(self)

    def evaluate(self) -> dict[str, float]:
        """Return the scores of the validation batches; an empty dictionary if there are none."""
        return evaluate(self.model, self.validation or (), self.loss, self.metrics, self.evaluation_buffers)

    def _call_callbacks(self, *, made: bool) -> bool:
        """Call the callbacks, if an update was made, and return whether one of them ends the training."""
        if not made:
            return False
        state = TrainingState(self._user_model, self.history, self.gradients, self)
        results = [result for callback in self.options.callbacks if (result := callback(state)) is not None]
        return any([ends_training(result) for result in results])  # noqa: C419 - checks all of them

    # Failures

    def find_cause(self) -> Cause | None:
        """Return the cause of numbers that are not finite in this update."""
        return find_cause(self.model, self.loss, self.attempt, self.d_outputs, self.gradients)

    def loss_of_zeros(self) -> float:
        """Return the loss of outputs that are all 0 for the last window; -inf if it is unknown."""
        return loss_of_zeros(self)

    def restore_finite_states(self) -> None:
        """Replace a carried state that is not finite by the last one of this update that is; by None if none is."""
        if not states_are_finite(self.states):
            before = [window.states for window in reversed(self.attempt)]
            self.states = next((states for states in before if states and states_are_finite(states)), None)

    def warn(self, message: str) -> None:
        """Warn of a failure after which the training continues."""
        warnings.warn(message, TrainingWarning, stacklevel=3)
