"""Layers of Keras from their weights alone.

Settings that weights do not show are Keras' defaults: an LSTM and a GRU have the activations tanh and sigmoid, a
SimpleRNN tanh, a Bidirectional
puts its directions side by side, a Dense has no activation, an Embedding masks nothing.
"""

from typing import Any

import numpy as np

from glasscell.convert.keras.weights import InferredLayer, Source, Weights, check_all_used, read
from glasscell.convert.layer_set import LayerSet, Other, WeightedLayer, shapes_of
from glasscell.layers import GRU, LSTM, RNN, Embedding, Linear

RECURRENT = ("LSTM", "Bidirectional", "SimpleRNN", "GRU")  # in the older format names show each as an LSTM
CLASSES: dict[int, type[RNN | GRU]] = {3: GRU, 1: RNN}  # by the matrices of gates; all others are LSTMs
MAX_SHAPES = 6  # in a message
PYTORCH_NAMES = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


def layer_set(source: Source) -> LayerSet:
    """Return the layers of a file of weights.

    Raises
    ------
    ValueError
        If weights are damaged or do not fit together, by the name of the layer.
    """
    layers: dict[str, WeightedLayer] = {}
    other: dict[str, Other] = {}
    without: list[str] = []
    listed = list(source.layers())
    check_all_used(source, [inferred.weights for inferred in listed])
    for inferred in listed:
        if not inferred.weights:
            without.append(inferred.name)
        elif inferred.kind in (*RECURRENT, "Dense", "TimeDistributed", "Embedding"):
            layers[inferred.name] = _layer(inferred)
        else:
            other[inferred.name] = _other(inferred)
    return LayerSet(layers, other, without)


def _gates(inferred: InferredLayer) -> int:
    """Return how many matrices a recurrent kernel consists of; 0 if it is none."""
    shape = next(iter(inferred.weights.values()))["recurrent_kernel"].shape
    return shape[1] // shape[0] if len(shape) == 2 and shape[0] and not shape[1] % shape[0] else 0


def _layer(inferred: InferredLayer) -> LSTM | RNN | GRU | Linear | Embedding:
    try:
        weights = read(inferred.weights)
        if inferred.kind in RECURRENT:
            return _recurrent(weights, CLASSES.get(_gates(inferred), LSTM))
        return _embedding(weights[""]) if inferred.kind == "Embedding" else _linear(weights[""])
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"the layer {inferred.name!r}: {error}") from None


def _recurrent(weights: Weights, kind: type[LSTM | RNN | GRU]) -> LSTM | RNN | GRU:
    names = ("kernel", "recurrent_kernel", "bias")
    arrays = [by_name[name] for by_name in weights.values() for name in names if name in by_name]
    config: dict[str, Any] = {"bidirectional": "concat"} if len(weights) == 2 else {}
    return kind.from_keras(arrays, **config)


def _linear(weights: dict[str, Any]) -> Linear:
    kernel, bias = weights["kernel"], weights.get("bias")
    if kernel.ndim != 2 or (bias is not None and bias.shape != kernel.shape[1:]):
        raise ValueError(f"its weights are {shapes_of(weights)}, which are not those of a Dense")
    linear = Linear(*kernel.shape, bias=bias is not None, dtype=np.result_type(*weights.values()), seed=None)
    linear.parameters["weight"][:] = kernel.T
    if bias is not None:
        linear.parameters["bias"][:] = bias
    return linear


def _embedding(weights: dict[str, Any]) -> Embedding:
    table = weights["embeddings"]
    if table.ndim != 2:
        raise ValueError(f"its weights are {shapes_of(weights)}, which are not those of an Embedding")
    embedding = Embedding(*table.shape, dtype=table.dtype, seed=None)
    embedding.parameters["weight"][:] = table
    return embedding


def _other(inferred: InferredLayer) -> Other:
    """Return a layer that weights alone do not determine; of a normalisation under PyTorch's names."""
    if not inferred.kind:
        shapes = [f"{name} {dataset.shape}" for name, dataset in inferred.weights[""].items()]
        more = f" and {len(shapes) - MAX_SHAPES} more" if len(shapes) > MAX_SHAPES else ""
        return Other(", ".join(shapes[:MAX_SHAPES]) + more, {})
    weights = {PYTORCH_NAMES[name]: array for name, array in read(inferred.weights)[""].items()}
    return Other(shapes_of(weights), weights)
