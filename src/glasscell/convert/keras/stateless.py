"""Convert Keras layers without weights."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from glasscell.convert.keras.architecture import KerasLayer
from glasscell.convert.keras.json_values import mapping, shorten
from glasscell.layers import (
    AveragePooling1D,
    Dropout,
    Flatten,
    Function,
    GaussianDropout,
    GaussianNoise,
    MaxPooling1D,
    RepeatVector,
    Rescaling,
    SpatialDropout1D,
)
from glasscell.layers.batch_first import StatelessLayer
from glasscell.weight_layouts import keras as keras_layout

# Functions that need not be elementwise, in addition to those of an LSTM.
FUNCTIONS: dict[str, tuple[Any, ...]] = {"softmax": ("Softmax",), "log_softmax": ("LogSoftmax",)}

# Settings of a layer that do not change its outputs.
IGNORED = re.compile(
    r"name|trainable|dtype|seed|autocast|batch_shape|batch_input_shape|input_length|sparse|"
    r"(kernel|recurrent|bias|embeddings|activity|beta|gamma|moving_mean|moving_variance)_"
    r"(initializer|regularizer|constraint)"
)
PADDINGS = ("valid", "same")
RATES: dict[str, type[Dropout | SpatialDropout1D | GaussianDropout]] = {
    "Dropout": Dropout,
    "SpatialDropout1D": SpatialDropout1D,
    "GaussianDropout": GaussianDropout,
}


def settings(layer: KerasLayer, *supported: str, **only: Any) -> dict[str, Any]:
    """Return the settings of a layer; raise ValueError unless all are `supported` or have the values of `only`."""
    for name, value in layer.config.items():
        if name in only and value == only[name]:
            continue
        if name not in supported and value is not None and not IGNORED.fullmatch(name):
            raise ValueError(f"the Keras setting {name}={shorten(value)} is not supported")
    return layer.config


def number(name: str, config: Mapping[str, Any], default: float | None) -> float:
    """Return a setting that must be a number."""
    value = default if config.get(name) is None else config[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise ValueError(f"{name} must be a finite number, got {shorten(value)}")
    return float(value)


def integer(name: str, config: Mapping[str, Any], default: int | None) -> int:
    """Return a setting that must be an integer, or a list of one, which Keras writes for one axis."""
    value = default if config.get(name) is None else config[name]
    if isinstance(value, list | tuple) and len(value) == 1:
        [value] = value
    if type(value) is not int:
        raise ValueError(f"{name} must be an integer, got {shorten(value)}")
    return value


def numbers(name: str, value: Any) -> float | tuple[float, ...]:
    """Return a setting that must be a number, or one per feature: an array with at most one axis longer than 1."""
    if isinstance(value, Mapping):  # an array, as Keras serialises it
        value = mapping(value.get("config"), f"the setting {name}").get("value")
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        array = np.array(np.nan)
    if array.size != max(array.shape, default=1) or not array.size or not np.isfinite(array).all():
        raise ValueError(f"{name} must be a number, or one per feature, got {shorten(value)}")
    return tuple(array.reshape(-1).tolist()) if array.ndim else float(array)


def pooling(layer: KerasLayer, *, masked: bool) -> MaxPooling1D | AveragePooling1D:
    """Return the layer of a pooling of windows."""
    config = settings(layer, "pool_size", "strides", "padding", data_format="channels_last")
    size = integer("pool_size", config, 2)
    kind = MaxPooling1D if layer.kind == "MaxPooling1D" else AveragePooling1D
    return kind(size, integer("strides", config, size), padding(config, PADDINGS), masked)


def padding(config: Mapping[str, Any], supported: tuple[str, ...]) -> Any:
    """Return the padding of windows of steps."""
    value = config.get("padding", "valid")
    if value not in supported:
        raise ValueError(f"padding must be {' or '.join(supported)}, got {shorten(value)}")
    return value


def stateless(layer: KerasLayer, version: str, *, masked: bool) -> StatelessLayer:
    """Return a layer without weights; `masked`: whether steps may be masked before it."""
    kind = layer.kind
    converted: StatelessLayer
    if kind in ("MaxPooling1D", "AveragePooling1D"):
        converted = pooling(layer, masked=masked)
    elif kind == "RepeatVector":
        converted = RepeatVector(integer("n", settings(layer, "n"), None))
    elif kind == "Flatten":
        settings(layer, data_format="channels_last")
        converted = Flatten(ignore_mask=masked)
    elif kind == "Rescaling":
        config = settings(layer, "scale", "offset")
        converted = Rescaling(numbers("scale", config.get("scale")), numbers("offset", config.get("offset", 0.0)))
    elif kind == "GaussianNoise":
        converted = GaussianNoise(number("stddev", settings(layer, "stddev"), None))
    elif kind in RATES:
        config = settings(layer, "rate", "noise_shape")
        if config.get("noise_shape") is not None:
            raise ValueError(f"noise_shape {shorten(config['noise_shape'])} cannot be represented")
        converted = RATES[kind](config.get("rate", 0.0))
    else:
        converted = function(layer, version, masked=masked)
    return converted


def function(layer: KerasLayer, version: str, *, masked: bool) -> Function:
    """Return the layer of an elementwise function, or of a softmax."""
    if layer.kind == "Activation":
        return function_of(settings(layer, "activation").get("activation"), version) or Function("Affine", 1.0, 0.0)
    if layer.kind == "Softmax":
        axis = settings(layer, "axis").get("axis", -1)
        if axis not in (-1, [-1]) or masked:
            raise ValueError("only a Softmax over features (axis=-1), of steps that are not masked, can be represented")
        return Function("Softmax")
    if layer.kind == "ReLU":
        config = settings(layer, "max_value", "negative_slope", "threshold")
        if config.get("max_value") is not None or config.get("threshold"):
            raise ValueError("max_value and threshold of a ReLU cannot be represented")
        slope = number("negative_slope", config, 0.0)
        return Function("LeakyRelu", slope) if slope else Function("Relu")
    if layer.kind == "LeakyReLU":
        config = settings(layer, "negative_slope", "alpha")  # the second in Keras 2
        return Function("LeakyRelu", number("alpha" if "alpha" in config else "negative_slope", config, 0.3))
    if layer.kind == "ELU":
        return Function("Elu", number("alpha", settings(layer, "alpha"), 1.0))
    raise ValueError(f"a {layer.kind} cannot be represented")


def function_of(activation: Any, version: str) -> Function | None:
    """Return the layer of an activation; None for the identity."""
    if isinstance(activation, str) and activation in FUNCTIONS:
        return Function(*FUNCTIONS[activation])
    spec = keras_layout.activation_from_keras(activation, version)
    return None if spec == ("Affine", 1.0, 0.0) else Function(*spec)
