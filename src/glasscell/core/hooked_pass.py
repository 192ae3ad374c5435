"""A hook in a pass of an RNN or a GRU.

The functions of a step that surround a value which a hook may change are replaced by methods of these classes, which
call the hook as well. A pass without a hook calls NumPy's.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from glasscell.core.step_hook import StepHook
from glasscell.core.types import Array


class HookedPass:
    """A hook in one forward pass, and the values that its backward pass needs.

    Parameters
    ----------
    hook : StepHook
    symbols : tuple of str
        Of the pre-activations, each with H rows.
    x : array (T, I, B)
        The hook is applied to it, in place.
    H : int

    Attributes
    ----------
    a : array (T, R, B)
        Pre-activations, after the hook.
    h_read : array (T, H, B)
        The h_{t-1} that the recurrent weights read.
    """

    def __init__(self, hook: StepHook, symbols: tuple[str, ...], x: Array, H: int) -> None:
        T, _, B = x.shape
        self.hook, self.symbols, self.H = hook, symbols, H
        self.a, self.h_read = np.empty((T, len(symbols) * H, B), x.dtype), np.empty((T, H, B), x.dtype)
        self._t, self._h_prev = -1, self.a
        for t in range(T):
            hook.apply("x", t, x[t])

    def dot_hidden(self, W: Array, h_prev: Array, out: Array) -> None:
        """Begin a step: multiply recurrent weights by h_{t-1}."""
        self._t, self._h_prev = self._t + 1, h_prev
        h_read = self.h_read[self._t]
        h_read[:] = h_prev
        self.hook.apply("W_h", self._t, h_read)
        np.dot(W, h_read, out)

    def activate(self, function: Callable[..., Any]) -> Callable[..., None]:
        """Return the activation of an RNN, from z to h."""

        def activate(z: Array, out: Array) -> None:
            self._apply("z", z)
            function(z, out=out)
            self._apply("h", out)

        return activate

    def rows(self, symbol: str) -> slice:
        """Return the rows of a pre-activation."""
        k = self.symbols.index(symbol)
        return slice(k * self.H, (k + 1) * self.H)

    def input_backward(self, dx: Array) -> None:
        """Replace the gradients on the inputs that acted by those on the inputs before the hook, in place."""
        for t, dx_t in reversed(list(enumerate(dx))):
            self.hook.backward("x", t, dx_t)

    def _apply(self, symbol: str, value: Array) -> None:
        """Apply the hook to a value of the step; record pre-activations."""
        self.hook.apply(symbol, self._t, value, self._h_prev if symbol == "h" else None)
        if symbol in self.symbols:
            self.a[self._t, self.rows(symbol)] = value


class HookedGRU(HookedPass):
    """A hook in one forward pass of a GRU: the functions of a step with gates r and z, q, candidate n and state h."""

    def negative(self, a: Array, out: Array) -> None:
        """Negate the pre-activations of r and z."""
        self._apply("a_r", a[: self.H])
        self._apply("a_z", a[self.H :])
        np.negative(a, out)

    def divide(self, one: Array, denominators: Array, out: Array) -> None:
        """Complete r and z."""
        np.divide(one, denominators, out)
        self._apply("r", out[: self.H])
        self._apply("z", out[self.H :])

    def add_bias(self, from_h: Array, bias: Array, q: Array) -> None:
        """Compute q with the reset gate behind the product."""
        np.add(from_h, bias, q)
        self._apply("q", q)

    def reset(self, r: Array, h_prev: Array, q: Array) -> None:
        """Compute q with the reset gate before the product."""
        del h_prev
        np.multiply(r, self.h_read[self._t], q)
        self._apply("q", q)

    def tanh(self, a: Array, out: Array) -> None:
        """Compute n."""
        self._apply("a_n", a)
        np.tanh(a, out)
        self._apply("n", out)

    def finish(self, n: Array, difference: Array, h: Array) -> None:
        """Compute h."""
        np.add(n, difference, h)
        self._apply("h", h)


class HookedBackward:
    """The hook in a backward pass of a GRU.

    Parameters
    ----------
    hooked : HookedPass
    slopes : array (T, R, B)
        Derivatives of the activations at the pre-activations.

    Attributes
    ----------
    d_gates : array (T, R, B)
        Gradients on the gates that acted.
    """

    def __init__(self, hooked: HookedPass, slopes: Array) -> None:
        self._hook, self._hooked, self._slopes = hooked.hook, hooked, slopes
        self.d_gates = np.zeros_like(slopes)
        self._d_held: Array | float = 0.0

    def hidden(self, t: int, dh: Array, da_z: Array, da_n: Array) -> None:
        """Go from the gradient on the h_t that acted to those on h_t before the hook, a_z and a_n, in place."""
        self._d_held = self._hook.backward("h", t, dh)
        for gate, d in (("z", da_z), ("n", da_n)):
            np.multiply(d, dh, out=d)
            self._gate(t, gate, d)

    def before_reset(self, t: int, dq: Array) -> None:
        """Replace the gradient on the q that acted by the one on q before the hook, in place."""
        self._hook.backward("q", t, dq)

    def reset(self, t: int, da_r: Array) -> None:
        """Replace the gradient on the r that acted by the one on a_r, in place."""
        self._gate(t, "r", da_r)

    def previous_hidden(self, t: int, dh_prev: Array) -> None:
        """Replace the gradient on the h_{t-1} that was read by the one on h_{t-1}; add that of an h_t that holds it."""
        self._hook.backward("W_h", t, dh_prev)
        dh_prev += self._d_held

    def _gate(self, t: int, gate: str, d: Array) -> None:
        rows = self._hooked.rows(f"a_{gate}")
        self._hook.add_carried(gate, d)
        self.d_gates[t, rows] = d
        self._hook.backward(gate, t, d)
        d *= self._slopes[t, rows]
        self._hook.backward(f"a_{gate}", t, d)
