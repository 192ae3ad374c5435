"""The protocol of a layer in a :class:`~glasscell.models.Sequential`.

A layer computes ``forward(x, mask, rng) -> (y, tape)``. Time is the last axis but one: batches ``(B, T, F)``, single
sequences ``(T, F)``; vectors ``(B, F)`` or ``(F,)`` where there is no time. A mask ``(B, T)`` or ``(T,)`` is True for
valid steps. ``backward(tape, dy)`` returns the gradient on x, of a layer with parameters together with theirs.
"""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glasscell.core.types import Array
from glasscell.layers.trainable import TrainableLayer
from glasscell.validation import finite_array, real_array

if TYPE_CHECKING:
    from glasscell.core.parameters import Parameters
    from glasscell.stream.building import Stage

Mask = NDArray[np.bool_]


class Layer(ABC):
    """A layer of a Sequential.

    Attributes
    ----------
    takes : {"any", "sequence", "vector"}
        What its inputs are.
    gives : {"same", "sequence", "vector"}
        What its outputs are; "same": a sequence for a sequence, a vector for a vector.
    """

    takes: ClassVar[Literal["any", "sequence", "vector"]] = "any"
    gives: ClassVar[Literal["same", "sequence", "vector"]] = "same"

    @property
    @abstractmethod
    def config(self) -> dict[str, Any]:
        """The arguments that make an equal layer, except dtype and seed: plain JSON."""

    @abstractmethod
    def forward(self, x: Array, mask: Mask | None = None, rng: np.random.Generator | None = None) -> tuple[Array, Any]:
        """Compute the outputs, and the tape that :meth:`backward` takes."""

    def output_features(self, features: int | None) -> int | None:
        """Return the number of features of the outputs; None: unknown.

        Raises
        ------
        ValueError
            If the layer does not take this number of features.
        """
        return features

    @abstractmethod
    def stream_stage(self, *, single: bool) -> Stage | None:
        """Return the stage of a stream; None if the layer changes nothing outside training.

        Parameters
        ----------
        single : bool
            Whether the stream has no batch axis.

        Raises
        ------
        ValueError
            If the layer needs a whole sequence.
        """

    def output_mask(self, x: Array, mask: Mask | None) -> Mask | None:
        """Return the mask of the outputs for inputs `x` with this mask; None: all steps are valid."""
        del x
        return mask if self.gives == "same" else None


class StatelessLayer(Layer):
    """A layer without parameters, a frozen dataclass: equal if its fields are."""

    @property
    def config(self) -> dict[str, Any]:
        """The fields."""
        return asdict(self)  # type: ignore[call-overload, no-any-return] # every subclass is a dataclass

    @abstractmethod
    def backward(self, tape: Any, dy: Array) -> Array:
        """Compute the gradient on x."""


class ParameterLayer(Layer, TrainableLayer):
    """A layer with parameters.

    Attributes
    ----------
    statistics : dict of str to array
        What training does not change.
    torch_names : mapping of str to str
        What PyTorch calls those parameters that have another name there.
    """

    torch_names: ClassVar[Mapping[str, str]] = {}
    statistics: dict[str, Array]
    input_size: int
    output_size: int

    @property
    @abstractmethod
    def config(self) -> dict[str, Any]:
        """The arguments that make an equal layer, except dtype and seed: plain JSON."""

    @abstractmethod
    def backward(self, tape: Any, dy: Array) -> tuple[Array, Parameters]:
        """Compute the gradients on x and on the parameters."""

    def __call__(self, x: ArrayLike, mask: Mask | None = None) -> Array:
        """The outputs of :meth:`forward`, without a tape."""
        y: Array = self.forward(x, mask)[0]  # type: ignore[arg-type] # it validates x
        return y

    def output_features(self, features: int | None) -> int:
        """Return the number of features of the outputs."""
        if features not in (None, self.input_size):
            raise ValueError(f"takes {self.input_size} features")
        return self.output_size

    def to_torch(self) -> dict[str, Array]:
        """Return a copy of parameters and statistics under PyTorch's names."""
        named = {self.torch_names.get(name, name): array.copy() for name, array in self.parameters.items()}
        return named | {name: array.copy() for name, array in self.statistics.items()}

    def load_torch(self, weights: Mapping[str, ArrayLike]) -> None:
        """Copy parameters and statistics from arrays under PyTorch's names.

        Raises
        ------
        TypeError, ValueError
            Other names or shapes, or values that are not finite. Nothing is copied then.
        """
        targets = {self.torch_names.get(name, name): view for name, view in self.parameters.items()} | self.statistics
        if targets.keys() != weights.keys():
            raise ValueError(f"weights must be {', '.join(sorted(targets))}, got {', '.join(sorted(weights))}")
        arrays = {name: finite_array(name, weights[name], self.dtype) for name in targets}
        for name, view in targets.items():
            if arrays[name].shape != view.shape:
                raise ValueError(f"{name} must have shape {view.shape}, got {arrays[name].shape}")
        self._check_torch(arrays)
        for name, view in targets.items():
            view[...] = arrays[name]

    def _check_torch(self, weights: Mapping[str, Array]) -> None:
        """Raise an error for values that cannot be computed with."""

    def _named_weights(self) -> dict[str, Array]:
        return self.to_torch()

    def _set_named_weights(self, weights: Mapping[str, Array]) -> None:
        from glasscell.weight_layouts import check_shapes  # noqa: PLC0415 - not paid for by `import glasscell`

        expected = {name: array.shape for name, array in self.to_torch().items()}
        check_shapes({name: array.shape for name, array in weights.items()}, expected)
        self.load_torch(weights)

    def _inputs(self, x: ArrayLike, axes: int = 1) -> Array:
        """Validate the number of axes and features, and convert to the layer's dtype."""
        array, _ = real_array("x", x, self.dtype)
        if not axes <= array.ndim <= 3 or array.shape[-1] != self.input_size:
            shapes = ", ".join(("(F,)", "(T, F)", "(B, T, F)")[axes - 1 :])
            raise ValueError(f"x must have shape {shapes} with F = {self.input_size}, got {array.shape}")
        return array


def check_mask(layer: object, mask: Mask | None, *, ignore: bool) -> None:
    """Raise an error if a mask excludes a step, unless it is to be ignored."""
    if mask is not None and not ignore and not mask.all():
        kind = type(layer).__name__
        raise ValueError(f"{kind} must get sequences without padding, got masked steps; ignore_mask=True takes them")
