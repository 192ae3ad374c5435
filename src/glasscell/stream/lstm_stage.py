"""The stage of a stack of LSTM layers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from glasscell.core import engines, variants
from glasscell.core.engines import EngineName
from glasscell.core.lstm import negate_sigmoid_rows
from glasscell.core.parameters import Parameters
from glasscell.core.types import Array
from glasscell.recurrent.config import LSTMConfig
from glasscell.recurrent.tape import LSTMState
from glasscell.stream.arena import Call
from glasscell.stream.building import RecurrentState, Stage, StreamBuilder, masked_update
from glasscell.stream.standard_step import standard_step, standard_step_compiled
from glasscell.stream.ufunc_calls import as_matmul_operand
from glasscell.stream.variant_step import VariantStep

if TYPE_CHECKING:
    from glasscell.core.step_hook import StepHook
    from glasscell.recurrent.step_interventions import StepIntervention
    from glasscell.stream.intervention_step import StreamHook


class LSTMStage(Stage):
    """A stack of LSTM layers that run forward in time.

    Parameters
    ----------
    options : LSTMConfig
    parameters : Parameters
    engine : str, optional
    single : bool
        Whether the stream has no batch axis.
    interventions : sequence of sequence of StepIntervention
        Those on each layer. Default: none.

    Raises
    ------
    ValueError
        If a layer runs in the reverse direction, or a stream does not support an option.
    """

    def __init__(
        self,
        options: LSTMConfig,
        parameters: Parameters,
        engine: EngineName | None,
        *,
        single: bool,
        interventions: Sequence[Sequence[StepIntervention]] = (),
    ) -> None:
        if options.bidirectional or options.reverse:
            option = "bidirectional=True" if options.bidirectional else "reverse=True"
            raise ValueError(f"{option}: the outputs depend on later steps; forward() processes whole sequences")
        for option, value in options.unsupported("stream").items():
            raise ValueError(f"a stream does not support {option}={value!r}")
        self.options, self.input_size = options, options.input_size
        self.training_only = frozenset(name for name, entry in options.declared.items() if entry.training_only)
        self.interventions = interventions
        self.standard = options.is_standard and not any(interventions)
        self.checks_finite = self.standard and single
        self.state_writes = options.num_layers if self.standard else 2
        self.weights = [
            _weights(parameters, suffix, options) | _initial_states(parameters, suffix, options)
            for suffix, _, _ in options.directions
        ]
        P = options.state_size
        kernels = [negate_sigmoid_rows(layer["kernel"]) for layer in self.weights] if self.standard else []
        self.kernels = [as_matmul_operand(np.concatenate([W[:, P:], W[:, :P]], axis=1), single=single) for W in kernels]
        compiled = single and engines.uses_numba_for_streams(engine)
        self.step_builders = [standard_step_compiled if compiled else standard_step for _ in self.kernels]

    def block_rows(self, width: int) -> list[int]:
        """Return the rows of h, and of the outputs if there is a mask, of each layer."""
        del width
        return [self.options.state_size] * 2 * self.options.num_layers

    def build(self, builder: StreamBuilder) -> None:
        """Append the calls."""
        builder.recurrent.append([self._build_layer(builder, k) for k in range(self.options.num_layers)])

    def _build_layer(self, builder: StreamBuilder, k: int) -> RecurrentState:
        memory, weights, valid = builder.memory, self.weights[k], builder.valid
        h = memory.next_block(self.options.state_size)
        column = memory.last_two_blocks_with_bias_row()
        calls: list[Call]
        hook: StreamHook | None = None
        if any(self.interventions) and self.interventions[k]:
            c = memory.allocate(self.options.hidden_size)
            calls, hook = self._intervention_calls(builder, k, column, (h, c))
        elif self.standard:
            raise_if_not_finite = None if builder.calls else builder.raise_if_not_finite
            step, c = self.step_builders[k](self.kernels[k], column, h, memory, raise_if_not_finite)
            calls = [step]
        else:
            update_rates = 1 - self.options.zoneout, 1 - self.options.zoneout_cell
            variant_step = VariantStep(self.options.cell_config, weights, update_rates, column, h, memory)
            calls, c = variant_step.calls, variant_step.c
        shape = (-1,) if memory.batch is None else (-1, 1)
        initial = weights["initial_h"].reshape(shape), weights["initial_c"].reshape(shape)
        repeated = None
        builder.x = h
        if valid is not None:
            builder.x = out = memory.next_block(len(h))
            calls = masked_update(valid, [h, c, *([] if hook is None else hook.valid_step_arrays)], calls)
            if self.options.masked_outputs == "repeat":
                repeated = memory.allocate(len(h))
                calls += [partial(np.copyto, repeated, h, where=valid), partial(np.copyto, out, repeated)]
            else:
                calls += [partial(out.fill, 0), partial(np.copyto, out, h, where=valid)]
        builder.calls += calls
        if hook is not None:
            builder.calls.append(hook.count_step(builder.present))
            builder.remembered += hook.arrays
        return RecurrentState((h, c), initial, repeated, LSTMState)

    def _intervention_calls(
        self, builder: StreamBuilder, k: int, column: Array, state: tuple[Array, Array]
    ) -> tuple[list[Call], StreamHook]:
        """Return the calls of a step of layer k under interventions, and their hook."""
        from glasscell.recurrent.intervention_runner import symbol_rows  # noqa: PLC0415 - only where it is used
        from glasscell.stream.intervention_step import StreamHook, intervention_calls  # noqa: PLC0415

        options, weights, I = self.options, self.weights[k], self.options.directions[k][1]
        noise = variants.DropoutMasks(1.0, 1.0 - options.zoneout, 1.0 - options.zoneout_cell)

        def run(x: Array, previous: tuple[Array, ...], hook: StepHook) -> tuple[Array, ...]:
            h, c = previous
            tape = variants.forward(options.cell_config, weights, x, h, c, noise, hook=hook)
            return tape.h[-1], tape.c[-1]

        hook = StreamHook(self.interventions[k], lambda symbol: symbol_rows(options, symbol, I), builder.memory)
        return intervention_calls(run, hook, column, I, state, builder.memory), hook


def _weights(parameters: Parameters, suffix: str, options: LSTMConfig) -> dict[str, Array]:
    weights = {name: parameters[name + suffix].copy() for name in options.shapes_of(1)}
    weights["kernel"] = options.kernel(parameters, suffix).copy()
    if not options.bias:
        kernel = weights["kernel"]
        weights["kernel"] = np.concatenate([kernel, np.zeros_like(kernel[:, :1])], axis=1)
    return weights


def _initial_states(parameters: Parameters, suffix: str, options: LSTMConfig) -> dict[str, Array]:
    if options.learn_initial_state:
        return {f"initial_{name}": parameters[f"initial_{name}{suffix}"].copy() for name in "hc"}
    dtype = parameters.vector.dtype
    return {"initial_h": np.zeros(options.state_size, dtype), "initial_c": np.zeros(options.hidden_size, dtype)}
