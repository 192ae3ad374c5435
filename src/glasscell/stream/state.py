"""The state of a stream whose layers keep more than the states of LSTMs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Self

from glasscell.core.types import Array


class StreamState(tuple[Any, ...]):
    """The states of all LSTMs, as the model's ``forward`` takes them, and what other layers of a stream keep.

    Attributes
    ----------
    remembered : tuple of array
        Sums of poolings, inputs of earlier steps that windows still need, and outputs that are repeated.
    """

    remembered: tuple[Array, ...]

    def __new__(cls, states: Iterable[Any], remembered: Sequence[Array]) -> Self:
        """Put both together."""
        state = super().__new__(cls, states)
        state.remembered = tuple(remembered)
        return state

    def __getnewargs__(self) -> tuple[tuple[Any, ...], tuple[Array, ...]]:
        """Return the arguments that make an equal one, for copy and pickle."""
        return tuple(self), self.remembered
