"""The two directions of a layer: their outputs merged, and the gradients on each."""

from collections.abc import Sequence

import numpy as np

from glasscell.core.buffers import numbers_are_adjacent
from glasscell.core.types import Array


def merge_directions(merge: str, outputs: Sequence[Array]) -> Array:
    """Merge the outputs of the forward and the reverse direction, (T, P, B)."""
    y, reverse = outputs
    if merge == "concat":
        if numbers_are_adjacent(y):  # those of the result are, too
            return np.concatenate([y.transpose(0, 2, 1), reverse.transpose(0, 2, 1)], axis=2).transpose(0, 2, 1)
        return np.concatenate(outputs, axis=1)
    if merge == "multiply":
        return y * reverse
    return y + reverse if merge == "sum" else (y + reverse) / 2


def merge_directions_backward(merge: str, dy: Array, outputs: Sequence[Array]) -> list[Array]:
    """Return the gradient on the outputs of each direction. "multiply" needs these outputs."""
    if merge == "concat":
        P = dy.shape[1] // 2
        return [dy[:, :P], dy[:, P:]]
    if merge == "multiply":
        y, reverse = outputs
        return [dy * reverse, dy * y]
    return [dy, dy] if merge == "sum" else [dy / 2, dy / 2]
