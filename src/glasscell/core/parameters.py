"""The parameters of a model: one flat vector, and names for its parts. And where their first values come from."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from collections.abc import Iterator, Mapping
from math import prod, sqrt
from typing import Self

import numpy as np

from glasscell.core.typing import Array


class Parameters(Mapping[str, Array]):
    """Named arrays that are views of one vector.

    An optimiser step, a norm, a copy is then one operation on ``vector``, and every name is still there to look at.
    Gradients are a second ``Parameters`` of the same shapes. Writing into a view writes into the vector.

    Parameters
    ----------
    shapes : mapping of name to shape
        In the order in which they lie in the vector.
    dtype : dtype
    vector : array, optional
        To be used as it is, instead of a new one of zeros.
    """

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        dtype: np.dtype[np.floating],
        vector: Array | None = None,
    ) -> None:
        size = sum(map(prod, shapes.values()))
        self.vector: Array = np.zeros(size, dtype) if vector is None else vector
        if self.vector.shape != (size,):
            raise ValueError(f"the vector has shape {self.vector.shape}; the names need ({size},)")
        self._views: dict[str, Array] = {}
        start = 0
        for name, shape in shapes.items():
            stop = start + prod(shape)
            self._views[name] = self.vector[start:stop].reshape(shape)
            start = stop

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each name, in order."""
        return {name: view.shape for name, view in self.items()}

    def zeros_like(self) -> Self:
        """Parameters of the same names and shapes, all 0."""
        return type(self)(self.shapes, self.vector.dtype)

    def move_into(self, vector: Array) -> None:
        """Live in another vector of the same size, such as a part of a model's: its values are overwritten."""
        vector[:] = self.vector
        moved = type(self)(self.shapes, vector.dtype, vector)
        self.vector, self._views = moved.vector, moved._views  # noqa: SLF001 - its own class

    def part(self, prefix: str) -> Self:
        """The parameters whose names begin with `prefix`, without it; still views of the same vector.

        They must lie side by side, as those of one layer do.
        """
        names = [name for name in self if name.startswith(prefix)]
        shapes = {name.removeprefix(prefix): self[name].shape for name in names}
        order = list(self)
        first = order.index(names[0]) if names else 0
        if order[first : first + len(names)] != names:
            raise ValueError(f"the parameters {prefix!r} do not lie side by side")
        start = sum(self[name].size for name in order[:first])
        stop = start + sum(self[name].size for name in names)
        return type(self)(shapes, self.vector.dtype, self.vector[start:stop])

    __eq__ = object.__eq__  # a Mapping's would compare arrays for one truth
    __hash__ = object.__hash__

    def __getitem__(self, name: str) -> Array:
        return self._views[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    def __repr__(self) -> str:
        names = ", ".join(f"{name} {shape}" for name, shape in self.shapes.items())
        return f"Parameters({names}; {self.vector.size} {self.vector.dtype} values)"


def uniform(rng: np.random.Generator, shape: tuple[int, ...], bound: float) -> Array:
    """Uniform in [-bound, bound]. With bound 1/√H, what PyTorch's nn.LSTM starts from."""
    return rng.uniform(-bound, bound, shape)


def glorot_uniform(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    """Uniform with variance 2 / (rows + columns): Glorot & Bengio (2010), equation 16."""
    return uniform(rng, shape, sqrt(6 / max(1, sum(shape))))


def orthogonal(rng: np.random.Generator, rows: int, columns: int | None = None) -> Array:
    """A random matrix whose shorter side is orthonormal, evenly distributed: Saxe et al. (2014), Mezzadri (2007).

    With as many columns as rows, or no number of columns given, a rotation or reflection.
    """
    columns = rows if columns is None else columns
    q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
    q = q * np.copysign(1, np.diag(r))
    return q if rows >= columns else q.T
