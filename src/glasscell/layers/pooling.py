"""Pooling over windows of steps; :class:`~glasscell.layers.Pool` pools over a whole sequence."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glasscell.core.types import Array
from glasscell.core.windows import Padding, Windows, check_padding
from glasscell.layers.base import Mask
from glasscell.layers.batch_first import StatelessLayer, check_mask
from glasscell.validation import boolean, positive_integer

if TYPE_CHECKING:
    from glasscell.stream.building import Stage


@dataclass(frozen=True)
class _Pooling1D(StatelessLayer):
    """What both poolings share: the windows, and how a mask is treated."""

    pool_size: int = 2
    stride: int | None = None
    padding: Padding = "valid"
    ignore_mask: bool = False

    takes: ClassVar = "sequence"

    def __post_init__(self) -> None:
        object.__setattr__(self, "pool_size", positive_integer("pool_size", self.pool_size))
        stride = self.pool_size if self.stride is None else positive_integer("stride", self.stride)
        object.__setattr__(self, "stride", stride)
        object.__setattr__(self, "padding", check_padding(self.padding, ("valid", "same")))
        if self.padding not in ("valid", "same") and max(map(int, self.padding)) >= self.pool_size:
            raise ValueError(f"padding must be below pool_size = {self.pool_size}, got {self.padding}")
        boolean("ignore_mask", self.ignore_mask)

    @property
    def windows(self) -> Windows:
        """The windows."""
        return Windows(self.pool_size, self.stride or self.pool_size, 1, self.padding)

    def output_mask(self, x: Array, mask: Mask | None) -> None:
        """Return None: all outputs are valid."""

    def _count(self, T: int) -> int:
        """Return the number of windows over T steps: of no steps none, whatever the padding."""
        return self.windows.count(T) if T else 0


class MaxTape(NamedTuple):
    """What :meth:`MaxPooling1D.backward` needs."""

    places: NDArray[np.intp]  # (..., T', F): where in its window the largest value is
    T: int


@dataclass(frozen=True)
class MaxPooling1D(_Pooling1D):
    """The largest value of each feature in each window.

    Parameters
    ----------
    pool_size : int
        Number of steps of a window.
    stride : int, optional
        Steps from one window to the next. Default: `pool_size`.
    padding : {"valid", "same"} or (int, int)
        Steps before the first and after the last one, which are never the largest: none; such that T steps give
        ⌈T / stride⌉, as in Keras; or these numbers.
    ignore_mask : bool
        Whether padded steps are taken like valid ones, and the outputs have no mask, as in Keras. Default: a ValueError
        where a sequence is padded.
    """

    def forward(
        self, x: Array, mask: Mask | None = None, rng: np.random.Generator | None = None
    ) -> tuple[Array, MaxTape]:
        """Pool x (..., T, F) to (..., T', F). Of equal values the first counts."""
        del rng
        check_mask(self, mask, ignore=self.ignore_mask)
        T = x.shape[-2]
        padded, count = self.windows.padded(x, -np.inf), self._count(T)
        first, *others = self.windows.offsets(count)
        y = padded[..., first, :].copy()
        places: NDArray[np.intp] = np.zeros(y.shape, np.intp)
        for k, steps in enumerate(others, 1):
            larger = padded[..., steps, :] > y
            np.copyto(y, padded[..., steps, :], where=larger)
            places[larger] = k
        return y, MaxTape(places, T)

    def backward(self, tape: MaxTape, d_outputs: Array) -> Array:
        """Compute the gradient on x."""
        windows = self.windows
        d_padded = np.zeros(
            (*d_outputs.shape[:-2], tape.T + sum(windows.pads(tape.T)), d_outputs.shape[-1]), d_outputs.dtype
        )
        for k, steps in enumerate(windows.offsets(d_outputs.shape[-2])):
            d_padded[..., steps, :] += d_outputs * (tape.places == k)
        return windows.unpadded(d_padded, tape.T)

    def stream_stage(self, *, single: bool) -> Stage:
        """Return the stage of a stream."""
        from glasscell.stream.windows import PoolingStage  # noqa: PLC0415 - only where it is used

        del single
        return PoolingStage(repr(self), self.windows, ignore_mask=self.ignore_mask)


@dataclass(frozen=True)
class AveragePooling1D(_Pooling1D):
    """The mean of each feature in each window.

    Parameters
    ----------
    pool_size : int
        Number of steps of a window.
    stride : int, optional
        Steps from one window to the next. Default: `pool_size`.
    padding : {"valid", "same"} or (int, int)
        Steps before the first and after the last one: none; such that T steps give ⌈T / stride⌉, as in Keras; or these
        numbers.
    ignore_mask : bool
        Whether padded steps are taken like valid ones, and the outputs have no mask, as in Keras. Default: a ValueError
        where a sequence is padded.
    count_padding : bool
        Whether padding counts as zeros, as in PyTorch. Default: means are over the steps that exist, as in Keras.
    """

    count_padding: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        boolean("count_padding", self.count_padding)

    def forward(self, x: Array, mask: Mask | None = None, rng: np.random.Generator | None = None) -> tuple[Array, Any]:
        """Pool x (..., T, F) to (..., T', F)."""
        del rng
        check_mask(self, mask, ignore=self.ignore_mask)
        T = x.shape[-2]
        padded, count = self.windows.padded(x), self._count(T)
        total = np.zeros((*x.shape[:-2], count, x.shape[-1]), x.dtype)
        for steps in self.windows.offsets(count):
            total += padded[..., steps, :]
        share = (1 / self._counts(T, count)).astype(x.dtype)[:, None]
        return total * share, (share, T)

    def _counts(self, T: int, count: int) -> Array:
        """Return the number of steps in each window."""
        if self.count_padding:
            return np.full(count, self.pool_size, np.float64)
        ones = self.windows.padded(np.ones((T, 1)))
        return sum((ones[steps, 0] for steps in self.windows.offsets(count)), np.zeros(count))

    def backward(self, tape: Any, d_outputs: Array) -> Array:
        """Compute the gradient on x."""
        share, T = tape
        windows = self.windows
        d_padded = np.zeros((*d_outputs.shape[:-2], T + sum(windows.pads(T)), d_outputs.shape[-1]), d_outputs.dtype)
        for steps in windows.offsets(d_outputs.shape[-2]):
            d_padded[..., steps, :] += d_outputs * share
        return windows.unpadded(d_padded, T)

    def stream_stage(self, *, single: bool) -> Stage:
        """Return the stage of a stream."""
        from glasscell.stream.windows import PoolingStage  # noqa: PLC0415 - only where it is used

        del single
        return PoolingStage(repr(self), self.windows, mean=True, ignore_mask=self.ignore_mask)
