"""The steps of one layer in the order of processing: which code runs them, and how much of them is kept.

With segments a forward pass keeps the state before each of them, and the backward pass runs them once more, from the
last to the first: memory for one segment and the states between them, for the time of one more forward pass (Chen et
al. 2016, Training deep nets with sublinear memory cost).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from math import ceil, sqrt
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from glasscell.core import engines, lstm, lstm_inference, variants
from glasscell.core.buffers import BufferPool
from glasscell.core.engines import EngineName
from glasscell.core.step_gradients import StepGradients, StepGradientsByLayer, compute_step_gradients
from glasscell.core.time_order import Index, gather_final
from glasscell.core.types import Array
from glasscell.core.variants import DropoutMasks
from glasscell.recurrent.config import LSTMConfig
from glasscell.validation import positive_integer, positive_number

InitialState = Array | float
Weights = Mapping[str, Array]

INFERENCE_BLOCK_STEPS = 64  # steps of the general layer between which nothing but the state is kept, in inference


class ExecutionConfig(NamedTuple):
    """How an LSTM is run; nothing that it computes depends on it.

    Attributes
    ----------
    engine : "numpy" or "numba", optional
        Default: for a pass with a tape the faster one that is installed, for all else NumPy.
    recompute_every : int or "auto", optional
        Steps in a segment; "auto" is √T.
    memory_limit : float, optional
        Bytes for what a forward pass keeps for the backward pass: it picks the segments.
    """

    engine: EngineName | None = None
    recompute_every: int | Literal["auto"] | None = None
    memory_limit: float | None = None

    def check(self) -> None:
        """Refuse what does not exist, or not together."""
        engines.validate_name(self.engine)
        if self.recompute_every not in (None, "auto"):
            positive_integer("recompute_every", self.recompute_every)  # type: ignore[arg-type] # it says so otherwise
        if self.memory_limit is not None:
            positive_number("memory_limit", self.memory_limit)
            if self.recompute_every is not None:
                raise ValueError("memory_limit picks the length of segments, and so does recompute_every: give one")


class RunnerGradient(NamedTuple):
    """The gradients on all that the steps were given."""

    dweights: dict[str, Array]
    dx: Array  # (T, I, B), empty if it was not asked for
    dh0: Array  # (P, B)
    dc0: Array  # (H, B)


class CheckpointedTape:
    """A pass of which little is kept: inputs, outputs, and the state before each segment.

    Attributes
    ----------
    x : array (T, I, B)
    h : array (T, P, B)
        The outputs.
    starts : list of (h, c)
        The state before each segment.
    final : (h, c)
        After each sequence's last step.
    weights : dict
        Those that the pass was made with.
    """

    def __init__(
        self,
        weights: Weights,
        x: Array,
        start: tuple[InitialState, InitialState],
        noise: DropoutMasks,
        lengths: Index | None,
        length: int,
    ) -> None:
        (self.T, self.I, self.B), self.dtype = x.shape, x.dtype
        self.weights = {name: weight.copy() for name, weight in weights.items()}
        self.x, self.noise, self.lengths, self.length = x.copy(), noise, lengths, length
        self.starts = [start]

    def add(self, h: Array, final: tuple[Array, Array]) -> None:
        """Keep the result of a segment."""
        self.h, self.final = h, final
        self.H = final[1].shape[0]

    def parts(self) -> list[tuple[slice, DropoutMasks, Index | None]]:
        """Yield of each segment its place, its noise, and how many steps sequences have in it."""
        return list(split_segments(self.T, self.length, self.noise, self.lengths))


def split_segments(
    T: int, length: int, noise: DropoutMasks, lengths: Index | None
) -> Iterator[tuple[slice, DropoutMasks, Index | None]]:
    """Split T steps into segments: the place of each, its noise, and how many steps sequences have in it."""
    for start in range(0, T, length):
        part = slice(start, min(start + length, T))
        new_h, new_c = (share if isinstance(share, float) else share[part] for share in noise[1:])
        own = None if lengths is None else np.clip(lengths - start, 0, part.stop - start)
        yield part, DropoutMasks(noise.recurrent, new_h, new_c), own


AnyTape: TypeAlias = "lstm.Tape | variants.Tape | CheckpointedTape"


def final_state(tape: AnyTape, lengths: Index | None) -> tuple[Array, Array]:
    """Return the state after each sequence's last step: (P, B) and (H, B)."""
    if isinstance(tape, CheckpointedTape):
        return tape.final
    if lengths is None:
        return tape.h_with_initial[-1], tape.c_with_initial[-1]
    return gather_final(tape.h_with_initial, lengths), gather_final(tape.c_with_initial, lengths)


class DirectionRunner:
    """What runs the steps of one layer in one direction.

    Parameters
    ----------
    options : LSTMConfig
    weights : callable
        Gives the weights under core's names.
    execution : Execution
    """

    def __init__(self, options: LSTMConfig, weights: Callable[[], Weights], execution: ExecutionConfig) -> None:
        self.options, self.weights, self.execution = options, weights, execution
        for name, value in options.unsupported("general").items():
            raise ValueError(f"{name} must be {options.declared[name].default!r}: no engine computes it, got {value!r}")
        self._variant, self._plain = options.cell_config, options.is_standard

    def forward(
        self,
        x: Array,
        start: tuple[InitialState, InitialState],
        noise: DropoutMasks,
        lengths: Index | None,
        buffers: BufferPool,
    ) -> AnyTape:
        """Run all steps x (T, I, B); return the tape that their backward pass needs."""
        weights, length = self.weights(), self._segment(*x.shape)
        if length is None:
            return self._forward_with_tape(weights, x, start, noise, lengths, buffers)
        tape = CheckpointedTape(weights, x, start, noise, lengths, length)
        h = np.empty((tape.T, self.options.state_size, tape.B), x.dtype)
        for part, own_noise, own_lengths in tape.parts():
            h[part], *end = self._forward_without_tape(
                weights, x[part], tape.starts[-1], own_noise, own_lengths, buffers
            )
            tape.starts.append((end[0].copy(), end[1].copy()))
        del tape.starts[-1]
        tape.add(h, (end[0].copy(), end[1].copy()))
        return tape

    def backward(
        self,
        tape: AnyTape,
        dh: Array,
        d_end: tuple[InitialState, InitialState],
        dc: Array | None,
        buffers: BufferPool,
        *,
        need_dx: bool,
        every: StepGradientsByLayer | None = None,
    ) -> RunnerGradient:
        """Compute the adjoint of :meth:`forward`; `dc` is the gradient on cells, from where sequences end.

        `every`, if present, receives the gradients at every step.
        """
        if not isinstance(tape, CheckpointedTape):
            return self._backward(tape, dh, d_end, dc, buffers, need_dx=need_dx, every=every)
        dx = np.empty((tape.T if need_dx else 0, tape.I, tape.B), tape.dtype)
        total: dict[str, Array] = {}
        for (part, noise, lengths), start in zip(reversed(tape.parts()), reversed(tape.starts), strict=True):
            again = self._forward_with_tape(tape.weights, tape.x[part], start, noise, lengths, buffers)
            of_c = None if dc is None else dc[part]
            d = self._backward(again, dh[part], d_end, of_c, buffers, need_dx=need_dx)
            for name, d_weight in d.dweights.items():
                total[name] = total[name] + d_weight if name in total else d_weight
            d_end = d.dh0, d.dc0
            if need_dx:
                dx[part] = d.dx
        return RunnerGradient(total, dx, d.dh0, d.dc0)

    def outputs(
        self,
        x: Array,
        start: tuple[InitialState, InitialState],
        noise: DropoutMasks,
        lengths: Index | None,
        buffers: BufferPool,
    ) -> lstm_inference.InferenceResult:
        """Run all steps; return only the outputs and the final state."""
        weights, (T, _, B) = self.weights(), x.shape
        if lengths is None and self._is_standard(noise):
            return self._standard_inference(weights, x, start, buffers)
        if T == 0:
            return self._forward_without_tape(weights, x, start, noise, lengths, buffers)
        h = np.empty((T, self.options.state_size, B), x.dtype)
        for part, own_noise, own_lengths in split_segments(T, INFERENCE_BLOCK_STEPS, noise, lengths):
            h[part], *ends = self._forward_without_tape(weights, x[part], start, own_noise, own_lengths, buffers)
            start = ends[0].copy(), ends[1].copy()
        return lstm_inference.InferenceResult(h, *ends)

    def _is_standard(self, noise: DropoutMasks) -> bool:
        return self._plain and noise.is_identity

    def _forward_with_tape(
        self,
        weights: Weights,
        x: Array,
        start: tuple[InitialState, InitialState],
        noise: DropoutMasks,
        lengths: Index | None,
        buffers: BufferPool,
    ) -> lstm.Tape | variants.Tape:
        if not self._is_standard(noise):
            return variants.forward(self._variant, weights, x, *start, noise, lengths)
        _, I, B = x.shape
        engine = engines.select(self.execution.engine, I, self.options.hidden_size, B, x.dtype)
        return engine.forward(weights["kernel"], x, *start, buffers)

    def _forward_without_tape(
        self,
        weights: Weights,
        x: Array,
        start: tuple[InitialState, InitialState],
        noise: DropoutMasks,
        lengths: Index | None,
        buffers: BufferPool,
    ) -> lstm_inference.InferenceResult:
        if lengths is None and self._is_standard(noise):
            return self._standard_inference(weights, x, start, buffers)
        tape = self._forward_with_tape(weights, x, start, noise, lengths, buffers)
        return lstm_inference.InferenceResult(tape.h, *final_state(tape, lengths))

    def _standard_inference(
        self, weights: Weights, x: Array, start: tuple[InitialState, InitialState], buffers: BufferPool
    ) -> lstm_inference.InferenceResult:
        _, I, B = x.shape
        engine = engines.select_for_inference(self.execution.engine, I, self.options.hidden_size, B, x.dtype)
        return engine.forward_inference(weights["kernel"], x, *start, buffers)

    def _backward(
        self,
        tape: lstm.Tape | variants.Tape,
        dh: Array,
        d_end: tuple[InitialState, InitialState],
        dc: Array | None,
        buffers: BufferPool,
        *,
        need_dx: bool,
        every: StepGradientsByLayer | None = None,
    ) -> RunnerGradient:
        T, H, B, dtype = tape.T, tape.H, tape.B, tape.dtype
        if isinstance(tape, lstm.Tape):
            dz = None if every is None else np.empty((T, 4 * H, B), dtype)
            engine = engines.select(self.execution.engine, tape.I, H, B, dtype)
            dkernel, dx, dh0, dc0 = engine.backward(tape, dh, *d_end, buffers, dc=dc, need_dx=need_dx, dz_steps=dz)
            if every is not None and dz is not None:
                every.append(cache(partial(compute_step_gradients, tape, dz, dx, dh, *d_end, dc)))
            return RunnerGradient({"kernel": dkernel}, dx, dh0, dc0)
        step_gradients = None
        if every is not None:
            R = tape.z.shape[1]
            dz, da, of_c, of_h = (np.empty((T, rows, B), dtype) for rows in (R, R, H, tape.P))
            step_gradients = StepGradients(dz, da, of_c, of_h, dh, dh)  # dx is not yet there
        dweights, dx, dh0, dc0 = variants.backward(tape, dh, *d_end, dc, buffers, step_gradients)
        if every is not None and step_gradients is not None:
            step_gradients_with_dx = step_gradients._replace(dx=dx)
            every.append(lambda: step_gradients_with_dx)
        return RunnerGradient(dweights, dx if need_dx else dx[:0], dh0, dc0)

    def _segment(self, T: int, _: int, B: int) -> int | None:
        """Return the number of steps in a segment; None if all are kept."""
        every, limit = self.execution.recompute_every, self.execution.memory_limit
        if T == 0 or (every is None and limit is None):
            return None
        if limit is not None:
            length = self._largest_segment_within(limit, T, B)
        else:
            length = ceil(sqrt(T)) if every == "auto" else int(every or T)
        return length if length < T else None

    def _largest_segment_within(self, limit: float, T: int, B: int) -> int:
        """Return the longest segment with which the tape of one, and the states between all, fit into the limit."""
        options, W = self.options, self.weights()["kernel"]
        H, P, R = options.hidden_size, options.state_size, len(W)
        I = max(inputs for _, inputs, _ in options.directions)
        rows = 9 * H + I + 1 if options.is_standard else I + 8 * H + P + R * (3 if options.layer_norm else 1)
        length = np.arange(1, T + 1)
        needed = (length * rows + np.ceil(T / length) * (P + H)) * B * W.itemsize * len(options.directions)
        fitting = length[needed <= limit]
        if not len(fitting):
            raise ValueError(
                f"memory_limit={limit:.0f} is too small for {B} sequences of {T} steps: they need "
                f"{needed.min():.0f} bytes at least, in segments of {length[needed.argmin()]} steps"
            )
        return int(fitting[-1])
