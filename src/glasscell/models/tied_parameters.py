"""Parameters of a layer that shares arrays with another layer of the model: weight tying."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from glasscell.core.parameters import Parameters
from glasscell.core.types import Array
from glasscell.layers.kinds import Layer, has_parameters


class TiedParameters(Parameters):
    """Parameters of which some are arrays of other parameters.

    Parameters
    ----------
    separate : Parameters
        The layer's parameters that are not shared; ``vector`` is theirs.
    shared : mapping of str to (Parameters, str)
        For each shared name, the parameters that have the array, and its name there.
    names : iterable of str
        All names of the layer, in its order.
    """

    def __init__(
        self, separate: Parameters, shared: Mapping[str, tuple[Parameters, str]], names: Iterable[str]
    ) -> None:
        self._separate, self._shared, self._names = separate, dict(shared), tuple(names)

    @property
    def is_part(self) -> bool:  # type: ignore[override] # that of the others
        """Whether they belong to a model; not those of a copy of the layer alone."""
        return self._separate.is_part

    def is_shared(self, name: str) -> bool:
        """Return whether a parameter is an array of other parameters."""
        return name in self._shared

    @property
    def views(self) -> dict[str, Array]:  # type: ignore[override] # also those of others
        """The arrays by name."""
        return {name: self[name] for name in self._names}

    @property
    def vector(self) -> Array:  # type: ignore[override] # assigned values would not reach shared arrays
        """The values that are not shared, in one array."""
        return self._separate.vector

    def zeros_like(self) -> Parameters:  # type: ignore[override] # zeros share nothing
        """Return parameters of the same names and shapes, all 0 and not shared."""
        dtype: np.dtype[np.floating] = self.vector.dtype
        return Parameters(self.shapes, dtype)

    def __getitem__(self, name: str) -> Array:
        if name in self._shared:
            parameters, source = self._shared[name]
            return parameters[source]
        return self._separate[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __copy__(self) -> Parameters:  # type: ignore[override]
        copied = self.zeros_like()
        for name, view in self.items():
            copied[name][...] = view
        return copied

    def __reduce__(self) -> tuple[Any, ...]:
        """Return the arguments that make an equal one, for copies together with the other parameters."""
        return type(self), (self._separate, self._shared, self._names)


def separate_parameters(parameters: Parameters, shared: Mapping[str, object]) -> Parameters:
    """Return a copy of the parameters that are not shared."""
    shapes = {name: shape for name, shape in parameters.shapes.items() if name not in shared}
    separate = Parameters(shapes, parameters.vector.dtype)
    for name, view in separate.items():
        view[...] = parameters[name]
    return separate


GradientSubsets: TypeAlias = "tuple[list[Parameters | None], list[tuple[Array, Array]]]"
"""The gradients that each layer's backward pass overwrites, None for layers without parameters; and pairs of a
gradient on a shared array and one that is to be added to it."""


def gradient_subsets(
    gradients: Parameters, layers: Sequence[Layer], names: Sequence[str], ties: Mapping[str, str]
) -> GradientSubsets:
    """Return the gradients of each layer. Each layer with ties has memory for its share of the tied gradients."""
    subsets: list[Parameters | None] = []
    tied: list[tuple[Array, Array]] = []
    for name, layer in zip(names, layers, strict=True):
        if not has_parameters(layer):
            subsets.append(None)
            continue
        subset = gradients.subset(f"{name}.")
        if isinstance(layer.parameters, TiedParameters):
            shapes = {key: shape for key, shape in layer.parameters.shapes.items() if f"{name}.{key}" in ties}
            memory = Parameters(shapes, subset.vector.dtype)
            tied += [(gradients[ties[f"{name}.{key}"]], memory[key]) for key in shapes]
            shared = {key: (memory, key) for key in shapes}
            subset = TiedParameters(subset, shared, layer.parameters)
        subsets.append(subset)
    return subsets, tied
