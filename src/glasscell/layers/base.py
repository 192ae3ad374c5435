"""The protocol of a layer in a :class:`~glasscell.models.Sequential`.

Every layer has ``forward_feature_major`` and ``backward_feature_major``, on arrays (T, F, B) in core's layout.
"""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glasscell.core.types import Array

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
    only_in_training : bool
        Whether the layer changes nothing outside training.
    keeps_outputs : bool
        Whether a backward pass may read the outputs.
    """

    takes: ClassVar[Literal["any", "sequence", "vector"]] = "any"
    gives: ClassVar[Literal["same", "sequence", "vector"]] = "same"
    position: ClassVar[Literal["any", "first", "last"]] = "any"
    inputs: ClassVar[Literal["features", "numbers", "ids"]] = "features"
    outputs: ClassVar[Literal["features", "numbers"]] = "features"
    stateful: ClassVar[bool] = False
    pointwise: ClassVar[bool] = False
    traceable: ClassVar[bool] = False
    only_in_training: ClassVar[bool] = False
    keeps_outputs: ClassVar[bool] = True

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
            False: the result is not used, and is arbitrary, or None.

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
