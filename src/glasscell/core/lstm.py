"""A whole sequence through one LSTM layer: forward, and backward through time. The same numbers as `core.cell`, fast.

Why it is fast, in the order of the time saved:

- **Few calls.** At small sizes a step costs what its calls cost. One matrix W acts on [h; x; 1]: there is no second
  product and no bias to add. σ(z) = 1 / (1 + e^-z) is exact to a few roundings, also where it is close to 0. The rows
  of W for i, f and o are negated once per call, so a step computes e^-z directly. It then divides by 1 + e^-z instead
  of multiplying by σ(z). The gates σ(z) themselves are computed afterwards, by one division for a block of steps.
  Forward and backward: one product and seven elementwise calls per step, each of arrays of one shape without gaps:
  NumPy takes 0.2 µs for such a call, and three times that for one that has to broadcast.
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
from itertools import repeat
from typing import NamedTuple

import numpy as np

from glasscell.core.buffers import BufferPool, StepViews
from glasscell.core.linear import batched_matmul, copy_rows, sum_of_outer_products
from glasscell.core.lstm_tape import Tape
from glasscell.core.types import Array

BLOCK_BYTES = 1 << 20  # backward factors computed at a time: most of a core's second-level cache
MIN_GEMM_COLUMNS = 1 << 10  # of a product for the weights' gradient: adding up such products costs little
L2_WEIGHTS = 1 << 18  # weights that stay in a core's second-level cache


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
    tape = Tape.begin(kernel, x.shape, h0, c0, buffers)
    tape.write_inputs(x)
    W, one = negate_sigmoid_rows(kernel, tape.T, tape.B), np.array(1, tape.dtype)
    for steps, inverse_gates in buffers.cached("forward", _forward_blocks, tape):
        forward_steps(W, steps)
        np.divide(one, inverse_gates, inverse_gates)
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
    for u, z, inverse_gates, inverse_i_f, inverse_o, g, g_c, ig_fc, ig, fc, c, tanh_c, h in steps:
        dot(W, u, z)
        exp(inverse_gates, inverse_gates)
        add(inverse_gates, one, inverse_gates)  # 1 / i, 1 / f, 1 / o
        tanh(g, g)
        divide(g_c, inverse_i_f, ig_fc)
        add(ig, fc, c)
        tanh(c, tanh_c)
        divide(tanh_c, inverse_o, h)


def negate_sigmoid_rows(kernel: Array, T: int = 0, B: int = 1) -> Array:
    """Return a copy of W whose rows of i, f and o are negated, for σ(z) = 1 / (1 + e^-z).

    Stored column by column if that is faster for T products with B columns: for vectors, after some steps, and if W
    stays in cache. Default: row by row.
    """
    by_columns = B == 1 and kernel.shape[1] <= 4 * T and kernel.size <= L2_WEIGHTS
    W = kernel.copy("F" if by_columns else "C")
    W[: 3 * len(W) // 4] *= -1
    return W


def _forward_blocks(buffers: BufferPool, tape: Tape) -> list[tuple[StepViews, Array]]:
    """Return the views of :func:`forward_steps` for each block of steps, and the block's i, f and o."""
    T, H, before, after = tape.T, tape.H, tape.gates[:-1], tape.step_inputs[1:]
    z, gates, i_f, g_c = before[:, : 4 * H], before[:, : 3 * H], before[:, : 2 * H], before[:, 3 * H :]
    ig_fc, ig, fc = after[:, : 2 * H], after[:, :H], after[:, H : 2 * H]
    per_step = tape.u, z, gates, i_f, tape.o, tape.g, g_c, ig_fc, ig, fc, tape.c, tape.tanh_c, tape.h
    arrays = tape.step_inputs, tape.gates, tape.tanh_c
    steps = buffers.views_of_steps("forward", arrays, T, lambda: zip(*per_step, strict=True))[:T]
    length = max(1, BLOCK_BYTES // max(1, 5 * H * tape.B * tape.dtype.itemsize))
    return [(steps[start : start + length], gates[start : start + length]) for start in range(0, T, length)]


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
    T, H, B, dtype = tape.T, tape.H, tape.B, tape.dtype
    plan = buffers.cached("backward", _BackwardPlan, tape)
    block_steps, gemm_steps, W_h = plan.block_steps, plan.gemm_steps, plan.W_h
    dz_block, dc_factor, dz_columns = plan.dz_block, plan.dc_factor, plan.dz_columns
    W_h[:] = tape.kernel[:, :H].T

    dkernel = np.zeros(tape.kernel.shape, dtype) if T == 0 else np.empty(0, dtype)
    dx = buffers.get("dx", (T if need_dx else 0, tape.I, B), dtype)
    dh_dc = np.empty((2, H, B), dtype)  # the two running gradients, side by side for [o g]
    running_dh, running_dc = dh_dc
    from_next = np.empty((H, B), dtype)  # dL/dh through the next step
    through_h = np.empty((H, B), dtype)
    from_next[:] = dh_T
    running_dc[:] = dc_T
    dot, multiply, add = np.dot, np.multiply, np.add
    # Time runs from step T-1 to 0: over blocks by _reversed_blocks, within a block by [::-1].
    for start, end in _reversed_blocks(0, T, gemm_steps):
        for block_start, block_end in _reversed_blocks(start, end, block_steps):
            block, n = slice(block_start, block_end), block_end - block_start
            _write_local_derivatives(tape, block, dz_block[:n], dc_factor[:n])
            dc_block = repeat(None, n) if dc is None else dc[block][::-1]
            for (dz, factors_i, factors_f, factors_o_g, factor_c), (f,), dh_t, dc_t in zip(
                plan.views[n - 1 :: -1], plan.f[block][::-1], dh[block][::-1], dc_block, strict=True
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
            if dz_columns is not dz_block:
                copy_rows(dz_block[:n], dz_columns[block_start - start : block_end - start])
        n = end - start
        products = sum_of_outer_products(dz_columns[:n], tape.u[start:end], buffers)
        dkernel = products if end == T else np.add(dkernel, products, out=dkernel)
        if dz_steps is not None:
            dz_steps[start:end] = dz_columns[:n]
        if need_dx:
            batched_matmul(tape.kernel[:, H:-1].T, dz_columns[:n], dx[start:end], buffers)
    return Gradient(dkernel, dx, from_next, running_dc)


class _BackwardPlan:
    """Block lengths, memory and views of the backward passes of one tape.

    Attributes
    ----------
    block_steps, gemm_steps : int
        Steps whose local derivatives are computed at a time, and steps in one product for the weights' gradient.
    W_h : array (H, 4H)
        Contiguous, as a transposed view is slower at every step.
    dz_block, dc_factor : array (block_steps, 4H, B), (block_steps, H, B)
        First the factors from :func:`_write_local_derivatives`; then dz, in place.
    dz_columns : array (gemm_steps, 4H, B)
        `dz_block` itself, or the blocks of one product side by side.
    views : list of tuple of array
        For each step of a block dz (4H, B), its rows of i (H, B), of f (H, B), and of o and g (2, H, B), and the factor
        of dh in dc (H, B).
    f : list of tuple of array
        The forget gates of each step.
    """

    def __init__(self, buffers: BufferPool, tape: Tape) -> None:
        T, H, B, dtype = tape.T, tape.H, tape.B, tape.dtype
        length = max(1, min(T, BLOCK_BYTES // max(1, 4 * H * B * dtype.itemsize)))
        columns = MIN_GEMM_COLUMNS if tape.kernel.size <= L2_WEIGHTS else 4 * MIN_GEMM_COLUMNS  # fewer additions
        self.gemm_steps = max(1, min(T, -(-columns // max(1, length * B)) * length))
        self.block_steps = self.gemm_steps if B == 1 else length  # vectors are side by side as they are
        self.W_h = buffers.get("W_h", (H, 4 * H), dtype)
        self.dz_block = buffers.get("factors", (self.block_steps, 4 * H, B), dtype)
        self.dc_factor = buffers.get("dc_dh", (self.block_steps, H, B), dtype)
        self.dz_columns = self.dz_block
        if self.block_steps < self.gemm_steps:
            self.dz_columns = buffers.get("dzs", (4 * H, self.gemm_steps, B), dtype).transpose(1, 0, 2)
        arrays, length = (self.dz_block, self.dc_factor), self.block_steps
        self.views = buffers.views_of_steps("backward", arrays, length, self._block_views)
        self.f = buffers.views_of_steps("f", (tape.gates,), T, lambda: zip(tape.f))

    def _block_views(self) -> Iterator[tuple[Array, ...]]:
        """Return the views of each step of a block."""
        length, rows, B = self.dz_block.shape
        gates = self.dz_block.reshape(length, 4, rows // 4, B)
        return zip(self.dz_block, gates[:, 0], gates[:, 1], gates[:, 2:], self.dc_factor, strict=True)


def _reversed_blocks(start: int, end: int, length: int) -> Iterator[tuple[int, int]]:
    """Yield blocks of this length, the last one first; the first one may be shorter."""
    for stop in range(end, start, -length):
        yield max(start, stop - length), stop


# equation: lstm-step-backward
def _write_local_derivatives(tape: Tape, block: slice, dz_block: Array, dc_factor: Array) -> None:
    """Write the factors of the gradients of a block of steps, before any gradient is known.

    With dc the whole gradient on c, the chain rule of :func:`glasscell.core.cell.step_backward` reads::

        dz_i = dc ∘ (1-i) ∘ i∘g          dz_o = dh ∘ (1-o) ∘ h
        dz_f = dc ∘ (1-f) ∘ f∘c_prev     dz_g = dc ∘ (i - i∘g∘g)
        dc   = dc_next + dh ∘ (o - h∘tanh c)

    Parameters
    ----------
    dz_block : array (steps, 4H, B)
        Written: those of dz, rows i f o g.
    dc_factor : array (steps, H, B)
        Written: that of dh in dc.
    """
    H = tape.H
    sigmoids = tape.gates[:-1][block, : 3 * H]
    partners = tape.step_inputs[1:][block, : 3 * H]  # i∘g, f∘c_prev, h
    sigmoid_factors, g_factors = dz_block[:, : 3 * H], dz_block[:, 3 * H :]
    np.subtract(1, sigmoids, out=sigmoid_factors)
    np.multiply(sigmoid_factors, partners, out=sigmoid_factors)
    np.multiply(partners[:, :H], tape.g[block], out=g_factors)
    np.subtract(tape.i[block], g_factors, out=g_factors)
    np.multiply(tape.h[block], tape.tanh_c[block], out=dc_factor)
    np.subtract(tape.o[block], dc_factor, out=dc_factor)
