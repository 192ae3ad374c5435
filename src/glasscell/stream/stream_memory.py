"""The arrays that a stream keeps from step to step, and their conversion from and to user arrays."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from glasscell.core.types import Array
from glasscell.stream.building import RecurrentState
from glasscell.validation import finite_array

StateParts = tuple[Array, ...]


class StreamMemory:
    """State arrays of a stream, feature-major.

    Parameters
    ----------
    recurrent : list of list of RecurrentState
        For each recurrent stage its layers.
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
        """Return the states of all recurrent layers."""
        return [state for layers in self.recurrent for state in layers]

    @property
    def arrays(self) -> list[Array]:
        """Return all arrays that steps change and later steps read."""
        return [array for state in self.layers for array in state.arrays] + self.remembered

    @property
    def other_arrays(self) -> list[Array]:
        """Return the arrays that are not states of recurrent layers."""
        return self.remembered + [state.repeated for state in self.layers if state.repeated is not None]

    def copy_from(self, arrays: Sequence[Array]) -> None:
        """Copy the values of another stream's :attr:`arrays`."""
        for array, value in zip(self.arrays, arrays, strict=True):
            array[...] = value

    def set_states(self, states: Sequence[StateParts]) -> None:
        """Copy states of all recurrent layers, (L, rows) or (L, rows, n). Other arrays become 0, as in ``forward``."""
        for layers, parts in zip(self.recurrent, states, strict=True):
            for state, *values in zip(layers, *parts, strict=True):
                for part, value in zip(state.parts, values, strict=True):
                    part[...] = value
        for array in self.other_arrays:
            array[...] = 0

    def to_user(self, array: Array) -> Array:
        """Copy (rows,), or (rows, n) to (n, rows)."""
        return array.copy() if self.batch is None else array.T.copy()

    def stack(self, arrays: Sequence[Array]) -> Array:
        """Copy the arrays of L layers to (L, rows) or (L, n, rows)."""
        stacked: Array = np.stack(arrays)
        return stacked if self.batch is None else stacked.swapaxes(1, 2).copy()

    def to_user_state(self, layers: Sequence[RecurrentState]) -> Any:
        """Return a copy of the state of one recurrent layer, parts (L, rows) or (L, n, rows)."""
        parts = zip(*(state.parts for state in layers), strict=True)
        return layers[0].kind(*map(self.stack, parts))

    def from_user(self, name: str, value: ArrayLike, like: Array) -> Array:
        """Validate a user array for an array of this memory, and return it feature-major."""
        array = finite_array(name, value, self.dtype)
        shape = self.to_user(like).shape
        if array.shape != shape:
            raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
        return array if self.batch is None else array.T

    def from_user_states(self, entries: Sequence[StateParts], name: str) -> list[StateParts]:
        """Validate the states of all recurrent layers; return them feature-major, parts (L, rows) or (L, rows, n)."""
        states: list[StateParts] = []
        for k, (state, layers) in enumerate(zip(entries, self.recurrent, strict=True)):
            label, names = name if len(entries) == 1 else f"{name}[{k}]", layers[0].names
            try:
                values = tuple(state)
            except TypeError:
                values = ()
            if len(values) != len(names):
                expected = "a pair (h, c)" if len(names) == 2 else f"an {layers[0].kind.__name__} (h,)"
                raise TypeError(f"{label} must be {expected}, got a {type(state).__name__}")
            labels = [f"{label}.{part}" for part in names]
            states.append(tuple(map(self.from_user_layers, labels, values, repeat(layers), range(len(names)))))
        return states

    def from_user_layers(self, name: str, value: ArrayLike, layers: Sequence[RecurrentState], part: int) -> Array:
        """Validate one part of the state for all layers of a recurrent stage, and return it feature-major."""
        sizes, n = [len(array) for array in layers[0].parts], self.batch
        rows = sizes[part]
        array = finite_array(name, value, self.dtype)
        shape = (len(layers), rows) if n is None else (len(layers), n, rows)
        if array.shape != shape:
            letter = "P" if part == 0 and sizes[0] != sizes[-1] else "H"
            letters = f"(L, {letter})" if n is None else f"(L, n, {letter})"
            raise ValueError(f"{name} must have shape {letters} = {shape}, got {array.shape}")
        return array if n is None else array.swapaxes(1, 2)
