"""An affine map at every step, as a layer."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from glasscell.core import linear
from glasscell.core.buffers import BufferPool
from glasscell.core.initializers import glorot_uniform
from glasscell.core.parameters import Parameters
from glasscell.core.types import Array, Seed
from glasscell.layers.base import LayerResult, Mask
from glasscell.layers.trainable import LayerSeed, TrainableLayer
from glasscell.validation import (
    as_generator,
    boolean,
    float_dtype,
    from_feature_major,
    positive_integer,
    to_feature_major,
)

if TYPE_CHECKING:
    from glasscell.stream.building import Stage


class Linear(TrainableLayer):
    """An affine map at every step: y_t = W x_t + b.

    Parameters
    ----------
    input_size : int
        I.
    output_size : int
        O.
    bias : bool
        Whether there is a b.
    dtype : float32 or float64
    seed : int or numpy.random.Generator, optional
        Weights start Glorot-uniform, the bias at 0. None draws nothing: all are 0, to be loaded. Default: 0, and in a
        :class:`glasscell.Sequential` drawn from the model's seed.
    parameters : Parameters, optional
        Where to keep the weights, of the names and shapes of :meth:`shapes`.

    Attributes
    ----------
    parameters : Parameters
        ``weight`` (O, I) and, unless ``bias=False``, ``bias`` (O,).
    """

    keeps_outputs: ClassVar = False

    def __init__(
        self,
        input_size: int,
        output_size: int,
        *,
        bias: bool = True,
        dtype: DTypeLike = np.float32,
        seed: LayerSeed = "default",
        parameters: Parameters | None = None,
    ) -> None:
        self.input_size = positive_integer("input_size", input_size)
        self.output_size = positive_integer("output_size", output_size)
        self.bias = boolean("bias", bias)
        self.dtype = float_dtype(dtype)
        shapes = self.shapes(input_size, output_size, bias=bias)
        self._parameters = Parameters(shapes, self.dtype) if parameters is None else parameters
        self._begin(seed)

    @staticmethod
    def shapes(input_size: int, output_size: int, *, bias: bool = True) -> dict[str, tuple[int, ...]]:
        """Return the names and shapes of the parameters."""
        return {"weight": (output_size, input_size)} | ({"bias": (output_size,)} if bias else {})

    @property
    def config(self) -> dict[str, Any]:
        """The arguments that make an equal layer, except dtype and seed."""
        return {"input_size": self.input_size, "output_size": self.output_size, "bias": self.bias}

    def _draw(self, parameters: Parameters, seed: Seed | None) -> None:
        parameters.vector[:] = 0
        if seed is not None:
            parameters["weight"][:] = glorot_uniform(as_generator(seed), (self.output_size, self.input_size))

    def __call__(self, x: ArrayLike) -> Array:
        """Return the outputs of :meth:`forward`, without a tape."""
        return self.forward(x)[0]

    def forward(self, x: ArrayLike) -> tuple[Array, Array]:
        """Map every step.

        Parameters
        ----------
        x : array (B, T, I) or (T, I)

        Returns
        -------
        outputs : array (B, T, O) or (T, O)
        tape : array
            For :meth:`backward`: the inputs, in its own copy.
        """
        columns, single = to_feature_major("x", x, self.input_size, "I", self.dtype)
        outputs = self.forward_feature_major(columns).outputs
        return from_feature_major(outputs, single=single), from_feature_major(columns, single=single)

    def backward(self, tape: Array, d_outputs: ArrayLike) -> tuple[Array, Parameters]:
        """Compute the gradients of a loss, from its gradient on the outputs.

        Parameters
        ----------
        tape : array
            From :meth:`forward`.
        d_outputs : array (B, T, O) or (T, O)

        Returns
        -------
        d_inputs : array (B, T, I) or (T, I)
        gradients : Parameters
        """
        x, single = to_feature_major("tape", tape, self.input_size, "I", self.dtype)
        T, _, B = x.shape
        dy, _ = to_feature_major("d_outputs", d_outputs, self.output_size, "O", self.dtype, expected=(B, T, single))
        gradients = self.parameters.zeros_like()
        return from_feature_major(self.backward_feature_major(x, dy, gradients), single=single), gradients

    def forward_feature_major(
        self,
        x: Array,
        mask: Mask | None = None,
        state: Any = None,
        rng: np.random.Generator | None = None,
        buffers: BufferPool | None = None,
        keep_tape: bool = True,
    ) -> LayerResult:
        """Map x (T, I, B) to (T, O, B), or (I, B) to (O, B). The tape is x (T, I, B), perhaps not a copy."""
        del state, rng
        parameters = self._parameters.views
        bias = parameters["bias"] if self.bias else np.zeros(self.output_size, self.dtype)
        steps = x if x.ndim > 2 else x[None]
        if linear.is_wide(self.output_size, steps.shape[2]):
            buffers = buffers or BufferPool()
            steps = linear.in_rows(steps, buffers)
        y = linear.forward(parameters["weight"], bias, steps, buffers)
        return LayerResult(y if x.ndim > 2 else y[0], mask, None, steps if keep_tape else None)

    def backward_feature_major(
        self,
        tape: Any,
        d_outputs: Array,
        gradients: Parameters | None = None,
        buffers: BufferPool | None = None,
        need_dx: bool = True,
    ) -> Array:
        """Compute the gradient on x, and overwrite `gradients`; see :meth:`Layer.backward_feature_major`."""
        del need_dx
        dy = d_outputs if d_outputs.ndim > 2 else d_outputs[None]
        out = None
        if gradients is not None:
            views = gradients.views
            out = views["weight"], views["bias"] if self.bias else np.empty(self.output_size, self.dtype)
        dx = linear.backward(self._parameters.views["weight"], tape, dy, buffers, out)[0]
        return dx if d_outputs.ndim > 2 else dx[0]

    def output_features(self, features: int | None) -> int:
        """Return the number of features of the outputs."""
        if features not in (None, self.input_size):
            raise ValueError(f"takes {self.input_size} features")
        return self.output_size

    def readout_weights(self) -> tuple[Array, Array]:
        """Return copies of weight and bias, 0 if there is none."""
        parameters = self._parameters.views
        bias = parameters["bias"].copy() if self.bias else np.zeros(self.output_size, self.dtype)
        return parameters["weight"].copy(), bias

    def __repr__(self) -> str:
        return f"Linear({self.input_size}, {self.output_size}, dtype={self.dtype})"

    def stream_stage(self, *, single: bool) -> Stage:
        """Return the stage of a stream."""
        from glasscell.stream.stages import LinearStage  # noqa: PLC0415 - only where it is used

        return LinearStage(self.parameters["weight"], self.parameters.get("bias"), single=single)
