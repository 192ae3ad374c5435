"""Steps of a stream under interventions: one call of the general layer on a sequence of one step.

Unlike other steps of a stream, they allocate arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from glasscell.core.step_hook import StepHook
from glasscell.core.time_order import Index
from glasscell.core.types import Array
from glasscell.recurrent.step_interventions import STATES, BoundIntervention, PassHook, StepIntervention
from glasscell.stream.arena import Arena, Call, Mask


class StreamHook(PassHook):
    """The interventions on the steps of a stream, each of whose columns counts its own steps.

    Parameters
    ----------
    interventions : sequence of StepIntervention
    rows : callable
        Returns the number of rows of a symbol.
    memory : Arena

    Attributes
    ----------
    time : array (1,) or (1, n)
        Number of steps so far, masked ones included.
    processed : array (1,) or (1, n)
        Number of steps that were valid.
    held : dict of str to array
        The last values of symbols that are frozen, except states.
    """

    def __init__(self, interventions: Sequence[StepIntervention], rows: Callable[[str], int], memory: Arena) -> None:
        none = np.empty((0, 1), np.bool_)
        super().__init__([BoundIntervention(one, none, one.value_in(memory.dtype)) for one in interventions])
        self.time, self.processed = memory.allocate(1), memory.allocate(1)
        self.held = {symbol: memory.allocate(rows(symbol)) for symbol in sorted(self._frozen - {*STATES})}
        self._batch = memory.batch or 1
        for one in interventions:
            one.check_acts_in_stream()
            if one.operation == "patch" and one.value.shape[2] not in (1, self._batch):
                raise ValueError(f"patch must be of one sequence or of {self._batch}, got {one.value.shape[2]}")

    @property
    def valid_step_arrays(self) -> list[Array]:
        """Return the arrays that only valid steps change."""
        return [self.processed, *self.held.values()]

    @property
    def arrays(self) -> list[Array]:
        """Return all arrays that steps change and later steps read."""
        return [self.time, *self.valid_step_arrays]

    def count_step(self, present: Mask | None) -> Call:
        """Return the call that counts a step; with `present`, of the streams that have one."""
        return partial(np.add, self.time, np.array(1, self.time.dtype) if present is None else present, self.time)

    def _times(self) -> Index:
        times: Index = self.time.reshape(-1).astype(np.intp)
        return times

    def _columns(self, bound: BoundIntervention, t: int) -> NDArray[np.bool_]:
        del t
        return bound.source.selects(self._times())

    def _patch(self, bound: BoundIntervention, t: int) -> Array:
        values, times, columns = bound.value, self._times(), self._columns(bound, t)
        last = int(times[columns].max(initial=0))
        if last >= len(values):
            raise ValueError(f"patch must have a value at each selected step, got {len(values)} steps for step {last}")
        index = np.minimum(times, len(values) - 1)
        result: Array = values[index, :, np.arange(self._batch) % values.shape[2]].T
        if not np.isfinite(result[:, columns]).all():
            raise ValueError("patch must be finite at each selected step")
        return result

    def _held(self, symbol: str, before: Array, units: Index) -> Array:
        last = self.held[symbol].reshape(-1, self._batch)[units]
        return np.where(self.processed.reshape(-1) > 0, last, before)

    def _hold(self, symbol: str, value: Array) -> None:
        self.held[symbol].reshape(-1, self._batch)[...] = value


def intervention_calls(
    run: Callable[[Array, tuple[Array, ...], StepHook], tuple[Array, ...]],
    hook: StreamHook,
    column: Array,
    input_size: int,
    state: tuple[Array, ...],
    memory: Arena,
) -> list[Call]:
    """Return the calls of one step.

    Parameters
    ----------
    run : callable
        ``run(x, state, hook)`` runs one step x (1, I, n) from a state, arrays (rows, n), and returns the next state.
    hook : StreamHook
    column : array
        [x; 1; h].
    input_size : int
        I.
    state : tuple of array
        Written.
    memory : Arena
    """
    n = memory.batch or 1
    x, views = column[:input_size].reshape(1, input_size, n), tuple(array.reshape(-1, n) for array in state)

    def step() -> None:
        for view, value in zip(views, run(x, views, hook), strict=True):
            view[...] = value

    one = np.array(1, memory.dtype)
    return [step, partial(np.add, hook.processed, one, hook.processed)]
