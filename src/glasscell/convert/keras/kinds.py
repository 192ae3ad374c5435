"""Supported Keras layers: their weights, and the location of these in files."""

from collections.abc import Mapping
from typing import Any, NamedTuple

LSTM_WEIGHTS, DENSE_WEIGHTS = ("kernel", "recurrent_kernel", "bias"), ("kernel", "bias")
RECURRENT_WEIGHTS = LSTM_WEIGHTS  # those of a SimpleRNN and a GRU have the same names


class Kind(NamedTuple):
    """A class of layers with weights.

    Attributes
    ----------
    group : str
        Name of its group in files: the class in snake case.
    weights : tuple of str
        In the order of their numbers in files.
    parts : mapping of str to str
        Subgroup of each direction, "" or "forward" and "backward".
    settings : mapping of str to str
        For an optional weight, the setting that is False if it is missing.
    """

    group: str
    weights: tuple[str, ...]
    parts: Mapping[str, str] = {"": ""}
    settings: Mapping[str, str] = {}


BIAS = {"bias": "use_bias"}
GAIN_AND_SHIFT = {"gamma": "scale", "beta": "center"}

WEIGHTED = {
    "LSTM": Kind("lstm", LSTM_WEIGHTS, {"": "cell"}, BIAS),
    "CuDNNLSTM": Kind("cu_dnnlstm", LSTM_WEIGHTS),
    "SimpleRNN": Kind("simple_rnn", RECURRENT_WEIGHTS, {"": "cell"}, BIAS),
    "GRU": Kind("gru", RECURRENT_WEIGHTS, {"": "cell"}, BIAS),
    "Bidirectional": Kind(
        "bidirectional",
        LSTM_WEIGHTS,
        {"forward": "forward_layer/cell", "backward": "backward_layer/cell"},
        BIAS,
    ),
    "Dense": Kind("dense", DENSE_WEIGHTS, settings=BIAS),
    "TimeDistributed": Kind("time_distributed", DENSE_WEIGHTS, {"": "layer"}, BIAS),
    "Embedding": Kind("embedding", ("embeddings",)),
    "Conv1D": Kind("conv1d", DENSE_WEIGHTS, settings=BIAS),
    "BatchNormalization": Kind(
        "batch_normalization", ("gamma", "beta", "moving_mean", "moving_variance"), settings=GAIN_AND_SHIFT
    ),
    "LayerNormalization": Kind("layer_normalization", ("gamma", "beta"), settings=GAIN_AND_SHIFT),
    "Normalization": Kind("normalization", ("mean", "variance", "count")),
}
NESTED = {"Sequential": "sequential", "Functional": "functional", "Model": "functional"}
WRAPPED = {  # layers that each wrapper supports
    "Bidirectional": ("LSTM", "CuDNNLSTM", "SimpleRNN", "GRU"),
    "TimeDistributed": ("Dense",),
}
# Layers that change nothing outside training: the first are kept, as they are here, and of the others nothing is.
TRAINING_ONLY = ("Dropout", "SpatialDropout1D", "GaussianNoise", "GaussianDropout")
IGNORED = ("AlphaDropout", "ActivityRegularization")
POOLING = ("MaxPooling1D", "AveragePooling1D", "GlobalAveragePooling1D", "GlobalMaxPooling1D")
STATELESS = (
    *("Masking", "Activation", "ReLU", "LeakyReLU", "ELU", "Softmax", "Rescaling", "RepeatVector", "Flatten"),
    *(*POOLING, *TRAINING_ONLY, *IGNORED),
)
SUPPORTED = (*WEIGHTED, *STATELESS, *NESTED)


def weight_names(kind: str, config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the weights of a layer, or of each of its parts; `config` is that of what it wraps."""
    if kind == "Normalization" and config.get("mean") is not None:  # a number then, and no weight
        return ()
    if kind not in WEIGHTED:
        return ()
    entry = WEIGHTED[kind]
    return tuple(name for name in entry.weights if config.get(entry.settings.get(name, ""), True) is not False)
