"""Layers: objects that own parameters.

Each has two doors to the same mathematics:

- ``forward`` and ``backward`` take and return arrays as people keep them, ``(B, T, features)`` or one sequence
  ``(T, features)``; they check what they are given, and what they return is the caller's own.
- ``forward_columns`` and ``backward_columns`` speak core's layout, ``(T, features, B)``, without checks or copies: for
  models, which chain layers. With ``buffers``, their results last until the next call with the same buffers.
"""

from typing import TYPE_CHECKING

from glasscell.layers.initialization import Initializer
from glasscell.layers.linear import Linear
from glasscell.layers.lstm import LSTM
from glasscell.layers.options import LSTMOptions
from glasscell.layers.records import LSTMState, LSTMTape
from glasscell.layers.trainable import LayerSeed, Seed, TrainableLayer
from glasscell.lazy import lazily

if TYPE_CHECKING:
    from glasscell.layers.base import Layer
    from glasscell.layers.convolution import Conv1D
    from glasscell.layers.embedding import Embedding
    from glasscell.layers.noise import GaussianDropout, GaussianNoise, SpatialDropout1D
    from glasscell.layers.normalization import BatchNorm, LayerNorm, Normalization, Rescaling
    from glasscell.layers.pooling import AveragePooling1D, MaxPooling1D
    from glasscell.layers.reshaping import Flatten, RepeatVector, Squeeze, Unsqueeze
    from glasscell.layers.stateless import Dropout, FinalState, Function, Masking, Pool, Step, SwapHalves

__all__ = [
    "LSTM",
    "AveragePooling1D",
    "BatchNorm",
    "Conv1D",
    "Dropout",
    "Embedding",
    "FinalState",
    "Flatten",
    "Function",
    "GaussianDropout",
    "GaussianNoise",
    "Initializer",
    "LSTMOptions",
    "LSTMState",
    "LSTMTape",
    "Layer",
    "LayerNorm",
    "LayerSeed",
    "Linear",
    "Masking",
    "MaxPooling1D",
    "Normalization",
    "Pool",
    "RepeatVector",
    "Rescaling",
    "Seed",
    "SpatialDropout1D",
    "Squeeze",
    "Step",
    "SwapHalves",
    "TrainableLayer",
    "Unsqueeze",
]

MODULES = {
    "base": ("Layer",),
    "convolution": ("Conv1D",),
    "embedding": ("Embedding",),
    "noise": ("GaussianDropout", "GaussianNoise", "SpatialDropout1D"),
    "normalization": ("BatchNorm", "LayerNorm", "Normalization", "Rescaling"),
    "pooling": ("AveragePooling1D", "MaxPooling1D"),
    "reshaping": ("Flatten", "RepeatVector", "Squeeze", "Unsqueeze"),
    "stateless": ("Dropout", "FinalState", "Function", "Masking", "Pool", "Step", "SwapHalves"),
}
__getattr__, __dir__ = lazily(__name__, {name: module for module, names in MODULES.items() for name in names})
