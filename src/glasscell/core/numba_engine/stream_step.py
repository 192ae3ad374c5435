"""One step of one plain LSTM, compiled by Numba: what streams take where it is asked for, or Numba is there already.

A step of NumPy's is eight calls, and at small sizes they are most of its time. Here it is one, and its product reads
the weights as fast as the second cache gives them.

The interpreter's lock is kept. A step is over before another thread has noticed that it could have had it; and a stream
that gives it away must wait for it again, which next to a busy thread takes a thousand times as long as the step.
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
    """Return the step, compiled for a dtype, given by its char, or read from disk; see :func:`make_step`."""
    import numba  # noqa: PLC0415 - takes a third of a second

    dtype = np.dtype(char)
    number: Any = numba.from_dtype(dtype)
    vector, matrix = numba.types.Array(number, 1, "C"), numba.types.Array(number, 2, "C", readonly=True)
    signature = numba.boolean(matrix, vector, vector, numba.intp)
    step: Step = jit_cached(make_step(dtype), signature, nogil=False, contract=True)
    return step


def make_step(dtype: np.dtype[np.floating]) -> Step:
    """Compute the step as a function of Python.

    Its arguments are the kernel of :func:`glasscell.stream.standard_step.negate_sigmoid_rows`, (K, 4H), rows x, bias,
    h; the column [x; 1; h] (K,); the gates i f o g and the cell state, one behind the other, (5H,); and how many of the
    first numbers of the column may not be finite. If one of them is not, it returns False, and h and the cell state
    stay; else they become those of the next step.

    The exponential is that of :mod:`~glasscell.core.numba_engine.cell_math`, one number at a time; LLVM vectorises it.
    """
    real: Any = dtype.type
    bits: Any
    bits, digits = (np.uint32, 23) if dtype == np.float32 else (np.uint64, 52)
    of = EXPONENTIAL[dtype.name]
    shift, log2_e, (ln2, ln2_rest) = real(of.shift), real(LOG2_E), map(real, of.ln2)
    polynomial = tuple(map(real, of.polynomial))
    high, low, edge = real(of.high), real(of.low), real(-2 * of.edge)
    zero, one, two, places = real(0), real(1), real(2), bits(digits)

    def step(weight, column, gates, unsure):
        def exponential(x):
            shifted = x * log2_e + shift
            n = shifted - shift
            r = x - n * ln2 - n * ln2_rest
            p = polynomial[0]
            for k in range(1, len(polynomial)):
                p = p * r + polynomial[k]
            return r * p, bits(real(shifted).view(bits) << places).view(real)

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
        for k in range(K % 4, K, 4):  # four rows at a time, so that z is read and written a fourth as often
            x0, x1, x2, x3 = column[k], column[k + 1], column[k + 2], column[k + 3]
            w0, w1, w2, w3 = weight[k], weight[k + 1], weight[k + 2], weight[k + 3]
            for j in range(len(z)):
                z[j] += (x0 * w0[j] + x1 * w1[j]) + (x2 * w2[j] + x3 * w3[j])
        if z[0] - z[0] != zero:  # a NaN or infinite input is in every sum, even times 0. So one of them tells
            for k in range(unsure):
                if column[k] - column[k] != zero:
                    return False
        # Short loops: LLVM vectorises only what needs few checks for overlap.
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
