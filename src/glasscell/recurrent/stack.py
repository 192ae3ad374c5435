"""A stack of LSTM layers in one direction or both, on arrays in core's layout, without validation."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from glasscell.core.buffers import BufferPool
from glasscell.core.parameters import Parameters
from glasscell.core.step_gradients import StepGradientsByLayer
from glasscell.core.time_order import TimeOrder, time_order
from glasscell.core.types import Array
from glasscell.recurrent.config import LSTMConfig
from glasscell.recurrent.direction import ZERO_STATE, LSTMDirection, dropout_mask
from glasscell.recurrent.execution import ExecutionConfig
from glasscell.recurrent.tape import DirectionTape, FinalState, LSTMState, LSTMTape

Mask = NDArray[np.bool_]
NO_ORDER: dict[bool, TimeOrder | None] = {False: None, True: None}


class LSTMStack:
    """The layers of an LSTM.

    Parameters
    ----------
    options : LSTMConfig
    parameters : Parameters
    execution : ExecutionConfig

    Attributes
    ----------
    directions : list of LSTMDirection
        From the first layer to the last; with two directions forward and reverse of each layer in turn.
    """

    def __init__(self, options: LSTMConfig, parameters: Parameters, execution: ExecutionConfig) -> None:
        self.options, self._parameters = options, parameters
        self.directions = [
            LSTMDirection(options, parameters, suffix, reverse=reverse, execution=execution)
            for suffix, _, reverse in options.directions
        ]
        D = self._num_directions = options.num_directions
        self._layers = [self.directions[k : k + D] for k in range(0, len(self.directions), D)]
        self._learns_initial_state = options.learn_initial_state

    def forward(
        self,
        x: Array,
        mask: Mask | None,
        state: LSTMState | FinalState | None,
        rng: np.random.Generator | None,
        buffers: BufferPool,
    ) -> tuple[Array, LSTMTape]:
        """Run x (T, I, B) from a state (L·D, rows, B): return the outputs (T, D·P, B) and the tape."""
        tapes: list[DirectionTape] = []
        dropout_masks: list[Array] = []
        orders = self._orders(mask)
        for layer in self._layers:
            outputs = []
            for direction in layer:
                initial = self._initial_state(direction, state, len(tapes))
                scope = buffers.scope(direction.suffix)
                tape, y = direction.forward(x, initial, orders[direction.reverse], rng, scope)
                tapes.append(tape)
                outputs.append(y)
            x = outputs[0] if self._num_directions == 1 else self._merge_directions(outputs)
            if rng is not None and self.options.dropout and layer is not self._layers[-1]:
                dropout_masks.append(np.asarray(dropout_mask(rng, self.options.dropout, x.shape, x.dtype)))
                x = x * dropout_masks[-1]
        learned = self._learns_initial_state and state is None
        return x, LSTMTape(tuple(tapes), learned, self.options, tuple(dropout_masks))

    def infer(
        self, x: Array, mask: Mask | None, state: LSTMState | FinalState | None, buffers: BufferPool
    ) -> tuple[Array, list[tuple[Array, Array]]]:
        """Run without a tape: return the outputs, and the final state of each direction, (P, B) and (H, B)."""
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
            x = outputs[0] if self._num_directions == 1 else self._merge_directions(outputs)
        return x, final_states

    def backward(
        self,
        tape: LSTMTape,
        dy: Array,
        d_final: LSTMState | None,
        gradients: Parameters,
        buffers: BufferPool,
        *,
        need_dx: bool,
        step_gradients: StepGradientsByLayer | None = None,
    ) -> tuple[Array, list[tuple[Array, Array]]]:
        """Return the gradients on x, and on the initial state of each direction, (P, B) and (H, B)."""
        D = self._num_directions
        d_initial: list[tuple[Array, Array]] = []
        for first in reversed(range(0, len(self.directions), D)):
            dx, d_initial_of_layer = [], []
            gradients_of_layer: StepGradientsByLayer | None = None if step_gradients is None else []
            for k, dy_k in enumerate([dy] if D == 1 else self._merge_directions_backward(tape, first, dy), start=first):
                direction = self.directions[k]
                d_final_k = ZERO_STATE if d_final is None else (d_final.h[k], d_final.c[k])
                gradient = direction.backward(
                    *(tape.directions[k], dy_k, d_final_k, gradients, buffers.scope(direction.suffix)),
                    need_dx=need_dx or first > 0,
                    step_gradients=gradients_of_layer,
                )
                d_initial_of_layer.append((gradient.dh0, gradient.dc0))
                if self._learns_initial_state:
                    for name, d in zip("hc", d_initial_of_layer[-1], strict=True):
                        gradients[f"initial_{name}{direction.suffix}"][:] = d.sum(axis=1) * tape.learned_initial_state
                dx.append(gradient.dx)
            d_initial[:0] = d_initial_of_layer
            if step_gradients is not None and gradients_of_layer is not None:
                step_gradients[:0] = gradients_of_layer
            dy = dx[0] if D == 1 else dx[0] + dx[1]
            if first and tape.dropout_masks:
                dy = dy * tape.dropout_masks[first // D - 1]
        return dy, d_initial

    def _orders(self, mask: Mask | None) -> dict[bool, TimeOrder | None]:
        """Return the processing orders of the directions that exist, by whether they are reverse."""
        if mask is None:
            return NO_ORDER
        return {one.reverse: time_order(mask, reverse=one.reverse) for one in self._layers[0]}

    def _initial_state(
        self, direction: LSTMDirection, state: LSTMState | FinalState | None, k: int
    ) -> tuple[Array | float, Array | float]:
        if state is not None:
            return state.h[k], state.c[k]
        return direction.learned_initial_state() if self._learns_initial_state else ZERO_STATE

    def _merge_directions(self, outputs: Sequence[Array]) -> Array:
        y, reverse = outputs
        merge = self.options.merge
        if merge == "concat":
            return np.concatenate(outputs, axis=1)
        if merge == "multiply":
            return y * reverse
        return y + reverse if merge == "sum" else (y + reverse) / 2

    def _merge_directions_backward(self, tape: LSTMTape, first: int, dy: Array) -> list[Array]:
        """Return the gradient on the outputs of each direction of the layer that begins with direction `first`."""
        P, merge = self.options.state_size, self.options.merge
        if merge == "concat":
            return [dy[:, :P], dy[:, P:]]
        if merge == "multiply":
            y, reverse = (self.directions[k].outputs(tape.directions[k]) for k in (first, first + 1))
            return [dy * reverse, dy * y]
        return [dy, dy] if merge == "sum" else [dy / 2, dy / 2]
