"""The parameters of a model: one flat vector, and names for its parts."""

from collections.abc import Iterator, Mapping
from math import prod
from operator import attrgetter
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from glasscell.core.types import Array


class Parameters(Mapping[str, Array]):
    """Named arrays that are views of one vector.

    An optimiser step, a norm, a copy is then one operation on ``vector``, and every name is still there to look at.
    Gradients are a second ``Parameters`` of the same shapes. Writing into a view writes into the vector.

    A copy (``copy``, ``deepcopy``, ``pickle``) has its own vector, of which its own names are views; one of a model,
    made by :meth:`join`, is joined again from copies of its parts. What :meth:`subset` gave is copied on its own.

    Parameters
    ----------
    shapes : mapping of name to shape
        In the order in which they lie in the vector.
    dtype : dtype
    vector : array, optional
        To be used as it is, instead of a new one of zeros.

    Attributes
    ----------
    views : dict of str to array
        The arrays by name; another dict after :meth:`rebind`. Read-only.
    is_part : bool
        Whether they are a part of others (by :meth:`join` or :meth:`subset`): their vector is then a part of theirs.
    """

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        dtype: np.dtype[np.floating],
        vector: Array | None = None,
    ) -> None:
        size = sum(map(prod, shapes.values()))
        self._vector: Array = np.zeros(size, dtype) if vector is None else vector
        if self._vector.shape != (size,):
            raise ValueError(f"the vector has shape {self._vector.shape}; the names need ({size},)")
        self.views: dict[str, Array] = {}
        self._parts: dict[str, Self] = {}
        self.is_part = False
        start = 0
        for name, shape in shapes.items():
            stop = start + prod(shape)
            self.views[name] = self._vector[start:stop].reshape(shape)
            start = stop

    @classmethod
    def join(cls, parts: Mapping[str, Self], dtype: np.dtype[np.floating]) -> Self:
        """Join the parameters of layers into those of a model: one vector, which all of them are then views of.

        Parameters
        ----------
        parts : mapping of str to Parameters
            By the name of the layer, which with a dot stands before each of their names.
        dtype : dtype
            That of the parts.

        Raises
        ------
        ValueError
            If a part occurs more than once, is a part of others already, or has another dtype. Nothing is then joined.
        """
        seen: set[int] = set()
        for name, part in parts.items():
            if part.is_part or id(part) in seen:
                raise ValueError(f"the parameters {name!r} are a part of others already, and can be of one only")
            if part.vector.dtype != dtype:
                raise ValueError(f"the parameters {name!r} must be of {dtype}, and are of {part.vector.dtype}")
            seen.add(id(part))
        shapes = {f"{name}.{key}": shape for name, part in parts.items() for key, shape in part.shapes.items()}
        whole = cls(shapes, dtype)
        whole._parts = dict(parts)
        start = 0
        for part in parts.values():
            stop = start + part.vector.size
            part.rebind(whole.vector[start:stop])
            part.is_part = True
            start = stop
        return whole

    def _set_vector(self, values: ArrayLike) -> None:
        """Copy values into the vector."""
        if values is self._vector:  # assigned by `parameters.vector += step`
            return
        array = np.asarray(values)
        if array.dtype.kind not in "biuf":
            raise TypeError(f"vector must be an array of real numbers, got dtype {array.dtype}")
        if array.shape != self._vector.shape:
            raise ValueError(f"vector must have shape {self._vector.shape}, got {array.shape}")
        self._vector[:] = array

    vector: Array = property(attrgetter("_vector"), _set_vector)  # type: ignore[assignment] # it returns an array
    """All values in one array. Values that are assigned to it are copied into it."""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each name, in order."""
        return {name: view.shape for name, view in self.items()}

    def zeros_like(self) -> Self:
        """Parameters of the same names and shapes, all 0."""
        return type(self)(self.shapes, self.vector.dtype)

    def rebind(self, vector: Array) -> None:
        """Move into another vector of the same size, such as a part of a model's: its values are overwritten."""
        vector[:] = self.vector
        moved = type(self)(self.shapes, vector.dtype, vector)
        self._vector, self.views = moved._vector, moved.views  # noqa: SLF001 - its own class
        start = 0
        for part in self._parts.values():
            stop = start + part.vector.size
            part.rebind(vector[start:stop])
            start = stop

    def subset(self, prefix: str) -> Self:
        """Return the parameters whose names begin with `prefix`, which is removed; views of the same vector.

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
        part = type(self)(shapes, self.vector.dtype, self.vector[start:stop])
        part.is_part = True
        return part

    def check_finite(self) -> None:
        """Raise a ValueError that names the first parameter with NaN or infinite values, if there is one."""
        for name, view in self.items():
            bad = np.argwhere(~np.isfinite(view))
            if len(bad):
                where = tuple(map(int, bad[0]))
                raise ValueError(f"the weights {name!r} must be finite, and have {view[where]} at index {where}")

    __eq__ = object.__eq__  # a Mapping's would compare arrays for one truth
    __hash__ = object.__hash__

    def __getitem__(self, name: str) -> Array:
        try:
            return self.views[name]
        except KeyError:
            raise KeyError(f"there is no parameter {name!r}; there are {', '.join(self.views)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.views)

    def __len__(self) -> int:
        return len(self.views)

    def __copy__(self) -> Self:
        return type(self)(self.shapes, self.vector.dtype, self.vector.copy())

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what `pickle` and `deepcopy` make it from: its parts, as layers of the model share them, or vector."""
        if self._parts:
            return type(self).join, (self._parts, self.vector.dtype)
        return _restored, (type(self), self.shapes, self.vector)

    def __repr__(self) -> str:
        names = ", ".join(f"{name} {shape}" for name, shape in self.shapes.items())
        return f"Parameters({names}; {self.vector.size} {self.vector.dtype} values)"


def _restored(kind: type[Parameters], shapes: dict[str, tuple[int, ...]], vector: Array) -> Parameters:
    """Restore from a pickle, whose arrays may be read only: shared memory, or a mapped file."""
    return kind(shapes, vector.dtype, vector if vector.flags.writeable else vector.copy())
