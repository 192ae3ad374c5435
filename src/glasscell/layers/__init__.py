"""Layers: objects that own parameters.

Each has two doors to the same mathematics:

- ``forward`` and ``backward`` take and return arrays as people keep them, ``(B, T, features)`` or one sequence
  ``(T, features)``; they check what they are given, and what they return is the caller's own.
- ``forward_columns`` and ``backward_columns`` speak core's layout, ``(T, features, B)``, without checks or copies: for
  models, which chain layers. With ``buffers``, their results last until the next call with the same buffers.
"""

from typing import TYPE_CHECKING

from glasscell.layers.initialization import Initializer, Seed
from glasscell.layers.linear import Linear
from glasscell.layers.lstm import LSTM
from glasscell.layers.options import LSTMOptions
from glasscell.layers.records import LSTMState, LSTMTape
from glasscell.lazy import lazily

if TYPE_CHECKING:
    from glasscell.layers.embedding import Embedding
    from glasscell.layers.stateless import Dropout, FinalState, Function, Masking, Pool, Step, SwapHalves

__all__ = [
    "LSTM",
    "Dropout",
    "Embedding",
    "FinalState",
    "Function",
    "Initializer",
    "LSTMOptions",
    "LSTMState",
    "LSTMTape",
    "Linear",
    "Masking",
    "Pool",
    "Seed",
    "Step",
    "SwapHalves",
]

STATELESS = ("Dropout", "FinalState", "Function", "Masking", "Pool", "Step", "SwapHalves")
__getattr__, __dir__ = lazily(__name__, {"Embedding": "embedding"} | dict.fromkeys(STATELESS, "stateless"))
