"""Layers that shift and scale features."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from glasscell.core.types import Array
from glasscell.stream.building import StreamBuilder
from glasscell.stream.ufunc_calls import layer_norm_calls

if TYPE_CHECKING:
    from glasscell.layers import BatchNorm, LayerNorm, Normalization, Rescaling


class LayerNormPart:
    """Normalisation over the features, then gain and shift."""

    def __init__(self, name: str, layer: LayerNorm, *, single: bool) -> None:
        del name, single
        self.epsilon = layer.epsilon
        self.gain, self.shift = (
            layer.parameters[key].copy() if key in layer.parameters else None for key in ("gain", "shift")
        )

    def blocks(self, width: int) -> list[int]:
        """As wide as its inputs."""
        return [width]

    def build(self, building: StreamBuilder) -> None:
        """Add its calls."""
        x, memory = building.x, building.memory
        building.x = y = memory.block(len(x))
        building.calls += [partial(np.copyto, y, x), *layer_norm_calls(y, self.epsilon)]
        if self.gain is not None:
            building.calls.append(partial(np.multiply, y, memory.weight(self.gain), y))
        if self.shift is not None:
            building.calls.append(partial(np.add, y, memory.weight(self.shift), y))


class AffinePart:
    """(x - center) · scale + offset of each feature."""

    center: Array
    scale: Array
    offset: Array

    def blocks(self, width: int) -> list[int]:
        """As wide as its inputs."""
        return [width]

    def build(self, building: StreamBuilder) -> None:
        """Add its calls."""
        x, memory = building.x, building.memory
        building.x = y = memory.block(len(x))
        center, scale, offset = (
            memory.weight(np.broadcast_to(array, len(x)).astype(memory.dtype))
            for array in (self.center, self.scale, self.offset)
        )
        building.calls.append(partial(np.subtract, x, center, y))
        building.calls.append(partial(np.multiply, y, scale, y))
        building.calls.append(partial(np.add, y, offset, y))


class BatchNormPart(AffinePart):
    """Running statistics, gain and shift in one."""

    def __init__(self, name: str, layer: BatchNorm, *, single: bool) -> None:
        del name, single
        self.center = layer.statistics["running_mean"].copy()
        self.scale = layer.scale * layer.parameters["gain"] if layer.gain else layer.scale
        self.offset = layer.parameters["shift"].copy() if layer.shift else np.zeros_like(self.center)


class FixedPart(AffinePart):
    """Numbers that are not trained."""

    def __init__(self, name: str, layer: Normalization | Rescaling, *, single: bool) -> None:
        del name, single
        self.center, self.scale, self.offset = layer.affine(np.dtype(np.float64))
