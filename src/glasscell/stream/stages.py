"""Stages of layers that compute each output step from the same input step.

The ``stream_stage`` method of a layer creates its stage; this package imports no layer.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from glasscell.core.activations import activation
from glasscell.core.types import Array
from glasscell.stream.arena import Mask
from glasscell.stream.building import Stage, StreamBuilder
from glasscell.stream.input_checks import InputCheck, id_input_check
from glasscell.stream.ufunc_calls import activation_calls, as_matmul_operand, matmul_call, softmax_calls


class LinearStage(Stage):
    """An affine map: one product, since the column ends with 1.

    Parameters
    ----------
    weight : array (O, I)
    bias : array (O,), optional
        Default: 0.
    single : bool
        Whether the stream has no batch axis.
    """

    state_writes = 0

    def __init__(self, weight: Array, bias: Array | None, *, single: bool) -> None:
        self.output_size, self.input_size = weight.shape
        column = np.zeros_like(weight[:, :1]) if bias is None else bias[:, None]
        self.weight = as_matmul_operand(np.concatenate([weight, column], axis=1), single=single)

    def block_rows(self, width: int) -> list[int]:
        """Return the number of outputs."""
        del width
        return [self.output_size]

    def build(self, builder: StreamBuilder) -> None:
        """Append the call."""
        column = builder.memory.last_block_with_bias_row()
        builder.x = builder.memory.next_block(self.output_size)
        builder.calls.append(matmul_call(self.weight, column, builder.x))


class ActivationStage(Stage):
    """An activation, or a softmax over the features."""

    def __init__(self, name: str, alpha: float | None, beta: float | None) -> None:
        self.name, self.alpha, self.beta = name, alpha, beta

    def build(self, builder: StreamBuilder) -> None:
        """Append the calls."""
        x = builder.x
        builder.x = y = builder.memory.next_block(len(x))
        if self.name in ("Softmax", "LogSoftmax"):
            builder.calls += softmax_calls(x, y, log=self.name == "LogSoftmax")
        else:
            function = activation(self.name, self.alpha, self.beta)
            builder.calls += [partial(np.copyto, y, x), *activation_calls(function, y)]


class SwapHalvesStage(Stage):
    """The halves of the features, exchanged."""

    state_writes = 0

    def build(self, builder: StreamBuilder) -> None:
        """Append the calls."""
        x = builder.x
        half = len(x) // 2
        builder.x = y = builder.memory.next_block(len(x))
        rest = len(x) - half
        builder.calls += [partial(np.copyto, y[half:], x[:rest]), partial(np.copyto, y[:half], x[rest:])]


class _AxisStage(Stage):
    state_writes = 0

    def block_rows(self, width: int) -> list[int]:
        """Return no rows: the features stay where they are."""
        del width
        return []

    def build(self, builder: StreamBuilder) -> None:
        """Append nothing: the input check and the output view add and remove the axis."""


class UnsqueezeStage(_AxisStage):
    """The first stage of a model whose inputs have no axis of features."""

    input_size = 1
    input_feature_axis = False


class SqueezeStage(_AxisStage):
    """The last stage of a model whose outputs have no axis of features."""

    output_feature_axis = False


class MaskingStage(Stage):
    """A mask of the steps whose features all have one value: later stages keep their states there."""

    def __init__(self, value: float) -> None:
        self.value = value

    def build(self, builder: StreamBuilder) -> None:
        """Append the calls."""
        memory, x, earlier = builder.memory, builder.x, builder.valid
        different, builder.valid = np.empty(x.shape, np.bool_), memory.mask()
        valid = builder.valid
        builder.x = y = memory.next_block(len(x))
        builder.calls += [
            partial(np.not_equal, x, np.array(self.value, x.dtype), different),
            partial(np.logical_or.reduce, different, axis=0, out=valid, keepdims=memory.batch is None),
            *([] if earlier is None else [partial(np.logical_and, valid, earlier, valid)]),
            partial(y.fill, 0),
            partial(np.copyto, y, x, where=valid),
        ]


class EmbeddingStage(Stage):
    """A table with one row per id. The first stage: the input check looks ids up."""

    reads_ids = True

    def __init__(self, table: Array, *, mask_zero: bool) -> None:
        self.table, self.mask_zero = table.copy(), mask_zero
        self.input_size = table.shape[1]  # of the input block
        self.state_writes = 2 if mask_zero else 0

    def input_check(self, input_buffer: Array, batch: int | None, id_mask: Mask | None) -> InputCheck:
        """Return the function that checks ids and writes their rows of the table to the input block."""
        return id_input_check(input_buffer, self.table, batch, id_mask)

    def block_rows(self, width: int) -> list[int]:
        """Return no rows: the input block holds the outputs."""
        del width
        return []

    def build(self, builder: StreamBuilder) -> None:
        """Add a mask if 0 is padding; the input check writes it."""
        if self.mask_zero:
            builder.valid = builder.id_mask = builder.memory.mask()
