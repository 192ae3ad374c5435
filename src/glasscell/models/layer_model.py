"""A single layer as a model that can be trained."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from collections.abc import Mapping
from typing import Any

import numpy as np

from glasscell.core.buffers import BufferPool
from glasscell.core.parameters import Parameters
from glasscell.core.types import Array
from glasscell.data.batch import Batch
from glasscell.layers import LSTM, LSTMTape
from glasscell.models import layer_passes
from glasscell.models.protocol import ForwardPass, States


class LayerModel:
    """An LSTM with the methods of :class:`glasscell.models.protocol.Trainable`; the weights stay the layer's.

    Parameters
    ----------
    layer : LSTM
    """

    training_defaults: Mapping[str, Any] = {}

    def __init__(self, layer: LSTM) -> None:
        self.layer, self.dtype = layer, layer.dtype

    @property
    def parameters(self) -> Parameters:
        """The weights of the layer."""
        return self.layer.parameters

    @property
    def runs_backward(self) -> bool:
        """Whether an output depends on later steps."""
        return layer_passes.runs_backward([self.layer])

    def train_forward(
        self, batch: Batch, states: States | None, buffers: BufferPool, rng: np.random.Generator | None
    ) -> ForwardPass:
        """Run a batch with a tape."""
        return layer_passes.forward([""], [self.layer], batch, states, buffers, rng, keep_tape=True)

    def train_backward(
        self, tape: layer_passes.LayerTapes, d_outputs: Array, gradients: Parameters, buffers: BufferPool
    ) -> None:
        """Write the gradient on every parameter into `gradients`."""
        lstm: LSTMTape = tape.tapes[0]
        d_h = np.ascontiguousarray(d_outputs.transpose(1, 2, 0))
        self.layer.backward_feature_major(lstm, d_h, gradients, buffers.scope(""), need_dx=False)

    def infer(self, batch: Batch, states: States | None, buffers: BufferPool) -> ForwardPass:
        """Run a batch without a tape."""
        return layer_passes.forward([""], [self.layer], batch, states, buffers, None, keep_tape=False)
