"""What the parts of a stream have in common: how one is put together, and what it keeps from step to step."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np

from glasscell.core.types import Array
from glasscell.stream.arena import Arena, Call, Mask


class RecurrentState(NamedTuple):
    """What one LSTM layer keeps from step to step, in columns, and what it starts from."""

    h: Array
    c: Array
    start: tuple[Array, Array]
    repeated: Array | None  # the outputs of its last own step, where a step that is none repeats them

    @property
    def arrays(self) -> list[Array]:
        """All that changes."""
        return [self.h, self.c, *([] if self.repeated is None else [self.repeated])]


class StreamBuilder:
    """The calls of one stream, as they are put together from the input upwards.

    Attributes
    ----------
    memory : Memory
    x : array
        The block that the next layer reads.
    calls : list of callable
    kept : list of list of Kept
        For each LSTM its layers.
    own : array of bool, optional
        Which streams have a step now that is not masked. Default: all.
    present : array of bool, optional
        Which streams have a step now, masked or not. Default: all. Windows with a stride leave steps out.
    fewer : str, optional
        Why streams have no step now, for an error.
    remembered : list of array
        What other layers keep from step to step; 0 at the start.
    of_symbols : array of bool, optional
        Where the entrance writes which symbols are none.
    guard : callable, optional
        What a plain LSTM that comes first calls where an input may not be finite.
    """

    def __init__(self, memory: Arena, width: int) -> None:
        self.memory = memory
        self.x = memory.block(width)
        self.calls: list[Call] = []
        self.kept: list[list[RecurrentState]] = []
        self.own: Mask | None = None
        self.present: Mask | None = None
        self.fewer = ""
        self.remembered: list[Array] = []
        self.of_symbols: Mask | None = None
        self.guard: Callable[[], None] | None = None


class Stage(Protocol):
    """A layer of a stream."""

    def blocks(self, width: int) -> list[int]:
        """Rows of the blocks, at the most, that it takes for inputs of this width; the last is its output."""

    def build(self, building: StreamBuilder) -> None:
        """Add its calls."""


def only_where(own: Mask, states: list[Array], calls: list[Call]) -> list[Call]:
    """The calls, and then the old states again where there is no step."""
    old, others = [np.empty_like(state) for state in states], np.empty_like(own)
    pairs = list(zip(states, old, strict=True))
    return [
        *(partial(np.copyto, saved, state) for state, saved in pairs),
        *calls,
        partial(np.logical_not, own, others),
        *(partial(np.copyto, state, saved, where=others) for state, saved in pairs),
    ]
