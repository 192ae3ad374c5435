"""The steps of one layer in processing order: the engine that runs them, and how much of them is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np

from glasscell.core import engines, lstm_inference, lstm_tape, variants
from glasscell.core.buffers import BufferPool
from glasscell.core.engines import Engine, EngineName
from glasscell.core.step_gradients import StepGradients, StepGradientsByLayer
from glasscell.core.time_order import Index, TimeOrder, gather_final
from glasscell.core.types import Array
from glasscell.core.variants import DropoutMasks
from glasscell.recurrent.checkpointing import CheckpointedTape, InitialState, segment_steps, split_segments
from glasscell.recurrent.config import LSTMConfig
from glasscell.validation import positive_integer, positive_number

if TYPE_CHECKING:
    from glasscell.recurrent.step_interventions import PassHook

Weights = Mapping[str, Array]
AnyTape: TypeAlias = "lstm_tape.Tape | variants.Tape | CheckpointedTape"

INFERENCE_BLOCK_STEPS = 64  # block length of general inference: only the state is stored between blocks


class ExecutionConfig(NamedTuple):
    """How an LSTM is run; no result depends on it.

    Attributes
    ----------
    engine : "numpy" or "numba", optional
        Default: for a pass with a tape the faster one that is installed, otherwise NumPy.
    recompute_every : int or "auto", optional
        Steps in a segment; "auto" is √T.
    memory_limit : float, optional
        Bytes for the memory that a forward pass keeps for the backward pass: it determines the segments.
    """

    engine: EngineName | None = None
    recompute_every: int | Literal["auto"] | None = None
    memory_limit: float | None = None

    def check(self) -> None:
        """Raise an error for unknown or incompatible settings."""
        engines.validate_name(self.engine)
        if self.recompute_every not in (None, "auto"):
            positive_integer("recompute_every", self.recompute_every)  # type: ignore[arg-type] # it raises otherwise
        if self.memory_limit is not None:
            positive_number("memory_limit", self.memory_limit)
            if self.recompute_every is not None:
                raise ValueError("memory_limit must be None with recompute_every: both determine the segments")


class RunnerGradient(NamedTuple):
    """Gradients on weights, inputs and initial state."""

    dweights: dict[str, Array]
    dx: Array  # (T, I, B), empty unless needed
    dh0: Array  # (P, B)
    dc0: Array  # (H, B)


class DirectionGradient(NamedTuple):
    """Gradients returned by a direction's backward pass; those of the weights are written."""

    dx: Array  # (T, I, B), empty unless needed
    dh0: Array  # (P, B)
    dc0: Array  # (H, B)


def final_state(tape: AnyTape, lengths: Index | None) -> tuple[Array, Array]:
    """Return the state after each sequence's last step: (P, B) and (H, B)."""
    if isinstance(tape, CheckpointedTape):
        return tape.final
    if lengths is None:
        return tape.h_with_initial[-1], tape.c_with_initial[-1]
    return gather_final(tape.h_with_initial, lengths), gather_final(tape.c_with_initial, lengths)


class DirectionRunner:
    """Runs the steps of one layer in one direction.

    Parameters
    ----------
    options : LSTMConfig
    weights : callable
        Returns the weights under core's names.
    execution : ExecutionConfig

    Attributes
    ----------
    is_direct : bool
        Whether a forward pass without dropout is one call of an engine.
    engines : dict of int to Engine
        By batch size, those that were selected.
    """

    def __init__(self, options: LSTMConfig, weights: Callable[[], Weights], execution: ExecutionConfig) -> None:
        self.options, self.weights, self.execution = options, weights, execution
        for name, value in options.unsupported("general").items():
            raise ValueError(f"{name} must be {options.declared[name].default!r}: no engine computes it, got {value!r}")
        self._cell_config, self._is_standard_cell = options.cell_config, options.is_standard
        keeps_all = execution.recompute_every is None and execution.memory_limit is None
        self.is_direct = options.is_standard and keeps_all
        self.engines: dict[int, Engine] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Copy without the selected engines: a module cannot be copied."""
        return {**self.__dict__, "engines": {}}

    @property
    def original(self) -> DirectionRunner:
        """The runner without interventions: itself."""
        return self

    def pass_hook(self, x: Array, order: TimeOrder | None) -> PassHook | None:
        """Return the interventions on a pass over x (T, I, B) in processing order: none."""
        del x, order
        return None

    def select_engine(self, B: int) -> Engine:
        """Return the engine of passes with a tape of B sequences."""
        kernel = self.weights()["kernel"]
        I, H = kernel.shape[1] - self.options.state_size - 1, self.options.hidden_size
        engine = self.engines[B] = engines.select(self.execution.engine, I, H, B, kernel.dtype)
        return engine

    def uses_numba(self, B: int) -> bool:
        """Return whether the compiled engine runs passes with a tape of B sequences."""
        return self._is_standard_cell and self.select_engine(B) is not engines.NUMPY

    def forward(
        self,
        x: Array,
        initial: tuple[InitialState, InitialState],
        noise: DropoutMasks,
        order: TimeOrder | None,
        buffers: BufferPool,
    ) -> AnyTape:
        """Run all steps x (T, I, B), in processing order; return the tape that their backward pass needs."""
        weights, (T, _, B), lengths = self.weights(), x.shape, None if order is None else order.lengths
        hook = self.pass_hook(x, order)
        limits = self.execution.recompute_every, self.execution.memory_limit
        length = segment_steps(self.options, weights["kernel"], *limits, T, B, is_standard=self._is_standard_cell)
        if length is None:
            return self._forward_with_tape(weights, x, initial, noise, lengths, buffers, hook)
        tape = CheckpointedTape(weights, x, initial, noise, lengths, length)
        h = np.empty((T, self.options.state_size, B), x.dtype)
        for segment, masks, segment_lengths in tape.segments():
            hook = None if hook is None else hook.segment(segment.start)
            tape.hooks.append(hook)
            h[segment], *final = self._forward_without_tape(
                weights, x[segment], tape.initial_states[-1], masks, segment_lengths, buffers, hook
            )
            tape.initial_states.append((final[0].copy(), final[1].copy()))
        tape.finish(h, tape.initial_states.pop())  # type: ignore[arg-type] # arrays, after a segment
        return tape

    def backward(
        self,
        tape: AnyTape,
        dh: Array,
        d_final: tuple[InitialState, InitialState],
        dc: Array | None,
        buffers: BufferPool,
        *,
        need_dx: bool,
        step_gradients: StepGradientsByLayer | None = None,
    ) -> RunnerGradient:
        """Compute the adjoint of :meth:`forward`; `dc` is the gradient on cells, from where sequences end.

        `step_gradients`, if present, receives the gradients at every step.
        """
        hooks = tape.hooks[:1] if isinstance(tape, CheckpointedTape) else [getattr(tape, "hook", None)]
        if hooks[0] is not None:
            hooks[0].begin_backward()
        if not isinstance(tape, CheckpointedTape):
            return self._backward(tape, dh, d_final, dc, buffers, need_dx=need_dx, step_gradients=step_gradients)
        dx = np.empty((tape.T if need_dx else 0, tape.I, tape.B), tape.dtype)
        total: dict[str, Array] = {}
        for (segment, masks, lengths), initial, hook in zip(
            reversed(tape.segments()), reversed(tape.initial_states), reversed(tape.hooks), strict=True
        ):
            segment_tape = self._forward_with_tape(
                *(tape.weights, tape.x[segment], initial, masks, lengths, buffers),
                None if hook is None else hook.restart(),
            )
            segment_dc = None if dc is None else dc[segment]
            d = self._backward(segment_tape, dh[segment], d_final, segment_dc, buffers, need_dx=need_dx)
            for name, d_weight in d.dweights.items():
                total[name] = total[name] + d_weight if name in total else d_weight
            d_final = d.dh0, d.dc0
            if need_dx:
                dx[segment] = d.dx
        return RunnerGradient(total, dx, d.dh0, d.dc0)

    def infer(
        self,
        x: Array,
        initial: tuple[InitialState, InitialState],
        noise: DropoutMasks,
        order: TimeOrder | None,
        buffers: BufferPool,
    ) -> lstm_inference.InferenceResult:
        """Run all steps, in processing order; return only the outputs and the final state."""
        weights, (T, _, B), lengths = self.weights(), x.shape, None if order is None else order.lengths
        hook = self.pass_hook(x, order)
        if T == 0 or (lengths is None and self._is_standard(noise)):
            return self._forward_without_tape(weights, x, initial, noise, lengths, buffers, hook)
        h = np.empty((T, self.options.state_size, B), x.dtype)
        for segment, masks, segment_lengths in split_segments(T, INFERENCE_BLOCK_STEPS, noise, lengths):
            hook = None if hook is None else hook.segment(segment.start)
            h[segment], *final = self._forward_without_tape(
                weights, x[segment], initial, masks, segment_lengths, buffers, hook
            )
            initial = final[0].copy(), final[1].copy()
        return lstm_inference.InferenceResult(h, *final)

    def _is_standard(self, noise: DropoutMasks) -> bool:
        return self._is_standard_cell and noise.is_identity

    def _forward_with_tape(
        self,
        weights: Weights,
        x: Array,
        initial: tuple[InitialState, InitialState],
        noise: DropoutMasks,
        lengths: Index | None,
        buffers: BufferPool,
        hook: PassHook | None,
    ) -> lstm_tape.Tape | variants.Tape:
        if hook is not None or not self._is_standard(noise):
            return variants.forward(self._cell_config, weights, x, *initial, noise, lengths, hook)
        engine = self.engines.get(x.shape[2]) or self.select_engine(x.shape[2])
        return engine.forward(weights["kernel"], x, *initial, buffers)

    def _forward_without_tape(
        self,
        weights: Weights,
        x: Array,
        initial: tuple[InitialState, InitialState],
        noise: DropoutMasks,
        lengths: Index | None,
        buffers: BufferPool,
        hook: PassHook | None,
    ) -> lstm_inference.InferenceResult:
        if hook is None and lengths is None and self._is_standard(noise):
            _, I, B = x.shape
            engine = engines.select_for_inference(self.execution.engine, I, self.options.hidden_size, B, x.dtype)
            return engine.forward_inference(weights["kernel"], x, *initial, buffers)
        tape = self._forward_with_tape(weights, x, initial, noise, lengths, buffers, hook)
        return lstm_inference.InferenceResult(tape.h, *final_state(tape, lengths))

    def _backward(
        self,
        tape: lstm_tape.Tape | variants.Tape,
        dh: Array,
        d_final: tuple[InitialState, InitialState],
        dc: Array | None,
        buffers: BufferPool,
        *,
        need_dx: bool,
        step_gradients: StepGradientsByLayer | None = None,
    ) -> RunnerGradient:
        T, H, B, dtype = tape.T, tape.H, tape.B, tape.dtype
        if isinstance(tape, lstm_tape.Tape):
            engine = self.engines.get(B) or self.select_engine(B)
            dkernel, dx, dh0, dc0 = engine.backward(tape, dh, *d_final, buffers, dc=dc, need_dx=need_dx)
            return RunnerGradient({"kernel": dkernel}, dx, dh0, dc0)
        written = None
        if step_gradients is not None:
            R = tape.z.shape[1]
            arrays = (np.empty((T, rows, B), dtype) for rows in (R, R, H, tape.P))
            written = StepGradients(*arrays, dh, dh)  # type: ignore[call-arg] # dx is computed last
        dweights, dx, dh0, dc0 = variants.backward(tape, dh, *d_final, dc, buffers, written)
        if step_gradients is not None and written is not None:
            result = written._replace(dx=dx)
            step_gradients.append(lambda: result)
        return RunnerGradient(dweights, dx if need_dx else dx[:0], dh0, dc0)
