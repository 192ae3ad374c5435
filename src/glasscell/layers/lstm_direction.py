"""One layer of an LSTM in one direction, with every option: masks, reversal, noise, variants, recomputed segments.

Core processes step 0, 1, 2 … of all sequences. What a direction without any of these does is in
:mod:`glasscell.layers.lstm_direction_base`.
"""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from typing import Any

import numpy as np

from glasscell.core.buffers import BufferPool
from glasscell.core.lstm_tape import Tape
from glasscell.core.parameters import Parameters
from glasscell.core.step_gradients import StepGradientsByLayer
from glasscell.core.time_order import TimeOrder, scatter_add_final
from glasscell.core.types import Array
from glasscell.core.variants import DropoutMasks
from glasscell.layers.lstm_direction_base import ZERO_STATE, Direction
from glasscell.recurrent.checkpointing import InitialState
from glasscell.recurrent.config import LSTMConfig
from glasscell.recurrent.dropout import draw_masks
from glasscell.recurrent.execution import DirectionGradient, ExecutionConfig
from glasscell.recurrent.tape import DirectionTape


class LSTMDirection(Direction):
    """One layer in one direction, with every option.

    Parameters
    ----------
    options, parameters, suffix, reverse, execution
        As of :class:`~glasscell.layers.lstm_direction_base.Direction`.
    """

    def __init__(
        self, options: LSTMConfig, parameters: Parameters, suffix: str, *, reverse: bool, execution: ExecutionConfig
    ) -> None:
        super().__init__(options, parameters, suffix, reverse=reverse, execution=execution)
        self._no_dropout = DropoutMasks(1.0, 1.0 - options.zoneout, 1.0 - options.zoneout_cell)

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
        if rng is not None and self.draws_masks:
            input_mask, masks = draw_masks(self.options, x, rng)
            x = x * input_mask
        if masks is self._no_dropout and self.runner.is_direct:
            skipped = self._skipped_steps(order, x.shape[2])
            x = x if order is not None and skipped and not order.moves_steps else self._to_processing_order(x, order)
            tape: Any = self.run(x, initial, buffers, **skipped)
        else:
            skipped, x = {}, self._to_processing_order(x, order)
            tape = self.runner.forward(x, initial, masks, order, buffers)
        in_place = isinstance(tape, Tape)  # no gradient depends on the outputs of this engine's invalid steps
        y = self._to_time_order(tape.h, order, buffers, in_place=in_place, are_zero=bool(skipped))
        return DirectionTape(tape, order, input_mask), y

    def infer(
        self, x: Array, initial: tuple[InitialState, InitialState], order: TimeOrder | None, buffers: BufferPool
    ) -> tuple[Array, tuple[Array, Array]]:
        """Run :meth:`forward` without a tape: return the outputs, and the state after each sequence's last step."""
        x = self._to_processing_order(x, order)
        h, final_h, final_c = self.runner.infer(x, initial, self._no_dropout, order, buffers)
        return self._to_time_order(h, order, buffers), (final_h, final_c)

    def outputs(self, tape: DirectionTape) -> Array:
        """Return the outputs of a pass, in time order."""
        return self._to_time_order(tape.tape.h, tape.order, None)

    def _skipped_steps(self, order: TimeOrder | None, B: int) -> dict[str, Any]:
        """Return the argument that makes the engine skip all steps after the ends of sequences, if it can."""
        if order is None or order.ended is None:
            return {}
        engine = self.runner.engines.get(B) or self.runner.select_engine(B)
        if not engine.skips_ended:
            return {}
        return {"ended": order.ended}

    def _to_processing_order(self, x: Array, order: TimeOrder | None) -> Array:
        if order is not None:
            return x if order.is_in_order(x) else order.to_processing_order(x)
        return x[::-1] if self.reverse else x

    def _to_time_order(
        self,
        h: Array,
        order: TimeOrder | None,
        buffers: BufferPool | None,
        *,
        in_place: bool = False,
        are_zero: bool = False,
    ) -> Array:
        """Return `h` in time order; `are_zero`: its invalid steps are 0 already."""
        if order is not None:
            repeat = self.options.masked_outputs == "repeat"
            out: Array | None = h
            if repeat or order.moves_steps or not in_place:
                out = None if buffers is None else buffers.get_like("outputs", h)
            if out is not h or not are_zero:
                h = order.to_time_order(h, repeat=repeat, out=out)
        elif self.reverse:
            h = h[::-1]
        return h[::-1] if self.options.outputs_in == "processing" else h

    def _to_time_order_backward(
        self, dy: Array, order: TimeOrder, buffers: BufferPool, *, copy: bool, skips: bool
    ) -> Array:
        """Return `dy` in processing order: without `copy`, `dy` itself if nothing that is not skipped changes."""
        repeat = self.options.masked_outputs == "repeat"
        if not (repeat or copy) and ((skips and not order.moves_steps) or order.is_in_order(dy)):
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
        skipped = self._skipped_steps(order, steps.B) if isinstance(steps, Tape) and step_gradients is None else {}
        if order is not None:
            copy = d_final is not ZERO_STATE
            dy = self._to_time_order_backward(dy, order, buffers, copy=copy, skips=bool(skipped))
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
            dx, dh0, dc0 = self.run_backward(
                *(steps, dy, d_final, gradients, buffers),
                dc=dc,
                need_dx=need_dx,
                step_gradients=step_gradients,
                **skipped,
            )
        else:
            dweights, dx, dh0, dc0 = self.runner.backward(
                steps, dy, d_final, dc, buffers, need_dx=need_dx, step_gradients=step_gradients
            )
            if gradients is not None:
                self.write_gradients(dweights, gradients)
        if order is not None:
            dx = order.to_time_order(dx) if len(dx) else dx
            dh0, dc0 = dh0 + d_initial_of_empty[0], dc0 + d_initial_of_empty[1]
        elif self.reverse:
            dx = dx[::-1]
        if not isinstance(tape.input_mask, float):
            dx = dx * tape.input_mask
        return DirectionGradient(dx, dh0, dc0)
