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


def layer_class(name: str) -> type[Layer]:
    """Import a layer's module and return its class.

    Raises
    ------
    ValueError
        If no layer has this name.
    """
    if name not in MODULES:
        raise ValueError(f"there is no layer {name!r}; known are {', '.join(MODULES)}")
    layer: type[Layer] = getattr(import_module(f"glasscell.layers.{MODULES[name]}"), name)
    return layer
