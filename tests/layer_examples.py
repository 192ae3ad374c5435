"""Each option of an LSTM, and each kind of layer, with a case: for tests of all of them."""

from collections.abc import Callable
from typing import Any

import numpy as np

import glasscell as gc
from glasscell.layers import (
    AveragePooling1D,
    BatchNorm,
    Conv1D,
    Dropout,
    FeatureEmbedding,
    FinalState,
    Flatten,
    Function,
    GaussianDropout,
    GaussianNoise,
    LayerNorm,
    Masking,
    MaxPooling1D,
    Normalization,
    Pool,
    RepeatVector,
    Rescaling,
    SpatialDropout1D,
    Squeeze,
    Step,
    SwapHalves,
    Unsqueeze,
)

Chain = Callable[[Any], list[Any]]


def lstm_options(proj_size: int) -> dict[str, dict[str, Any]]:
    """Return a value of each option that is not the default, with the options that it requires."""
    return {
        "input_size": {},
        "num_layers": {"num_layers": 2},
        "bidirectional": {"bidirectional": True},
        "reverse": {"reverse": True},
        "bias": {"bias": False},
        "recurrent_bias": {"recurrent_bias": True},
        "proj_size": {"proj_size": proj_size},
        "projection_bias": {"projection_bias": True, "proj_size": proj_size},
        "peepholes": {"peepholes": True},
        "coupled": {"coupled": "input"},
        "forget_gate": {"forget_gate": False},
        "clip": {"clip": 1.0},
        "gate_activation": {"gate_activation": "Softsign"},
        "candidate_activation": {"candidate_activation": "HardSigmoid"},
        "output_activation": {"output_activation": "Softsign"},
        "layer_norm": {"layer_norm": "haste"},
        "epsilon": {"epsilon": 0.1, "layer_norm": "tflite"},
        "dropout": {"dropout": 0.5, "num_layers": 2},
        "input_dropout": {"input_dropout": 0.5},
        "recurrent_dropout": {"recurrent_dropout": 0.5},
        "zoneout": {"zoneout": 0.5},
        "zoneout_cell": {"zoneout_cell": 0.5},
        "merge": {"merge": "sum", "bidirectional": True},
        "masked_outputs": {"masked_outputs": "repeat"},
        "outputs_in": {"outputs_in": "processing", "reverse": True},
        "learn_initial_state": {"learn_initial_state": True},
    }


def layers_of(I: int, H: int, T: int) -> dict[str, Chain]:
    """Return layers that have each kind, except LSTM, for inputs of T steps and I features, as functions of a dtype."""
    return {
        "RNN": lambda d: [gc.RNN(I, H, 2, dtype=d)],
        "GRU": lambda d: [gc.GRU(I, H, 2, bidirectional=True, dtype=d)],
        "Linear": lambda d: [gc.Linear(I, H, dtype=d)],
        "Embedding": lambda d: [gc.Embedding(11, I, mask_zero=True, dtype=d), gc.LSTM(I, H, dtype=d)],
        "FeatureEmbedding": lambda d: [FeatureEmbedding(I, {1: (11, 3)}, dtype=d)],
        "LayerNorm": lambda d: [LayerNorm(I, dtype=d)],
        "BatchNorm": lambda d: [BatchNorm(I, dtype=d)],
        "Conv1D": lambda d: [Conv1D(I, H, 3, dtype=d)],
        "Function": lambda _: [Function("GeluTanh"), Function("Softmax")],
        "Dropout": lambda _: [Dropout(0.3)],
        "Step": lambda _: [Step(-2)],
        "FinalState": lambda d: [gc.LSTM(I, H, bidirectional=True, dtype=d), FinalState()],
        "Pool": lambda _: [Pool("mean")],
        "SwapHalves": lambda _: [SwapHalves()],
        "Masking": lambda d: [Masking(), gc.LSTM(I, H, dtype=d)],
        "Normalization": lambda _: [Normalization(np.arange(I) / I, np.ones(I) / 3)],
        "Rescaling": lambda _: [Rescaling(0.3, 1.0)],
        "RepeatVector": lambda _: [Pool("max"), RepeatVector(3)],
        "Flatten": lambda d: [Flatten(), gc.Linear(T * I, H, dtype=d)],
        "MaxPooling1D": lambda _: [MaxPooling1D(2)],
        "AveragePooling1D": lambda _: [AveragePooling1D(2)],
        "Unsqueeze": lambda d: [Unsqueeze(), gc.LSTM(1, H, dtype=d)],
        "Squeeze": lambda d: [gc.Linear(I, 1, dtype=d), Squeeze()],
        "SpatialDropout1D": lambda _: [SpatialDropout1D(0.3)],
        "GaussianNoise": lambda _: [GaussianNoise(0.3)],
        "GaussianDropout": lambda _: [GaussianDropout(0.3)],
    }
