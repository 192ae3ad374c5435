"""A sequence through one LSTM layer when nobody will look back: the steps of ``lstm.py``, of which only h is kept.

Gates and cells of a step are written over those of the step before, and so stay in the nearest cache: a fifth to two
thirds faster than a pass that keeps its tape, and a third of its memory. The numbers are the same, bit by bit.
"""

from typing import NamedTuple

import numpy as np

from glasscell.core.buffers import BufferPool
from glasscell.core.lstm import negate_sigmoid_rows
from glasscell.core.types import Array


class InferenceResult(NamedTuple):
    """What is left of a pass."""

    h: Array  # (T, H, B)
    final_h: Array  # (H, B)
    final_c: Array  # (H, B)


@np.errstate(over="ignore", under="ignore")
def forward_inference(
    kernel: Array,
    x: Array,
    h0: Array | float = 0.0,
    c0: Array | float = 0.0,
    buffers: BufferPool | None = None,
) -> InferenceResult:
    """Run the layer over a sequence; parameters as those of :func:`glasscell.core.lstm.forward`."""
    buffers = buffers or BufferPool()
    (T, I, B), H, dtype = x.shape, len(kernel) // 4, kernel.dtype
    one = np.array(1, dtype)
    W = negate_sigmoid_rows(kernel, T, B)

    columns = buffers.take("inference columns", (T + 1, H + I + 1, B), dtype)  # slot t: u_t = [h_{t-1}; x_t; 1]
    columns[0, :H] = h0
    columns[:-1, H:-1] = x
    columns[:, -1] = 1
    gates = buffers.take("inference gates", (5 * H, B), dtype)  # i, f, o, g, and the cell right behind them
    ig_fc = buffers.take("inference products", (2 * H, B), dtype)
    tanh_c = buffers.take("inference tanh_c", (H, B), dtype)
    z, sigmoids, i_f, o, g = gates[: 4 * H], gates[: 3 * H], gates[: 2 * H], gates[2 * H : 3 * H], gates[3 * H : 4 * H]
    g_c, c, ig, fc = gates[3 * H :], gates[4 * H :], ig_fc[:H], ig_fc[H:]
    c[:] = c0

    dot, exp, tanh, divide, add = np.dot, np.exp, np.tanh, np.divide, np.add
    for u, h in zip(columns[:-1], columns[1:, :H], strict=True):
        dot(W, u, z)
        exp(sigmoids, sigmoids)
        add(sigmoids, one, sigmoids)  # 1 / i, 1 / f, 1 / o
        tanh(g, g)
        divide(g_c, i_f, ig_fc)
        add(ig, fc, c)
        tanh(c, tanh_c)
        divide(tanh_c, o, h)
    return InferenceResult(columns[1:, :H], columns[-1, :H], c)
