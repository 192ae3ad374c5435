"""A whole sequence through one LSTM layer: forward, and backward through time. The same numbers as the cell page, fast.

Why it is fast, in the order of what it saves:

- **Few calls.** At small sizes a step costs what its calls cost. One matrix W acts on [h; x; 1]: there is no second
  product and no bias to add. σ(z) = 1 / (1 + e^-z) is exact to a few roundings however small it is; its minus is folded
  into the rows of W once per call, and a step does not compute it: it divides by 1 + e^-z where the equations multiply
  by σ(z), and one division for many steps makes the gates of these. Forward and backward: one product and seven
  elementwise calls a step, each of arrays of one shape without gaps: NumPy takes 0.2 µs for such a call, and three
  times that for one that has to broadcast.
- **Contiguous blocks.** Columns are sequences of the batch, rows are units, so a gate is one block of memory, and gates
  that are treated alike lie side by side. c_prev stands right behind g, so [i f] ∘ [g c_prev] is one call, and its
  result [i∘g  f∘c_prev] stands right before h in memory, where the backward pass wants it.
- **No repeated work.** The derivatives need no new products: i∘g, f∘c_prev and h = o∘tanh c are kept from the forward
  pass. Factors that do not depend on the incoming gradient are computed for a *block* of steps at a time, sized to stay
  in cache; only what is truly sequential is done step by step.
- **One product for the weights' gradient** of a thousand columns, not one per step; they are laid side by side while
  they are in cache.

Shapes: ``T`` steps, ``I`` inputs, ``H`` hidden units, ``B`` sequences, ``K = H + I + 1``. Sequences: ``(T, rows, B)``.
"""

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice, repeat
from typing import NamedTuple

import numpy as np

from glasscell.core.buffers import BufferPool
from glasscell.core.linear import batched_matmul, copy_rows, sum_of_outer_products
from glasscell.core.types import Array

BLOCK_BYTES = 1 << 20  # backward factors computed at a time: most of a core's second-level cache
MIN_GEMM_COLUMNS = (
    1 << 10
)  # of a product for the weights' gradient: adding up products of this width costs little compared with them
L2_WEIGHTS = 1 << 18  # weights that stay in a core's second-level cache


class Tape:
    """All that a forward pass computed, by name; what a backward pass reads. Every name is a view ``(T, H, B)``.

    The arrays behind the names have one slot more, for the state; what no name reaches there is arbitrary.

    Attributes
    ----------
    step_inputs : array (T + 1, 3H + I + 1, B)
        Rows of slot t: i∘g and f∘c_prev of step t-1, then u_t = [h_{t-1}; x_t; 1].
    gates : array (T + 1, 5H, B)
        Rows of slot t: i, f, o, g of step t, then c_{t-1}.
    tanh_c : array (T, H, B)
    kernel : array (4H, K)
        The weights that the pass was made with.
    """

    def __init__(self, kernel: Array, x: Array, buffers: BufferPool) -> None:
        T, I, B = x.shape
        H = len(kernel) // 4
        self.T, self.I, self.H, self.B, self.dtype = T, I, H, B, kernel.dtype
        self.step_inputs = buffers.get("columns", (T + 1, 3 * H + I + 1, B), self.dtype)
        self.gates = buffers.get("gates", (T + 1, 5 * H, B), self.dtype)
        self.tanh_c = buffers.get("tanh_c", (T, H, B), self.dtype)
        self.kernel = buffers.get("kernel", kernel.shape, self.dtype)
        self.kernel[:] = kernel  # the caller may change theirs before the backward pass
        self.x[:] = x
        self.step_inputs[:, -1] = 1

    @property
    def i(self) -> Array:
        """Input gate."""
        return self.gates[:-1, : self.H]

    @property
    def f(self) -> Array:
        """Forget gate."""
        return self.gates[:-1, self.H : 2 * self.H]

    @property
    def o(self) -> Array:
        """Output gate."""
        return self.gates[:-1, 2 * self.H : 3 * self.H]

    @property
    def g(self) -> Array:
        """Candidate."""
        return self.gates[:-1, 3 * self.H : 4 * self.H]

    @property
    def c_with_initial(self) -> Array:
        """Cell state, with the initial one: (T + 1, H, B)."""
        return self.gates[:, 4 * self.H :]

    @property
    def h_with_initial(self) -> Array:
        """Hidden state, with the initial one: (T + 1, H, B)."""
        return self.step_inputs[:, 2 * self.H : 3 * self.H]

    @property
    def c(self) -> Array:
        """Cell state."""
        return self.c_with_initial[1:]

    @property
    def h(self) -> Array:
        """Hidden state, the layer's output."""
        return self.h_with_initial[1:]

    @property
    def x(self) -> Array:
        """Input, (T, I, B)."""
        return self.step_inputs[:-1, 3 * self.H : -1]

    @property
    def u(self) -> Array:
        """[h_prev; x; 1], (T, K, B)."""
        return self.step_inputs[:-1, 2 * self.H :]


class Gradient(NamedTuple):
    """The gradient of the loss with respect to all that a forward pass was given."""

    dkernel: Array  # (4H, K)
    dx: Array  # (T, I, B), empty if it was not asked for
    dh0: Array  # (H, B)
    dc0: Array  # (H, B)


@np.errstate(over="ignore", under="ignore")
def forward(
    kernel: Array,
    x: Array,
    h0: Array | float = 0.0,
    c0: Array | float = 0.0,
    buffers: BufferPool | None = None,
) -> Tape:
    """Run the layer over a sequence.

    Parameters
    ----------
    kernel : array (4H, K)
        W: rows i f o g, columns for h_prev, x and the bias, as in :func:`glasscell.core.cell.step`.
    x : array (T, I, B)
    h0, c0 : array (H, B), or anything that broadcasts to it
    buffers : BufferPool, optional
        The caller's, whose earlier tape is not needed any more.

    Returns
    -------
    Tape
        The outputs are ``tape.h``, the final state ``tape.h_with_initial[-1]`` and ``tape.c_with_initial[-1]``.
    """
    buffers = buffers or BufferPool()
    tape = Tape(kernel, x, buffers)
    tape.h_with_initial[0] = h0
    tape.c_with_initial[0] = c0
    T, H, B, one = tape.T, tape.H, tape.B, np.array(1, tape.dtype)
    W = negate_sigmoid_rows(kernel, T, B)

    steps = buffers.step_views("forward", (tape.step_inputs, tape.gates, tape.tanh_c), lambda: _forward_views(tape))
    length = max(1, BLOCK_BYTES // max(1, 5 * H * B * tape.dtype.itemsize))
    for start in range(0, T, length):
        forward_steps(W, steps[start : start + length])
        of_block = tape.gates[start : min(T, start + length), : 3 * H]
        np.divide(one, of_block, of_block)
    return tape


# equation: lstm-step
def forward_steps(W: Array, steps: Iterable[tuple[Array, ...]]) -> None:
    """Make steps forward: for training, which keeps every step, and for inference, which keeps h alone.

    Parameters
    ----------
    W : array (4H, K)
        From :func:`negate_sigmoid_rows`.
    steps : iterable of tuple of array
        For each step u (K, B), and written: z (4H, B); views of z, which become 1 / i, 1 / f and 1 / o (3H, B),
        1 / i and 1 / f (2H, B), 1 / o (H, B), and g (H, B); [g; c_prev] (2H, B); [i∘g; f∘c_prev] (2H, B) and its two
        halves (H, B); c, tanh_c and h (H, B). c may be c_prev.
    """
    dot, exp, tanh, divide, add, one = np.dot, np.exp, np.tanh, np.divide, np.add, np.array(1, W.dtype)
    for u, z, sigmoids, i_f, o, g, g_c, ig_fc, ig, fc, c, tanh_c, h in steps:
        dot(W, u, z)
        exp(sigmoids, sigmoids)
        add(sigmoids, one, sigmoids)  # 1 / i, 1 / f, 1 / o
        tanh(g, g)
        divide(g_c, i_f, ig_fc)
        add(ig, fc, c)
        tanh(c, tanh_c)
        divide(tanh_c, o, h)


def negate_sigmoid_rows(kernel: Array, T: int, B: int) -> Array:
    """Return W with the minus of σ(z) = 1 / (1 + e^-z) in the rows of i, f and o, laid out for the products of T steps.

    With vectors the product is faster column by column; to turn W around pays after some steps, and if it stays near.
    """
    by_columns = B == 1 and kernel.shape[1] <= 4 * T and kernel.size <= L2_WEIGHTS
    W = kernel.copy("F" if by_columns else "C")
    W[: 3 * len(W) // 4] *= -1
    return W


def _forward_views(tape: Tape) -> Iterable[tuple[Array, ...]]:
    H, before, after = tape.H, tape.gates[:-1], tape.step_inputs[1:]
    z, sigmoids, i_f, g_c = before[:, : 4 * H], before[:, : 3 * H], before[:, : 2 * H], before[:, 3 * H :]
    ig_fc, ig, fc = after[:, : 2 * H], after[:, :H], after[:, H : 2 * H]
    return zip(tape.u, z, sigmoids, i_f, tape.o, tape.g, g_c, ig_fc, ig, fc, tape.c, tape.tanh_c, tape.h, strict=True)


@np.errstate(under="ignore")
def backward(
    tape: Tape,
    dh: Array,
    dh_T: Array | float = 0.0,
    dc_T: Array | float = 0.0,
    buffers: BufferPool | None = None,
    *,
    dc: Array | None = None,
    need_dx: bool = True,
    dz_steps: Array | None = None,
) -> Gradient:
    """Backpropagate through time.

    Parameters
    ----------
    tape : Tape
        From :func:`forward`; it is read only.
    dh : array (T, H, B)
        Gradient on the outputs h_1 … h_T.
    dh_T, dc_T : array (H, B), or anything that broadcasts to it
        Gradient on the final state, from its use elsewhere.
    buffers : BufferPool, optional
        The caller's; they may be those that the tape was made with.
    dc : array (T, H, B), optional
        Gradient on the cells c_1 … c_T, from their use elsewhere.
    need_dx : bool
        Whether the gradient on the inputs is wanted.
    dz_steps : array (T, 4H, B), optional
        Written: dL/dz of every step.

    Returns
    -------
    Gradient
    """
    buffers = buffers or BufferPool()
    T, I, H, B, dtype = tape.T, tape.I, tape.H, tape.B, tape.dtype
    W_h = np.ascontiguousarray(tape.kernel[:, :H].T)  # (H, 4H): a transposed view is slower at every step

    dkernel: Array = np.zeros(tape.kernel.shape, dtype)
    dx = buffers.get("dx", (T if need_dx else 0, I, B), dtype)
    dh_dc = np.empty((2, H, B), dtype)  # the two running gradients, side by side for [o g]
    running_dh, running_dc = dh_dc
    from_next = np.empty((H, B), dtype)  # dL/dh through the next step
    through_h = np.empty((H, B), dtype)
    from_next[:] = dh_T
    running_dc[:] = dc_T

    length = max(1, min(T, BLOCK_BYTES // max(1, 4 * H * B * dtype.itemsize)))  # of a block
    columns = (
        MIN_GEMM_COLUMNS if tape.kernel.size <= L2_WEIGHTS else 4 * MIN_GEMM_COLUMNS
    )  # few additions where they reach far
    together = max(1, min(T, -(-columns // max(1, length * B)) * length))  # blocks, in one product
    if B == 1:
        length = together  # vectors are side by side as they are
    factors = buffers.get("factors", (length, 4 * H, B), dtype)
    dc_dh = buffers.get("dc_dh", (length, H, B), dtype)
    dzs = factors  # side by side where there are more of them, for the products after the steps
    if length < together:
        dzs = buffers.get("dzs", (4 * H, together, B), dtype).transpose(1, 0, 2)
    views = partial(_reversed_step_views, tape, factors, dc_dh, together)
    steps = iter(buffers.step_views("backward", (tape.gates, factors, dc_dh), views))
    dot, multiply, add = np.dot, np.multiply, np.add
    for start, end in _reversed_blocks(0, T, together):
        for block_start, block_end in _reversed_blocks(start, end, length):
            block, n = slice(block_start, block_end), block_end - block_start
            _write_local_derivatives(tape, block, factors[:n], dc_dh[:n])
            dc_block = repeat(None, n) if dc is None else dc[block][::-1]
            for (dz, factors_i, factors_f, factors_o_g, factor_c, f), dh_t, dc_t in zip(
                islice(steps, n), dh[block][::-1], dc_block, strict=True
            ):
                # equation: lstm-step-backward
                add(dh_t, from_next, running_dh)
                multiply(running_dh, factor_c, through_h)
                add(running_dc, through_h, running_dc)
                if dc_t is not None:
                    add(running_dc, dc_t, running_dc)
                multiply(factors_i, running_dc, factors_i)
                multiply(factors_f, running_dc, factors_f)
                multiply(factors_o_g, dh_dc, factors_o_g)
                multiply(running_dc, f, running_dc)
                dot(W_h, dz, from_next)
            if length < together:
                copy_rows(factors[:n], dzs[block_start - start : block_end - start])
        n = end - start
        of_these = sum_of_outer_products(dzs[:n], tape.u[start:end], buffers)
        dkernel = of_these if end == T else dkernel + of_these
        if dz_steps is not None:
            dz_steps[start:end] = dzs[:n]
        if need_dx:
            batched_matmul(tape.kernel[:, H:-1].T, dzs[:n], dx[start:end])
    return Gradient(dkernel, dx, from_next, running_dc)


def _reversed_blocks(start: int, end: int, length: int) -> Iterator[tuple[int, int]]:
    """Yield blocks of this length, the last one first; the first one may be shorter."""
    for stop in range(end, start, -length):
        yield max(start, stop - length), stop


def _reversed_step_views(tape: Tape, factors: Array, dc_dh: Array, together: int) -> Iterator[tuple[Array, ...]]:
    """Yield views from the last step to the first; all blocks share the memory of `factors` and `dc_dh`."""
    H = tape.H
    i, f, o_g = factors[:, :H], factors[:, H : 2 * H], factors[:, 2 * H :].reshape(len(factors), 2, H, tape.B)
    for start, end in _reversed_blocks(0, tape.T, together):
        for block_start, block_end in _reversed_blocks(start, end, len(factors)):
            for t in reversed(range(block_start, block_end)):
                k = t - block_start
                yield factors[k], i[k], f[k], o_g[k], dc_dh[k], tape.f[t]


# equation: lstm-step-backward
def _write_local_derivatives(tape: Tape, block: slice, factors: Array, dc_dh: Array) -> None:
    """Write what the gradients of a block of steps are multiples of, before any gradient is known.

    With dc the whole gradient on c, the chain rule of :func:`glasscell.core.cell.step_backward` reads::

        dz_i = dc ∘ (1-i) ∘ i∘g          dz_o = dh ∘ (1-o) ∘ h
        dz_f = dc ∘ (1-f) ∘ f∘c_prev     dz_g = dc ∘ (i - i∘g∘g)
        dc   = dc_next + dh ∘ (o - h∘tanh c)

    Parameters
    ----------
    factors : array (steps, 4H, B)
        Written: those of dz, rows i f o g.
    dc_dh : array (steps, H, B)
        Written: that of dh in dc.
    """
    H = tape.H
    sigmoids = tape.gates[:-1][block, : 3 * H]
    partners = tape.step_inputs[1:][block, : 3 * H]  # i∘g, f∘c_prev, h
    of_sigmoids, of_g = factors[:, : 3 * H], factors[:, 3 * H :]
    np.subtract(1, sigmoids, out=of_sigmoids)
    np.multiply(of_sigmoids, partners, out=of_sigmoids)
    np.multiply(partners[:, :H], tape.g[block], out=of_g)
    np.subtract(tape.i[block], of_g, out=of_g)
    np.multiply(tape.h[block], tape.tanh_c[block], out=dc_dh)
    np.subtract(tape.o[block], dc_dh, out=dc_dh)
