"""What a forward pass of the standard LSTM keeps for the backward pass, and for traces."""

from typing import Any, Self

import numpy as np

from glasscell.core.buffers import BufferPool
from glasscell.core.types import Array

STORED = ("T", "I", "H", "B", "dtype", "step_inputs", "gates", "tanh_c", "kernel")  # of a tape; the rest are views


class Tape:
    """All that a forward pass computed, by name; what a backward pass reads. Gates and states are views ``(T, H, B)``.

    The arrays behind the views have one more slot, for the state; its other rows are arbitrary.

    Attributes
    ----------
    step_inputs : array (T + 1, 3H + I + 1, B)
        Rows of slot t: i∘g and f∘c_prev of step t-1, then u_t = [h_{t-1}; x_t; 1].
    gates : array (T + 1, 5H, B)
        Rows of slot t: i, f, o, g of step t, then c_{t-1}. During the pass, first z and then 1 / σ(z) stand there. z is
        not kept: a trace computes it again.
    i, f, o, g, c, h, tanh_c : array (T, H, B)
        Gates, candidate, cell and hidden state; h is the output.
    c_with_initial, h_with_initial : array (T + 1, H, B)
        Cell and hidden state, with the initial ones.
    x : array (T, I, B)
    u : array (T, K, B)
        [h_prev; x; 1].
    kernel : array (4H, K)
        The weights that the pass was made with.
    """

    def __init__(self, buffers: BufferPool, T: int, I: int, H: int, B: int, dtype: np.dtype[np.floating]) -> None:
        self.T, self.I, self.H, self.B, self.dtype = T, I, H, B, dtype
        self.step_inputs = self._array(buffers, "step inputs", (T + 1, 3 * H + I + 1, B), dtype)
        self.gates = self._array(buffers, "gates", (T + 1, 5 * H, B), dtype)
        self.tanh_c = self._array(buffers, "tanh_c", (T, H, B), dtype)
        self.kernel = buffers.get("kernel", (4 * H, H + I + 1), dtype)
        self._set_views()

    @staticmethod
    def _array(buffers: BufferPool, name: str, shape: tuple[int, int, int], dtype: np.dtype[np.floating]) -> Array:
        """Return the array of this name, (T, rows, B)."""
        return buffers.get(name, shape, dtype)

    @classmethod
    def begin(
        cls, kernel: Array, shape: tuple[int, ...], h0: Array | float, c0: Array | float, buffers: BufferPool
    ) -> Self:
        """Return the tape of a new pass without its inputs, whose shape is (T, I, B).

        It is the tape of the last pass with these buffers, if the sizes are the same.
        """
        T, I, B = shape
        tape = buffers.cached("tape", cls, T, I, len(kernel) // 4, B, kernel.dtype)
        tape.h_with_initial[0] = h0  # first: it may be the final state of a pass of other length, in the same memory
        tape.c_with_initial[0] = c0
        tape.kernel[:] = kernel  # the caller may change theirs before the backward pass
        return tape

    def write_inputs(self, x: Array) -> None:
        """Write x (T, I, B), and the 1 of the bias."""
        self.x[:] = x
        self.u[:, -1] = 1

    def _set_views(self) -> None:
        H, gates, step_inputs = self.H, self.gates[:-1], self.step_inputs[:-1]
        self.i, self.f, self.o, self.g = (gates[:, k * H : (k + 1) * H] for k in range(4))
        self.c_with_initial, self.h_with_initial = self.gates[:, 4 * H :], self.step_inputs[:, 2 * H : 3 * H]
        self.c, self.h = self.c_with_initial[1:], self.h_with_initial[1:]
        self.x, self.u = step_inputs[:, 3 * H : -1], step_inputs[:, 2 * H :]

    def __getstate__(self) -> dict[str, Any]:
        """Copy the arrays; the names become views of the copies."""
        return {name: getattr(self, name) for name in STORED}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._set_views()
