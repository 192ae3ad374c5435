"""A whole sequence through one simple recurrent layer (Elman 1990): forward, and backward through time.

    z_t = W [h_{t-1}; x_t; 1]          pre-activations
    h_t = tanh(z_t)                    hidden state

and backward, from the last step to the first, where dy_t is the gradient on h_t from outside the layer::

    dh_t = dy_t + W_hᵀ dz_{t+1}
    dz_t = dh_t ∘ (1 - h_t²)
    dW   = Σ_t dz_t [h_{t-1}; x_t; 1]ᵀ          dx_t = W_xᵀ dz_t

No gate protects the state: all of h_{t-1} passes through W_h and tanh at every step, and its gradient through W_hᵀ and
1 - h². Compare :mod:`glasscell.core.gru` and :mod:`glasscell.core.cell`. With ``activation="relu"``,
h_t = max(0, z_t) and dz_t = dh_t ∘ [h_t > 0].

The products with the inputs of all steps are one call; a step is one product with W_h and two elementwise calls.

Shapes: ``T`` steps, ``I`` inputs, ``H`` hidden units, ``B`` sequences, ``K = H + I + 1``. Sequences: ``(T, rows, B)``.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from glasscell.core.activations import tanh_derivative
from glasscell.core.buffers import BufferPool
from glasscell.core.hidden_states import HiddenStates
from glasscell.core.hooked_pass import HookedPass
from glasscell.core.linear import batched_matmul, sum_of_outer_products
from glasscell.core.step_hook import StepHook
from glasscell.core.time_order import Index
from glasscell.core.types import Array

RNNActivation: TypeAlias = Literal["tanh", "relu"]


class _Arrays(NamedTuple):
    weights: dict[str, Array]
    x: Array
    h_with_initial: Array
    lengths: Index | None
    activation: RNNActivation
    hooked: HookedPass | None = None


class Tape(HiddenStates, _Arrays):
    """All that a backward pass reads.

    Attributes
    ----------
    weights : dict of str to array
        ``kernel`` (H, K): a copy.
    x : array (T, I, B)
    h_with_initial : array (T + 1, H, B)
        Hidden states, the initial one first.
    lengths : array (B,) of int, or None
        Number of steps of each sequence, after which its state stays the same. None: T.
    activation : {"tanh", "relu"}
    hooked : HookedPass, optional
        The hook of the pass; the arrays have the values that acted.
    """

    __slots__ = ()

    @property
    def z(self) -> Array:
        """Compute the pre-activations, (T, H, B), whose memory the forward pass uses for h."""
        if self.hooked is not None:
            return self.hooked.a
        W_h, W_x, b = split_kernel(self.weights["kernel"], self.h.shape[1])
        return batched_matmul(W_h, self.h_prev) + batched_matmul(W_x, self.x) + b


class Gradient(NamedTuple):
    """Gradients of the loss with respect to the arguments of a forward pass, and at every step."""

    dweights: dict[str, Array]
    dx: Array  # (T, I, B), empty unless need_dx
    dh0: Array  # (H, B)
    dz: Array  # (T, H, B)


def shapes(I: int, H: int) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of the weights: the columns of the kernel are those of h_prev, x and the bias."""
    return {"kernel": (H, H + I + 1)}


@np.errstate(under="ignore")
def forward(
    weights: Mapping[str, Array],
    x: Array,
    h0: Array | float = 0.0,
    lengths: Index | None = None,
    buffers: BufferPool | None = None,
    *,
    activation: RNNActivation = "tanh",
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
    activation : {"tanh", "relu"}
    hook : StepHook, optional
        Changes values of the steps: "x", "W_h", "z" and "h".

    Returns
    -------
    Tape
        The outputs are ``tape.h``, the final state ``tape.h_with_initial[-1]``.
    """
    buffers = buffers or BufferPool()
    x_copy = buffers.get("x", x.shape, x.dtype)
    x_copy[:] = x
    copies = {name: weight.copy() for name, weight in weights.items()}  # the caller may change theirs before backward
    states = buffers.get("states", (len(x) + 1, len(copies["kernel"]), x.shape[2]), x.dtype)
    states[0] = h0
    hooked = None if hook is None else HookedPass(hook, ("z",), x_copy, len(copies["kernel"]))
    _forward_steps(copies["kernel"], x_copy, states, lengths, activation, hooked)
    return Tape(copies, x_copy, states, lengths, activation, hooked)


@np.errstate(under="ignore")
def forward_inference(
    weights: Mapping[str, Array],
    x: Array,
    h0: Array | float = 0.0,
    lengths: Index | None = None,
    buffers: BufferPool | None = None,
    *,
    activation: RNNActivation = "tanh",
    hook: StepHook | None = None,
) -> Array:
    """Run :func:`forward` without a tape: return the hidden states (T + 1, H, B), the initial one first."""
    buffers = buffers or BufferPool()
    if hook is not None:
        return forward(weights, x, h0, lengths, buffers, activation=activation, hook=hook).h_with_initial
    kernel = weights["kernel"]
    states = buffers.get("states", (len(x) + 1, len(kernel), x.shape[2]), kernel.dtype)
    states[0] = h0
    _forward_steps(kernel, x, states, lengths, activation, None)
    return states


def _forward_steps(
    kernel: Array,
    x: Array,
    states: Array,
    lengths: Index | None,
    activation: RNNActivation,
    hooked: HookedPass | None,
) -> None:
    """Write the states of all steps."""
    (T, _, B), H = x.shape, len(kernel)
    W_h, W_x, b = split_kernel(kernel, H)
    batched_matmul(W_x, x, states[1:])  # z of all steps, where h will be
    states[1:] += b
    through_h = np.empty((H, B), kernel.dtype)
    dot_hidden: Any = np.dot if hooked is None else hooked.dot_hidden
    activate = _activate(activation) if hooked is None else hooked.activate(_activate(activation))
    ends, first_end = find_ends(lengths, T, B)
    add = np.add
    h_prev = states[0]
    for t, h in enumerate(states[1:]):
        # equation: rnn-step
        dot_hidden(W_h, h_prev, through_h)
        add(h, through_h, h)
        activate(h, out=h)
        if t >= first_end:
            np.copyto(h, h_prev, where=t >= ends)
        h_prev = h


def _activate(activation: RNNActivation) -> Callable[..., Any]:
    return np.tanh if activation == "tanh" else partial(np.maximum, 0)


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
    states, lengths = tape.h_with_initial, tape.lengths
    T, H, B = tape.h.shape
    W_h, W_x, _ = split_kernel(tape.weights["kernel"], H)
    W_h_T = np.ascontiguousarray(W_h.T)
    dz = buffers.get("dz", (T, H, B), states.dtype)
    hook, h, h_read = tape.hook, tape.h, tape.h_prev
    if tape.hooked is not None:
        h, h_read = _activate(tape.activation)(tape.z), tape.hooked.h_read
    dz[:] = tanh_derivative(h) if tape.activation == "tanh" else h > 0
    running: Array = np.zeros((H, B), states.dtype) + dh_T  # dL/dh through the next step; a copy
    ends, first_end = find_ends(lengths, T, B)
    for t in reversed(range(T)):
        # equation: rnn-step-backward
        running += dh[t]
        if dh_steps is not None:
            dh_steps[t] = running
        if hook is not None:
            d_held = hook.backward("h", t, running)
        dz[t] *= running
        if hook is not None:
            hook.backward("z", t, dz[t])
        if t < first_end and hook is None:
            np.dot(W_h_T, dz[t], running)
            continue
        valid = t < ends
        dz[t] *= valid
        through_h = W_h_T @ dz[t]
        if hook is not None:
            hook.backward("W_h", t, through_h)
            through_h += d_held
        np.copyto(running, through_h, where=valid)
    dkernel = np.concatenate(
        [
            sum_of_outer_products(dz, h_read, buffers),
            sum_of_outer_products(dz, tape.x, buffers),
            dz.sum(axis=(0, 2))[:, None],
        ],
        axis=1,
    )
    dx = buffers.get("dx", (T if need_dx else 0, *tape.x.shape[1:]), states.dtype)
    if need_dx:
        batched_matmul(W_x.T, dz, dx)
    if tape.hooked is not None:
        tape.hooked.input_backward(dx)
    return Gradient({"kernel": dkernel}, dx, running, dz)


def find_ends(lengths: Index | None, T: int, B: int) -> tuple[Index, int]:
    """Return the number of steps of each sequence, (B,), and the smallest: before it all sequences are valid."""
    ends = np.full(B, T) if lengths is None else lengths
    return ends, int(ends.min(initial=T))


def split_kernel(kernel: Array, H: int) -> tuple[Array, Array, Array]:
    """Return the columns of h_prev, x and the bias: (rows, H), (rows, I) and (rows, 1)."""
    return np.ascontiguousarray(kernel[:, :H]), np.ascontiguousarray(kernel[:, H:-1]), kernel[:, -1:]
