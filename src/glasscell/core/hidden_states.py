"""What the tapes of an RNN and a GRU have in common: hidden states with the initial one first, and the hook."""

from typing import Protocol

from glasscell.core.hooked_pass import HookedPass
from glasscell.core.step_hook import StepHook
from glasscell.core.types import Array


class _Pass(Protocol):
    @property
    def h_with_initial(self) -> Array:
        """Hidden states (T + 1, H, B), the initial one first."""

    @property
    def hooked(self) -> HookedPass | None:
        """The hook of the pass."""


class HiddenStates:
    """Properties of a tape with `h_with_initial` and `hooked`."""

    __slots__ = ()

    @property
    def hook(self: _Pass) -> StepHook | None:
        """Return the hook that changed values of the pass."""
        return None if self.hooked is None else self.hooked.hook

    @property
    def h(self: _Pass) -> Array:
        """Return the hidden states, (T, H, B): the outputs."""
        return self.h_with_initial[1:]

    @property
    def h_prev(self: _Pass) -> Array:
        """Return the hidden state before each step, (T, H, B)."""
        return self.h_with_initial[:-1]
