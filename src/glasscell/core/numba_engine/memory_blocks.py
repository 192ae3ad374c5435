"""Online training of the network of memory blocks, compiled by Numba: whole sequences, step by step, with updates.

The definition is :class:`glasscell.online.MemoryBlocks`; results are the same to rounding. A step of the network of the
adding problem takes a third of a microsecond, of which NumPy's calls take a hundred times as much.
"""

# Numba infers the types.
# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from glasscell.core.numba_engine.jit_cache import jit_cached
from glasscell.core.uninterrupted import once_uninterrupted


@cache
@once_uninterrupted
def compiled_training() -> Callable[..., int]:
    """Compile :func:`train_sequences`, or load it from disk."""
    import numba  # noqa: PLC0415 - takes a third of a second

    number = numba.float64
    matrix, tensor = number[:, ::1], number[:, :, ::1]
    constants: Any = (*[numba.types.Array(number, 3, "C", readonly=True)] * 2, numba.types.Array(numba.int64, 1, "C"))
    sizes: Any = [numba.int64] * 2
    flags: Any = [numba.boolean] * 8
    state: Any = [number[::1]] * 2 + [matrix] * 3
    rule: Any = [numba.boolean, *[number] * 3]
    train: Callable[..., int] = jit_cached(
        train_sequences,
        numba.int64(matrix, matrix, *constants, tensor, *state, *sizes, *flags, *[number] * 4, *rule),
        allow_fma=True,
    )
    return train


def train_sequences(  # noqa: PLR0912, PLR0915 - one compiled loop, whose arrays are all local
    W,
    V,
    inputs,
    targets,
    lengths,
    outputs,
    s,
    y,
    t_cell,
    t_in,
    t_forget,
    C,
    F,
    output_gate,
    forget_gate,
    bias,
    cell_bias,
    input_to_output,
    every_step,
    learn,
    continues,
    g_low,
    g_width,
    h_low,
    h_width,
    h_identity,
    learning_rate,
    decay,
    tolerance,
):
    """Run sequences one after another; write the outputs, and update the weights W and V and the state in place.

    The run ends after the first step with an error that is not below the tolerance. Return the number of steps with a
    target before it.

    Parameters
    ----------
    W, V : array (R, K), (O, columns)
        The weights of the hidden units, and of the output units. If cells have no bias, W has 0 for it.
    inputs : array (N, T, I)
    targets, outputs : array (N, T, O), or (N, 1, O) for the last step of each sequence
    lengths : array (N,) of int
    s, y : array (M,), (R,)
        The states of the cells, and the outputs of hidden units, before the first step.
    t_cell, t_in, t_forget : array (M, K)
        The traces; (0, K) for t_forget without a forget gate.
    C : int
        Cells of a block.
    F : int
        Hidden units that are read at the next step: 0, those of the cells, or all.
    output_gate, forget_gate, bias, cell_bias, input_to_output, every_step, learn, h_identity : bool
    continues : bool
        Whether a sequence begins with the state at the end of the one before; otherwise with the state 0.
    g_low, g_width, h_low, h_width, learning_rate : float
        The squashing functions are low + width σ(z).
    decay : float
        Factor of the learning rate after each step with a target.
    tolerance : float
        Infinity for a run of all steps.
    """
    (R, K), O, N, I = W.shape, len(V), len(inputs), inputs.shape[2]
    per_block = C + 1 + int(output_gate) + int(forget_gate)
    G = R // per_block
    M = G * C
    first_output_gate = M + G
    first_forget_gate = M + G + G * int(output_gate)
    z, u = np.zeros(R), np.zeros(K)
    h, h_slope, errors = np.zeros(M), np.zeros(M), np.zeros(M)
    v = np.zeros(V.shape[1])
    nonzero, nonzero_v = np.empty(K, np.int64), np.empty(len(v), np.int64)
    done = 0

    for n in range(N):
        if not continues:
            s[:] = 0.0
            y[:] = 0.0
            t_cell[:] = 0.0
            t_in[:] = 0.0
            t_forget[:] = 0.0
        for t in range(lengths[n]):
            # equation: memory-block-step
            for k in range(F):
                u[k] = y[k]
            for k in range(I):
                u[F + k] = inputs[n, t, k]
            if bias:
                u[F + I] = 1.0
            count = 0
            for k in range(K):
                if u[k] != 0.0:
                    nonzero[count] = k
                    count += 1
            for r in range(R):
                total = 0.0
                for q in range(count):
                    total += W[r, nonzero[q]] * u[nonzero[q]]
                z[r] = total
            for r in range(M, R):
                y[r] = 1.0 / (1.0 + np.exp(-z[r]))
            for m in range(M):
                block = m // C
                gate = y[M + block]
                squashed = 1.0 / (1.0 + np.exp(-z[m]))
                g = g_low + g_width * squashed
                by_cell = gate * g_width * squashed * (1.0 - squashed)
                by_in = g * gate * (1.0 - gate)
                forget = 1.0
                if forget_gate:
                    forget = y[first_forget_gate + block]
                    by_forget = s[m] * forget * (1.0 - forget)
                    for k in range(K):
                        t_cell[m, k] *= forget
                        t_in[m, k] *= forget
                        t_forget[m, k] *= forget
                    for q in range(count):
                        t_forget[m, nonzero[q]] += by_forget * u[nonzero[q]]
                for q in range(count):
                    t_cell[m, nonzero[q]] += by_cell * u[nonzero[q]]
                    t_in[m, nonzero[q]] += by_in * u[nonzero[q]]
                if bias and not cell_bias:
                    t_cell[m, K - 1] = 0.0
                s[m] = forget * s[m] + gate * g
                if h_identity:
                    h[m] = s[m]
                    h_slope[m] = 1.0
                else:
                    squashed = 1.0 / (1.0 + np.exp(-s[m]))
                    h[m] = h_low + h_width * squashed
                    h_slope[m] = h_width * squashed * (1.0 - squashed)
                y[m] = h[m]
                if output_gate:
                    y[m] = y[first_output_gate + block] * h[m]

            if not (every_step or t == lengths[n] - 1):
                continue
            at = t if every_step else 0
            for m in range(M):
                v[m] = y[m]
                errors[m] = 0.0
            if input_to_output:
                for k in range(I):
                    v[M + k] = inputs[n, t, k]
            if bias:
                v[-1] = 1.0
            count_v = 0
            for k in range(len(v)):
                if v[k] != 0.0:
                    nonzero_v[count_v] = k
                    count_v += 1
            wrong = False
            for o in range(O):
                total = 0.0
                for q in range(count_v):
                    total += V[o, nonzero_v[q]] * v[nonzero_v[q]]
                y_o = 1.0 / (1.0 + np.exp(-total))
                outputs[n, at, o] = y_o
                if tolerance < np.inf and not abs(y_o - targets[n, at, o]) < tolerance:
                    wrong = True
                if learn:
                    d = (y_o - targets[n, at, o]) * y_o * (1.0 - y_o)
                    for m in range(M):
                        errors[m] += V[o, m] * d
                    d *= learning_rate
                    for q in range(count_v):
                        V[o, nonzero_v[q]] -= d * v[nonzero_v[q]]
            for block in range(G if learn else 0):
                d = 0.0
                for m in range(block * C, (block + 1) * C):
                    d_cell = errors[m] * h_slope[m] * learning_rate
                    if output_gate:
                        d += errors[m] * h[m]
                        d_cell *= y[first_output_gate + block]
                    for k in range(K):
                        W[m, k] -= d_cell * t_cell[m, k]
                        W[M + block, k] -= d_cell * t_in[m, k]
                    if forget_gate:
                        for k in range(K):
                            W[first_forget_gate + block, k] -= d_cell * t_forget[m, k]
                if output_gate:
                    gate = y[first_output_gate + block]
                    d *= gate * (1.0 - gate) * learning_rate
                    for q in range(count):
                        W[first_output_gate + block, nonzero[q]] -= d * u[nonzero[q]]
            if wrong:
                return done
            done += 1
            learning_rate *= decay
    return done
