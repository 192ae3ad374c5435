"""The arrays that a stream keeps from step to step, and their conversion from and to user arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from glasscell.core.types import Array
from glasscell.stream.building import RecurrentState
from glasscell.validation import finite_array

StatePair = tuple[Array, Array]


class StreamMemory:
    """State arrays of a stream, feature-major.

    Parameters
    ----------
    recurrent : list of list of RecurrentState
        For each LSTM its layers.
    remembered : list of array
        State of other stages.
    batch : int, optional
    dtype : float32 or float64
    """

    def __init__(
        self,
        recurrent: list[list[RecurrentState]],
        remembered: list[Array],
        batch: int | None,
        dtype: np.dtype[np.floating],
    ) -> None:
        self.recurrent, self.remembered, self.batch, self.dtype = recurrent, remembered, batch, dtype

    @property
    def layers(self) -> list[RecurrentState]:
        """Return the states of all LSTM layers."""
        return [state for layers in self.recurrent for state in layers]

    @property
    def arrays(self) -> list[Array]:
        """Return all arrays that steps change and later steps read."""
        return [array for state in self.layers for array in state.arrays] + self.remembered

    @property
    def other_arrays(self) -> list[Array]:
        """Return the arrays that are not states of LSTMs."""
        return self.remembered + [state.repeated for state in self.layers if state.repeated is not None]

    def copy_from(self, arrays: Sequence[Array]) -> None:
        """Copy the values of another stream's :attr:`arrays`."""
        for array, value in zip(self.arrays, arrays, strict=True):
            array[...] = value

    def set_states(self, states: Sequence[StatePair]) -> None:
        """Copy states of all LSTMs, (L, rows) or (L, rows, n). Other arrays become 0, as in ``forward``."""
        for layers, (h, c) in zip(self.recurrent, states, strict=True):
            for state, layer_h, layer_c in zip(layers, h, c, strict=True):
                state.h[...], state.c[...] = layer_h, layer_c
        for array in self.other_arrays:
            array[...] = 0

    def to_user(self, array: Array) -> Array:
        """Copy (rows,), or (rows, n) to (n, rows)."""
        return array.copy() if self.batch is None else array.T.copy()

    def stack(self, arrays: Sequence[Array]) -> Array:
        """Copy the arrays of L layers to (L, rows) or (L, n, rows)."""
        stacked: Array = np.stack(arrays)
        return stacked if self.batch is None else stacked.swapaxes(1, 2).copy()

    def to_user_state(self, layers: Sequence[RecurrentState]) -> StatePair:
        """Return copies of h and c of one LSTM, (L, rows) or (L, n, rows)."""
        return self.stack([state.h for state in layers]), self.stack([state.c for state in layers])

    def from_user(self, name: str, value: ArrayLike, like: Array) -> Array:
        """Validate a user array for an array of this memory, and return it feature-major."""
        array = finite_array(name, value, self.dtype)
        shape = self.to_user(like).shape
        if array.shape != shape:
            raise ValueError(f"{name} has shape {array.shape}; expected {shape}")
        return array if self.batch is None else array.T

    def from_user_states(self, pairs: Sequence[StatePair], name: str) -> list[StatePair]:
        """Validate the states (h, c) of all LSTMs, and return them feature-major, (L, rows) or (L, rows, n)."""
        states: list[StatePair] = []
        for k, (pair, layers) in enumerate(zip(pairs, self.recurrent, strict=True)):
            label = name if len(pairs) == 1 else f"{name}[{k}]"
            try:
                h, c = pair
            except (TypeError, ValueError):
                raise TypeError(f"{label} must be a pair (h, c), and is a {type(pair).__name__}") from None
            h, c = (self.from_user_layers(f"{label}.{key}", v, layers, key) for key, v in (("h", h), ("c", c)))
            states.append((h, c))
        return states

    def from_user_layers(self, name: str, value: ArrayLike, layers: Sequence[RecurrentState], like: str) -> Array:
        """Validate one array for all layers of an LSTM, and return it feature-major."""
        rows, n = len(getattr(layers[0], like)), self.batch
        array = finite_array(name, value, self.dtype)
        shape = (len(layers), rows) if n is None else (len(layers), n, rows)
        if array.shape != shape:
            letter = "P" if like == "h" and len(layers[0].h) != len(layers[0].c) else "H"
            letters = f"(L, {letter})" if n is None else f"(L, n, {letter})"
            raise ValueError(f"{name} has shape {array.shape}; expected {letters} = {shape}")
        return array if n is None else array.swapaxes(1, 2)
