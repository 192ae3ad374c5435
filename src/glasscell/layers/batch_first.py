"""Layers that are defined by ``forward`` and ``backward`` on batch-first arrays.

``forward(x, mask, rng) -> (y, tape)`` and ``backward(tape, d_outputs)``: time is the last axis but one, batches
``(B, T, F)``, single sequences ``(T, F)``; vectors ``(B, F)`` or ``(F,)`` do not have a time axis. A mask ``(B, T)`` or
``(T,)`` is True for valid steps. ``backward`` returns the gradient on x; layers with parameters return theirs too.
"""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from glasscell.core.layouts import first_axis_last, last_axis_first
from glasscell.core.types import Array
from glasscell.layers.base import Layer, LayerResult, Mask
from glasscell.layers.trainable import TrainableLayer
from glasscell.validation import finite_array, real_array

if TYPE_CHECKING:
    from glasscell.core.buffers import BufferPool
    from glasscell.core.parameters import Parameters


class BatchFirstLayer(Layer):
    """A layer that is defined by ``forward`` and ``backward`` on batch-first arrays."""

    @abstractmethod
    def forward(self, x: Array, mask: Mask | None = None, rng: np.random.Generator | None = None) -> tuple[Array, Any]:
        """Compute the outputs, and the tape that ``backward`` takes."""

    @abstractmethod
    def _backward_into(self, tape: Any, d_outputs: Array, gradients: Parameters | None) -> Array:
        """Return the gradient on x, batch first, and write the others into `gradients`."""

    def forward_feature_major(
        self,
        x: Array,
        mask: Mask | None = None,
        state: Any = None,
        rng: np.random.Generator | None = None,
        buffers: BufferPool | None = None,
        keep_tape: bool = True,
    ) -> LayerResult:
        """Compute the outputs by way of ``forward``; see :meth:`Layer.forward_feature_major`."""
        del state, buffers
        batch_first, batch_first_mask = last_axis_first(x), None if mask is None else mask.T
        outputs, tape = self.forward(batch_first, batch_first_mask, rng)
        output_mask = self.output_mask(batch_first, batch_first_mask)
        return LayerResult(
            x if outputs is batch_first else np.ascontiguousarray(first_axis_last(outputs)),
            None if output_mask is None else output_mask.T,
            None,
            tape if keep_tape else None,
        )

    def backward_feature_major(
        self,
        tape: Any,
        d_outputs: Array,
        gradients: Parameters | None = None,
        buffers: BufferPool | None = None,
        need_dx: bool = True,
    ) -> Array | None:
        """Compute the gradient on x by way of ``backward``; see :meth:`Layer.backward_feature_major`."""
        del buffers, need_dx
        dx = self._backward_into(tape, last_axis_first(d_outputs), gradients)
        return np.ascontiguousarray(first_axis_last(dx))


class StatelessLayer(BatchFirstLayer):
    """A layer without parameters, a frozen dataclass: equal if its fields are."""

    @property
    def config(self) -> dict[str, Any]:
        """The fields."""
        return asdict(self)  # type: ignore[call-overload, no-any-return] # every subclass is a dataclass

    @abstractmethod
    def backward(self, tape: Any, d_outputs: Array) -> Array:
        """Compute the gradient on x."""

    def _backward_into(self, tape: Any, d_outputs: Array, gradients: Parameters | None) -> Array:
        del gradients
        return self.backward(tape, d_outputs)


class ParameterLayer(BatchFirstLayer, TrainableLayer):
    """A layer with parameters.

    Attributes
    ----------
    statistics : dict of str to array
        Constants in training.
    torch_names : mapping of str to str
        PyTorch's names of parameters that have another name there.
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
    def backward(self, tape: Any, d_outputs: Array) -> tuple[Array, Parameters]:
        """Compute the gradients on x and on the parameters."""

    def _backward_into(self, tape: Any, d_outputs: Array, gradients: Parameters | None) -> Array:
        dx, layer_gradients = self.backward(tape, d_outputs)
        if gradients is not None:
            for name, gradient in layer_gradients.items():  # by name: some may be shared with another layer
                gradients[name][...] = gradient
        return dx

    def __call__(self, x: ArrayLike, mask: Mask | None = None) -> Array:
        """Return the outputs of :meth:`forward`, without a tape."""
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

    def named_weights(self) -> dict[str, Array]:
        """Return :meth:`to_torch`."""
        return self.to_torch()

    def load_named_weights(self, weights: Mapping[str, Array]) -> None:
        """Check the shapes of all weights, and copy them by :meth:`load_torch`."""
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
