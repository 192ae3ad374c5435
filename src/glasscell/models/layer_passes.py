"""Forward and backward passes through a chain of layers, for training: nothing is copied or checked twice.

Arrays have the axes (B, T, F), and in memory the order (T, F, B) in which the LSTM computes: the transpositions between
the two are views.
"""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from collections.abc import Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from glasscell.core.buffers import BufferPool
from glasscell.core.parameters import Parameters
from glasscell.core.types import Array
from glasscell.data.batch import Batch
from glasscell.layers import LSTM
from glasscell.layers.kinds import Layer, has_parameters
from glasscell.models.protocol import ForwardPass, States

_PARTS: WeakKeyDictionary[Parameters, dict[str, Parameters]] = WeakKeyDictionary()


class LayerTapes(NamedTuple):
    """Tape of each layer."""

    tapes: tuple[Any, ...]


def forward(
    names: Sequence[str],
    layers: Sequence[Layer],
    batch: Batch,
    states: States | None,
    buffers: BufferPool,
    rng: np.random.Generator | None,
    *,
    keep_tape: bool,
) -> ForwardPass:
    """Run a batch through all layers; without `keep_tape` nothing is kept for a backward pass.

    `states` are those of the LSTMs, h (L·D, P, B) and c (L·D, H, B).
    """
    x, mask = np.moveaxis(batch.inputs, 0, -1), None
    if batch.lengths is not None:
        mask = np.arange(len(x))[:, None] < batch.lengths
        mask = None if mask.all() else mask
    tapes: list[Any] = []
    finals: list[Any] = []
    for name, layer in zip(names, layers, strict=True):
        start = states[len(finals)] if layer.stateful and states is not None else None
        x, mask, final, tape = layer.forward_feature_major(x, mask, start, rng, buffers.scope(name), keep_tape)
        tapes.append(tape)
        if layer.stateful:
            finals.append(final)
    return ForwardPass(np.moveaxis(x, -1, 0), tuple(finals), LayerTapes(tuple(tapes)) if keep_tape else None)


def backward(
    names: Sequence[str],
    layers: Sequence[Layer],
    tape: LayerTapes,
    d_outputs: Array,
    gradients: Parameters,
    buffers: BufferPool,
) -> None:
    """Write the gradient on every parameter into `gradients`, from the gradient on the outputs."""
    if not isinstance(tape, LayerTapes):
        raise TypeError(f"tape must be the tape of a forward pass, got {type(tape).__name__}")
    dy: Array | None = np.moveaxis(d_outputs, 0, -1)
    first = next((k for k, layer in enumerate(layers) if has_parameters(layer)), len(layers))
    for k in range(len(layers) - 1, first - 1, -1):
        assert dy is not None  # only an Embedding, which comes first, does not return a gradient  # noqa: S101
        name, layer = names[k], layers[k]
        part = part_of(gradients, name) if has_parameters(layer) else None
        dy = layer.backward_feature_major(tape.tapes[k], dy, part, buffers.scope(name), k > first)


def part_of(gradients: Parameters, name: str) -> Parameters:
    """Return the gradients of one layer, which are looked up only once for each set of gradients."""
    parts = _PARTS.get(gradients)
    if parts is None:
        parts = _PARTS[gradients] = {}
    if name not in parts:
        parts[name] = gradients.subset(f"{name}.")
    return parts[name]


def runs_backward(layers: Sequence[Layer]) -> bool:
    """Return whether an output depends on later steps of an LSTM."""
    lstms = [layer.options for layer in layers if isinstance(layer, LSTM)]
    return any(options.bidirectional or options.reverse for options in lstms)
