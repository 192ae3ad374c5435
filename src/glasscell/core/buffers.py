"""Memory that is used again."""

from typing import Self

import numpy as np

from glasscell.core.typing import Array


class Buffers:
    """Named arrays, kept from one call to the next.

    Fresh memory is handed out a page at a time, at the first touch of each page: at small sizes that can take longer
    than the mathematics. A caller who runs the same pass again and again, such as a training loop, therefore makes
    one ``Buffers`` and gives it to every call. What an earlier call with the same buffers returned is then gone:
    that is why nobody else's calls share them, and why the default is fresh memory.
    """

    def __init__(self) -> None:
        self._arrays: dict[str, Array] = {}
        self._parts: dict[str, Self] = {}

    def take(self, name: str, shape: tuple[int, ...], dtype: np.dtype[np.floating]) -> Array:
        """The array of this name, its content arbitrary; a new one if there is none of this shape and dtype."""
        array = self._arrays.get(name)
        if array is None or array.shape != shape or array.dtype != dtype:
            array = self._arrays[name] = np.empty(shape, dtype)
        return array

    def part(self, name: str) -> Self:
        """Buffers of their own for one part of the computation."""
        if name not in self._parts:
            self._parts[name] = type(self)()
        return self._parts[name]
