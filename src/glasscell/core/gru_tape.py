"""What a forward pass of a GRU keeps for the backward pass, and for traces."""

from typing import NamedTuple

from glasscell.core.hidden_states import HiddenStates
from glasscell.core.hooked_pass import HookedGRU
from glasscell.core.linear import batched_matmul
from glasscell.core.rnn import split_kernel
from glasscell.core.time_order import Index
from glasscell.core.types import Array


class _Arrays(NamedTuple):
    weights: dict[str, Array]
    x: Array
    gates: Array
    q: Array
    h_with_initial: Array
    lengths: Index | None
    reset_after: bool
    hooked: HookedGRU | None = None


class Tape(HiddenStates, _Arrays):
    """All that a backward pass reads.

    Attributes
    ----------
    weights : dict of str to array
        Copies, with the names and shapes of :func:`shapes`.
    x : array (T, I, B)
    gates : array (T, 3H, B)
        r, z and n.
    q : array (T, H, B)
        U_n [h_prev; 1], or r ∘ h_prev unless `reset_after`.
    h_with_initial : array (T + 1, H, B)
        Hidden states, the initial one first.
    lengths : array (B,) of int, or None
        Number of steps of each sequence, after which its state stays the same. None: T.
    reset_after : bool
    hooked : HookedGRU, optional
        The hook of the pass; the arrays have the values that acted.
    """

    __slots__ = ()

    @property
    def r(self) -> Array:
        """Return the reset gate, (T, H, B)."""
        return self.gates[:, : self.q.shape[1]]

    @property
    def z(self) -> Array:
        """Return the update gate, (T, H, B)."""
        H = self.q.shape[1]
        return self.gates[:, H : 2 * H]

    @property
    def n(self) -> Array:
        """Return the candidate, (T, H, B)."""
        return self.gates[:, 2 * self.q.shape[1] :]

    @property
    def a(self) -> Array:
        """Compute the pre-activations of r, z and n, (T, 3H, B), whose memory the forward pass uses for the gates."""
        if self.hooked is not None:
            return self.hooked.a
        H = self.q.shape[1]
        U, W_x, b = split_kernel(self.weights["kernel"], H)
        a = batched_matmul(W_x, self.x) + b
        a[:, : 2 * H] += batched_matmul(U[: 2 * H], self.h_prev)
        a[:, 2 * H :] += self.r * self.q if self.reset_after else batched_matmul(U[2 * H :], self.q)
        return a
