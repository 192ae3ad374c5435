"""One step of the plain LSTM, as :func:`glasscell.core.lstm.forward` makes it: one product and seven calls, or one."""

from collections.abc import Callable
from functools import partial
from itertools import repeat
from operator import call

import numpy as np

from glasscell.core.types import Array
from glasscell.stream.arena import Arena, Call
from glasscell.stream.ufunc_calls import without_overflow

RaiseError = Callable[[], None]


def negate_sigmoid_rows(kernel: Array, H: int) -> Array:
    """Return the kernel with the minus of σ(z) = 1 / (1 + e^-z) in the rows of the three sigmoids."""
    W = kernel.copy()
    W[: 3 * H] *= -1
    return W


def standard_step(
    weight: Array, column: Array, h: Array, memory: Arena, refuse: RaiseError | None
) -> tuple[Call, Array]:
    """The step, and the cell state that it keeps.

    Parameters
    ----------
    weight : array
        Of :func:`negate_sigmoid_rows`, with the columns x, bias, h: (4H, K), or (K, 4H) for a single stream.
    column : array (K,) or (K, n)
        [x; 1; h].
    h : array (H,) or (H, n)
        Its last rows, where the new hidden state goes.
    memory : Memory
    refuse : callable, optional
        Called before the state changes if an input may not be finite; to raise an error if it is not.
    """
    H = len(h)
    gates = memory.allocate(5 * H)  # i f o g, and behind g the cell state
    z, sigmoids, i_f, g_c = gates[: 4 * H], gates[: 3 * H], gates[: 2 * H], gates[3 * H :]
    o, c = gates[2 * H : 3 * H], gates[4 * H :]
    ig_fc, tanh_c = memory.allocate(2 * H), memory.allocate(H)
    ig, fc = ig_fc[:H], ig_fc[H:]
    left, right = (column, weight) if column.ndim == 1 else (weight, column)
    g, one = gates[3 * H : 4 * H], np.array(1, memory.dtype)
    exp = partial(without_overflow(), np.exp, sigmoids, sigmoids)
    last = partial(np.add, ig, fc, c), partial(np.tanh, c, tanh_c), partial(np.divide, tanh_c, o, h)
    # The last calls, which alone change the state, in one call of C code: nothing can interrupt it.
    finish = zip(*(map(call, repeat(each)) for each in last), strict=True).__next__
    dot, tanh, divide, add, first = np.dot, np.tanh, np.divide, np.add, z.item

    # equation: lstm-step
    def step() -> None:
        dot(left, right, z)
        if refuse is not None:
            # A NaN or infinite input is in every sum that it is part of, even times 0. So one of them tells.
            any_sum = first(0)
            if any_sum - any_sum:
                refuse()
        exp()
        add(sigmoids, one, sigmoids)  # 1 / i, 1 / f, 1 / o
        tanh(g, g)
        divide(g_c, i_f, ig_fc)
        try:
            add(ig, fc, c)
            tanh(c, tanh_c)
            divide(tanh_c, o, h)
        except BaseException:  # between two calls, or of a handler that a signal called there
            finish()
            raise

    return step, c


def standard_step_compiled(
    weight: Array, column: Array, h: Array, memory: Arena, refuse: RaiseError | None
) -> tuple[Call, Array]:
    """:func:`standard_step` of a single stream, compiled."""
    from glasscell.core.numba_engine.stream_step import compiled_step  # noqa: PLC0415 - where Numba is

    H = len(h)
    gates = memory.allocate(5 * H)  # as there
    c, take = gates[4 * H :], compiled_step(memory.dtype.char)
    if refuse is None:
        return partial(take, weight, column, gates, 0), c
    I = len(column) - H - 1

    def step() -> None:
        if not take(weight, column, gates, I):
            refuse()

    return step, c
