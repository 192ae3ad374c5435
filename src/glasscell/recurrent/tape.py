"""State and tape of an LSTM forward pass."""

from __future__ import annotations  # the general layer is loaded only where it is used

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from glasscell.core.cached import cached_property
from glasscell.core.time_order import TimeOrder
from glasscell.core.types import Array
from glasscell.recurrent.checkpointing import NO_GATES, CheckpointedTape
from glasscell.recurrent.execution import final_state

if TYPE_CHECKING:
    from glasscell.core import lstm_tape, variants
    from glasscell.recurrent.config import LSTMConfig
    from glasscell.recurrent.execution import AnyTape


class LSTMState(NamedTuple):
    """Hidden and cell state of every layer: ``h`` (L·D, B, P) and ``c`` (L·D, B, H), without B for a single sequence.

    P is H unless there is a projection. With two directions (D = 2) each layer has two entries, forward first, as in
    PyTorch. As a gradient it is dL/dh and dL/dc.
    """

    h: Array
    c: Array


class DirectionTape(NamedTuple):
    """The tape of one layer in one direction.

    Attributes
    ----------
    tape : Tape
        Every gate and state, in processing order.
    order : TimeOrder or None
        The processing order, if sequences have invalid steps. None: that of time, or its reverse.
    input_mask : array (I, B), or 1
        Factors of the inputs: dropout.
    """

    tape: AnyTape
    order: TimeOrder | None
    input_mask: Array | float = 1.0

    @property
    def final(self) -> tuple[Array, Array]:
        """State after each sequence's last step: (P, B) and (H, B)."""
        return final_state(self.tape, None if self.order is None else self.order.lengths)


class LSTMTape(NamedTuple):
    """The tape of :meth:`LSTM.forward`: every gate of every step, by name.

    Attributes
    ----------
    directions : tuple of DirectionTape
        From the first layer to the last; with two directions forward and reverse of each layer in turn.
    learned_initial_state : bool
        Whether the pass began from the learned initial state.
    options : LSTMConfig
        Of the LSTM that made it.
    dropout_masks : tuple of array
        With dropout, the factors of the outputs of each layer but the last; otherwise empty.
    unbatched : bool
        Whether the input was one sequence without a batch axis.
    """

    directions: tuple[DirectionTape, ...]
    learned_initial_state: bool
    options: LSTMConfig
    dropout_masks: tuple[Array, ...] = ()
    unbatched: bool = False

    @property
    def layers(self) -> tuple[lstm_tape.Tape | variants.Tape, ...]:
        """The tape of each direction: ``tape.layers[0].f`` are the forget gates of the first, (T, H, B)."""
        tapes = tuple(one.tape for one in self.directions if not isinstance(one.tape, CheckpointedTape))
        if len(tapes) < len(self.directions):
            raise ValueError(NO_GATES)
        return tapes

    @property
    def final_state(self) -> LSTMState:
        """State after each sequence's last step, (L·D, P, B) and (L·D, H, B): a copy."""
        h, c = zip(*(direction.final for direction in self.directions), strict=True)
        return LSTMState(np.stack(h), np.stack(c))


@dataclass(eq=False)
class FinalState:
    """The final state of a pass, computed at the first use: h and c have L·D arrays (P, B) and (H, B).

    It must be used before the next pass with the same buffers, which may begin with it.
    """

    tape: LSTMTape

    @cached_property
    def _state(self) -> LSTMState:
        h: Any
        c: Any
        h, c = zip(*(direction.final for direction in self.tape.directions), strict=True)
        return LSTMState(h, c)

    @property
    def h(self) -> Array:
        """Hidden state."""
        return self._state.h

    @property
    def c(self) -> Array:
        """Cell state."""
        return self._state.c

    def __iter__(self) -> Iterator[Array]:
        return iter(self._state)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy as an :class:`LSTMState`."""
        return LSTMState, tuple(self._state)
