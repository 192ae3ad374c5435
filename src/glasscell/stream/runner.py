"""The runner of a stream: its memory, the calls of one step, and the functions that run them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import copy_context

import numpy as np
from numpy.typing import ArrayLike

from glasscell.core.types import Array
from glasscell.stream.arena import Arena, Mask
from glasscell.stream.building import Stage, StreamBuilder
from glasscell.stream.input_checks import active_mask, check_out, finite_check
from glasscell.stream.step_functions import make_step, make_step_with_rollback, output_view
from glasscell.stream.stream_memory import StreamMemory
from glasscell.validation import check_finite


class StepRunner:
    """Memory and calls of one stream.

    Parameters
    ----------
    stages : mapping of str to Stage
        By the names of their layers, from the input to the output.
    batch : int, optional
        n streams that step together. Default: one, without a batch axis.
    dtype : float32 or float64

    Attributes
    ----------
    memory : StreamMemory
    calls : list of callable
        One step, after the input check.
    step : callable
        Take one step: from x to a view of the output block.
    run : callable
        Call a function with the floating-point error handling that was set when the runner was made.
    """

    def __init__(self, stages: Mapping[str, Stage], batch: int | None, dtype: np.dtype[np.floating]) -> None:
        if not any(stage.input_size is not None for stage in stages.values()):
            raise ValueError("the model cannot be streamed: no layer has a fixed number of input features")
        dtype = np.dtype(dtype.type)  # the object that all arrays share: the input check compares identities
        builder = _build(stages, batch, dtype)
        if not builder.memory.fits:
            builder = _build(stages, batch, dtype, builder.memory.needed)
        if builder.present is not None:
            raise ValueError(f"{builder.skip_reason}, and no later layer reduces them to one vector")
        self.batch = batch
        self.memory = StreamMemory(builder.recurrent, builder.remembered, batch, dtype)
        self.calls = builder.calls
        self._vector, self._previous = builder.memory.vector, builder.memory.vector.copy()
        self._saved_states = [(array, np.empty_like(array)) for array in self.memory.arrays]
        self._inactive = np.zeros(batch or 1, np.bool_)
        first, *_, last = [*stages.values()] * 2
        self._check_input = first.input_check(builder.input_buffer, batch, builder.id_mask)
        self._output_block, self._active_output_block = builder.x, np.zeros_like(builder.x)
        self._outputs, self._active_outputs = (
            output_view(block, batch, feature_axis=last.output_feature_axis)
            for block in (self._output_block, self._active_output_block)
        )
        if sum(stage.state_writes for stage in stages.values()) <= 1:
            self.step = make_step(self._check_input, self.calls, self._outputs)
        else:
            self.step = make_step_with_rollback(
                self._check_input, self.calls, self._outputs, self._vector, self._previous
            )
        # A context costs nothing, an errstate around every push would. Underflow is ignored, and invalid operations,
        # too: with finite inputs an overflow comes before them, and is reported.
        context = copy_context()
        context.run(np.seterr, under="ignore", invalid="ignore")
        self.run = context.run

    def step_to_out(self, x: ArrayLike, out: Array | None, active: ArrayLike | None) -> Array:
        """Take one step of the active streams, and return `out`, or a view of the outputs."""
        if out is not None:
            check_out(out, self._outputs)
        y = self.step(x) if active is None else self._step_active(x, active_mask(active, self.batch))
        if out is None:
            return y
        out[...] = y
        return out

    def _step_active(self, x: ArrayLike, active: Mask) -> Array:
        inactive = np.logical_not(active, self._inactive)
        self._check_input(x, inactive)
        self.with_rollback(self._run_calls_active)
        self._active_output_block[...] = 0
        np.copyto(self._active_output_block, self._output_block, where=active)
        return self._active_outputs

    def _run_calls_active(self) -> None:
        """Run the calls, and restore the states of inactive streams."""
        for array, saved in self._saved_states:
            saved[...] = array
        for call in self.calls:
            call()
        for array, saved in self._saved_states:
            np.copyto(array, saved, where=self._inactive)

    def snapshot(self) -> Callable[[], None]:
        """Return a function that restores the present state."""
        vector, saved = self._vector, self._vector.copy()

        def restore() -> None:
            vector[...] = saved

        return restore

    def with_rollback(self, change: Callable[[], object]) -> None:
        """Change the state, and restore it if anything is raised meanwhile, also by a signal's handler."""
        self._previous[...] = self._vector
        try:
            change()
        except BaseException:
            self._vector[...] = self._previous  # one instruction: nothing can interrupt it
            raise


def _build(
    stages: Mapping[str, Stage], batch: int | None, dtype: np.dtype[np.floating], size: int | None = None
) -> StreamBuilder:
    """Return a builder with the calls of all stages, in an arena of `size` numbers."""
    first, *_ = stages.values()
    widths = [next(stage.input_size for stage in stages.values() if stage.input_size is not None)]
    for stage in stages.values():
        widths += stage.block_rows(widths[-1])
    builder = StreamBuilder(Arena(sum(widths) + len(widths), batch, dtype, size), widths[0])
    input_buffer = builder.input_buffer

    def raise_if_not_finite() -> None:
        check_finite("x", input_buffer, input_buffer)

    if first.checks_finite:
        builder.raise_if_not_finite = raise_if_not_finite
    elif not first.reads_ids:
        builder.calls.append(finite_check(builder.x, raise_if_not_finite))
    for name, stage in stages.items():
        builder.error_prefix = f"layer {name!r} cannot be streamed: "
        stage.build(builder)
    return builder
