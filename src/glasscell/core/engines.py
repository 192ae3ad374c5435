"""Choose the code that runs the plain LSTM: NumPy's, or the same loops compiled by Numba.

The choice follows from the engine that is named, the installation and the sizes, never from what else the process has
imported: the same program gives the same bits.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal, Protocol, get_args
from warnings import warn

import numpy as np

from glasscell.core import lstm, lstm_inference
from glasscell.core.buffers import BufferPool
from glasscell.core.lstm import Gradient, Tape
from glasscell.core.lstm_inference import InferenceResult
from glasscell.core.types import Array
from glasscell.core.uninterrupted import once_uninterrupted

EngineName = Literal["numpy", "numba"]


class Engine(Protocol):
    """What an engine can do; see :mod:`glasscell.core.lstm` and :mod:`glasscell.core.lstm_inference`."""

    def forward(
        self,
        kernel: Array,
        x: Array,
        h0: Array | float = 0.0,
        c0: Array | float = 0.0,
        buffers: BufferPool | None = None,
    ) -> Tape:
        """Run a forward pass that keeps its tape."""

    def backward(
        self,
        tape: Tape,
        dh: Array,
        dh_T: Array | float = 0.0,
        dc_T: Array | float = 0.0,
        buffers: BufferPool | None = None,
        *,
        dc: Array | None = None,
        need_dx: bool = True,
        dz_steps: Array | None = None,
    ) -> Gradient:
        """Run a backward pass from a tape of either engine."""

    def forward_inference(
        self,
        kernel: Array,
        x: Array,
        h0: Array | float = 0.0,
        c0: Array | float = 0.0,
        buffers: BufferPool | None = None,
    ) -> InferenceResult:
        """Run a forward pass without a tape."""


class NumPyEngine:
    """The engine that is always there."""

    forward = staticmethod(lstm.forward)
    backward = staticmethod(lstm.backward)
    forward_inference = staticmethod(lstm_inference.forward_inference)


NUMPY: Engine = NumPyEngine()


def validate_name(name: EngineName | None) -> None:
    """Refuse an engine that does not exist, or is not installed."""
    if name is not None and name not in get_args(EngineName):
        raise ValueError(f"engine must be one of 'numpy', 'numba' or None, the faster one, got {name!r}")
    if name == "numba" and not _installed():
        raise ImportError("engine='numba' needs Numba: pip install -e '.[jit]'")


def select(name: EngineName | None, I: int, H: int, B: int, dtype: np.dtype[np.floating]) -> Engine:
    """Return the engine of this name. Default: for training, Numba's where it is installed and faster for the shape."""
    if name == "numpy" or (name is None and not _installed()):
        return NUMPY
    compiled = _compiled()
    engine: Engine = compiled if name == "numba" or (compiled.is_faster(I, H, B, dtype) and _usable()) else NUMPY
    return engine


def select_for_inference(name: EngineName | None, I: int, H: int, B: int, dtype: np.dtype[np.floating]) -> Engine:
    """Return the engine of this name. Default: NumPy's, since importing Numba takes longer than most answers."""
    return NUMPY if name is None else select(name, I, H, B, dtype)


def uses_numba_for_streams(name: EngineName | None) -> bool:
    """Return whether the steps of a stream run through Numba. Default: no, for the same reason."""
    return name == "numba"


@cache
def compiles_updates(name: EngineName | None) -> bool:
    """Return whether the updates of an optimiser run through Numba. Default: where it is installed."""
    return name == "numba" or (name is None and _installed() and _usable())


_import = once_uninterrupted(import_module)


@cache  # to look for a package takes longer than a small pass
def _installed() -> bool:
    return find_spec("numba") is not None


@cache
def _usable() -> bool:
    """Return whether Numba can be imported: it refuses versions of NumPy that are newer than it knows."""
    try:
        _import("numba")
    except ImportError as error:
        warn(f"Numba is installed and cannot be imported, so NumPy runs what it would run: {error}", stacklevel=2)
        return False
    return True


@cache
def _compiled() -> Any:
    return import_module("glasscell.core.numba_engine")  # which imports Numba, and that takes longer than most passes
