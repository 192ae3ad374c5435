"""One layer of an LSTM in one direction: its weights, and the calls of an engine.

A direction without mask, reversal, noise and options of a variant is one call of an engine, here. All that can stand
around and instead of that call is in :mod:`glasscell.layers.lstm_direction`.
"""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from abc import ABC, abstractmethod
from copy import copy
from functools import cache, partial
from typing import Any, Self

import numpy as np

from glasscell.core.buffers import BufferPool
from glasscell.core.lstm_tape import Tape
from glasscell.core.parameters import Parameters
from glasscell.core.step_gradients import StepGradientsByLayer, compute_step_gradients
from glasscell.core.time_order import TimeOrder
from glasscell.core.types import Array
from glasscell.recurrent.checkpointing import InitialState
from glasscell.recurrent.config import LSTMConfig
from glasscell.recurrent.execution import DirectionGradient, DirectionRunner, ExecutionConfig
from glasscell.recurrent.tape import DirectionTape

ZERO_STATE: tuple[InitialState, InitialState] = (0.0, 0.0)


class Direction(ABC):
    """One layer in one direction: its weights, and the calls of an engine.

    Parameters
    ----------
    options : LSTMConfig
    parameters : Parameters
        Of all directions.
    suffix : str
        Of the names of this direction's weights, such as ``_l0_reverse``.
    reverse : bool
        From the last step to the first.
    execution : ExecutionConfig

    Attributes
    ----------
    is_plain : bool
        Whether a pass without mask and noise is one call of an engine.
    draws_masks : bool
        Whether a pass in training has noise.
    """

    def __init__(
        self, options: LSTMConfig, parameters: Parameters, suffix: str, *, reverse: bool, execution: ExecutionConfig
    ) -> None:
        self.options, self.suffix, self.reverse = options, suffix, reverse
        self.names = {name: f"{name}{suffix}" for name in options.shapes_of(1)}
        self.set_runner(DirectionRunner(options, self.weights, execution))
        rates = options.input_dropout, options.recurrent_dropout, options.zoneout, options.zoneout_cell
        self.draws_masks = any(rates)
        self._parameters = parameters
        self._weights: tuple[dict[str, Array], dict[str, Array]] = ({}, {})

    def __getstate__(self) -> dict[str, Any]:
        """Copy without the cached weights, which are views of the parameters, and without interventions."""
        original = self.runner.original
        return {**self.__dict__, "_weights": ({}, {}), "runner": original, "is_plain": self._runs_plain(original)}

    def set_runner(self, runner: DirectionRunner) -> None:
        """Set what runs the steps."""
        self.runner, self.is_plain = runner, self._runs_plain(runner)

    def _runs_plain(self, runner: DirectionRunner) -> bool:
        return runner.is_direct and not self.reverse and self.options.outputs_in != "processing"

    def without_interventions(self) -> Self:
        """Return this direction on the same weights, without its interventions."""
        other = copy(self)
        other.set_runner(DirectionRunner(self.options, other.weights, self.runner.original.execution))
        return other

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
        """Return the learned initial state, (P, 1) and (H, 1)."""
        h, c = (self._parameters[f"initial_{name}{self.suffix}"] for name in "hc")
        return h[:, None], c[:, None]

    def run(self, x: Array, initial: tuple[InitialState, InitialState], buffers: BufferPool, **skipped: Any) -> Tape:
        """Run x (T, I, B), in processing order, through an engine; `skipped` are arguments that this engine takes."""
        engine: Any = self.runner.engines.get(x.shape[2]) or self.runner.select_engine(x.shape[2])
        tape: Tape = engine.forward(self.weights()["kernel"], x, *initial, buffers, **skipped)
        return tape

    def run_backward(
        self,
        steps: Tape,
        dy: Array,
        d_final: tuple[InitialState, InitialState],
        gradients: Parameters | None,
        buffers: BufferPool,
        *,
        dc: Array | None = None,
        need_dx: bool,
        step_gradients: StepGradientsByLayer | None,
        **skipped: Any,
    ) -> DirectionGradient:
        """Compute the gradients of :meth:`run`, in processing order; see :meth:`backward`."""
        engine: Any = self.runner.engines.get(steps.B) or self.runner.select_engine(steps.B)
        dz = None if step_gradients is None else np.empty((steps.T, 4 * steps.H, steps.B), steps.dtype)
        dkernel, dx, dh0, dc0 = engine.backward(
            steps, dy, *d_final, buffers, dc=dc, need_dx=need_dx, dz_steps=dz, **skipped
        )
        if step_gradients is not None and dz is not None:
            step_gradients.append(cache(partial(compute_step_gradients, steps, dz, dx, dy, *d_final, dc)))
        if gradients is not None:
            self.write_gradients({"kernel": dkernel}, gradients)
        return DirectionGradient(dx, dh0, dc0)

    def write_gradients(self, dweights: dict[str, Array], gradients: Parameters) -> None:
        """Overwrite the gradients on the weights of this direction."""
        views = gradients.views
        for name, full in self.names.items():
            d = dweights[name]
            views[full][:] = d[:, :-1] if name == "kernel" and not self.options.bias else d
        if self.options.recurrent_bias:
            views[f"recurrent_bias{self.suffix}"][:] = dweights["kernel"][:, -1]

    @abstractmethod
    def forward(
        self,
        x: Array,
        initial: tuple[InitialState, InitialState],
        order: TimeOrder | None,
        rng: np.random.Generator | None,
        buffers: BufferPool,
    ) -> tuple[DirectionTape, Array]:
        """Run forward: return the tape, and the outputs (T, P, B) in time order, of sequences x (T, I, B)."""

    @abstractmethod
    def infer(
        self, x: Array, initial: tuple[InitialState, InitialState], order: TimeOrder | None, buffers: BufferPool
    ) -> tuple[Array, tuple[Array, Array]]:
        """Run :meth:`forward` without a tape: return the outputs, and the state after each sequence's last step."""

    @abstractmethod
    def outputs(self, tape: DirectionTape) -> Array:
        """Return the outputs of a pass, in time order."""

    @abstractmethod
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
        """Compute the gradients of :meth:`forward`; overwrite `gradients`, and extend `step_gradients`, if present."""
