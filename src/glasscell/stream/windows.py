"""Stages of convolution and pooling over windows of steps: they keep the last inputs, and output full windows.

Such a stage may output fewer steps than it reads. Later stages skip its output for an incomplete window.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import partial

import numpy as np

from glasscell.core.types import Array
from glasscell.core.windows import Windows
from glasscell.stream.arena import Mask
from glasscell.stream.building import Stage, StreamBuilder
from glasscell.stream.ufunc_calls import as_matmul_operand, matmul_call


class WindowStage(Stage):
    """Windows of steps.

    Parameters
    ----------
    label : str
        Description of the layer, for errors.
    windows : Windows
    ignore_mask : bool
        Whether masked steps count like valid ones.

    Raises
    ------
    ValueError
        If the padding depends on the number of steps, or adds steps after the last one.
    """

    def __init__(self, label: str, windows: Windows, *, ignore_mask: bool) -> None:
        self.label, self.windows, self.ignore_mask = label, windows, ignore_mask
        fixed = windows.stride == 1 or windows.span == 1 or windows.padding != "same"  # "same" depends on T otherwise
        self.before, after = windows.pads(windows.span) if fixed else (0, 1)
        if after:
            raise ValueError(
                f"{label} pads after the last step, which a stream cannot detect; padding='causal' or 'valid' needs "
                "no later steps"
            )
        if self.before >= windows.span:
            raise ValueError(f"{label} outputs several steps before the first input")

    def build(self, builder: StreamBuilder) -> None:
        """Append the calls."""
        valid, present = builder.valid, builder.present
        if valid is not present and not self.ignore_mask:
            raise ValueError(
                f"{builder.error_prefix}{self.label} does not support masked steps, which an earlier layer may make; "
                "ignore_mask=True treats them as valid"
            )
        steps = self._keep_steps(builder, present)
        builder.valid = builder.present = self._full_windows(builder, present)
        if builder.present is not present:
            builder.skip_reason = f"{builder.error_prefix}{self.label} outputs fewer steps than it reads"
        self.build_window(builder, [steps[k] for k in range(0, self.windows.span, self.windows.dilation)])

    @abstractmethod
    def build_window(self, builder: StreamBuilder, steps: list[Array]) -> None:
        """Append the calls that compute the outputs of a full window."""

    def _keep_steps(self, builder: StreamBuilder, present: Mask | None) -> list[Array]:
        """Append calls that keep the last inputs, and return these, the oldest first."""
        memory, x = builder.memory, builder.x
        steps = [memory.allocate(len(x)) for _ in range(self.windows.span)]
        builder.remembered += steps
        has_step = True if present is None else present
        builder.calls += [
            partial(np.copyto, old, new, where=has_step) for old, new in zip(steps, [*steps[1:], x], strict=True)
        ]
        return steps

    def _full_windows(self, builder: StreamBuilder, present: Mask | None) -> Mask | None:
        """Append calls that compute which streams have a full window now, and return the mask; None: always all."""
        memory, stride, missing = builder.memory, self.windows.stride, self.windows.span - self.before
        if stride == 1 and missing == 1:
            return present
        count, full = memory.allocate(1), memory.mask()  # steps since the last full window
        builder.remembered.append(count)
        counts = count[0] if memory.batch is not None else count
        one, full_count, decrement = (np.array(value, memory.dtype) for value in (1, missing, stride))
        builder.calls += [
            partial(np.add, counts, one, counts, where=True if present is None else present),
            partial(np.equal, counts, full_count, full),
            *([] if present is None else [partial(np.logical_and, full, present, full)]),
            partial(np.subtract, counts, decrement, counts, where=full),
        ]
        return full


class ConvolutionStage(WindowStage):
    """One product of a matrix with the inputs of a window.

    Parameters
    ----------
    label, windows, ignore_mask
        As for :class:`WindowStage`.
    weight : array (O, I / groups, K)
    bias : array (O,), optional
        Default: 0.
    groups : int
    single : bool
        Whether the stream has no batch axis.
    """

    def __init__(
        self,
        label: str,
        windows: Windows,
        weight: Array,
        bias: Array | None,
        *,
        groups: int,
        ignore_mask: bool,
        single: bool,
    ) -> None:
        super().__init__(label, windows, ignore_mask=ignore_mask)
        O, I, K = weight.shape
        matrix = np.zeros((O, K, groups, I), weight.dtype)  # 0 for the inputs of other groups
        for group, rows in enumerate(np.split(np.arange(O), groups)):
            matrix[rows, :, group] = weight[rows].transpose(0, 2, 1)
        bias = np.zeros(O, weight.dtype) if bias is None else bias
        self.weight = as_matmul_operand(np.concatenate([matrix.reshape(O, -1), bias[:, None]], axis=1), single=single)
        self.input_size, self.output_size = groups * I, O

    def block_rows(self, width: int) -> list[int]:
        """Return the number of outputs."""
        del width
        return [self.output_size]

    def build_window(self, builder: StreamBuilder, steps: list[Array]) -> None:
        """Append the calls that compute the outputs of a full window."""
        memory, rows = builder.memory, len(steps[0])
        column = memory.allocate(len(steps) * rows + 1)
        column[-1] = 1
        builder.x = y = memory.next_block(self.output_size)
        builder.calls += [partial(np.copyto, column[k * rows : (k + 1) * rows], step) for k, step in enumerate(steps)]
        builder.calls.append(matmul_call(self.weight, column, y))


class PoolingStage(WindowStage):
    """The largest value or the mean of a window.

    Parameters
    ----------
    label, windows, ignore_mask
        As for :class:`WindowStage`.
    mean : bool
        Whether to compute the mean. Default: the maximum.
    """

    def __init__(self, label: str, windows: Windows, *, mean: bool = False, ignore_mask: bool) -> None:
        super().__init__(label, windows, ignore_mask=ignore_mask)
        if self.before:
            raise ValueError(f"{label} pads before the first step; padding='valid' does not")
        self.mean = mean

    def build_window(self, builder: StreamBuilder, steps: list[Array]) -> None:
        """Append the calls that compute the outputs of a full window."""
        builder.x = y = builder.memory.next_block(len(steps[0]))
        combine = np.add if self.mean else np.maximum
        builder.calls += [partial(np.copyto, y, steps[0]), *(partial(combine, y, step, out=y) for step in steps[1:])]
        if self.mean:
            builder.calls.append(partial(np.multiply, y, np.array(1 / len(steps), y.dtype), y))
