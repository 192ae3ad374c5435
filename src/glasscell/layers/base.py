"""The protocol of a layer in a :class:`~glasscell.models.Sequential`.

Every layer has ``forward_feature_major`` and ``backward_feature_major``, on arrays (T, F, B) in core's layout.
Most are a :class:`BatchFirstLayer`, defined by ``forward(x, mask, rng) -> (y, tape)`` and ``backward(tape, dy)``: time
is the last axis but one, batches ``(B, T, F)``, single sequences ``(T, F)``; vectors ``(B, F)`` or ``(F,)`` do not have
a time axis. A mask ``(B, T)`` or ``(T,)`` is True for valid steps. ``backward`` returns the gradient on x; layers with
parameters return theirs too.
"""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glasscell.core.types import Array
from glasscell.layers.trainable import TrainableLayer
from glasscell.validation import finite_array, real_array

if TYPE_CHECKING:
    from glasscell.core.buffers import BufferPool
    from glasscell.core.parameters import Parameters
    from glasscell.stream.building import Stage

Mask = NDArray[np.bool_]


class LayerResult(NamedTuple):
    """The result of :meth:`Layer.forward_feature_major`.

    Attributes
    ----------
    outputs : array (T, F, B), or (F, B) without a time axis
    mask : array (T, B) of bool, or None
        The valid steps of the outputs. None: all.
    state : object
        The final state of a layer that carries one between calls; None for all others.
    tape : object
        The argument of :meth:`Layer.backward_feature_major`; None if ``keep_tape`` is False.
    """

    outputs: Array
    mask: Mask | None
    state: Any
    tape: Any


class Features(NamedTuple):
    """The origin of the features between two layers: the outputs of a recurrent layer, each feature at its place.

    Attributes
    ----------
    directions : {"forward", "reverse", "both"}
        The direction in which that layer processes the steps.
    merge : str
        How its two directions become one output; "concat": side by side, forward first.
    processing_order : bool
        Whether the outputs of a layer in reverse direction begin with the last step.
    swapped : bool
        Whether the halves of the features are exchanged.
    """

    directions: Literal["forward", "reverse", "both"] = "forward"
    merge: str = "concat"
    processing_order: bool = False
    swapped: bool = False


class Layer(ABC):
    """A layer of a Sequential.

    Attributes
    ----------
    takes : {"any", "sequence", "vector"}
        Whether inputs have a time axis.
    gives : {"same", "sequence", "vector"}
        Whether outputs have one; "same": a sequence for a sequence, a vector for a vector.
    position : {"any", "first", "last"}
        Where in a model the layer may be.
    inputs : {"features", "numbers", "ids"}
        Whether inputs have an axis of features, or are numbers or integers (B, T).
    outputs : {"features", "numbers"}
        Whether outputs have an axis of features, or are numbers (B, T) or (B,).
    stateful : bool
        Whether the layer carries a state between calls: a :class:`~glasscell.layers.recurrent_layer.RecurrentLayer`.
    pointwise : bool
        Whether every output feature is computed at the place of its input feature.
    runs_backward : bool
        Whether an output depends on later steps, so that a state cannot be carried between windows of a sequence.
    traceable : bool
        Whether a trace shows the layer: it has ``layer_traces``.
    """

    takes: ClassVar[Literal["any", "sequence", "vector"]] = "any"
    gives: ClassVar[Literal["same", "sequence", "vector"]] = "same"
    position: ClassVar[Literal["any", "first", "last"]] = "any"
    inputs: ClassVar[Literal["features", "numbers", "ids"]] = "features"
    outputs: ClassVar[Literal["features", "numbers"]] = "features"
    stateful: ClassVar[bool] = False
    pointwise: ClassVar[bool] = False
    traceable: ClassVar[bool] = False

    @property
    def runs_backward(self) -> bool:
        """Return False; overridden by layers whose outputs depend on later steps."""
        return False

    @property
    @abstractmethod
    def config(self) -> dict[str, Any]:
        """The arguments that make an equal layer, except dtype and seed: plain JSON."""

    @abstractmethod
    def forward_feature_major(
        self,
        x: Array,
        mask: Mask | None = None,
        state: Any = None,
        rng: np.random.Generator | None = None,
        buffers: BufferPool | None = None,
        keep_tape: bool = True,
    ) -> LayerResult:
        """Compute the outputs in core's layout, without validation.

        Parameters
        ----------
        x : array (T, F, B), or (F, B) without a time axis; (T, B) for layers whose inputs are numbers or ids
        mask : array (T, B) of bool, optional
            The valid steps. Default: all.
        state : object, optional
            The initial state of a stateful layer, as in ``LayerResult.state``. Default: its own, or zeros.
        rng : numpy.random.Generator, optional
            Turns on dropout and noise. Default: none is applied.
        buffers : BufferPool, optional
            Results are valid until the next call with the same buffers. Default: new arrays.
        keep_tape : bool
            False: no tape, which is faster for some layers.
        """

    @abstractmethod
    def backward_feature_major(
        self,
        tape: Any,
        d_outputs: Array,
        gradients: Parameters | None = None,
        buffers: BufferPool | None = None,
        need_dx: bool = True,
    ) -> Array | None:
        """Compute the gradient on x in core's layout.

        Parameters
        ----------
        tape : object
            From :meth:`forward_feature_major`.
        d_outputs : array
            Gradient on the outputs, of their shape.
        gradients : Parameters, optional
            Overwritten with the gradients on the layer's parameters. Layers without parameters ignore it.
        buffers : BufferPool, optional
        need_dx : bool
            False: the result is not used, and may be None or of any values.

        Returns
        -------
        array of the shape of x, or None
            None for layers of ids.
        """

    @property
    def input_features(self) -> int | None:
        """Number of features that inputs must have; None: any number."""
        size = getattr(self, "input_size", getattr(self, "size", None))
        return None if size is None else int(size)

    @property
    def keeps_feature_count(self) -> bool:
        """Whether outputs have as many features as inputs, if :attr:`input_features` is None."""
        return True

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

    def readout_weights(self) -> tuple[Array, Array] | None:
        """Return (weight (O, I), bias (O,)) if the layer is an affine map at every step, for traces; else None."""
        return None

    def output_origin(self, origin: Features | None) -> Features | None:
        """Return the origin of the output features from that of the input features; None: no recurrent layer."""
        return origin if self.pointwise else None

    def behind(self, origin: Features | None) -> Layer:
        """Return the layer as it is in a model in which its inputs have this origin.

        Raises
        ------
        ValueError
            If it cannot follow.
        """
        del origin
        return self


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
        batch_first, batch_first_mask = np.moveaxis(x, -1, 0), None if mask is None else mask.T
        outputs, tape = self.forward(batch_first, batch_first_mask, rng)
        output_mask = self.output_mask(batch_first, batch_first_mask)
        return LayerResult(
            np.ascontiguousarray(np.moveaxis(outputs, 0, -1)),
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
        dx = self._backward_into(tape, np.moveaxis(d_outputs, -1, 0), gradients)
        return np.ascontiguousarray(np.moveaxis(dx, 0, -1))


class StatelessLayer(BatchFirstLayer):
    """A layer without parameters, a frozen dataclass: equal if its fields are."""

    @property
    def config(self) -> dict[str, Any]:
        """The fields."""
        return asdict(self)  # type: ignore[call-overload, no-any-return] # every subclass is a dataclass

    @abstractmethod
    def backward(self, tape: Any, dy: Array) -> Array:
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
    def backward(self, tape: Any, dy: Array) -> tuple[Array, Parameters]:
        """Compute the gradients on x and on the parameters."""

    def _backward_into(self, tape: Any, d_outputs: Array, gradients: Parameters | None) -> Array:
        dx, layer_gradients = self.backward(tape, d_outputs)
        if gradients is not None:
            gradients.vector[:] = layer_gradients.vector
        return dx

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
