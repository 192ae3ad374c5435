"""Layers: objects that own parameters.

Each has two interfaces to the same mathematics:

- ``forward`` and ``backward`` take and return arrays of shape ``(B, T, features)`` or ``(T, features)``. They validate
  their arguments; results are copies.
- ``forward_feature_major`` and ``backward_feature_major`` use core's layout, ``(T, features, B)``, without
  validation or copies: for models, which chain layers. With ``buffers``, results are valid until the next call with
  the same buffers.
"""

from typing import TYPE_CHECKING

from glasscell.core.types import Seed
from glasscell.layers.linear import Linear
from glasscell.layers.lstm import LSTM
from glasscell.layers.trainable import LayerSeed, TrainableLayer
from glasscell.lazy import attach
from glasscell.recurrent.config import LSTMConfig
from glasscell.recurrent.initialization import Initializer
from glasscell.recurrent.tape import LSTMState, LSTMTape

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
    "LSTMConfig",
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
__getattr__, __dir__ = attach(__name__, {name: module for module, names in MODULES.items() for name in names})
