"""Sizes of the benchmarks."""

from __future__ import annotations

from typing import NamedTuple

from glasscell.validation import positive_integer


class Shape(NamedTuple):
    """Sizes of an LSTM and of its inputs."""

    I: int
    H: int
    T: int
    B: int
    L: int = 1

    def __str__(self) -> str:
        layers = f", {self.L} layers" if self.L > 1 else ""
        return f"({self.I}, {self.H}, {self.T}, {self.B}){layers}"


# From a cell on a small device to one that fills the cache; one sequence, and batches; and a stack.
SHAPES = (
    Shape(8, 32, 20, 1),
    Shape(8, 32, 20, 32),
    Shape(8, 64, 40, 64),
    Shape(32, 64, 50, 32),
    Shape(64, 128, 100, 1),
    Shape(64, 128, 100, 32),
    Shape(128, 256, 100, 32),
    Shape(256, 512, 50, 64),
    Shape(200, 200, 20, 20),
    Shape(64, 128, 50, 32, 2),
)
STREAMS = tuple(Shape(8, H, 1, 1) for H in (32, 64, 128))


def parse_shape(text: str) -> Shape:
    """Parse I,H,T,B or I,H,T,B,L.

    Raises
    ------
    ValueError
        If the text is not four or five positive integers.
    """
    try:
        sizes = [int(part) for part in text.split(",")]
        shape = Shape(*sizes)
    except (ValueError, TypeError):
        raise ValueError(f"{text!r} is no shape: expected I,H,T,B or I,H,T,B,L, such as 64,128,100,32") from None
    return Shape(*(positive_integer(name, size) for name, size in shape._asdict().items()))
