"""What passes through an LSTM: its state, and the record of a forward pass."""

from __future__ import annotations  # the general layer is loaded only where it is used

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from glasscell.core.time_order import TimeOrder
from glasscell.core.types import Array
from glasscell.recurrent.execution import CheckpointedTape, final_state

if TYPE_CHECKING:
    from glasscell.core import lstm, variants
    from glasscell.recurrent.config import LSTMConfig
    from glasscell.recurrent.execution import AnyTape


class LSTMState(NamedTuple):
    """Hidden and cell state of every layer: ``h`` (L·D, B, P) and ``c`` (L·D, B, H), without B for a single sequence.

    P is H unless there is a projection. With two directions (D = 2) each layer has two entries, forward first, as in
    PyTorch. As a gradient it is dL/dh and dL/dc.
    """

    h: Array
    c: Array


def state_of_one(states: Sequence[tuple[Array, Array]]) -> LSTMState:
    """Return the state of a model with one LSTM, from those of all its LSTMs: what a stream of it gives."""
    return LSTMState(*states[0])


def states_of_one(state: LSTMState) -> list[LSTMState]:
    """Return the states of all LSTMs of a model with one, from its state."""
    return [state]


class DirectionTape(NamedTuple):
    """One layer in one direction.

    Attributes
    ----------
    tape : Tape
        Every gate and state, in the order in which the steps were processed.
    order : Order or None
        What that order is, where sequences have steps that are not their own; otherwise time's, or its reverse.
    input_mask : array (I, B), or 1
        What inputs were multiplied with.
    """

    tape: AnyTape
    order: TimeOrder | None
    input_mask: Array | float = 1.0

    @property
    def final(self) -> tuple[Array, Array]:
        """State after each sequence's last step: (P, B) and (H, B)."""
        return final_state(self.tape, None if self.order is None else self.order.lengths)


class LSTMTape(NamedTuple):
    """What :meth:`LSTM.forward` computed: every gate of every step, by name.

    Attributes
    ----------
    directions : tuple of DirectionTape
        From the input upwards; with two directions forward and reverse of each layer in turn.
    learned_initial_state : bool
        Whether the pass began from the learned initial state.
    options : LSTMConfig
        Of the LSTM that made it.
    dropout_masks : tuple of array
        Unless it is empty, what the outputs of each layer but the last were multiplied with: dropout.
    unbatched : bool
        Whether the input was one sequence without a batch axis.
    """

    directions: tuple[DirectionTape, ...]
    learned_initial_state: bool
    options: LSTMConfig
    dropout_masks: tuple[Array, ...] = ()
    unbatched: bool = False

    @property
    def layers(self) -> tuple[lstm.Tape | variants.Tape, ...]:
        """The tape of each pass: ``tape.layers[0].f`` are the forget gates of the first, (T, H, B)."""
        tapes = tuple(one.tape for one in self.directions if not isinstance(one.tape, CheckpointedTape))
        if len(tapes) < len(self.directions):
            raise ValueError("gates are not kept with recompute_every or memory_limit; run it again without")
        return tapes

    @property
    def final_state(self) -> LSTMState:
        """State after each sequence's last step, (L·D, P, B) and (L·D, H, B): columns."""
        h, c = zip(*(one.final for one in self.directions), strict=True)
        return LSTMState(np.stack(h), np.stack(c))
