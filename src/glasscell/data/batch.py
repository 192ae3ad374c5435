"""What every task hands out."""

from typing import NamedTuple

from glasscell.core.types import Array


class Batch(NamedTuple):
    """Sequences side by side, and what is to come out of them.

    Attributes
    ----------
    inputs : array (B, T, I)
    targets : array (B, T, O)
    weights : array (B, T, 1)
        1 where an answer is asked for, 0 elsewhere: the loss and every score look at nothing else.
    """

    inputs: Array
    targets: Array
    weights: Array
