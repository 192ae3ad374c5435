"""Choose the engine of the standard LSTM: NumPy, or the same loops compiled by Numba.

The choice depends on the requested engine, the installed packages and the sizes, but not on imported modules: the same
program gives the same bits.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any, Literal, Protocol, get_args
from warnings import warn

import numpy as np

from glasscell.core import lstm, lstm_inference
from glasscell.core.buffers import BufferPool
from glasscell.core.lstm import Gradient
from glasscell.core.lstm_inference import InferenceResult
from glasscell.core.lstm_tape import Tape
from glasscell.core.packages import is_installed
from glasscell.core.products import shares_threads
from glasscell.core.types import Array
from glasscell.core.uninterrupted import once_uninterrupted

EngineName = Literal["numpy", "numba"]


class Engine(Protocol):
    """Functions of an engine; see :mod:`glasscell.core.lstm` and :mod:`glasscell.core.lstm_inference`.

    Attributes
    ----------
    skips_ended : bool
        Whether forward and backward passes also take `ended` (T,): how many sequences, the first ones, have no step t.
        Nothing of it is read; it is 0 in the tape, and its gradients are 0.
    """

    skips_ended: bool

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
    """Engine that is always available."""

    skips_ended = False

    forward = staticmethod(lstm.forward)
    backward = staticmethod(lstm.backward)
    forward_inference = staticmethod(lstm_inference.forward_inference)


NUMPY: Engine = NumPyEngine()


def validate_name(name: EngineName | None) -> None:
    """Raise an error if the engine is unknown or not installed."""
    if name is not None and name not in get_args(EngineName):
        raise ValueError(f"engine must be one of 'numpy', 'numba' or None, the faster one, got {name!r}")
    if name == "numba" and not is_installed("numba"):
        raise ImportError("engine='numba' needs Numba: pip install 'glasscell[jit]'")


def select(name: EngineName | None, I: int, H: int, B: int, dtype: np.dtype[np.floating]) -> Engine:
    """Return the engine of this name. Default: Numba if it is installed and faster for this shape."""
    if name == "numpy" or (name is None and not is_installed("numba")):
        return NUMPY
    compiled = _compiled()
    engine: Engine = compiled if name == "numba" or (compiled.is_faster(I, H, B, dtype) and _usable()) else NUMPY
    return engine


def select_for_inference(name: EngineName | None, I: int, H: int, B: int, dtype: np.dtype[np.floating]) -> Engine:
    """Return the engine of this name. Default: NumPy, because importing Numba takes longer than most passes.

    Evaluations of a training that Numba runs are run by it, too.
    """
    return NUMPY if name is None and not shares_threads() else select(name, I, H, B, dtype)


def uses_numba_for_streams(name: EngineName | None) -> bool:
    """Return whether the steps of a stream run through Numba. Default: no, as for inference."""
    return name == "numba"


@cache
def compiles_updates(name: EngineName | None) -> bool:
    """Return whether the updates of an optimiser run through Numba. Default: if it is installed."""
    return name == "numba" or (name is None and is_installed("numba") and _usable())


_import = once_uninterrupted(import_module)


@cache
def _usable() -> bool:
    """Return whether Numba can be imported: it does not support NumPy versions later than its own."""
    try:
        _import("numba")
    except ImportError as error:
        warn(f"Numba is installed but cannot be imported; NumPy is used instead: {error}", stacklevel=2)
        return False
    return True


@cache
def _compiled() -> Any:
    return _import("glasscell.core.numba_engine")  # Numba's import takes longer than most passes
