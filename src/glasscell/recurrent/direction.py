"""A stack of LSTM layers in one direction or both, on arrays in core's layout, without validation.

Core processes step 0, 1, 2 … of all sequences. Direction, padding, masks and dropout are handled here.
"""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glasscell.core.buffers import BufferPool
from glasscell.core.lstm_tape import Tape
from glasscell.core.parameters import Parameters
from glasscell.core.step_gradients import StepGradientsByLayer, compute_step_gradients
from glasscell.core.time_order import TimeOrder, scatter_add_final, time_order
from glasscell.core.types import Array
from glasscell.core.variants import DropoutMasks
from glasscell.recurrent.checkpointing import InitialState
from glasscell.recurrent.config import LSTMConfig
from glasscell.recurrent.dropout import draw_masks, dropout_mask
from glasscell.recurrent.execution import DirectionRunner, ExecutionConfig
from glasscell.recurrent.merging import merge_directions, merge_directions_backward
from glasscell.recurrent.tape import DirectionTape, FinalState, LSTMState, LSTMTape

Mask = NDArray[np.bool_]

ZERO_STATE: tuple[InitialState, InitialState] = (0.0, 0.0)
NO_ORDER: dict[bool, TimeOrder | None] = {False: None, True: None}


class DirectionGradient(NamedTuple):
    """Gradients returned by a direction's backward pass; those of the weights are written."""

    dx: Array  # (T, I, B), empty unless needed
    dh0: Array  # (P, B)
    dc0: Array  # (H, B)


class LSTMDirection:
    """One layer in one direction.

    Parameters
    ----------
    options : LSTMConfig
    parameters : Parameters
        Of the whole stack.
    suffix : str
        Of the names of this direction's weights, such as ``_l0_reverse``.
    reverse : bool
        From the last step to the first.
    execution : ExecutionConfig
    """

    def __init__(
        self, options: LSTMConfig, parameters: Parameters, suffix: str, *, reverse: bool, execution: ExecutionConfig
    ) -> None:
        self.options, self.suffix, self.reverse = options, suffix, reverse
        self.names = {name: f"{name}{suffix}" for name in options.shapes_of(1)}
        self.runner = DirectionRunner(options, self.weights, execution)
        self._parameters = parameters
        self._no_dropout = DropoutMasks(1.0, 1.0 - options.zoneout, 1.0 - options.zoneout_cell)
        rates = options.input_dropout, options.recurrent_dropout, options.zoneout, options.zoneout_cell
        self._draws_masks = any(rates)
        self._weights: tuple[dict[str, Array], dict[str, Array]] = ({}, {})

    def __getstate__(self) -> dict[str, Any]:
        """Copy without the cached weights, which are views of the parameters."""
        return {**self.__dict__, "_weights": ({}, {})}

    def weights(self) -> dict[str, Array]:
        """Return the weights under core's names; without a bias, its column is 0."""
        views, weights = self._weights
        if views is self._parameters.views:
            return weights
        views = self._parameters.views
        weights = {name: views[full] for name, full in self.names.items()}
        if self.options.recurrent_bias:
            weights["kernel"] = self.options.kernel(views, self.suffix)
        elif not self.options.bias:
            kernel = weights["kernel"]
            weights["kernel"] = np.concatenate([kernel, np.zeros((len(kernel), 1), kernel.dtype)], axis=1)
        else:
            self._weights = views, weights
        return weights

    def learned_initial_state(self) -> tuple[InitialState, InitialState]:
        """Return the learned initial state, (P, 1) and (H, 1), or 0."""
        if not self.options.learn_initial_state:
            return ZERO_STATE
        h, c = (self._parameters[f"initial_{name}{self.suffix}"] for name in "hc")
        return h[:, None], c[:, None]

    def forward(
        self,
        x: Array,
        initial: tuple[InitialState, InitialState],
        order: TimeOrder | None,
        rng: np.random.Generator | None,
        buffers: BufferPool,
    ) -> tuple[DirectionTape, Array]:
        """Run forward: return the tape, and the outputs (T, P, B) in time order, of sequences x (T, I, B)."""
        input_mask: Array | float = 1.0
        masks = self._no_dropout
        if rng is not None and self._draws_masks:
            input_mask, masks = draw_masks(self.options, x, rng)
            x = x * input_mask
        lengths = None if order is None else order.lengths
        x = self._to_processing_order(x, order)
        if masks is self._no_dropout and self.runner.is_direct:
            engine = self.runner.engines.get(x.shape[2]) or self.runner.select_engine(x.shape[2])
            tape: Any = engine.forward(self.weights()["kernel"], x, *initial, buffers)
        else:
            tape = self.runner.forward(x, initial, masks, lengths, buffers)
        in_place = isinstance(tape, Tape)  # no gradient depends on the outputs of this engine's invalid steps
        y = self._to_time_order(tape.h, order, buffers, in_place=in_place)
        return DirectionTape(tape, order, input_mask), y

    def infer(
        self, x: Array, initial: tuple[InitialState, InitialState], order: TimeOrder | None, buffers: BufferPool
    ) -> tuple[Array, tuple[Array, Array]]:
        """Run :meth:`forward` without a tape: return the outputs, and the state after each sequence's last step."""
        lengths = None if order is None else order.lengths
        x = self._to_processing_order(x, order)
        h, final_h, final_c = self.runner.infer(x, initial, self._no_dropout, lengths, buffers)
        return self._to_time_order(h, order, buffers), (final_h, final_c)

    def outputs(self, tape: DirectionTape) -> Array:
        """Return the outputs of a pass, in time order."""
        return self._to_time_order(tape.tape.h, tape.order, None)

    def _to_processing_order(self, x: Array, order: TimeOrder | None) -> Array:
        if order is not None:
            return x if order.is_in_order(x) else order.to_processing_order(x)
        return x[::-1] if self.reverse else x

    def _to_time_order(
        self, h: Array, order: TimeOrder | None, buffers: BufferPool | None, *, in_place: bool = False
    ) -> Array:
        if order is not None:
            repeat = self.options.masked_outputs == "repeat"
            if in_place and not (repeat or order.moves_steps):
                out: Array | None = h
            else:
                out = None if buffers is None else buffers.get_like("outputs", h)
            h = order.to_time_order(h, repeat=repeat, out=out)
        elif self.reverse:
            h = h[::-1]
        return h[::-1] if self.options.outputs_in == "processing" else h

    def _to_time_order_backward(self, dy: Array, order: TimeOrder, buffers: BufferPool, *, copy: bool) -> Array:
        """Return `dy` in processing order: without `copy`, `dy` itself if that changes nothing."""
        repeat = self.options.masked_outputs == "repeat"
        if not (repeat or copy) and order.is_in_order(dy):
            return dy
        return order.to_time_order_backward(dy, repeat=repeat, out=buffers.get_like("d_outputs", dy))

    def backward(
        self,
        tape: DirectionTape,
        dy: Array,
        d_final: tuple[InitialState, InitialState],
        gradients: Parameters | None,
        buffers: BufferPool,
        *,
        need_dx: bool,
        step_gradients: StepGradientsByLayer | None = None,
    ) -> DirectionGradient:
        """Compute the gradients of :meth:`forward`: its steps in reverse order. Overwrite `gradients`, if present.

        `step_gradients`, if present, receives the gradients at every step, in processing order.
        """
        order, steps = tape.order, tape.tape
        if self.options.outputs_in == "processing":
            dy = dy[::-1]
        dc, d_initial_of_empty = None, ZERO_STATE
        if order is not None:
            dy = self._to_time_order_backward(dy, order, buffers, copy=d_final is not ZERO_STATE)
            if d_final is not ZERO_STATE:
                dc = np.zeros((steps.T, steps.H, steps.B), steps.dtype)
                d_initial_of_empty = (
                    scatter_add_final(dy, d_final[0], order.lengths),
                    scatter_add_final(dc, d_final[1], order.lengths),
                )
                d_final = ZERO_STATE
        elif self.reverse:
            dy = dy[::-1]
        if isinstance(steps, Tape):
            engine = self.runner.engines.get(steps.B) or self.runner.select_engine(steps.B)
            dz = None if step_gradients is None else np.empty((steps.T, 4 * steps.H, steps.B), steps.dtype)
            dkernel, dx, dh0, dc0 = engine.backward(steps, dy, *d_final, buffers, dc=dc, need_dx=need_dx, dz_steps=dz)
            if step_gradients is not None and dz is not None:
                step_gradients.append(cache(partial(compute_step_gradients, steps, dz, dx, dy, *d_final, dc)))
            if gradients is not None:
                self._write_gradients({"kernel": dkernel}, gradients)
        else:
            dweights, dx, dh0, dc0 = self.runner.backward(
                steps, dy, d_final, dc, buffers, need_dx=need_dx, step_gradients=step_gradients
            )
            if gradients is not None:
                self._write_gradients(dweights, gradients)
        if order is not None:
            dx = order.to_time_order(dx) if len(dx) else dx
            dh0, dc0 = dh0 + d_initial_of_empty[0], dc0 + d_initial_of_empty[1]
        elif self.reverse:
            dx = dx[::-1]
        if not isinstance(tape.input_mask, float):
            dx = dx * tape.input_mask
        return DirectionGradient(dx, dh0, dc0)

    def _write_gradients(self, dweights: dict[str, Array], gradients: Parameters) -> None:
        views = gradients.views
        for name, full in self.names.items():
            d = dweights[name]
            views[full][:] = d[:, :-1] if name == "kernel" and not self.options.bias else d
        if self.options.recurrent_bias:
            views[f"recurrent_bias{self.suffix}"][:] = dweights["kernel"][:, -1]


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
            x = outputs[0] if self._num_directions == 1 else merge_directions(self.options.merge, outputs)
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
            x = outputs[0] if self._num_directions == 1 else merge_directions(self.options.merge, outputs)
        return x, final_states

    def backward(
        self,
        tape: LSTMTape,
        dy: Array,
        d_final: LSTMState | None,
        gradients: Parameters | None,
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
            for k, dy_k in enumerate([dy] if D == 1 else self._merge_backward(tape, first, dy), start=first):
                direction = self.directions[k]
                d_final_k = ZERO_STATE if d_final is None else (d_final.h[k], d_final.c[k])
                gradient = direction.backward(
                    *(tape.directions[k], dy_k, d_final_k, gradients, buffers.scope(direction.suffix)),
                    need_dx=need_dx or first > 0,
                    step_gradients=gradients_of_layer,
                )
                d_initial_of_layer.append((gradient.dh0, gradient.dc0))
                if gradients is not None and self._learns_initial_state:
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

    def uses_numba(self, B: int) -> bool:
        """Return whether the compiled engine runs passes with a tape of B sequences in any direction."""
        return any(direction.runner.uses_numba(B) for direction in self.directions)

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

    def _merge_backward(self, tape: LSTMTape, first: int, dy: Array) -> list[Array]:
        """Return the gradient on the outputs of each direction of the layer that begins with direction `first`."""
        pair, merge = (first, first + 1), self.options.merge
        outputs = [self.directions[k].outputs(tape.directions[k]) for k in pair] if merge == "multiply" else []
        return merge_directions_backward(merge, dy, outputs)
