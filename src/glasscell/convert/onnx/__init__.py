"""ONNX: the LSTM operator in NumPy, and readers and writers of graphs.

Only :func:`run_lstm` works without the `onnx` package; the other functions import it when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from glasscell.convert.onnx.operator import run_lstm

if TYPE_CHECKING:
    from glasscell.convert.onnx.exporter import save
    from glasscell.convert.onnx.importer import load, lstms

__all__ = ["load", "lstms", "run_lstm", "save"]

# Functions that need the onnx package, and the modules that define them.
LAZY = {"load": "importer", "lstms": "importer", "save": "exporter"}


def __getattr__(name: str) -> Any:
    if name not in LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(f"{__name__}.{LAZY[name]}")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "onnx":
            raise
        raise ImportError(f"{__name__}.{name} needs the onnx package: pip install 'glasscell[onnx]'") from error
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
