"""Loss and gradients of one batch of the copy task, as an update of training computes them."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from glasscell.core.buffers import BufferPool
from glasscell.core.losses import binary_cross_entropy
from glasscell.core.parameters import Parameters
from glasscell.data.batch import Batch
from glasscell.recurrent.tape import LSTMTape

if TYPE_CHECKING:
    from glasscell.models.protocol import Trainable


class TrainingBuffers:
    """Gradients and buffers that each call with the same object overwrites."""

    def __init__(self, parameters: Parameters) -> None:
        self.gradients = parameters.zeros_like()
        self.buffers = BufferPool()

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy without the contents, which are valid until the next pass only."""
        return type(self), (self.gradients,)


class LossAndGradients(NamedTuple):
    """Result of :func:`compute`; gradients and tape are valid until the next call with the same buffers."""

    loss: float  # nats per bit
    gradients: Parameters
    tape: LSTMTape


def compute(
    model: Trainable,
    batch: Batch,
    state: Any = None,
    buffers: TrainingBuffers | None = None,
    rng: np.random.Generator | None = None,
) -> LossAndGradients:
    """Compute the binary cross-entropy of a batch and its gradients.

    Parameters
    ----------
    model : CopyLSTM
    batch : Batch
        Of the model's dtype.
    state : LSTMState, optional
        In core's layout, (L, H, B); no gradient flows into its past.
    buffers : TrainingBuffers, optional
    rng : numpy.random.Generator, optional
        For training: dropout and zoneout are drawn from it. Default: no noise.
    """
    buffers = TrainingBuffers(model.parameters) if buffers is None else buffers
    result = model.train_forward(batch, None if state is None else (state,), buffers.buffers, rng)
    loss, d_outputs = binary_cross_entropy(result.outputs, batch.targets, batch.weights)
    model.train_backward(result.tape, d_outputs, buffers.gradients, buffers.buffers)
    return LossAndGradients(loss, buffers.gradients, result.tape.layers[0])
