"""Convolution and pooling over windows of steps: the last inputs are kept, and a window gives a step when it is full.

Such a layer may give fewer steps than it takes. What it writes where it gives none is passed over, as a masked step is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from glasscell.core.types import Array
from glasscell.stream.arena import Mask
from glasscell.stream.building import StreamBuilder
from glasscell.stream.ufunc_calls import as_matmul_operand, matmul_call

if TYPE_CHECKING:
    from glasscell.layers import AveragePooling1D, Conv1D, MaxPooling1D
    from glasscell.layers.windows import Windows


class WindowPart(ABC):
    """Windows of steps."""

    def __init__(self, name: str, layer: Conv1D | MaxPooling1D | AveragePooling1D, windows: Windows) -> None:
        self.windows, self.ignore_mask = windows, layer.ignore_mask
        self.label = f"layer {name!r} cannot be streamed: {layer!r}"
        known = windows.stride == 1 or windows.span == 1 or windows.padding != "same"  # "same" depends on T otherwise
        self.before, after = windows.pads(windows.span) if known else (0, 1)
        if after:
            raise ValueError(
                f"{self.label} pads behind the last step, which a stream does not know; padding='causal' or 'valid' "
                "needs no steps that have not come yet"
            )
        if self.before >= windows.span:
            raise ValueError(f"{self.label} gives several steps before the first one")

    def build(self, building: StreamBuilder) -> None:
        """Add its calls."""
        own, present = building.own, building.present
        if own is not present and not self.ignore_mask:
            raise ValueError(f"{self.label} refuses masked steps, which a layer before it may give; ignore_mask=True")
        steps = self._kept_steps(building, present)
        building.own = building.present = self._full(building, present)
        if building.present is not present:
            building.fewer = f"{self.label} gives fewer steps than it takes"
        self.add(building, [steps[k] for k in range(0, self.windows.span, self.windows.dilation)])

    @abstractmethod
    def add(self, building: StreamBuilder, steps: list[Array]) -> None:
        """Add the calls that compute the outputs of a full window."""

    def _kept_steps(self, building: StreamBuilder, present: Mask | None) -> list[Array]:
        """The last inputs, the oldest first."""
        memory, x = building.memory, building.x
        steps = [memory.room(len(x)) for _ in range(self.windows.span)]
        building.remembered += steps
        where = True if present is None else present
        building.calls += [
            partial(np.copyto, old, new, where=where) for old, new in zip(steps, [*steps[1:], x], strict=True)
        ]
        return steps

    def _full(self, building: StreamBuilder, present: Mask | None) -> Mask | None:
        """Which streams have a full window now; None if all always have."""
        memory, stride, missing = building.memory, self.windows.stride, self.windows.span - self.before
        if stride == 1 and missing == 1:
            return present
        count, full = memory.room(1), memory.mask()  # steps since the last full window
        building.remembered.append(count)
        counts = count[0] if memory.batch is not None else count
        one, wanted, again = (np.array(value, memory.dtype) for value in (1, missing, stride))
        building.calls += [
            partial(np.add, counts, one, counts, where=True if present is None else present),
            partial(np.equal, counts, wanted, full),
            *([] if present is None else [partial(np.logical_and, full, present, full)]),
            partial(np.subtract, counts, again, counts, where=full),
        ]
        return full


class ConvolutionPart(WindowPart):
    """One product of a matrix with the inputs of a window."""

    def __init__(self, name: str, layer: Conv1D, *, single: bool) -> None:
        super().__init__(name, layer, layer.windows)
        weight, groups = layer.parameters["weight"], layer.groups
        O, I, K = weight.shape
        matrix = np.zeros((O, K, groups, I), weight.dtype)  # 0 for the inputs of other groups
        for group, rows in enumerate(np.split(np.arange(O), groups)):
            matrix[rows, :, group] = weight[rows].transpose(0, 2, 1)
        bias = layer.parameters["bias"] if layer.bias else np.zeros(O, weight.dtype)
        self.weight = as_matmul_operand(np.concatenate([matrix.reshape(O, -1), bias[:, None]], axis=1), single=single)
        self.output_size = O

    def blocks(self, width: int) -> list[int]:
        """Its outputs."""
        del width
        return [self.output_size]

    def add(self, building: StreamBuilder, steps: list[Array]) -> None:
        """Add the calls that compute the outputs of a full window."""
        memory, rows = building.memory, len(steps[0])
        column = memory.room(len(steps) * rows + 1)
        column[-1] = 1
        building.x = y = memory.block(self.output_size)
        building.calls += [partial(np.copyto, column[k * rows : (k + 1) * rows], of) for k, of in enumerate(steps)]
        building.calls.append(matmul_call(self.weight, column, y))


class PoolingPart(WindowPart):
    """The largest value or the mean of a window."""

    def __init__(self, name: str, layer: MaxPooling1D | AveragePooling1D, *, single: bool) -> None:
        del single
        super().__init__(name, layer, layer.windows)
        if self.before:
            raise ValueError(f"{self.label} has padding before the first step; padding='valid' has none")
        self.mean = hasattr(layer, "count_padding")

    def blocks(self, width: int) -> list[int]:
        """As wide as its inputs."""
        return [width]

    def add(self, building: StreamBuilder, steps: list[Array]) -> None:
        """Add the calls that compute the outputs of a full window."""
        building.x = y = building.memory.block(len(steps[0]))
        join = np.add if self.mean else np.maximum
        building.calls += [partial(np.copyto, y, steps[0]), *(partial(join, y, step, out=y) for step in steps[1:])]
        if self.mean:
            building.calls.append(partial(np.multiply, y, np.array(1 / len(steps), y.dtype), y))
