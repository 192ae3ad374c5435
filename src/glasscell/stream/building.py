"""The builder of a stream, the stages that it is built from, and the state that recurrent stages keep."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from glasscell.core.types import Array
from glasscell.stream.arena import Arena, Call, Mask
from glasscell.stream.input_checks import InputCheck, float_input_check


class RecurrentState(NamedTuple):
    """State of one recurrent layer, feature-major, and its initial value.

    Attributes
    ----------
    parts : tuple of array
        h and c of an LSTM, h of an RNN or a GRU.
    initial : tuple of array
    repeated : array, optional
        The outputs of its last valid step, if masked steps repeat them.
    kind : type
        The named tuple of the parts that users see.
    """

    parts: tuple[Array, ...]
    initial: tuple[Array, ...]
    repeated: Array | None
    kind: type[Any]

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the parts."""
        names: tuple[str, ...] = self.kind._fields
        return names

    @property
    def arrays(self) -> list[Array]:
        """Return all arrays that a step changes."""
        return [*self.parts, *([] if self.repeated is None else [self.repeated])]


class StreamBuilder:
    """The calls of one stream, collected from the input to the output.

    Attributes
    ----------
    memory : Arena
    input_buffer : array (I,) or (n, I)
        The first block, in the user's layout.
    x : array
        The block that the next stage reads.
    calls : list of callable
    recurrent : list of list of RecurrentState
        For each recurrent stage its layers.
    valid : array of bool, optional
        Which streams have a valid step now. Default: all.
    present : array of bool, optional
        Which streams have a step now, masked or not. Default: all. Windows with a stride skip steps.
    skip_reason : str
        Why streams have no step now, for an error.
    remembered : list of array
        State of other stages; initially 0.
    id_mask : array of bool, optional
        Where the input check writes which ids are not padding.
    error_prefix : str
        Begins the errors of the stage that is being built.
    raise_if_not_finite : callable, optional
        Called by a standard LSTM that is the first stage, if an input may not be finite.
    """

    def __init__(self, memory: Arena, width: int) -> None:
        self.memory = memory
        self.x = memory.next_block(width)
        self.input_buffer: Array = self.x if memory.batch is None else self.x.T
        self.calls: list[Call] = []
        self.recurrent: list[list[RecurrentState]] = []
        self.valid: Mask | None = None
        self.present: Mask | None = None
        self.skip_reason = self.error_prefix = ""
        self.remembered: list[Array] = []
        self.id_mask: Mask | None = None
        self.raise_if_not_finite: Callable[[], None] | None = None


class Stage(ABC):
    """One layer inside a stream: a read-only copy of its weights, shared by copies of the stream.

    The attributes about inputs are read from the first stage, that about outputs from the last one.

    Attributes
    ----------
    input_size : int, optional
        Number of input features. None: any.
    training_only : frozenset of str
        Entries of the layer's ``config`` that change nothing outside training.
    state_writes : int
        Number of calls that write state, or that can raise an error after an earlier stage has written its state. A
        stream with at most one needs no rollback.
    reads_ids : bool
        Whether the inputs are ids instead of real numbers.
    checks_finite : bool
        Whether the calls run ``StreamBuilder.raise_if_not_finite`` themselves if an input may not be finite.
    input_feature_axis, output_feature_axis : bool
        Whether inputs and outputs have an axis of features.
    """

    input_size: int | None = None
    training_only: frozenset[str] = frozenset()
    state_writes: int = 2
    reads_ids: bool = False
    checks_finite: bool = False
    input_feature_axis: bool = True
    output_feature_axis: bool = True

    def input_check(self, input_buffer: Array, batch: int | None, id_mask: Mask | None) -> InputCheck:
        """Return the function that checks an input and writes it to the input block."""
        del id_mask
        return float_input_check(input_buffer, batch, feature_axis=self.input_feature_axis)

    def block_rows(self, width: int) -> list[int]:
        """Return the rows of the blocks, at most, for inputs of this width; the last is the output."""
        return [width]

    @abstractmethod
    def build(self, builder: StreamBuilder) -> None:
        """Append the calls of one step to ``builder.calls``.

        The stage writes its outputs to ``builder.memory.next_block(rows)``, with the rows of :meth:`block_rows`, and
        sets ``builder.x`` to that block; a stage that computes nothing leaves ``builder.x`` as it is. It never writes
        into the ``builder.x`` that it reads, which may be a state, and uses no other array for its outputs: the next
        stage may read the memory that follows.
        """


def masked_update(valid: Mask, states: list[Array], calls: list[Call]) -> list[Call]:
    """Return the calls, followed by calls that restore the states of streams without a valid step."""
    previous, invalid = [np.empty_like(state) for state in states], np.empty_like(valid)
    pairs = list(zip(states, previous, strict=True))
    return [
        *(partial(np.copyto, saved, state) for state, saved in pairs),
        *calls,
        partial(np.logical_not, valid, invalid),
        *(partial(np.copyto, state, saved, where=invalid) for state, saved in pairs),
    ]
