"""State and tape of a forward pass through a stack of RNN or GRU layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from glasscell.core.time_order import TimeOrder
from glasscell.core.types import Array

if TYPE_CHECKING:
    from glasscell.core import gru_tape, rnn

    StepsTape: TypeAlias = "rnn.Tape | gru_tape.Tape"


class RNNState(NamedTuple):
    """Hidden state of every layer of an RNN or a GRU: ``h`` (L·D, B, H), without B for a single sequence.

    With two directions (D = 2) each layer has two entries, forward first, as in PyTorch. As a gradient it is dL/dh.
    """

    h: Array


class RNNDirectionTape(NamedTuple):
    """The tape of one layer in one direction.

    Attributes
    ----------
    tape : glasscell.core.rnn.Tape or glasscell.core.gru_tape.Tape
        Gates and states in processing order.
    order : TimeOrder or None
        The processing order, if sequences have invalid steps. None: that of time, or its reverse.
    reverse : bool
        Whether the layer runs from the last step to the first.
    """

    tape: StepsTape
    order: TimeOrder | None
    reverse: bool


class RNNTape(NamedTuple):
    """The tape of :meth:`RNN.forward` or :meth:`GRU.forward`: every gate and state of every step.

    Attributes
    ----------
    directions : tuple of RNNDirectionTape
        From the first layer to the last; with two directions forward and reverse of each layer in turn.
    kind : str
        Name of the layer's class.
    config : dict
        That of the layer.
    dropout_masks : tuple of array
        With dropout, the factors of the outputs of each layer but the last; otherwise empty.
    unbatched : bool
        Whether the input was one sequence without a batch axis.
    """

    directions: tuple[RNNDirectionTape, ...]
    kind: str
    config: dict[str, Any]
    dropout_masks: tuple[Array, ...] = ()
    unbatched: bool = False

    @property
    def layers(self) -> tuple[StepsTape, ...]:
        """Return the tape of each pass: ``tape.layers[0].h`` are the hidden states of the first, (T, H, B)."""
        return tuple(direction.tape for direction in self.directions)


RNNStepGradients: TypeAlias = "list[Callable[[], dict[str, Array]]]"
"""Filled by a backward pass: for each pass a function that returns its gradients at every step by name."""
