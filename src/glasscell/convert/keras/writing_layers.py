"""Layers of ours that are one layer of Keras: its class, settings and weights."""

from collections.abc import Callable, Sequence
from typing import Any

from glasscell.convert.keras.stateless import FUNCTIONS
from glasscell.core.types import Array
from glasscell.core.windows import Windows
from glasscell.layers import (
    LSTM,
    AveragePooling1D,
    BatchNorm,
    Conv1D,
    Dropout,
    Embedding,
    Flatten,
    Function,
    GaussianDropout,
    GaussianNoise,
    LayerNorm,
    Linear,
    MaxPooling1D,
    Normalization,
    RepeatVector,
    Rescaling,
    SpatialDropout1D,
)
from glasscell.layers.kinds import input_size
from glasscell.models.sequential import Layer
from glasscell.weight_layouts import keras as codec

Written = tuple[str, dict[str, Any], dict[str, Array]]  # the class, its settings, its weights
WINDOWED = (Conv1D, MaxPooling1D, AveragePooling1D)
OVER_ALL_STEPS = (*WINDOWED, Flatten)  # Keras does not support masks there
MOST_STEPS = 2**20  # looked for where a model takes one number of steps alone


def function(layer: Function) -> Written:
    """An activation."""
    if layer.name == "LeakyRelu":
        return "LeakyReLU", {"negative_slope": layer.alpha}, {}
    if layer.name == "Elu" and layer.alpha != 1:
        return "ELU", {"alpha": layer.alpha}, {}
    for theirs, ours in FUNCTIONS.items():
        if ours == (layer.name,):
            return "Activation", {"activation": theirs}, {}
    return "Activation", {"activation": codec.activation_to_keras((layer.name, layer.alpha, layer.beta))}, {}


def _embedding(layer: Embedding) -> Written:
    sizes = {"input_dim": layer.vocabulary_size, "output_dim": layer.embedding_size}
    table = {"embeddings": layer.parameters["weight"].copy()}
    return "Embedding", {**sizes, "mask_zero": layer.mask_zero}, table


def _convolution(layer: Conv1D) -> Written:
    of = layer.windows
    config = {
        "filters": layer.output_size,
        "kernel_size": [of.size],
        "strides": [of.stride],
        "padding": _padding(of, ("valid", "same", "causal")),
        "dilation_rate": [of.dilation],
        "groups": layer.groups,
        "activation": "linear",
        "use_bias": layer.bias,
    }
    weights = {"kernel": layer.parameters["weight"].transpose(2, 1, 0).copy()}
    return "Conv1D", config, weights | ({"bias": layer.parameters["bias"].copy()} if layer.bias else {})


def _pooling(layer: MaxPooling1D | AveragePooling1D) -> Written:
    of = layer.windows
    padding = _padding(of, ("valid", "same"))
    if isinstance(layer, AveragePooling1D) and layer.count_padding and padding != "valid":
        raise ValueError("Keras takes the mean of the steps that exist, and no count_padding=True")
    return type(layer).__name__, {"pool_size": [of.size], "strides": [of.stride], "padding": padding}, {}


def _padding(of: Windows, known: Sequence[str]) -> str:
    """What Keras calls the padding of windows."""
    if of.padding in known:
        return str(of.padding)
    if of.padding == (0, 0):
        return "valid"
    if of.padding == (of.span - 1, 0) and "causal" in known:
        return "causal"
    if of.stride == 1 and of.padding == ((of.span - 1) // 2, of.span // 2):
        return "same"
    raise ValueError(f"Keras has the paddings {', '.join(known)}, and no padding={of.padding!r}")


def _normalization(layer: LayerNorm | BatchNorm) -> Written:
    kind = "LayerNormalization" if isinstance(layer, LayerNorm) else "BatchNormalization"
    config = {"axis": -1, "epsilon": layer.epsilon, "center": layer.shift, "scale": layer.gain}
    weights = {theirs: layer.parameters[ours].copy() for theirs, ours in NORMALIZED if ours in layer.parameters}
    if isinstance(layer, BatchNorm):
        of = layer.statistics
        weights |= {"moving_mean": of["running_mean"].copy(), "moving_variance": of["running_var"].copy()}
    return kind, config, weights


NORMALIZED = (("gamma", "gain"), ("beta", "shift"))


def _fixed_normalization(layer: Normalization) -> Written:
    config = {"mean": _list(layer.mean), "variance": _list(layer.variance), "invert": layer.invert}
    if layer.size is not None:  # Keras has both of one shape
        config |= {name: [value] * layer.size for name, value in config.items() if type(value) is float}
    return "Normalization", {"axis": -1 if layer.size is not None else None, **config}, {}


def _list(value: float | tuple[float, ...]) -> float | list[float]:
    return list(value) if isinstance(value, tuple) else value


WRITERS: dict[type, Callable[[Any], Written]] = {
    Embedding: _embedding,
    Function: function,
    Dropout: lambda layer: ("Dropout", {"rate": layer.rate}, {}),
    SpatialDropout1D: lambda layer: ("SpatialDropout1D", {"rate": layer.rate}, {}),
    GaussianDropout: lambda layer: ("GaussianDropout", {"rate": layer.rate}, {}),
    GaussianNoise: lambda layer: ("GaussianNoise", {"stddev": layer.deviation}, {}),
    Rescaling: lambda layer: ("Rescaling", {"scale": _list(layer.scale), "offset": _list(layer.offset)}, {}),
    Normalization: _fixed_normalization,
    LayerNorm: _normalization,
    BatchNorm: _normalization,
    Conv1D: _convolution,
    MaxPooling1D: _pooling,
    AveragePooling1D: _pooling,
    RepeatVector: lambda layer: ("RepeatVector", {"n": layer.times}, {}),
    Flatten: lambda layer: ("Flatten", {}, {}),  # noqa: ARG005 - it has no settings
}


def one_layer(layer: Layer) -> Written | None:
    """Return the Keras layer for a layer; None if it needs several or a neighbour."""
    write = WRITERS.get(type(layer))
    return None if write is None else write(layer)


def input_features(layers: Sequence[Layer]) -> int | None:
    """How many features the first layer takes; None if it takes symbols."""
    size = input_size(layers)
    if size is None and not isinstance(layers[0], Embedding):
        raise ValueError("its layers do not say how many features it takes, and Keras has to know")
    return size


def input_steps(layers: Sequence[Layer]) -> int | None:
    """How many steps sequences have, if a Flatten leaves one number of them alone; None if any number does.

    Raises
    ------
    ValueError
        If several numbers do, and not all, or no layer says it: Keras has to know the one.
    """
    features: int | None = None
    for k, layer in enumerate(layers):
        if isinstance(layer, Flatten):
            after = next((one for one in layers[k + 1 :] if isinstance(one, Linear | LayerNorm | BatchNorm)), None)
            if features is None or after is None or after.input_size % features:
                raise ValueError("no layer says how many steps a Flatten takes; Keras has to know")
            return _steps_of(layers[:k], after.input_size // features)
        if isinstance(layer, Embedding):
            features = layer.embedding_size
        elif isinstance(layer, LSTM | Linear):
            features = layer.output_size
        else:
            features = layer.output_features(features)
    return None


def _steps_of(layers: Sequence[Layer], steps: int) -> int | None:
    """Return the number of input steps for which the last layer returns a given number."""
    for layer in reversed(layers):
        if isinstance(layer, RepeatVector):
            if layer.times != steps:
                raise ValueError(f"{steps} steps are flattened, and a RepeatVector gives {layer.times}")
            return None
        if isinstance(layer, WINDOWED):
            of = layer.windows
            near = range(max(1, (steps - 1) * of.stride - of.span), steps * of.stride + 2 * of.span)
            fitting = [T for T in near if of.count(T) == steps] if steps < MOST_STEPS else []
            if len(fitting) != 1:
                shown = " or ".join(map(str, fitting[:3])) or "no"
                raise ValueError(
                    f"{shown} steps fit a {type(layer).__name__} before a Flatten, and Keras needs one number"
                )
            [steps] = fitting
    return steps
