"""The state of a stream that has state outside its LSTMs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Self

from glasscell.core.types import Array


class StreamState(tuple[Any, ...]):
    """The states of all LSTMs, as the model's ``forward`` takes them, with the arrays of other layers.

    Attributes
    ----------
    remembered : tuple of array
        Sums of pooling layers, earlier inputs of windows, and outputs that masked steps repeat.
    """

    remembered: tuple[Array, ...]

    def __new__(cls, states: Iterable[Any], remembered: Sequence[Array]) -> Self:
        """Create a state from both."""
        state = super().__new__(cls, states)
        state.remembered = tuple(remembered)
        return state

    def __getnewargs__(self) -> tuple[tuple[Any, ...], tuple[Array, ...]]:
        """Return the arguments of an equal state, for copy and pickle."""
        return tuple(self), self.remembered
