"""Convolution over time."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from math import sqrt
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from glasscell.core.initializers import uniform
from glasscell.core.parameters import Parameters
from glasscell.core.types import Array, Seed
from glasscell.core.windows import Padding, Windows, check_padding
from glasscell.layers.base import Mask
from glasscell.layers.batch_first import ParameterLayer, check_mask
from glasscell.layers.trainable import LayerSeed
from glasscell.validation import as_generator, boolean, float_dtype, positive_integer

if TYPE_CHECKING:
    from glasscell.stream.building import Stage


class Conv1D(ParameterLayer):
    """Convolve over time: y_t = b + Σ_k W_k x_{t · stride + k · dilation − padding}.

    As in PyTorch and Keras this is a cross-correlation: the kernel is not reversed.

    Parameters
    ----------
    input_size, output_size : int
        Number of features I and O (channels, filters).
    kernel_size : int
        Number of steps K of a window.
    stride : int
        Steps from one window to the next.
    padding : {"valid", "same", "causal"} or (int, int)
        Zeros before the first and after the last step: none; such that T steps give ⌈T / stride⌉, as in Keras; all of
        them before, so that no output depends on the future; or these numbers.
    dilation : int
        Steps from one element of a window to the next.
    groups : int
        Number of groups of features; every output depends on one. Divides I and O.
    bias : bool
        Whether there is a b.
    ignore_mask : bool
        Whether padded steps are taken like valid ones, and the outputs have no mask, as in Keras. Default: a ValueError
        where a sequence is padded.
    dtype : float32 or float64
    seed : int or numpy.random.Generator, optional
        Weights start Glorot-uniform, the bias at 0. None: all 0, to be loaded. Default: 0, and
        in a :class:`glasscell.Sequential` drawn from the model's seed.

    Attributes
    ----------
    parameters : Parameters
        ``weight`` (O, I / groups, K) and, unless ``bias=False``, ``bias`` (O,): PyTorch's layout. Keras's kernel is its
        transpose (K, I / groups, O).
    """

    takes: ClassVar = "sequence"

    def __init__(
        self,
        input_size: int,
        output_size: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: Padding = "valid",
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        ignore_mask: bool = False,
        dtype: DTypeLike = np.float32,
        seed: LayerSeed = "default",
    ) -> None:
        self.input_size = positive_integer("input_size", input_size)
        self.output_size = positive_integer("output_size", output_size)
        self.windows = Windows(
            positive_integer("kernel_size", kernel_size),
            positive_integer("stride", stride),
            positive_integer("dilation", dilation),
            check_padding(padding, ("valid", "same", "causal")),
        )
        self.groups = positive_integer("groups", groups)
        if input_size % groups or output_size % groups:
            raise ValueError(f"groups must divide input_size {input_size} and output_size {output_size}, got {groups}")
        self.bias, self.ignore_mask = boolean("bias", bias), boolean("ignore_mask", ignore_mask)
        self.dtype = float_dtype(dtype)
        self.statistics = {}
        self._parameters = Parameters(self.shapes(input_size, output_size, kernel_size, **self._options), self.dtype)
        self._begin(seed)

    def _draw(self, parameters: Parameters, seed: Seed | None) -> None:
        parameters.vector[:] = 0
        if seed is not None:
            weight = parameters["weight"]
            bound = sqrt(6 / ((self.input_size + self.output_size) // self.groups * self.windows.size))
            weight[:] = uniform(as_generator(seed), weight.shape, bound)

    @staticmethod
    def shapes(
        input_size: int, output_size: int, kernel_size: int, *, groups: int = 1, bias: bool = True, **options: Any
    ) -> dict[str, tuple[int, ...]]:
        """Return the names and shapes of the parameters."""
        del options
        weight = (output_size, input_size // groups, kernel_size)
        return {"weight": weight} | ({"bias": (output_size,)} if bias else {})

    @property
    def _options(self) -> dict[str, Any]:
        of = self.windows
        options = {"stride": of.stride, "padding": of.padding, "dilation": of.dilation, "groups": self.groups}
        return options | {"bias": self.bias, "ignore_mask": self.ignore_mask}

    @property
    def config(self) -> dict[str, Any]:
        """The arguments that make an equal layer, except dtype and seed."""
        sizes = {"input_size": self.input_size, "output_size": self.output_size, "kernel_size": self.windows.size}
        return sizes | self._options

    def output_mask(self, x: Array, mask: Mask | None) -> None:
        """Return None: all outputs are valid."""

    def forward(
        self, x: ArrayLike, mask: Mask | None = None, rng: np.random.Generator | None = None
    ) -> tuple[Array, tuple[Array, int]]:
        """Convolve x (..., T, I) to (..., T', O)."""
        del rng
        check_mask(self, mask, ignore=self.ignore_mask)
        array = self._inputs(x, axes=2)
        T = array.shape[-2]
        padded, count = self.windows.padded(array), self.windows.count(T)
        y = np.zeros((*array.shape[:-2], count, self.output_size), self.dtype)
        if self.bias:
            y += self.parameters["bias"]
        for k, steps in enumerate(self.windows.offsets(count)):
            for inputs, outputs in self._groups():
                y[..., outputs] += padded[..., steps, inputs] @ self.parameters["weight"][outputs, :, k].T
        return y, (padded, T)

    def backward(self, tape: tuple[Array, int], d_outputs: Array) -> tuple[Array, Parameters]:
        """Compute the gradients on x and on the parameters."""
        padded, T = tape
        gradients, weight = self.parameters.zeros_like(), self.parameters["weight"]
        if self.bias:
            gradients["bias"][:] = d_outputs.sum(axis=tuple(range(d_outputs.ndim - 1)))
        d_padded = np.zeros_like(padded)
        for k, steps in enumerate(self.windows.offsets(d_outputs.shape[-2])):
            for inputs, outputs in self._groups():
                part, d_part = padded[..., steps, inputs], d_outputs[..., outputs]
                d_padded[..., steps, inputs] += d_part @ weight[outputs, :, k]
                rows, columns = d_part.reshape(-1, weight.shape[0] // self.groups), part.reshape(-1, weight.shape[1])
                gradients["weight"][outputs, :, k] = rows.T @ columns
        return self.windows.unpadded(d_padded, T), gradients

    def _groups(self) -> list[tuple[slice, slice]]:
        """Return the input and output features of each group."""
        I, O = self.input_size // self.groups, self.output_size // self.groups
        return [(slice(g * I, g * I + I), slice(g * O, g * O + O)) for g in range(self.groups)]

    def __repr__(self) -> str:
        defaults = {"stride": 1, "padding": "valid", "dilation": 1, "groups": 1, "bias": True, "ignore_mask": False}
        changed = [f"{name}={value!r}" for name, value in self._options.items() if value != defaults[name]]
        sizes = f"{self.input_size}, {self.output_size}, {self.windows.size}"
        return f"Conv1D({', '.join([sizes, *changed, f'dtype={self.dtype}'])})"

    def stream_stage(self, *, single: bool) -> Stage:
        """Return the stage of a stream."""
        from glasscell.stream.windows import ConvolutionStage  # noqa: PLC0415 - only where it is used

        weight, bias = self.parameters["weight"], self.parameters.get("bias")
        return ConvolutionStage(
            *(repr(self), self.windows, weight, bias), groups=self.groups, ignore_mask=self.ignore_mask, single=single
        )
