"""The stage of a stack of RNN or GRU layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from glasscell.core.types import Array
from glasscell.recurrent.rnn_tape import RNNState
from glasscell.stream.arena import Arena, Call
from glasscell.stream.building import RecurrentState, Stage, StreamBuilder, masked_update
from glasscell.stream.ufunc_calls import as_matmul_operand, matmul_call, without_overflow

if TYPE_CHECKING:
    from glasscell.core.step_hook import StepHook
    from glasscell.recurrent.step_interventions import StepIntervention
    from glasscell.stream.intervention_step import StreamHook


class RNNStage(Stage):
    """A stack of RNN or GRU layers that run forward in time.

    Parameters
    ----------
    gates : tuple of str
        The blocks of H rows in the kernel: ``("h",)``, or r, z and n.
    weights : sequence of mapping of str to array
        Those of each layer, as :mod:`glasscell.core.rnn` or :mod:`glasscell.core.gru` take them.
    options : mapping
        ``activation``, or ``reset_after``.
    single : bool
        Whether the stream has no batch axis.
    interventions : sequence of sequence of StepIntervention
        Those on each layer. Default: none.
    run : callable, optional
        ``forward`` of :mod:`glasscell.core.rnn` or :mod:`glasscell.core.gru`; used for layers with interventions.
    """

    training_only = frozenset({"dropout"})

    def __init__(
        self,
        gates: tuple[str, ...],
        weights: Sequence[Mapping[str, Array]],
        options: Mapping[str, Any],
        *,
        single: bool,
        interventions: Sequence[Sequence[StepIntervention]] = (),
        run: Callable[..., Any] | None = None,
    ) -> None:
        self.interventions, self.weights, self.run = interventions, weights, run
        kernel = weights[0]["kernel"]
        self.hidden_size = H = len(kernel) // len(gates)
        self.input_size = kernel.shape[1] - H - 1
        self.options, self.state_writes = dict(options), 2 if any(interventions) else len(weights)
        prepare: Callable[..., list[Array]] = _rnn_matrices if "activation" in options else _gru_matrices
        self.matrices = [[as_matmul_operand(W, single=single) for W in prepare(layer, H)] for layer in weights]

    def block_rows(self, width: int) -> list[int]:
        """Return the rows of h, and of the outputs if there is a mask, of each layer."""
        del width
        return [self.hidden_size] * 2 * len(self.matrices)

    def build(self, builder: StreamBuilder) -> None:
        """Append the calls."""
        builder.recurrent.append([self._build_layer(builder, k) for k in range(len(self.matrices))])

    def _build_layer(self, builder: StreamBuilder, k: int) -> RecurrentState:
        memory, valid = builder.memory, builder.valid
        h = memory.next_block(self.hidden_size)
        column = memory.last_two_blocks_with_bias_row()
        step = _rnn_calls if "activation" in self.options else _gru_calls
        hook: StreamHook | None = None
        if any(self.interventions) and self.interventions[k]:
            calls, hook = self._intervention_calls(k, column, h, memory)
        else:
            calls = step(self.matrices[k], column, h, memory, **self.options)
        builder.x = h
        if valid is not None:
            builder.x = out = memory.next_block(len(h))
            calls = masked_update(valid, [h, *([] if hook is None else hook.valid_step_arrays)], calls)
            calls += [partial(out.fill, 0), partial(np.copyto, out, h, where=valid)]
        builder.calls += calls
        if hook is not None:
            builder.calls.append(hook.count_step(builder.present))
            builder.remembered += hook.arrays
        initial = np.zeros((len(h), 1)[: h.ndim], memory.dtype)
        return RecurrentState((h,), (initial,), None, RNNState)

    def _intervention_calls(self, k: int, column: Array, h: Array, memory: Arena) -> tuple[list[Call], StreamHook]:
        """Return the calls of a step of layer k under interventions, and their hook."""
        from glasscell.stream.intervention_step import StreamHook, intervention_calls  # noqa: PLC0415 - only there

        forward, weights, H = self.run, self.weights[k], self.hidden_size
        assert forward is not None  # passed with interventions  # noqa: S101
        I = weights["kernel"].shape[1] - H - 1

        def run(x: Array, previous: tuple[Array, ...], hook: StepHook) -> tuple[Array, ...]:
            return (forward(weights, x, previous[0], hook=hook, **self.options).h[-1],)

        hook = StreamHook(self.interventions[k], lambda symbol: I if symbol == "x" else H, memory)
        return intervention_calls(run, hook, column, I, (h,), memory), hook


def _rnn_matrices(weights: Mapping[str, Array], H: int) -> list[Array]:
    """Return the kernel with columns for [x; 1; h]."""
    kernel = weights["kernel"]
    return [np.concatenate([kernel[:, H:], kernel[:, :H]], axis=1)]


def _gru_matrices(weights: Mapping[str, Array], H: int) -> list[Array]:
    """Return a matrix with columns for [x; 1; h] and rows for -r, -z, W_n [x; 1] and q; or one without q, and U_n."""
    kernel = weights["kernel"]
    W, U = kernel[:, H:], kernel[:, :H]
    sigmoids, nothing = -np.concatenate([W, U], axis=1)[: 2 * H], np.zeros_like
    candidate = np.concatenate([W[2 * H :], nothing(U[2 * H :])], axis=1)
    if "recurrent_bias" not in weights:
        return [np.concatenate([sigmoids, candidate]), U[2 * H :].copy()]
    q = np.concatenate([nothing(W[:H, :-1]), weights["recurrent_bias"][:, None], U[2 * H :]], axis=1)
    return [np.concatenate([sigmoids, candidate, q])]


def _rnn_calls(matrices: list[Array], column: Array, h: Array, memory: Arena, *, activation: str) -> list[Call]:
    """Return the calls of one step; only the last one writes the state."""
    z = memory.allocate(len(h))
    # equation: rnn-step
    activate = partial(np.tanh, z, h)
    if activation == "relu":
        activate = partial(np.maximum, z, np.array(0, memory.dtype), out=h)
    return [matmul_call(matrices[0], column, z), activate]


def _gru_calls(matrices: list[Array], column: Array, h: Array, memory: Arena, *, reset_after: bool) -> list[Call]:
    """Return the calls of one step; only the last one writes the state."""
    H, one = len(h), np.array(1, memory.dtype)
    rows = memory.allocate((4 if reset_after else 3) * H)
    t = memory.allocate(H)
    r_z, r, z, n = rows[: 2 * H], rows[:H], rows[H : 2 * H], rows[2 * H : 3 * H]
    # equation: gru-step
    calls: list[Call] = [
        matmul_call(matrices[0], column, rows),
        partial(without_overflow(), np.exp, r_z, r_z),
        partial(np.add, r_z, one, r_z),
        partial(np.divide, one, r_z, r_z),
    ]
    if reset_after:
        calls.append(partial(np.multiply, r, rows[3 * H :], t))
    else:
        q = memory.allocate(H)
        calls += [partial(np.multiply, r, h, q), matmul_call(matrices[1], q, t)]
    return [
        *calls,
        partial(np.add, n, t, n),
        partial(np.tanh, n, n),
        partial(np.subtract, h, n, t),
        partial(np.multiply, z, t, t),
        partial(np.add, n, t, h),
    ]
