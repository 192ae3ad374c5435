"""One step of one standard LSTM, compiled by Numba, for streams.

Streams use it with engine="numba", or if Numba is already imported. A step in NumPy takes eight calls, which are most
of its time at small sizes. Here it is one call, and its product reads the weights at the speed of the L2 cache.

The interpreter's lock is held: a step is shorter than a hand-over of the lock, and reacquiring it next to a busy thread
takes 1,000 times as long as the step.
"""

# Numba infers the types of the step.
# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from collections.abc import Callable
from typing import Any

import numpy as np

from glasscell.core.numba_engine.cell_math import EXPONENTIAL, LOG2_E
from glasscell.core.numba_engine.jit_cache import jit_cached
from glasscell.core.types import Array
from glasscell.core.uninterrupted import once_uninterrupted

Step = Callable[[Array, Array, Array, int], bool]


@once_uninterrupted
def compiled_step(char: str) -> Step:
    """Compile the step of :func:`make_step` for a dtype character, or load it from disk."""
    import numba  # noqa: PLC0415 - takes a third of a second

    dtype = np.dtype(char)
    number: Any = numba.from_dtype(dtype)
    vector, matrix = numba.types.Array(number, 1, "C"), numba.types.Array(number, 2, "C", readonly=True)
    signature = numba.boolean(matrix, vector, vector, numba.intp)
    step: Step = jit_cached(make_step(dtype), signature, nogil=False, allow_fma=True)
    return step


def make_step(dtype: np.dtype[np.floating]) -> Step:
    """Return the step as a Python function ``step(weight, column, gates, maybe_nonfinite) -> bool``.

    weight (K, 4H) is the kernel of :func:`glasscell.core.lstm.negate_sigmoid_rows`, transposed, with rows x, bias, h;
    column (K,) is [x; 1; h]; gates (5H,) are i f o g and the cell state. The first `maybe_nonfinite` numbers of the
    column may be NaN or infinite: if one of them is, the step returns False, and h and the cell state are unchanged.
    Otherwise h and the cell state are updated in place, and the step returns True.

    The exponential is that of :mod:`~glasscell.core.numba_engine.cell_math`, one number at a time; LLVM vectorises it.
    """
    real: Any = dtype.type
    bits: Any
    bits, digits = (np.uint32, 23) if dtype == np.float32 else (np.uint64, 52)
    constants = EXPONENTIAL[dtype.name]
    shift, log2_e, (ln2, ln2_rest) = real(constants.shift), real(LOG2_E), map(real, constants.ln2)
    polynomial = tuple(map(real, constants.polynomial))
    high, low, edge = real(constants.high), real(constants.low), real(-2 * constants.edge)
    zero, one, two, shift_bits = real(0), real(1), real(2), bits(digits)

    def step(weight, column, gates, maybe_nonfinite):
        def exponential(x):
            shifted = x * log2_e + shift
            n = shifted - shift
            r = x - n * ln2 - n * ln2_rest
            p = polynomial[0]
            for k in range(1, len(polynomial)):
                p = p * r + polynomial[k]
            return r * p, bits(real(shifted).view(bits) << shift_bits).view(real)

        def sigmoid_of_negative(z):
            z = high if z > high else z  # noqa: FURB136 - min and max would lose NaN
            z = low if z < low else z  # noqa: FURB136
            e_r_minus_1, power = exponential(z)
            return one / ((e_r_minus_1 + one) * power + one)

        def tanh(x):
            y = -two * abs(x)
            y = edge if y < edge else y  # noqa: FURB136
            e_r_minus_1, power = exponential(y)
            one_minus_e = (one - power) - e_r_minus_1 * power
            t = one_minus_e / (two - one_minus_e)
            return -t if x < zero else t

        K, H = len(column), len(gates) // 5
        z, h = gates[: 4 * H], column[K - H :]
        for j in range(len(z)):
            z[j] = zero
        for k in range(K % 4):
            x, w = column[k], weight[k]
            for j in range(len(z)):
                z[j] += x * w[j]
        for k in range(K % 4, K, 4):  # four rows at a time: a quarter of the loads and stores of z
            x0, x1, x2, x3 = column[k], column[k + 1], column[k + 2], column[k + 3]
            w0, w1, w2, w3 = weight[k], weight[k + 1], weight[k + 2], weight[k + 3]
            for j in range(len(z)):
                z[j] += (x0 * w0[j] + x1 * w1[j]) + (x2 * w2[j] + x3 * w3[j])
        if z[0] - z[0] != zero:  # a NaN or infinite input makes every sum non-finite, even times 0: one sum is enough
            for k in range(maybe_nonfinite):
                if column[k] - column[k] != zero:
                    return False
        # Short loops, because LLVM vectorises only loops that need few overlap checks.
        # equation: lstm-step
        i_f_o, i, f, o = gates[: 3 * H], gates[:H], gates[H : 2 * H], gates[2 * H : 3 * H]
        g, c = gates[3 * H : 4 * H], gates[4 * H :]
        for k in range(len(i_f_o)):
            i_f_o[k] = sigmoid_of_negative(i_f_o[k])
        for k in range(len(g)):
            g[k] = tanh(g[k])
        for k in range(len(g)):
            c[k] = i[k] * g[k] + f[k] * c[k]
        for k in range(len(g)):
            h[k] = o[k] * tanh(c[k])
        return True

    return step
