"""One layer in one direction: from sequences in time to core's processing of them, and back.

Core processes step 0, 1, 2 … of columns. Direction, padding, masks and noise are settled here.
"""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from glasscell.core.buffers import BufferPool
from glasscell.core.parameters import Parameters
from glasscell.core.step_gradients import StepGradientsByLayer
from glasscell.core.time_order import TimeOrder, scatter_add_final, time_order
from glasscell.core.types import Array
from glasscell.core.variants import DropoutMasks
from glasscell.recurrent.config import LSTMConfig
from glasscell.recurrent.execution import DirectionRunner, ExecutionConfig, InitialState
from glasscell.recurrent.tape import DirectionTape


class DirectionGradient(NamedTuple):
    """The gradients that a direction returns; those of its weights are written."""

    dx: Array  # (T, I, B), empty if it was not asked for
    dh0: Array  # (P, B)
    dc0: Array  # (H, B)


class LSTMDirection:
    """One layer in one direction.

    Parameters
    ----------
    options : LSTMConfig
    parameters : Parameters
        The whole layer stack's.
    suffix : str
        Of the names of this direction's weights, such as ``_l0_reverse``.
    reverse : bool
        From the last step to the first.
    execution : Execution
    """

    def __init__(
        self, options: LSTMConfig, parameters: Parameters, suffix: str, *, reverse: bool, execution: ExecutionConfig
    ) -> None:
        self.options, self.suffix, self.reverse = options, suffix, reverse
        self.names = {name: f"{name}{suffix}" for name in options.shapes_of(1)}
        self._parameters = parameters
        self.steps = DirectionRunner(options, self.weights, execution)
        self._expected = DropoutMasks(1.0, 1.0 - options.zoneout, 1.0 - options.zoneout_cell)

    def weights(self) -> dict[str, Array]:
        """Return the weights under core's names; without a bias, its column is 0."""
        weights = {name: self._parameters[full] for name, full in self.names.items()}
        if self.options.recurrent_bias:
            weights["kernel"] = self.options.kernel(self._parameters, self.suffix)
        if not self.options.bias:
            kernel = weights["kernel"]
            weights["kernel"] = np.concatenate([kernel, np.zeros((len(kernel), 1), kernel.dtype)], axis=1)
        return weights

    def learned_initial_state(self) -> tuple[InitialState, InitialState]:
        """Return the learned initial state, (P, 1) and (H, 1), or 0."""
        if not self.options.learn_initial_state:
            return 0.0, 0.0
        h, c = (self._parameters[f"initial_{name}{self.suffix}"] for name in "hc")
        return h[:, None], c[:, None]

    def forward(
        self,
        x: Array,
        start: tuple[InitialState, InitialState],
        mask: NDArray[np.bool_] | None,
        rng: np.random.Generator | None,
        buffers: BufferPool,
    ) -> tuple[DirectionTape, Array]:
        """Run forward: return the tape, and the outputs (T, P, B) in time, of sequences x (T, I, B) in time."""
        input_mask, noise = self._noise(x, rng)
        if not isinstance(input_mask, float):
            x = x * input_mask
        of = self._order(mask)
        lengths = None if of is None else of.lengths
        done = DirectionTape(self.steps.forward(self._processed(x, of), start, noise, lengths, buffers), of, input_mask)
        return done, self.outputs(done)

    def run(
        self, x: Array, start: tuple[InitialState, InitialState], mask: NDArray[np.bool_] | None, buffers: BufferPool
    ) -> tuple[Array, tuple[Array, Array]]:
        """Run :meth:`forward` without a tape: return the outputs, and the state after each sequence's last step."""
        of = self._order(mask)
        lengths = None if of is None else of.lengths
        h, *end = self.steps.outputs(self._processed(x, of), start, self._expected, lengths, buffers)
        return self._in_time(h, of), (end[0], end[1])

    def outputs(self, done: DirectionTape) -> Array:
        """Return the outputs of a pass, in time."""
        return self._in_time(done.tape.h, done.order)

    def _order(self, mask: NDArray[np.bool_] | None) -> TimeOrder | None:
        return None if mask is None else time_order(mask, reverse=self.reverse)

    def _processed(self, x: Array, of: TimeOrder | None) -> Array:
        """Reorder from time to the order of processing."""
        if of is not None:
            return of.to_processing_order(x)
        return x[::-1] if self.reverse else x

    def _in_time(self, h: Array, of: TimeOrder | None) -> Array:
        """Reorder outputs from the order of processing back to time."""
        if of is not None:
            h = of.to_time_order(h, repeat=self.options.masked_outputs == "repeat")
        elif self.reverse:
            h = h[::-1]
        return h[::-1] if self.options.outputs_in == "processing" else h

    def backward(
        self,
        done: DirectionTape,
        dy: Array,
        d_final: tuple[InitialState, InitialState],
        gradients: Parameters,
        buffers: BufferPool,
        *,
        need_dx: bool,
        every: StepGradientsByLayer | None = None,
    ) -> DirectionGradient:
        """Compute the adjoint of :meth:`forward`; the gradients of the weights are written into `gradients`.

        `every`, if present, receives the gradients at every step, in the order of processing.
        """
        options, of, tape = self.options, done.order, done.tape
        if options.outputs_in == "processing":
            dy = dy[::-1]
        dc = None
        if of is not None:
            dy = of.to_time_order_backward(dy, repeat=options.masked_outputs == "repeat")
            dc = np.zeros((tape.T, tape.H, tape.B), tape.dtype)
            unstarted = scatter_add_final(dy, d_final[0], of.lengths), scatter_add_final(dc, d_final[1], of.lengths)
            d_final = 0.0, 0.0
        elif self.reverse:
            dy = dy[::-1]
        dweights, dx, dh0, dc0 = self.steps.backward(tape, dy, d_final, dc, buffers, need_dx=need_dx, every=every)
        self._write(dweights, gradients)
        if of is not None:
            dx = of.to_time_order(dx) if len(dx) else dx
            dh0, dc0 = dh0 + unstarted[0], dc0 + unstarted[1]
        elif self.reverse:
            dx = dx[::-1]
        if not isinstance(done.input_mask, float):
            dx = dx * done.input_mask
        return DirectionGradient(dx, dh0, dc0)

    def _write(self, dweights: dict[str, Array], gradients: Parameters) -> None:
        for name, full in self.names.items():
            d = dweights[name]
            gradients[full][:] = d[:, :-1] if name == "kernel" and not self.options.bias else d
        if self.options.recurrent_bias:
            gradients[f"recurrent_bias{self.suffix}"][:] = dweights["kernel"][:, -1]

    def _noise(self, x: Array, rng: np.random.Generator | None) -> tuple[Array | float, DropoutMasks]:
        """Return what is drawn for one forward pass; without a generator, zoneout's expectation."""
        if rng is None:
            return 1.0, self._expected
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
