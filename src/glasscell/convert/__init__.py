"""Other projects' formats: gate orders, transpositions and bias conventions live here and nowhere else.

>>> import glasscell as gc
>>> model = gc.convert.load("model.onnx")  # doctest: +SKIP
>>> gc.convert.save(model, "model.keras")  # doctest: +SKIP

``codec`` says as data how others lay out the weights of an LSTM, and stands below the layers; ``load`` and ``save``
read and write whole files, and stand above the models. They, and the modules about one project each, are imported when
they are asked for.
"""

from importlib import import_module
from typing import Any

LAZY = {"load": "files", "save": "files", "onnx": "onnx", "keras": "keras", "torch_files": "torch_files"}


def __getattr__(name: str) -> Any:
    if name not in LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{LAZY[name]}")
    return module if name == LAZY[name] else getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *LAZY})
