"""Stages of layers that reduce a sequence to one vector. Each step outputs the result for the steps so far."""

from __future__ import annotations

from functools import partial
from typing import Literal

import numpy as np

from glasscell.core.types import Array
from glasscell.stream.arena import Call
from glasscell.stream.building import Stage, StreamBuilder, masked_update


class LastStepStage(Stage):
    """The last valid step; 0 before the first one."""

    state_writes = 0  # it has state only after a mask, and the stage that makes the mask counts

    def build(self, builder: StreamBuilder) -> None:
        """Append a call if steps may be masked or skipped; otherwise the inputs are the result."""
        valid, x = builder.valid, builder.x
        builder.valid = builder.present = None
        if valid is None:
            return
        builder.x = y = builder.memory.next_block(len(x))
        builder.remembered.append(y)
        builder.calls.append(partial(np.copyto, y, x, where=valid))


class TimePoolingStage(Stage):
    """The mean or the maximum of the valid steps so far; 0 before the first one."""

    def __init__(self, mode: Literal["mean", "max"]) -> None:
        self.mode = mode

    def build(self, builder: StreamBuilder) -> None:
        """Append the calls."""
        valid = builder.valid
        update, result = self._mean(builder) if self.mode == "mean" else self._maximum(builder)
        builder.valid = builder.present = None
        builder.calls += update if valid is None else masked_update(valid, builder.remembered[-2:], update)
        builder.calls += result

    @staticmethod
    def _mean(builder: StreamBuilder) -> tuple[list[Call], list[Call]]:
        """Return calls for the sum and the number of steps, compensated (Kahan 1965): no drift over long streams."""
        memory, x_and_one, rows = builder.memory, builder.memory.last_block_with_bias_row(), len(builder.x)
        total, compensation, term, new_total = (memory.allocate(rows + 1) for _ in range(4))
        builder.remembered += [total, compensation]
        builder.x = y = memory.next_block(rows)
        update: list[Call] = [
            partial(np.subtract, x_and_one, compensation, term),
            partial(np.add, total, term, new_total),
            partial(np.subtract, new_total, total, compensation),
            partial(np.subtract, compensation, term, compensation),
            partial(np.copyto, total, new_total),
        ]
        count, one = new_total[:rows], np.array(1, memory.dtype)
        result: list[Call] = [
            partial(np.copyto, count, total[rows:]),  # a ufunc would allocate to broadcast it
            partial(np.maximum, count, one, out=count),
            partial(np.divide, total[:rows], count, y),
        ]
        return update, result

    @staticmethod
    def _maximum(builder: StreamBuilder) -> tuple[list[Call], list[Call]]:
        memory, x = builder.memory, builder.x
        started = memory.allocate(1)
        builder.x = y = memory.next_block(len(x))
        builder.remembered += [y, started]
        is_first = np.empty(started.shape, np.bool_)
        zero: Array = np.array(0, memory.dtype)
        update: list[Call] = [
            partial(np.equal, started, zero, is_first),
            partial(np.maximum, y, x, out=y),
            partial(np.copyto, y, x, where=is_first),
            partial(started.fill, 1),
        ]
        return update, []
