"""The passes of an LSTM through its layers and directions, on arrays in core's layout, without validation.

Those of one layer in one direction are in :mod:`glasscell.layers.lstm_direction`.
"""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from glasscell.core.buffers import BufferPool
from glasscell.core.lstm_tape import Tape
from glasscell.core.parameters import Parameters
from glasscell.core.step_gradients import StepGradientsByLayer
from glasscell.core.time_order import TimeOrder, time_order
from glasscell.core.types import Array
from glasscell.layers.base import LayerResult, Mask
from glasscell.layers.lstm_direction_base import ZERO_STATE, Direction
from glasscell.layers.recurrent_layer import RecurrentLayer
from glasscell.recurrent.config import LSTMConfig
from glasscell.recurrent.dropout import dropout_mask
from glasscell.recurrent.merging import merge_directions, merge_directions_backward
from glasscell.recurrent.tape import DirectionTape, FinalState, LSTMState, LSTMTape

if TYPE_CHECKING:
    from glasscell.trace.layer_trace import LayerTrace

NO_ORDER: dict[bool, TimeOrder | None] = {False: None, True: None}


class LSTMPasses(RecurrentLayer):
    """The passes of :class:`glasscell.LSTM`, whose constructor makes the directions.

    Attributes
    ----------
    options : LSTMConfig
    num_layers : int
    """

    state_type: ClassVar = LSTMState
    tape_type: ClassVar = LSTMTape
    options: LSTMConfig
    num_layers: int

    def _prepare_passes(self, directions: Sequence[Direction]) -> None:
        """Keep the directions, from the first layer to the last; with two, forward and reverse of each in turn."""
        D = self._num_directions = self.options.num_directions
        self._directions = list(directions)
        self._layers = [self._directions[k : k + D] for k in range(0, len(directions), D)]
        self._learns_initial_state = self.options.learn_initial_state

    def __copy__(self) -> Self:
        """Return a layer on the same parameters, without interventions: these belong to the original's block."""
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__)
        LSTMPasses._prepare_passes(other, [one.without_interventions() for one in self._directions])
        return other

    def forward_feature_major(
        self,
        x: Array,
        mask: Mask | None = None,
        state: LSTMState | FinalState | None = None,
        rng: np.random.Generator | None = None,
        buffers: BufferPool | None = None,
        keep_tape: bool = True,
    ) -> LayerResult:
        """Compute the outputs (T, D·P, B) of x (T, I, B), from a state of L·D arrays (rows, B) in h and c.

        The final state has the same layout; its arrays may be views of the buffers. Without a tape, dropout is not
        applied and `rng` is ignored.
        """
        buffers = BufferPool() if buffers is None else buffers
        if not keep_tape:
            return self._infer_feature_major(x, mask, state, buffers)
        tapes: list[DirectionTape] = []
        dropout_masks: list[Array] = []
        orders = self._orders(mask)
        for layer in self._layers:
            outputs = []
            for direction in layer:
                initial = self._initial_state(direction, state, len(tapes))
                scope = buffers.scope(direction.suffix)
                if mask is None and direction.is_plain and (rng is None or not direction.draws_masks):
                    steps = direction.run(x, initial, scope)
                    tape, y = DirectionTape(steps, None), steps.h
                else:
                    tape, y = direction.forward(x, initial, orders[direction.reverse], rng, scope)
                tapes.append(tape)
                outputs.append(y)
            x = outputs[0] if self._num_directions == 1 else merge_directions(self.options.merge, outputs)
            if rng is not None and self.options.dropout and layer is not self._layers[-1]:
                dropout_masks.append(np.asarray(dropout_mask(rng, self.options.dropout, x.shape, x.dtype)))
                x = x * dropout_masks[-1]
        learned = self._learns_initial_state and state is None
        whole = LSTMTape(tuple(tapes), learned, self.options, tuple(dropout_masks))
        return LayerResult(x, mask, FinalState(whole), whole)

    def _infer_feature_major(
        self, x: Array, mask: Mask | None, state: LSTMState | FinalState | None, buffers: BufferPool
    ) -> LayerResult:
        """Run without a tape."""
        final_states: list[tuple[Array, Array]] = []
        orders = self._orders(mask)
        for layer in self._layers:
            outputs = []
            for direction in layer:
                initial = self._initial_state(direction, state, len(final_states))
                scope = buffers.scope(direction.suffix)
                y, final = direction.infer(x, initial, orders[direction.reverse], scope)
                final_states.append(final)
                outputs.append(y)
            x = outputs[0] if self._num_directions == 1 else merge_directions(self.options.merge, outputs)
        return LayerResult(x, mask, _collect_states(final_states), None)

    def backward_with_state(
        self,
        tape: LSTMTape,
        d_outputs: Array,
        d_final_state: LSTMState | None = None,
        gradients: Parameters | None = None,
        buffers: BufferPool | None = None,
        *,
        need_dx: bool = True,
        step_gradients: StepGradientsByLayer | None = None,
    ) -> tuple[Array, LSTMState]:
        """Compute all gradients in core's layout; see :meth:`RecurrentLayer.backward_with_state`."""
        buffers = BufferPool() if buffers is None else buffers
        D, dy, d_final = self._num_directions, np.ascontiguousarray(d_outputs), d_final_state
        d_initial: list[tuple[Array, Array]] = []
        for first in reversed(range(0, len(self._directions), D)):
            dx, d_initial_of_layer = [], []
            collected: StepGradientsByLayer | None = None if step_gradients is None else []
            for k, dy_k in enumerate([dy] if D == 1 else self._merge_backward(tape, first, dy), start=first):
                direction, (steps, order, input_mask) = self._directions[k], tape.directions[k]
                d_final_k = ZERO_STATE if d_final is None else (d_final.h[k], d_final.c[k])
                is_plain = direction.is_plain and order is None and isinstance(input_mask, float)
                needed, arguments = need_dx or first > 0, (dy_k, d_final_k, gradients, buffers.scope(direction.suffix))
                if is_plain and isinstance(steps, Tape):
                    gradient = direction.run_backward(steps, *arguments, need_dx=needed, step_gradients=collected)
                else:
                    gradient = direction.backward(
                        tape.directions[k], *arguments, need_dx=needed, step_gradients=collected
                    )
                d_initial_of_layer.append((gradient.dh0, gradient.dc0))
                if gradients is not None and self._learns_initial_state:
                    for name, d in zip("hc", d_initial_of_layer[-1], strict=True):
                        gradients[f"initial_{name}{direction.suffix}"][:] = d.sum(axis=1) * tape.learned_initial_state
                dx.append(gradient.dx)
            d_initial[:0] = d_initial_of_layer
            if step_gradients is not None and collected is not None:
                step_gradients[:0] = collected
            dy = dx[0] if D == 1 else dx[0] + dx[1]
            if first and tape.dropout_masks:
                dy = dy * tape.dropout_masks[first // D - 1]
        return dy, _collect_states(d_initial)

    def _orders(self, mask: Mask | None) -> dict[bool, TimeOrder | None]:
        """Return the processing orders of the directions that exist, by whether they are reverse."""
        if mask is None:
            return NO_ORDER
        return {one.reverse: time_order(mask, reverse=one.reverse) for one in self._layers[0]}

    def _initial_state(
        self, direction: Direction, state: LSTMState | FinalState | None, k: int
    ) -> tuple[Array | float, Array | float]:
        if state is not None:
            return state.h[k], state.c[k]
        return direction.learned_initial_state() if self._learns_initial_state else ZERO_STATE

    def _merge_backward(self, tape: LSTMTape, first: int, dy: Array) -> list[Array]:
        """Return the gradient on the outputs of each direction of the layer that begins with direction `first`."""
        outputs: list[Array] = []
        if self.options.merge == "multiply":
            outputs = [self._directions[k].outputs(tape.directions[k]) for k in (first, first + 1)]
        return merge_directions_backward(self.options.merge, dy, outputs)

    # What a trace asks

    @property
    def num_states(self) -> tuple[str, int]:
        """The letters and the number of layers and directions."""
        return "L·D" if self.options.bidirectional else "L", self.num_layers * self.options.num_directions

    def tape_shape(self, tape: LSTMTape) -> tuple[int, int]:
        """Return (T, B)."""
        first = tape.directions[0].tape
        return first.T, first.B

    def valid_steps(self, tape: LSTMTape) -> Mask | None:
        """Return the steps (B, T) that were processed; None: all."""
        order = tape.directions[0].order
        return None if order is None else order.mask.T

    def layer_traces(
        self, tape: LSTMTape, step_gradients: Sequence[Any] | None = None, prefix: str = ""
    ) -> tuple[LayerTrace, ...]:
        """Return the trace of each layer and direction."""
        from glasscell.trace.layer_trace import layer_traces  # noqa: PLC0415 - only where it is used

        return layer_traces(tape, None if step_gradients is None else list(step_gradients), prefix)


def _collect_states(states: Sequence[tuple[Array, Array]]) -> LSTMState:
    """Return the states of all directions, (P, B) and (H, B), in the fields of one state."""
    h: Any
    c: Any
    h, c = zip(*states, strict=True)
    return LSTMState(h, c)
