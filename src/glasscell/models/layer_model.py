"""A single recurrent layer as a model that can be trained."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from collections.abc import Mapping
from typing import Any

import numpy as np

from glasscell.core.buffers import BufferPool
from glasscell.core.layouts import first_axis_last, last_axis_first
from glasscell.core.parameters import Parameters
from glasscell.core.types import Array
from glasscell.data.batch import Batch
from glasscell.layers.recurrent_layer import RecurrentLayer
from glasscell.models.passes import batch_to_feature_major
from glasscell.models.protocol import ForwardPass, States


class LayerModel:
    """A layer with the methods of :class:`glasscell.models.protocol.Trainable`; the weights stay the layer's.

    Parameters
    ----------
    layer : RecurrentLayer
    """

    training_defaults: Mapping[str, Any] = {}

    def __init__(self, layer: RecurrentLayer) -> None:
        self.layer, self.dtype = layer, layer.dtype

    @property
    def parameters(self) -> Parameters:
        """The weights of the layer."""
        return self.layer.parameters

    @property
    def runs_backward(self) -> bool:
        """Whether an output depends on later steps."""
        return self.layer.runs_backward

    def uses_numba(self, B: int) -> bool:
        """Return whether the compiled engine trains the layer with B sequences."""
        return self.layer.uses_numba(B)

    def train_forward(
        self, batch: Batch, states: States | None, buffers: BufferPool, rng: np.random.Generator | None
    ) -> ForwardPass:
        """Run a batch with a tape."""
        return self._run_batch(batch, states, buffers, rng, keep_tape=True)

    def train_backward(self, tape: Any, d_outputs: Array, gradients: Parameters, buffers: BufferPool) -> None:
        """Write the gradient on every parameter into `gradients`."""
        d_h = np.ascontiguousarray(first_axis_last(d_outputs))
        self.layer.backward_with_state(tape, d_h, None, gradients, buffers, need_dx=False)

    def infer(self, batch: Batch, states: States | None, buffers: BufferPool) -> ForwardPass:
        """Run a batch without a tape."""
        return self._run_batch(batch, states, buffers, None, keep_tape=False)

    def _run_batch(
        self,
        batch: Batch,
        states: States | None,
        buffers: BufferPool,
        rng: np.random.Generator | None,
        *,
        keep_tape: bool,
    ) -> ForwardPass:
        x, mask = batch_to_feature_major(batch, "features", self.layer.input_size, self.dtype)
        state = None if states is None else states[0]
        y, _, final, tape = self.layer.forward_feature_major(x, mask, state, rng, buffers, keep_tape)
        return ForwardPass(last_axis_first(y), (final,), tape)
