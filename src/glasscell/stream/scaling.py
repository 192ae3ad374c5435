"""Stages of layers that normalise, scale and shift features."""

from __future__ import annotations

from functools import partial

import numpy as np

from glasscell.core.types import Array
from glasscell.stream.building import Stage, StreamBuilder
from glasscell.stream.ufunc_calls import layer_norm_calls


class LayerNormStage(Stage):
    """Normalisation over the features, then gain and shift.

    Parameters
    ----------
    size : int
        Number of features F.
    epsilon : float
    gain, shift : array (F,), optional
    """

    def __init__(self, size: int, epsilon: float, gain: Array | None, shift: Array | None) -> None:
        self.input_size, self.epsilon = size, epsilon
        self.gain, self.shift = (None if weight is None else weight.copy() for weight in (gain, shift))

    def build(self, builder: StreamBuilder) -> None:
        """Append the calls."""
        x, memory = builder.x, builder.memory
        builder.x = y = memory.next_block(len(x))
        builder.calls += [partial(np.copyto, y, x), *layer_norm_calls(y, self.epsilon)]
        if self.gain is not None:
            builder.calls.append(partial(np.multiply, y, memory.broadcast_weight(self.gain), y))
        if self.shift is not None:
            builder.calls.append(partial(np.add, y, memory.broadcast_weight(self.shift), y))


class ScalingStage(Stage):
    """(x - center) · scale + offset of each feature.

    Parameters
    ----------
    size : int, optional
        Number of features F. None: any.
    center, scale, offset : array () or (F,)
    """

    def __init__(self, size: int | None, center: Array, scale: Array, offset: Array) -> None:
        self.input_size = size
        self.center, self.scale, self.offset = center.copy(), scale.copy(), offset.copy()

    def build(self, builder: StreamBuilder) -> None:
        """Append the calls."""
        x, memory = builder.x, builder.memory
        builder.x = y = memory.next_block(len(x))
        center, scale, offset = (
            memory.broadcast_weight(np.broadcast_to(array, len(x)).astype(memory.dtype))
            for array in (self.center, self.scale, self.offset)
        )
        builder.calls.append(partial(np.subtract, x, center, y))
        builder.calls.append(partial(np.multiply, y, scale, y))
        builder.calls.append(partial(np.add, y, offset, y))
