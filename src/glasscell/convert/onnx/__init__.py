"""ONNX: its LSTM operator in NumPy alone, and what needs the `onnx` package, which is imported when it is used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from glasscell.convert.onnx.operator import run_lstm

if TYPE_CHECKING:
    from glasscell.convert.onnx.backend import Backend, is_compatible, prepare, run_model, run_node, supports_device
    from glasscell.convert.onnx.exporter import save
    from glasscell.convert.onnx.importer import load, lstms

__all__ = [
    "Backend",
    "is_compatible",
    "load",
    "lstms",
    "prepare",
    "run_lstm",
    "run_model",
    "run_node",
    "save",
    "supports_device",
]

# What is imported when it is first used, and the module that it stands in.
LAZY = {
    "Backend": "backend",
    "is_compatible": "backend",
    "prepare": "backend",
    "run_model": "backend",
    "run_node": "backend",
    "supports_device": "backend",
    "load": "importer",
    "lstms": "importer",
    "save": "exporter",
}


def __getattr__(name: str) -> Any:
    if name not in LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(f"{__name__}.{LAZY[name]}")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "onnx":
            raise
        raise ImportError(f"{__name__}.{name} needs the onnx package: pip install -e '.[onnx]'") from error
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
