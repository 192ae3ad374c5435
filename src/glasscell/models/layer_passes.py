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
from glasscell.layers import LSTM, Embedding, Linear
from glasscell.layers.base import ParameterLayer, StatelessLayer
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
    y, mask = batch.inputs, None
    if batch.lengths is not None:
        mask = np.arange(y.shape[1]) < batch.lengths[:, None]
        mask = None if mask.all() else mask
    tapes: list[Any] = []
    finals: list[Any] = []
    tape: Any
    for name, layer in zip(names, layers, strict=True):
        if isinstance(layer, LSTM):
            start, tape = None if states is None else states[len(finals)], None
            x, valid, own = y.transpose(1, 2, 0), None if mask is None else mask.T, buffers.part(name)
            if keep_tape:
                y, tape = layer.forward_feature_major(x, start, own, mask=valid, rng=rng)
                finals.append(tape.final_state)
            else:
                y, final = layer.infer_feature_major(x, start, own, mask=valid)
                finals.append(final)
            y = y.transpose(2, 0, 1)
        elif isinstance(layer, Linear):
            x = tape = y.transpose(1, 2, 0) if y.ndim == 3 else y.T[None]
            out = layer.forward_feature_major(x)
            y = out.transpose(2, 0, 1) if y.ndim == 3 else out[0].T
        elif isinstance(layer, Embedding):
            if layer.mask_zero:
                mask = (y != 0) if mask is None else mask & (y != 0)
            vectors, tape = layer.forward(y.T)
            y = vectors.transpose(1, 0, 2)
        else:
            before, mask_before = y, mask
            y, tape = layer.forward(y, mask, rng)
            mask = layer.output_mask(before, mask_before)
        tapes.append(tape)
    return ForwardPass(y, tuple(finals), LayerTapes(tuple(tapes)) if keep_tape else None)


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
    dy = d_outputs
    first = next((k for k, layer in enumerate(layers) if has_parameters(layer)), len(layers))
    for k in range(len(layers) - 1, first - 1, -1):
        name, layer, kept = names[k], layers[k], tape.tapes[k]
        if isinstance(layer, LSTM):
            d_h = np.ascontiguousarray(dy.transpose(1, 2, 0))
            part, own = part_of(gradients, name), buffers.part(name)
            dx, _ = layer.backward_feature_major(kept, d_h, None, part, own, need_dx=k > first)
            dy = dx.transpose(2, 0, 1)
        elif isinstance(layer, Linear):
            d_y = dy.transpose(1, 2, 0) if dy.ndim == 3 else dy.T[None]
            dx = layer.backward_feature_major(kept, d_y, part_of(gradients, name), buffers.part(name))
            dy = dx.transpose(2, 0, 1) if dy.ndim == 3 else dx[0].T
        elif isinstance(layer, Embedding):
            table = part_of(gradients, name)["weight"]
            table[:] = 0
            np.add.at(table, kept, dy.transpose(1, 0, 2))
        elif isinstance(layer, ParameterLayer):
            dy, of_layer = layer.backward(kept, dy)
            part_of(gradients, name).vector[:] = of_layer.vector
        elif isinstance(layer, StatelessLayer):
            dy = layer.backward(kept, dy)


def part_of(gradients: Parameters, name: str) -> Parameters:
    """Return the gradients of one layer, which are looked up only once for each set of gradients."""
    parts = _PARTS.get(gradients)
    if parts is None:
        parts = _PARTS[gradients] = {}
    if name not in parts:
        parts[name] = gradients.part(f"{name}.")
    return parts[name]


def runs_backward(layers: Sequence[Layer]) -> bool:
    """Return whether an output depends on later steps of an LSTM."""
    lstms = [layer.options for layer in layers if isinstance(layer, LSTM)]
    return any(options.bidirectional or options.reverse for options in lstms)
