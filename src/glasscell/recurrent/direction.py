"""One layer in one direction: from sequences in time order to core's processing order, and back.

Core processes step 0, 1, 2 … of all sequences. Direction, padding, masks and dropout are handled here.
"""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from typing import Any, NamedTuple

import numpy as np

from glasscell.core.buffers import BufferPool
from glasscell.core.lstm import Tape
from glasscell.core.parameters import Parameters
from glasscell.core.step_gradients import StepGradientsByLayer
from glasscell.core.time_order import TimeOrder, scatter_add_final
from glasscell.core.types import Array
from glasscell.core.variants import DropoutMasks
from glasscell.recurrent.checkpointing import InitialState
from glasscell.recurrent.config import LSTMConfig
from glasscell.recurrent.execution import DirectionRunner, ExecutionConfig
from glasscell.recurrent.tape import DirectionTape

ZERO_STATE: tuple[InitialState, InitialState] = (0.0, 0.0)


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
            input_mask, masks = self._draw_masks(x, rng)
            x = x * input_mask
        lengths = None if order is None else order.lengths
        x = self._to_processing_order(x, order)
        if masks is self._no_dropout and self.runner.is_direct:
            engine = self.runner.engines.get(x.shape[2]) or self.runner.select_engine(x.shape[2])
            tape: Any = engine.forward(self.weights()["kernel"], x, *initial, buffers)
        else:
            tape = self.runner.forward(x, initial, masks, lengths, buffers)
        return DirectionTape(tape, order, input_mask), self._to_time_order(tape.h, order, buffers)

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
            return order.to_processing_order(x)
        return x[::-1] if self.reverse else x

    def _to_time_order(self, h: Array, order: TimeOrder | None, buffers: BufferPool | None) -> Array:
        if order is not None:
            out = None if buffers is None else buffers.get("outputs", h.shape, h.dtype)
            h = order.to_time_order(h, repeat=self.options.masked_outputs == "repeat", out=out)
        elif self.reverse:
            h = h[::-1]
        return h[::-1] if self.options.outputs_in == "processing" else h

    def backward(
        self,
        tape: DirectionTape,
        dy: Array,
        d_final: tuple[InitialState, InitialState],
        gradients: Parameters,
        buffers: BufferPool,
        *,
        need_dx: bool,
        step_gradients: StepGradientsByLayer | None = None,
    ) -> DirectionGradient:
        """Compute the adjoint of :meth:`forward`; the gradients of the weights are written into `gradients`.

        `step_gradients`, if present, receives the gradients at every step, in processing order.
        """
        order, steps = tape.order, tape.tape
        if self.options.outputs_in == "processing":
            dy = dy[::-1]
        dc, d_empty = None, ZERO_STATE
        if order is not None:
            out = buffers.get("d_outputs", dy.shape, dy.dtype)
            dy = order.to_time_order_backward(dy, repeat=self.options.masked_outputs == "repeat", out=out)
            if d_final is not ZERO_STATE:
                dc = np.zeros((steps.T, steps.H, steps.B), steps.dtype)
                d_empty = (
                    scatter_add_final(dy, d_final[0], order.lengths),
                    scatter_add_final(dc, d_final[1], order.lengths),
                )
                d_final = ZERO_STATE
        elif self.reverse:
            dy = dy[::-1]
        if step_gradients is None and isinstance(steps, Tape):
            engine = self.runner.engines.get(steps.B) or self.runner.select_engine(steps.B)
            dkernel, dx, dh0, dc0 = engine.backward(steps, dy, *d_final, buffers, dc=dc, need_dx=need_dx)
            self._write_gradients({"kernel": dkernel}, gradients)
        else:
            dweights, dx, dh0, dc0 = self.runner.backward(
                steps, dy, d_final, dc, buffers, need_dx=need_dx, step_gradients=step_gradients
            )
            self._write_gradients(dweights, gradients)
        if order is not None:
            dx = order.to_time_order(dx) if len(dx) else dx
            dh0, dc0 = dh0 + d_empty[0], dc0 + d_empty[1]
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

    def _draw_masks(self, x: Array, rng: np.random.Generator) -> tuple[Array | float, DropoutMasks]:
        """Draw the masks of one forward pass: that of the inputs, and those of the state."""
        options, (T, I, B) = self.options, x.shape
        P, H = options.state_size, options.hidden_size
        return (
            dropout_mask(rng, options.input_dropout, (I, B), x.dtype),
            DropoutMasks(
                dropout_mask(rng, options.recurrent_dropout, (P, B), x.dtype),
                dropout_mask(rng, options.zoneout, (T, P, B), x.dtype, scaled=False),
                dropout_mask(rng, options.zoneout_cell, (T, H, B), x.dtype, scaled=False),
            ),
        )


def dropout_mask(
    rng: np.random.Generator,
    rate: float,
    shape: tuple[int, ...],
    dtype: np.dtype[np.floating],
    *,
    scaled: bool = True,
) -> Array | float:
    """Draw 0 with probability `rate`, and 1 elsewhere; scaled to mean 1. Return the number 1 for rate 0."""
    if rate == 0:
        return 1.0
    drawn = (rng.random(shape) >= rate).astype(dtype)
    return drawn / dtype.type(1 - rate) if scaled else drawn
