"""The plain LSTM compiled by Numba: the arguments, tapes and gradients of :mod:`glasscell.core.lstm`, sooner.

What a compiler can do that NumPy cannot: a step costs no calls, which is most of a small step's time; and a product can
keep a tile of its result in registers and read its operands as they lie, which at the sizes of one step is 1.1 to 1.6
times as fast as a call of OpenBLAS on one core.

It runs on the caller's thread, and nothing is shared: several threads may run it at once, each with buffers of its own,
and the interpreter's lock is released meanwhile. Numba is imported at the first use. It then compiles for the dtype,
once, in 10 to 15 seconds. What it made is kept on disk, beside :mod:`~glasscell.core.compiled_loops` or, where that
cannot be written, in the user's cache; from there, the first use in a process takes a second, of which Numba's import
is a third.
"""

from functools import cache
from importlib.util import find_spec

import numpy as np

from glasscell.core import lstm
from glasscell.core.buffers import Buffers
from glasscell.core.compiled_loops import DEEP, PANEL, engine
from glasscell.core.inference import Outputs
from glasscell.core.typing import Array

LARGE_STEP = 1 << 22  # multiplications in the product of a step: beyond, NumPy's BLAS on two cores is faster


@cache  # to look for a package takes longer than a small pass
def available() -> bool:
    """Whether Numba is installed; it is not imported."""
    return find_spec("numba") is not None


def faster(I: int, H: int, B: int, dtype: np.dtype[np.floating]) -> bool:  # noqa: ARG001 - the same for both
    """Whether this is the faster engine for a layer of I inputs and H units, and B sequences side by side.

    On one core it is, by this factor in a training pass of float32, and about as much in float64:

    ======= ======= ======== ======== ======== ========= ========== ========== ==========
    I, H, B 8,32,1  8,32,32  8,64,64  32,64,32  64,128,1  64,128,32  128,256,32  200,200,20
    factor  3.5     2.2      1.9      1.8       2.0       1.5        1.4         1.2
    ======= ======= ======== ======== ======== ========= ========== ========== ==========

    There are two exceptions. Between 2 and 7 sequences fill too little of the processor's vectors, and their product
    costs nearly what that of 8 does (H = 128, B = 2: 0.55; B = 4: 0.65; B = 8: 1.0); below H = 64 that does not matter,
    since calls are most of the work there. And BLAS divides a large product among cores, which this engine does not:
    the bound is about where a factor of 1.5 on one core meets what a second one gives. It is an estimate, and supposes
    that the second is idle: where it is busy or forbidden, ``engine="numba"`` was the faster one at any size.
    """
    few_columns = 1 < B < 8 and H >= 64
    return not few_columns and 4 * H * (H + I + 1) * B <= LARGE_STEP


def forward(
    kernel: Array,
    x: Array,
    h0: Array | float = 0.0,
    c0: Array | float = 0.0,
    buffers: Buffers | None = None,
) -> lstm.Tape:
    """With a tape, see :func:`glasscell.core.lstm.forward`."""
    buffers = buffers or Buffers()
    tape = lstm.Tape(kernel, x, buffers)
    tape.hiddens[0] = h0
    tape.cells[0] = c0
    transposed = _memory_for_transposed(kernel, tape.B, buffers)
    nothing = tape.tanh_c[:0]
    loop, _ = engine(tape.dtype.char)
    loop(tape.kernel, transposed, tape.columns, tape.gates, tape.tanh_c, nothing, nothing, tape.T)
    return tape


def outputs(
    kernel: Array,
    x: Array,
    h0: Array | float = 0.0,
    c0: Array | float = 0.0,
    buffers: Buffers | None = None,
) -> Outputs:
    """Without a tape, see :func:`glasscell.core.inference.outputs`: a piece's steps are written over by the next's."""
    buffers = buffers or Buffers()
    (T, I, B), H, dtype = x.shape, len(kernel) // 4, kernel.dtype
    length = _steps_in_a_piece(T, B)
    columns = buffers.take("columns of a piece", (length + 1, 3 * H + I + 1, B), dtype)
    gates = buffers.take("gates of a piece", (length + 1, 5 * H, B), dtype)
    tanh_c = buffers.take("tanh_c of a piece", (length, H, B), dtype)
    h = buffers.take("outputs", (T, H, B), dtype)
    columns[:, -1] = 1
    columns[0, 2 * H : 3 * H] = h0
    gates[0, 4 * H :] = c0
    transposed = _memory_for_transposed(kernel, B, buffers)
    loop, _ = engine(dtype.char)
    loop(np.ascontiguousarray(kernel), transposed, columns, gates, tanh_c, x, h, T)
    last = (T - 1) % length + 1 if T else 0
    return Outputs(h, columns[last, 2 * H : 3 * H], gates[last, 4 * H :])


def backward(
    tape: lstm.Tape,
    dh: Array,
    dh_T: Array | float = 0.0,
    dc_T: Array | float = 0.0,
    buffers: Buffers | None = None,
    *,
    dc: Array | None = None,
    need_dx: bool = True,
) -> lstm.Gradient:
    """From a tape of either engine, see :func:`glasscell.core.lstm.backward`."""
    buffers = buffers or Buffers()
    T, I, H, B, dtype, kernel = tape.T, tape.I, tape.H, tape.B, tape.dtype, tape.kernel
    contiguous = np.ascontiguousarray
    W_h, W_x = kernel[:, :H], kernel[:, H:-1]
    if B != 1:
        W_h, W_x = W_h.T, W_x.T
    dkernel = np.empty_like(kernel)
    dx = buffers.take("dx", (T if need_dx else 0, I, B), dtype)
    running_dh, running_dc = np.empty((2, H, B), dtype)
    running_dh[:] = dh_T
    running_dc[:] = dc_T

    length = _steps_in_a_piece(T, B)
    dz = buffers.take("dz", (length if B == 1 else 1, 4 * H, B), dtype)
    panels = (0, length, 1) if B == 1 else (-(-4 * H // PANEL), length * max(1, B), PANEL)
    dz_T = buffers.take("dz_T", panels, dtype)
    dkernel_T = buffers.take("dkernel_T", (0, 0) if B == 1 else kernel.T.shape, dtype)
    of_steps = contiguous(dh, dtype), contiguous(dh[:0] if dc is None else dc, dtype)
    _, loop = engine(dtype.char)
    loop(
        *(contiguous(W_h), contiguous(W_x), tape.columns, tape.gates, tape.tanh_c, *of_steps),
        *(running_dh, running_dc, dkernel, dkernel_T, dx, dz, dz_T),
    )
    return lstm.Gradient(dkernel, dx, running_dh, running_dc)


def _steps_in_a_piece(T: int, B: int) -> int:
    """So that as many columns as a product takes at a time stay in the second cache."""
    return max(1, min(T, DEEP // max(1, B)))


def _memory_for_transposed(kernel: Array, B: int, buffers: Buffers) -> Array:
    return buffers.take("kernel_T", kernel.T.shape if B == 1 else (0, 0), kernel.dtype)
