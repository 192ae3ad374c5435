"""Which code runs the plain LSTM: NumPy's, or the same loop compiled by Numba where that is installed and faster."""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal, Protocol, get_args

import numpy as np

from glasscell.core import inference, lstm
from glasscell.core.buffers import Buffers
from glasscell.core.inference import Outputs
from glasscell.core.lstm import Gradient, Tape
from glasscell.core.typing import Array

EngineName = Literal["numpy", "numba"]

LARGE = 1 << 21  # bytes of a step's weights: beyond, memory sets the pace, and BLAS on several cores reads it faster


class Engine(Protocol):
    """What an engine can do; see :mod:`glasscell.core.lstm` and :mod:`glasscell.core.inference`."""

    def forward(
        self,
        kernel: Array,
        x: Array,
        h0: Array | float = 0.0,
        c0: Array | float = 0.0,
        buffers: Buffers | None = None,
    ) -> Tape:
        """With a tape."""

    def backward(
        self,
        tape: Tape,
        dh: Array,
        dh_T: Array | float = 0.0,
        dc_T: Array | float = 0.0,
        buffers: Buffers | None = None,
        *,
        dc: Array | None = None,
        need_dx: bool = True,
        every_dz: Array | None = None,
    ) -> Gradient:
        """From a tape of either engine."""

    def outputs(
        self,
        kernel: Array,
        x: Array,
        h0: Array | float = 0.0,
        c0: Array | float = 0.0,
        buffers: Buffers | None = None,
    ) -> Outputs:
        """Without a tape."""


class NumPy:
    """The engine that is always there."""

    forward = staticmethod(lstm.forward)
    backward = staticmethod(lstm.backward)
    outputs = staticmethod(inference.outputs)


NUMPY: Engine = NumPy()


def check(name: EngineName | None) -> None:
    """Refuse an engine that does not exist, or is not installed."""
    if name is not None and name not in get_args(EngineName):
        raise ValueError(f"engine is {name!r}; known are 'numpy', 'numba' and None, the faster one")
    if name == "numba" and not _installed():
        raise ImportError("engine='numba' needs Numba: pip install \"glasscell[jit]\"")


def chosen(name: EngineName | None, I: int, H: int, B: int, dtype: np.dtype[np.floating]) -> Engine:
    """The engine of this name; without one, Numba's where it is installed and faster for the shape."""
    if name == "numpy" or (name is None and not _installed()):
        return NUMPY
    compiled = _compiled()
    engine: Engine = compiled if name == "numba" or compiled.faster(I, H, B, dtype) else NUMPY
    return engine


def chosen_for_inference(name: EngineName | None, I: int, H: int, B: int, dtype: np.dtype[np.floating]) -> Engine:
    """Likewise; but importing Numba takes longer than most answers: used unasked only where that has been done."""
    return NUMPY if name is None and "numba" not in sys.modules else chosen(name, I, H, B, dtype)


def compiles_steps(name: EngineName | None, weight: Array) -> bool:
    """Whether a stream's steps run through Numba: likewise, and unasked only where that is faster."""
    return compiles(name) and (name == "numba" or weight.nbytes <= LARGE)


def compiles(name: EngineName | None) -> bool:
    """Whether what is not a layer runs through Numba: where it is asked for, or has been imported by who needed it."""
    return name == "numba" or (name is None and sys.modules.get("numba") is not None)


@cache  # to look for a package takes longer than a small pass
def _installed() -> bool:
    return find_spec("numba") is not None


@cache
def _compiled() -> Any:
    return import_module("glasscell.core.compiled")  # which imports Numba, and that takes longer than most passes
