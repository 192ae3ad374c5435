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
from glasscell.layers.registry import MODULES
from glasscell.lazy import attach
from glasscell.recurrent.config import LSTMConfig
from glasscell.recurrent.initialization import Initializer
from glasscell.recurrent.rnn_tape import RNNState, RNNTape
from glasscell.recurrent.tape import LSTMState, LSTMTape

if TYPE_CHECKING:
    from glasscell.layers.base import Layer
    from glasscell.layers.convolution import Conv1D
    from glasscell.layers.dropout import Dropout
    from glasscell.layers.embedding import Embedding
    from glasscell.layers.feature_embedding import FeatureEmbedding
    from glasscell.layers.final_state import FinalState
    from glasscell.layers.function import Function
    from glasscell.layers.gru import GRU
    from glasscell.layers.linear import Linear
    from glasscell.layers.lstm import LSTM
    from glasscell.layers.masking import Masking
    from glasscell.layers.noise import GaussianDropout, GaussianNoise, SpatialDropout1D
    from glasscell.layers.normalization import BatchNorm, LayerNorm, Normalization, Rescaling
    from glasscell.layers.pool import Pool
    from glasscell.layers.pooling import AveragePooling1D, MaxPooling1D
    from glasscell.layers.reshaping import Flatten, RepeatVector, Squeeze, Unsqueeze
    from glasscell.layers.rnn import RNN
    from glasscell.layers.step import Step
    from glasscell.layers.swap_halves import SwapHalves
    from glasscell.layers.trainable import LayerSeed, TrainableLayer

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "AveragePooling1D",
    "BatchNorm",
    "Conv1D",
    "Dropout",
    "Embedding",
    "FeatureEmbedding",
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
    "RNNState",
    "RNNTape",
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

__getattr__, __dir__ = attach(
    __name__,
    MODULES | {"Layer": "base", "LayerSeed": "trainable", "TrainableLayer": "trainable"},
)
