"""Convert layers that become one Keras layer: its class, settings and weights."""

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
from glasscell.weight_layouts import keras as keras_layout

KerasSpec = tuple[str, dict[str, Any], dict[str, Array]]  # the class, its settings, its weights
WINDOWED = (Conv1D, MaxPooling1D, AveragePooling1D)
OVER_ALL_STEPS = (*WINDOWED, Flatten)  # Keras does not support masks there
MAX_STEPS = 2**20  # for which the number of input steps of a window layer is searched


def function(layer: Function) -> KerasSpec:
    """Return the Keras layer of an activation."""
    if layer.name == "LeakyRelu":
        return "LeakyReLU", {"negative_slope": layer.alpha}, {}
    if layer.name == "Elu" and layer.alpha != 1:
        return "ELU", {"alpha": layer.alpha}, {}
    for keras_name, spec in FUNCTIONS.items():
        if spec == (layer.name,):
            return "Activation", {"activation": keras_name}, {}
    return "Activation", {"activation": keras_layout.activation_to_keras((layer.name, layer.alpha, layer.beta))}, {}


def _embedding(layer: Embedding) -> KerasSpec:
    sizes = {"input_dim": layer.vocabulary_size, "output_dim": layer.embedding_size}
    table = {"embeddings": layer.parameters["weight"].copy()}
    return "Embedding", {**sizes, "mask_zero": layer.mask_zero}, table


def _convolution(layer: Conv1D) -> KerasSpec:
    windows = layer.windows
    config = {
        "filters": layer.output_size,
        "kernel_size": [windows.size],
        "strides": [windows.stride],
        "padding": _padding(windows, ("valid", "same", "causal")),
        "dilation_rate": [windows.dilation],
        "groups": layer.groups,
        "activation": "linear",
        "use_bias": layer.bias,
    }
    weights = {"kernel": layer.parameters["weight"].transpose(2, 1, 0).copy()}
    return "Conv1D", config, weights | ({"bias": layer.parameters["bias"].copy()} if layer.bias else {})


def _pooling(layer: MaxPooling1D | AveragePooling1D) -> KerasSpec:
    windows = layer.windows
    padding = _padding(windows, ("valid", "same"))
    if isinstance(layer, AveragePooling1D) and layer.count_padding and padding != "valid":
        raise ValueError("Keras takes the mean of the steps that exist, and no count_padding=True")
    return type(layer).__name__, {"pool_size": [windows.size], "strides": [windows.stride], "padding": padding}, {}


def _padding(windows: Windows, supported: Sequence[str]) -> str:
    """Return Keras' name of the padding of windows."""
    if windows.padding in supported:
        return str(windows.padding)
    if windows.padding == (0, 0):
        return "valid"
    if windows.padding == (windows.span - 1, 0) and "causal" in supported:
        return "causal"
    if windows.stride == 1 and windows.padding == ((windows.span - 1) // 2, windows.span // 2):
        return "same"
    raise ValueError(f"Keras has the paddings {', '.join(supported)}, and no padding={windows.padding!r}")


def _normalization(layer: LayerNorm | BatchNorm) -> KerasSpec:
    kind = "LayerNormalization" if isinstance(layer, LayerNorm) else "BatchNormalization"
    config = {"axis": -1, "epsilon": layer.epsilon, "center": layer.shift, "scale": layer.gain}
    weights = {keras_name: layer.parameters[name].copy() for keras_name, name in NORMALIZED if name in layer.parameters}
    if isinstance(layer, BatchNorm):
        mean, variance = (layer.statistics[name].copy() for name in ("running_mean", "running_var"))
        weights |= {"moving_mean": mean, "moving_variance": variance}
    return kind, config, weights


NORMALIZED = (("gamma", "gain"), ("beta", "shift"))


def _fixed_normalization(layer: Normalization) -> KerasSpec:
    config = {"mean": _list(layer.mean), "variance": _list(layer.variance), "invert": layer.invert}
    if layer.size is not None:  # Keras has both of one shape
        config |= {name: [value] * layer.size for name, value in config.items() if type(value) is float}
    return "Normalization", {"axis": -1 if layer.size is not None else None, **config}, {}


def _list(value: float | tuple[float, ...]) -> float | list[float]:
    return list(value) if isinstance(value, tuple) else value


WRITERS: dict[type, Callable[[Any], KerasSpec]] = {
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


def export_layer(layer: Layer) -> KerasSpec | None:
    """Return the Keras layer for a layer; None if it needs several or a neighbour."""
    write = WRITERS.get(type(layer))
    return None if write is None else write(layer)


def input_features(layers: Sequence[Layer]) -> int | None:
    """Return the number of input features; None if the inputs are ids."""
    size = input_size(layers)
    if size is None and not isinstance(layers[0], Embedding):
        raise ValueError("its layers do not say how many features it takes, and Keras has to know")
    return size


def input_steps(layers: Sequence[Layer]) -> int | None:
    """Return the number of input steps that a Flatten requires; None if any number is possible.

    Raises
    ------
    ValueError
        If several numbers are possible, but not all, or no layer determines it: Keras requires one.
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
            windows = layer.windows
            candidates = range(
                max(1, (steps - 1) * windows.stride - windows.span), steps * windows.stride + 2 * windows.span
            )
            fitting = [T for T in candidates if windows.count(T) == steps] if steps < MAX_STEPS else []
            if len(fitting) != 1:
                counts = " or ".join(map(str, fitting[:3])) or "no"
                raise ValueError(
                    f"{counts} steps fit a {type(layer).__name__} before a Flatten, and Keras needs one number"
                )
            [steps] = fitting
    return steps
