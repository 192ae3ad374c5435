"""A whole sequence through one gated recurrent unit (Cho et al. 2014): forward, and backward through time.

    r_t = σ(W_r [h_{t-1}; x_t; 1])                reset gate
    z_t = σ(W_z [h_{t-1}; x_t; 1])                update gate
    q_t = U_n [h_{t-1}; 1]                        the part of the candidate that is reset
    n_t = tanh(W_n [x_t; 1] + r_t ∘ q_t)          candidate
    h_t = (1 - z_t) ∘ n_t + z_t ∘ h_{t-1}         hidden state

and backward, from the last step to the first, where dy_t is the gradient on h_t from outside the layer, and da that on
the pre-activations of gates and candidate (called a, because z is the update gate)::

    dh_t = dy_t + z_{t+1} ∘ dh_{t+1} + U_rᵀ da_r + U_zᵀ da_z + U_nᵀ dq      (those of step t+1)
    da_n = dh ∘ (1 - z) ∘ (1 - n²)            dq   = da_n ∘ r
    da_z = dh ∘ (h_{t-1} - n) ∘ z (1 - z)     da_r = da_n ∘ q ∘ r (1 - r)

There is no cell and no output gate: one gate z scales h_{t-1}, and 1 - z the candidate. Where z is 1,
the state and its gradient pass a step unchanged, as through the forget gate of :mod:`glasscell.core.cell`.

The reset gate is applied after the product with U_n, as in PyTorch, in cuDNN, and in Keras with ``reset_after=True``.
With ``reset_after=False`` it is applied before, as in the paper, and U_n has no bias::

    q_t = r_t ∘ h_{t-1}          n_t = tanh(W_n [x_t; 1] + U_n q_t)
    dq  = U_nᵀ da_n              da_r = dq ∘ h_{t-1} ∘ r (1 - r)         and dq ∘ r is added to dh_{t-1}

The products with the inputs of all steps are one call. Factors that do not depend on the incoming gradient are computed
for all steps at once; only what is sequential is done step by step.

Shapes: ``T`` steps, ``I`` inputs, ``H`` hidden units, ``B`` sequences, ``K = H + I + 1``. Sequences: ``(T, rows, B)``.
"""

from collections.abc import Mapping
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np

from glasscell.core.activations import sigmoid, sigmoid_derivative, tanh, tanh_derivative
from glasscell.core.buffers import BufferPool
from glasscell.core.gru_tape import Tape
from glasscell.core.hooked_pass import HookedBackward, HookedGRU
from glasscell.core.linear import batched_matmul, sum_of_outer_products
from glasscell.core.rnn import find_ends, split_kernel
from glasscell.core.step_hook import StepHook
from glasscell.core.time_order import Index
from glasscell.core.types import Array

GATES = ("r", "z", "n")  # the order of the blocks of H rows in the kernel
INFERENCE_BLOCK_BYTES = 1 << 20  # pre-activations computed at a time without a tape


class Gradient(NamedTuple):
    """Gradients of the loss with respect to the arguments of a forward pass, and at every step."""

    dweights: dict[str, Array]
    dx: Array  # (T, I, B), empty unless need_dx
    dh0: Array  # (H, B)
    da: Array  # (T, 3H, B), rows r z n
    dq: Array  # (T, H, B)
    d_gates: Array | None = None  # (T, 3H, B): with a hook, on the r, z and n that acted


def shapes(I: int, H: int, *, reset_after: bool = True) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of the weights.

    The columns of the kernel are those of h_prev, x and the bias; its rows are r z n. The recurrent bias is that of q.
    """
    kernel: dict[str, tuple[int, ...]] = {"kernel": (3 * H, H + I + 1)}
    return kernel | ({"recurrent_bias": (H,)} if reset_after else {})


@np.errstate(over="ignore", under="ignore")
def forward(
    weights: Mapping[str, Array],
    x: Array,
    h0: Array | float = 0.0,
    lengths: Index | None = None,
    buffers: BufferPool | None = None,
    *,
    reset_after: bool = True,
    hook: StepHook | None = None,
) -> Tape:
    """Run the layer over a sequence.

    Parameters
    ----------
    weights : mapping of str to array
        Names and shapes as in :func:`shapes`.
    x : array (T, I, B)
    h0 : array (H, B), or anything that broadcasts to it
    lengths : array (B,) of int, optional
        Number of steps of each sequence; its state stays the same after them. Default: T.
    buffers : BufferPool, optional
        Their previous tape is overwritten. Default: new arrays.
    reset_after : bool
        Whether the reset gate is applied after the product with U_n.
    hook : StepHook, optional
        Changes values of the steps: "x", "W_h", "a_r", "a_z", "r", "z", "q", "a_n", "n" and "h".

    Returns
    -------
    Tape
        The outputs are ``tape.h``, the final state ``tape.h_with_initial[-1]``.
    """
    buffers = buffers or BufferPool()
    weights = {name: weight.copy() for name, weight in weights.items()}  # the caller may change theirs before backward
    (T, _, B), H, dtype = x.shape, len(weights["kernel"]) // 3, x.dtype
    x_copy = buffers.get("x", x.shape, dtype)
    x_copy[:] = x
    gates = buffers.get("gates", (T, 3 * H, B), dtype)
    q = buffers.get("q", (T, H, B), dtype)
    states = buffers.get("states", (T + 1, H, B), dtype)
    states[0] = h0
    hooked = None if hook is None else HookedGRU(hook, ("a_r", "a_z", "a_n"), x_copy, H)
    tape = Tape(weights, x_copy, gates, q, states, lengths, reset_after, hooked)
    _forward_steps(tape, tape.q)
    return tape


@np.errstate(over="ignore", under="ignore")
def forward_inference(
    weights: Mapping[str, Array],
    x: Array,
    h0: Array | float = 0.0,
    lengths: Index | None = None,
    buffers: BufferPool | None = None,
    *,
    reset_after: bool = True,
    hook: StepHook | None = None,
) -> Array:
    """Run :func:`forward` without a tape: return the hidden states (T + 1, H, B), the initial one first.

    Gates are kept for one block of steps at a time.
    """
    buffers = buffers or BufferPool()
    if hook is not None:
        return forward(weights, x, h0, lengths, buffers, reset_after=reset_after, hook=hook).h_with_initial
    (T, _, B), H, dtype = x.shape, len(weights["kernel"]) // 3, x.dtype
    length = max(1, min(T, INFERENCE_BLOCK_BYTES // max(1, 3 * H * B * dtype.itemsize)))
    gates = buffers.get("inference gates", (length, 3 * H, B), dtype)
    q = buffers.get("inference q", (H, B), dtype)
    states = buffers.get("inference states", (T + 1, H, B), dtype)
    states[0] = h0
    for start in range(0, T, length):
        end = min(T, start + length)
        remaining = None if lengths is None else lengths - start
        block = Tape(
            dict(weights), x[start:end], gates[: end - start], q, states[start : end + 1], remaining, reset_after
        )
        _forward_steps(block, repeat(q))
    return states


def _forward_steps(tape: Tape, q_steps: "Array | repeat[Array]") -> None:
    """Write gates, q and states of all steps; `q_steps` has the memory of q of each."""
    states, gates, lengths, hooked = tape.h_with_initial, tape.gates, tape.lengths, tape.hooked
    (T, _, B), H, one = gates.shape, states.shape[1], np.array(1, gates.dtype)
    U, W_x, b = split_kernel(tape.weights["kernel"], H)
    batched_matmul(W_x, tape.x, gates)
    gates += b
    from_h = np.empty((len(U), B), gates.dtype)
    from_h_r_z, from_h_n, h_part_n = from_h[: 2 * H], from_h[2 * H :], np.empty((H, B), gates.dtype)
    U_r_z, U_n = U[: 2 * H], U[2 * H :]
    b_n = tape.weights["recurrent_bias"][:, None] if tape.reset_after else None
    ends, first_end = find_ends(lengths, T, B)
    dot, add, subtract, multiply, exp = np.dot, np.add, np.subtract, np.multiply, np.exp
    functions: Any = dot, np.negative, np.divide, add, multiply, np.tanh, add
    if hooked is not None:
        functions = hooked.dot_hidden, hooked.negative, hooked.divide, hooked.add_bias, hooked.reset
        functions += hooked.tanh, hooked.finish
    dot_hidden, negative, divide, add_bias, reset, tanh, finish = functions
    views = zip(
        gates[:, : 2 * H], gates[:, :H], gates[:, H : 2 * H], gates[:, 2 * H :], q_steps, states[1:], strict=False
    )
    h_prev = states[0]
    for t, (r_z, r, z, n, q, h) in enumerate(views):
        # equation: gru-step
        if b_n is not None:
            dot_hidden(U, h_prev, from_h)
        else:
            dot_hidden(U_r_z, h_prev, from_h_r_z)
        add(r_z, from_h_r_z, r_z)
        negative(r_z, r_z)
        exp(r_z, r_z)
        add(r_z, one, r_z)
        divide(one, r_z, r_z)
        if b_n is not None:
            add_bias(from_h_n, b_n, q)
            multiply(r, q, h_part_n)
        else:
            reset(r, h_prev, q)
            dot(U_n, q, h_part_n)
        add(n, h_part_n, n)
        tanh(n, n)
        subtract(h_prev, n, h)
        multiply(z, h, h)
        finish(n, h, h)
        if t >= first_end:
            np.copyto(h, h_prev, where=t >= ends)
        h_prev = h


@np.errstate(under="ignore")
def backward(
    tape: Tape,
    dh: Array,
    dh_T: Array | float = 0.0,
    buffers: BufferPool | None = None,
    *,
    need_dx: bool = True,
    dh_steps: Array | None = None,
) -> Gradient:
    """Backpropagate through time.

    Parameters
    ----------
    tape : Tape
        From :func:`forward`; it is read only.
    dh : array (T, H, B)
        Gradient on the outputs, from outside the layer.
    dh_T : array (H, B), or anything that broadcasts to it
        Gradient on the final state.
    buffers : BufferPool, optional
        May be those that the tape was made with.
    need_dx : bool
        Whether to compute the gradient on the inputs.
    dh_steps : array (T, H, B), optional
        Written: the whole gradient on h of every step.

    Returns
    -------
    Gradient
    """
    buffers = buffers or BufferPool()
    lengths, z, r, after = tape.lengths, tape.z, tape.r, tape.reset_after
    T, H, B = tape.h.shape
    U, W_x, _ = split_kernel(tape.weights["kernel"], H)
    U_T = np.ascontiguousarray(U.T)  # a transposed view is slower at every step
    U_r_z_T, U_n_T = np.ascontiguousarray(U_T[:, : 2 * H]), np.ascontiguousarray(U_T[:, 2 * H :])
    da = buffers.get("da", (T, 3 * H, B), z.dtype)
    dq = buffers.get("dq", (T, H, B), z.dtype)
    hooks = None if tape.hooked is None else HookedBackward(tape.hooked, _activation_derivatives(tape.a))
    _write_local_derivatives(tape, da)
    dh_next: Array = np.zeros((H, B), z.dtype) + dh_T  # dL/dh through the next step; a copy
    ends, first_end = find_ends(lengths, T, B)
    for t in reversed(range(T)):
        # equation: gru-step-backward
        dh_next += dh[t]  # now the whole gradient on h_t
        if dh_steps is not None:
            dh_steps[t] = dh_next
        da_r, da_z, da_n = da[t].reshape(3, H, B)
        if t >= first_end:
            da[t] *= t < ends
        if hooks is None:
            da_z *= dh_next
            da_n *= dh_next
        else:
            hooks.hidden(t, dh_next, da_z, da_n)
        if after:
            np.multiply(da_n, r[t], dq[t])
        else:
            np.dot(U_n_T, da_n, dq[t])
        if hooks is not None:
            hooks.before_reset(t, dq[t])
        da_r *= da_n if after else dq[t]
        if hooks is not None:
            hooks.reset(t, da_r)
        dh_prev = U_r_z_T @ da[t, : 2 * H] + (U_n_T @ dq[t] if after else dq[t] * r[t])
        if hooks is not None:
            hooks.previous_hidden(t, dh_prev)
        dh_prev += dh_next * z[t]
        if t < first_end:
            dh_next = dh_prev
        else:
            np.copyto(dh_next, dh_prev, where=t < ends)
    d_gates = None if hooks is None else hooks.d_gates
    return _gradient(tape, da, dq, dh_next, W_x, buffers, need_dx=need_dx, d_gates=d_gates)


# equation: gru-step-backward
def _write_local_derivatives(tape: Tape, da: Array) -> None:
    """Write the factors of all steps: of dh in da_z and da_n; and in da_r of da_n, or of dq unless `reset_after`."""
    H, r, z, n, hooked = tape.q.shape[1], tape.r, tape.z, tape.n, tape.hooked
    before_reset = tape.q if tape.reset_after else tape.h_prev
    if hooked is None:
        np.multiply(before_reset, sigmoid_derivative(r), out=da[:, :H])
        np.multiply(tape.h_prev - n, sigmoid_derivative(z), out=da[:, H : 2 * H])
        np.multiply(1 - z, tanh_derivative(n), out=da[:, 2 * H :])
    else:  # the hook may change a gate: it multiplies by the derivatives of the activations itself
        da[:, :H] = before_reset if tape.reset_after else hooked.h_read
        da[:, H : 2 * H], da[:, 2 * H :] = tape.h_prev - n, 1 - z


def _activation_derivatives(a: Array) -> Array:
    """Return the derivatives of the activations at the pre-activations of r, z and n, (T, 3H, B)."""
    H = a.shape[1] // 3
    return np.concatenate([sigmoid_derivative(sigmoid(a[:, : 2 * H])), tanh_derivative(tanh(a[:, 2 * H :]))], axis=1)


def _gradient(
    tape: Tape,
    da: Array,
    dq: Array,
    dh0: Array,
    W_x: Array,
    buffers: BufferPool,
    *,
    need_dx: bool,
    d_gates: Array | None,
) -> Gradient:
    """Return the gradients on weights and inputs, from those at every step."""
    T, H, B = tape.h.shape
    after, h_read = tape.reset_after, tape.h_prev if tape.hooked is None else tape.hooked.h_read
    dU_r_z = sum_of_outer_products(da[:, : 2 * H], h_read, buffers)
    dU_n = sum_of_outer_products(*((dq, h_read) if after else (da[:, 2 * H :], tape.q)), buffers)
    dW_x, db = sum_of_outer_products(da, tape.x, buffers), da.sum(axis=(0, 2))[:, None]
    dweights = {"kernel": np.concatenate([np.concatenate([dU_r_z, dU_n]), dW_x, db], axis=1)}
    if after:
        dweights["recurrent_bias"] = dq.sum(axis=(0, 2))
    dx = buffers.get("dx", (T if need_dx else 0, tape.x.shape[1], B), da.dtype)
    if need_dx:
        batched_matmul(W_x.T, da, dx)
    if tape.hooked is not None:
        tape.hooked.input_backward(dx)
    return Gradient(dweights, dx, dh0, da, dq, d_gates)
