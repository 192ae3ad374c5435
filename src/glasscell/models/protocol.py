"""What the training loop needs of a model."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from glasscell.core.buffers import BufferPool
from glasscell.core.parameters import Parameters
from glasscell.core.types import Array
from glasscell.data.batch import Batch

States: TypeAlias = "tuple[Any, ...]"


class ForwardPass(NamedTuple):
    """Result of a forward pass.

    Attributes
    ----------
    outputs : array
        What the loss compares with the targets: (B, T, O) or (B, O).
    states : tuple
        Final state of each recurrent layer, as the next call takes it.
    tape : object
        What the backward pass needs; None in inference.
    """

    outputs: Array
    states: States
    tape: Any


class SequentialTape(NamedTuple):
    """Record of a forward pass.

    Attributes
    ----------
    layers : tuple
        Tape of each layer; an :class:`~glasscell.layers.LSTMTape` for an LSTM.
    states : tuple
        Final state of each recurrent layer; empty in training.
    shape : tuple of int
        Shape of the outputs in core's layout.
    unbatched : bool
        Whether the input was one sequence without a batch axis.
    """

    layers: tuple[Any, ...]
    states: tuple[Any, ...]
    shape: tuple[int, ...]
    unbatched: bool


class Trainable(Protocol):
    """A model that can be trained; knows no task and no loss.

    Optional, for :mod:`glasscell.training`: ``runs_backward``, ``gives_numbers`` and ``keeps_outputs`` (bool),
    ``ties``, ``uses_numba(B)`` and ``layer_outputs(batch, states)``, as a Sequential has them. Before the first update,
    a training calls ``bind_task(data)``, ``encode_targets(y)`` for the y of (x, y), ``adapt(data)``, and
    ``training_defaults_for(data)`` instead of ``training_defaults``.

    Attributes
    ----------
    dtype : dtype
    """

    dtype: np.dtype[np.floating]

    @property
    def parameters(self) -> Parameters:
        """All weights, as views of one vector."""

    @property
    def training_defaults(self) -> Mapping[str, Any]:
        """Arguments of :func:`glasscell.fit` that suit the model, for those that are left out."""

    def train_forward(
        self, batch: Batch, states: States | None, buffers: BufferPool, rng: np.random.Generator | None
    ) -> ForwardPass:
        """Run a batch with a tape; dropout is active if there is a generator."""

    def train_backward(self, tape: Any, d_outputs: Array, gradients: Parameters, buffers: BufferPool) -> None:
        """Write the gradient on every parameter into `gradients`."""

    def infer(self, batch: Batch, states: States | None, buffers: BufferPool) -> ForwardPass:
        """Run a batch without a tape and without dropout."""
