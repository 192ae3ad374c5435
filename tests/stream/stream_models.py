"""Models for the tests of streams, and comparison of their states."""

import numpy as np

import glasscell as gc
from glasscell.layers import (
    BatchNorm,
    Conv1D,
    Function,
    LayerNorm,
    Masking,
    Pool,
    Rescaling,
)

MODELS = {
    "standard": lambda H=5, **dtype: gc.LSTM(3, H, **dtype),
    "options": lambda H=5, **dtype: gc.LSTM(3, H, peepholes=True, layer_norm="contrib", num_layers=2, **dtype),
    "copy": lambda H=5, **dtype: gc.CopyLSTM(H, task=gc.tasks.Copy(width=2, bits_per_step=1), **dtype),
    "masked LSTM": lambda H=5, **dtype: gc.Sequential(
        [
            gc.Linear(3, 4, **dtype),
            Masking(),
            gc.LSTM(4, H, masked_outputs="repeat", **dtype),
            Function("LeakyRelu"),  # one to one: it hides no difference
        ]
    ),
    "mean": lambda H=5, **dtype: gc.Sequential(
        [
            Conv1D(3, 4, 2, padding="causal", seed=1, **dtype),
            gc.LSTM(4, H, seed=2, **dtype),
            LayerNorm(H, **dtype),
            Pool("mean"),
            gc.Linear(H, 4, **dtype),
            Function("Gelu"),
        ]
    ),
    "masked maximum": lambda H=5, **dtype: gc.Sequential(
        [Masking(), Rescaling(2.0), gc.LSTM(3, H, **dtype), Pool("max"), BatchNorm(H, **dtype)]
    ),
}


def arrays(state):
    """Return all arrays of a state, in order."""
    if isinstance(state, np.ndarray):
        return [state]
    return [array for entry in (*state, *getattr(state, "remembered", ())) for array in arrays(entry)]


def same(a, b):
    """Whether two states have equal arrays."""
    return all(np.array_equal(x, y) for x, y in zip(arrays(a), arrays(b), strict=True))


def width(model):
    """Return the number of input features."""
    return model.lstm.input_size if isinstance(model, gc.CopyLSTM) else 3


def linear_model():
    """Return a model without state."""
    return gc.Sequential([gc.Linear(3, 2)])
