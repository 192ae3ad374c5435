"""One step of the standard LSTM, as in :mod:`glasscell.core.lstm`: a product and seven calls, or one compiled call."""

from collections.abc import Callable
from functools import partial
from itertools import repeat
from operator import call

import numpy as np

from glasscell.core.types import Array
from glasscell.stream.arena import Arena, Call
from glasscell.stream.ufunc_calls import without_overflow

RaiseError = Callable[[], None]


def standard_step(
    weight: Array, column: Array, h: Array, memory: Arena, raise_if_not_finite: RaiseError | None
) -> tuple[Call, Array]:
    """Return the call of a step, and the cell state, which the call overwrites.

    Parameters
    ----------
    weight : array
        From :func:`glasscell.core.lstm.negate_sigmoid_rows`, with its columns in the order x, bias, h: (4H, K), or
        (K, 4H) for a single stream.
    column : array (K,) or (K, n)
        [x; 1; h].
    h : array (H,) or (H, n)
        The last rows of `column`, where the call writes the new hidden state.
    memory : Arena
    raise_if_not_finite : callable, optional
        Called before the state changes, if an input may not be finite. It raises an error if one is not.
    """
    H = len(h)
    gates = memory.allocate(5 * H)  # i f o g c
    z, sigmoids, i_f, g_c = gates[: 4 * H], gates[: 3 * H], gates[: 2 * H], gates[3 * H :]
    o, c = gates[2 * H : 3 * H], gates[4 * H :]
    ig_fc, tanh_c = memory.allocate(2 * H), memory.allocate(H)
    ig, fc = ig_fc[:H], ig_fc[H:]
    left, right = (column, weight) if column.ndim == 1 else (weight, column)
    g, one = gates[3 * H : 4 * H], np.array(1, memory.dtype)
    exp = partial(without_overflow(), np.exp, sigmoids, sigmoids)
    state_calls = partial(np.add, ig, fc, c), partial(np.tanh, c, tanh_c), partial(np.divide, tanh_c, o, h)
    # The three calls that change the state, in one call of C code, which nothing can interrupt.
    finish = zip(*(map(call, repeat(state_call)) for state_call in state_calls), strict=True).__next__
    dot, tanh, divide, add, first_z = np.dot, np.tanh, np.divide, np.add, z.item

    # equation: lstm-step
    def step() -> None:
        dot(left, right, z)
        if raise_if_not_finite is not None:
            # NaN and infinity times 0 are NaN: an input that is not finite makes every element of z NaN or infinite.
            first_sum = first_z(0)
            if first_sum - first_sum:
                raise_if_not_finite()
        exp()
        add(sigmoids, one, sigmoids)  # 1 / i, 1 / f, 1 / o
        tanh(g, g)
        divide(g_c, i_f, ig_fc)
        try:
            add(ig, fc, c)
            tanh(c, tanh_c)
            divide(tanh_c, o, h)
        except BaseException:  # also from a signal's handler, between two calls
            finish()
            raise

    return step, c


def standard_step_compiled(
    weight: Array, column: Array, h: Array, memory: Arena, raise_if_not_finite: RaiseError | None
) -> tuple[Call, Array]:
    """Return the compiled call of :func:`standard_step` for a single stream, and the cell state."""
    from glasscell.core.numba_engine.stream_step import compiled_step  # noqa: PLC0415 - Numba is optional

    H = len(h)
    gates = memory.allocate(5 * H)  # i f o g c
    c, compiled = gates[4 * H :], compiled_step(memory.dtype.char)
    if raise_if_not_finite is None:
        return partial(compiled, weight, column, gates, 0), c
    I = len(column) - H - 1

    def step() -> None:
        if not compiled(weight, column, gates, I):
            raise_if_not_finite()

    return step, c
