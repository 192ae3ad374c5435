"""The names of all layers, and their modules, which are imported when a name is first used.

A new layer is one file, and one line here.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from glasscell.layers.base import Layer

WITH_PARAMETERS = {
    "LSTM": "lstm",
    "RNN": "rnn",
    "GRU": "gru",
    "Linear": "linear",
    "Embedding": "embedding",
    "FeatureEmbedding": "feature_embedding",
    "LayerNorm": "normalization",
    "BatchNorm": "normalization",
    "Conv1D": "convolution",
}
STATELESS = {
    "Function": "function",
    "Dropout": "dropout",
    "Step": "step",
    "FinalState": "final_state",
    "Pool": "pool",
    "SwapHalves": "swap_halves",
    "Masking": "masking",
    "Normalization": "normalization",
    "Rescaling": "normalization",
    "RepeatVector": "reshaping",
    "Flatten": "reshaping",
    "MaxPooling1D": "pooling",
    "AveragePooling1D": "pooling",
    "Unsqueeze": "reshaping",
    "Squeeze": "reshaping",
    "SpatialDropout1D": "noise",
    "GaussianNoise": "noise",
    "GaussianDropout": "noise",
}
MODULES = WITH_PARAMETERS | STATELESS


_REGISTERED: dict[str, type[Layer]] = {}


def register(layer: type[Layer]) -> type[Layer]:
    """Register a layer class that is defined outside the package, so that files with it can be loaded.

    Usable as a decorator. The name in files is that of the class.

    Raises
    ------
    ValueError
        If another layer has this name.
    """
    name = layer.__name__
    if name in MODULES or _REGISTERED.get(name, layer) is not layer:
        raise ValueError(f"name of a layer must be free, got {name!r}")
    _REGISTERED[name] = layer
    return layer


def is_registered(name: str) -> bool:
    """Return whether a layer class of this name has been registered."""
    return name in _REGISTERED


def layer_class(name: str) -> type[Layer]:
    """Import a layer's module and return its class.

    Raises
    ------
    ValueError
        If no layer has this name.
    """
    if name in _REGISTERED:
        return _REGISTERED[name]
    if name not in MODULES:
        raise ValueError(f"there is no layer {name!r}; known are {', '.join([*MODULES, *_REGISTERED])}")
    layer: type[Layer] = getattr(import_module(f"glasscell.layers.{MODULES[name]}"), name)
    return layer
