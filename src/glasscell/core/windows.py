"""Windows over time, their padding and number. Shared by convolution and pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from glasscell.core.types import Array

Padding: TypeAlias = Literal["valid", "same", "causal"] | tuple[int, int]


class Windows(NamedTuple):
    """Windows of `size` steps with spacing `dilation`, one per `stride` steps.

    Attributes
    ----------
    size, stride, dilation : int
    padding : "valid", "same", "causal" or (int, int)
        Padding before the first and after the last step: none; as much as gives ⌈T / stride⌉ windows over T steps; only
        before the first, so that no window contains later steps; or these numbers of steps.
    """

    size: int
    stride: int
    dilation: int
    padding: Padding

    @property
    def span(self) -> int:
        """Steps from the first to the last one of a window, inclusive."""
        return (self.size - 1) * self.dilation + 1

    def pads(self, T: int) -> tuple[int, int]:
        """Return the number of steps of padding before and after T steps."""
        if self.padding == "valid":
            return 0, 0
        if self.padding == "causal":
            return self.span - 1, 0
        if self.padding == "same":
            total = max(0, (-(-T // self.stride) - 1) * self.stride + self.span - T)
            return total // 2, total - total // 2
        return self.padding

    def count(self, T: int) -> int:
        """Return the number of windows over T steps."""
        return max(0, (T + sum(self.pads(T)) - self.span) // self.stride + 1)

    def padded(self, x: Array, value: float = 0.0) -> Array:
        """Return x (..., T, F) with its padding."""
        before, after = self.pads(x.shape[-2])
        if not before and not after:
            return x
        shape = (*x.shape[:-2], before + x.shape[-2] + after, x.shape[-1])
        padded = np.full(shape, value, x.dtype)
        padded[..., before : before + x.shape[-2], :] = x
        return padded

    def unpadded(self, padded: Array, T: int) -> Array:
        """Return the T steps without padding: the adjoint of :meth:`padded`."""
        before, _ = self.pads(T)
        return padded[..., before : before + T, :]

    def offsets(self, count: int) -> list[slice]:
        """Return, for each position in a window, the steps of the padded sequence at that position in all windows."""
        return [
            slice(start, start + (count - 1) * self.stride + 1 if count else start, self.stride)
            for start in range(0, self.span, self.dilation)
        ]


def check_padding(value: Any, names: Sequence[str]) -> Padding:
    """Return the padding if it is one of these names or a pair of numbers of steps; otherwise raise ValueError."""
    if isinstance(value, str) and value in names:
        return value  # type: ignore[return-value] # one of the names
    try:
        before, after = value
        numbers = [number for number in (before, after) if not isinstance(number, bool) and number == int(number) >= 0]
    except (TypeError, ValueError):
        numbers = []
    if isinstance(value, str) or len(numbers) != 2:
        raise ValueError(f"padding must be {', '.join(map(repr, names))} or (before, after), got {value!r}")
    return int(before), int(after)
