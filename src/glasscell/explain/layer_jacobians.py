"""The Jacobians of one step of a layer, for many states at once, by its backward pass.

In general a backward pass computes one row of a Jacobian, and n passes, as the columns of one batch, all n rows. Where
the new state of a unit depends on the weights only through its own pre-activations z, a pass with the gradient 1 on
every unit returns the derivatives by z of all units at once, and the rows are sums of rows of the weights::

    ∂h_k/∂h_prev = Σ_g ∂h_k/∂z_{g,k} W_h[g, k]          g: the gates
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from glasscell.core import gru, gru_tape, lstm, lstm_tape, rnn
from glasscell.core.types import Array
from glasscell.explain.step_layers import from_layer_state, state_parts, to_layer_state


class StepJacobian(NamedTuple):
    """Derivatives of the state after a step: (N, n, n) by the state before it, and (N, n, I) by the input."""

    by_state: Array
    by_input: Array


def stateless_jacobian(layer: Any, x: Array, num_outputs: int) -> Array:
    """Return ∂y/∂x, (N, outputs, features), of a layer without a state at inputs (1, features, N)."""
    N = x.shape[-1]
    tape = layer.forward_feature_major(np.repeat(x, num_outputs, axis=-1)).tape
    d_x = layer.backward_feature_major(tape, np.tile(np.eye(num_outputs), (1, N))[None])
    return np.asarray(d_x[0].T.reshape(N, num_outputs, -1))


def recurrent_jacobian(layer: Any, tape: Any, x: Array, states: Array) -> StepJacobian:
    """Return the Jacobians of a recurrent layer with all its stacked layers.

    Parameters
    ----------
    layer : RecurrentLayer
    tape : tape_type
        Of the step from these states.
    x : array (1, I, N)
    states : array (n, N)
    """
    cells = [by_unit(direction.tape) for direction in tape.directions]
    stack = [cell for cell in cells if cell is not None]
    if len(stack) < len(cells):
        return by_columns(layer, x, states)
    outputs = [part.rows for part in state_parts(layer) if part.field == "h"]
    (n, N), (_, I, _) = states.shape, x.shape
    result = StepJacobian(np.zeros((N, n, n)), np.empty((N, n, I)))
    start = 0
    for k, cell in enumerate(stack):
        own = slice(start, start + cell.by_state.shape[1])
        below = outputs[k - 1]
        for whole in result if k else ():
            whole[:, own] = cell.by_input @ whole[:, below]
        if not k:
            result.by_input[:, own] = cell.by_input
        result.by_state[:, own, own] += cell.by_state
        start = own.stop
    return result


def by_columns(layer: Any, x: Array, states: Array) -> StepJacobian:
    """Return the Jacobians of any recurrent layer at states (n, N) and inputs (1, I, N): n columns for each state."""
    n, N = states.shape
    initial = to_layer_state(layer, np.repeat(states, n, axis=1))
    tape = layer.forward_feature_major(np.repeat(x, n, axis=-1), None, initial).tape
    d_outputs = np.zeros((1, layer.output_size, n * N))
    d_final = to_layer_state(layer, np.tile(np.eye(n), (1, N)))
    d_x, d_initial = layer.backward_with_state(tape, d_outputs, d_final)
    by_state = from_layer_state(layer, d_initial).T.reshape(N, n, n)
    return StepJacobian(by_state, d_x[0].T.reshape(N, n, -1))


def by_unit(steps: Any) -> StepJacobian | None:
    """Return the Jacobians of the step (N columns) that a tape of one cell records; None: its units are mixed."""
    if getattr(steps, "hook", None) is not None:  # interventions change the step
        return None
    if isinstance(steps, lstm_tape.Tape):
        return _of_lstm(steps)
    if isinstance(steps, rnn.Tape):
        return _of_rnn(steps)
    if isinstance(steps, gru_tape.Tape) and steps.reset_after:
        return _of_gru(steps)
    return None


def _of_lstm(steps: lstm_tape.Tape) -> StepJacobian:
    """Return those of an LSTM: the states are h, then c; of c_prev a unit reads its own cell."""
    H, N = steps.h.shape[1:]
    by_state, by_input = np.zeros((N, 2 * H, 2 * H)), np.empty((N, 2 * H, steps.I))
    units = np.arange(H)
    for rows, dh, dc in ((slice(0, H), 1.0, 0.0), (slice(H, 2 * H), 0.0, 1.0)):
        dz = np.empty((1, 4 * H, N))
        d = lstm.backward(steps, np.zeros((1, H, N)), dh, dc, need_dx=False, dz_steps=dz)
        by_state[:, rows, :H], by_input[:, rows] = _weighted_rows(dz[0], steps.kernel, H)
        by_state[:, units + rows.start, units + H] = d.dc0.T
    return StepJacobian(by_state, by_input)


def _of_rnn(steps: rnn.Tape) -> StepJacobian:
    _, H, N = steps.h.shape
    d = rnn.backward(steps, np.zeros((1, H, N)), 1.0, need_dx=False)
    return StepJacobian(*_weighted_rows(d.dz[0], steps.weights["kernel"], H))


def _of_gru(steps: gru_tape.Tape) -> StepJacobian:
    """Return those of a GRU: its candidate reads h_prev through q, and x directly; z preserves the own unit."""
    _, H, N = steps.h.shape
    d = gru.backward(steps, np.zeros((1, H, N)), 1.0, need_dx=False)
    da, kernel = d.da[0], steps.weights["kernel"]
    _, by_input = _weighted_rows(da, kernel, H)
    by_state, _ = _weighted_rows(np.concatenate([da[: 2 * H], d.dq[0]]), kernel, H)
    by_state[:, np.arange(H), np.arange(H)] += steps.z[0].T
    return StepJacobian(by_state, by_input)


def _weighted_rows(dz: Array, kernel: Array, H: int) -> tuple[Array, Array]:
    """Return Σ_g dz[g, k] W[g, k] for each unit k, by h_prev (N, H, H) and by x (N, H, I), from dz (G H, N)."""
    W = kernel[:, :-1].reshape(-1, H, kernel.shape[1] - 1)
    rows = np.einsum("gkn,gkj->nkj", dz.reshape(len(W), H, -1), W)
    return rows[..., :H], rows[..., H:]
