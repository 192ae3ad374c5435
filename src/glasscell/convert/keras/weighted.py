"""Convert Keras layers with weights, other than recurrent layers, Dense and Embedding."""

from typing import Any

import numpy as np

from glasscell.convert.keras.architecture import KerasLayer
from glasscell.convert.keras.json_values import shorten
from glasscell.convert.keras.kinds import weight_names
from glasscell.convert.keras.stateless import integer, number, numbers, padding, settings
from glasscell.convert.keras.weights import Weights
from glasscell.layers import BatchNorm, Conv1D, LayerNorm, Normalization
from glasscell.validation import boolean
from glasscell.weight_layouts import check_shapes


def convolution(layer: KerasLayer, weights: Weights, dtype: np.dtype[np.floating], *, masked: bool) -> Conv1D:
    """Return the layer of a Conv1D without its activation; `masked`: whether steps may be masked before it."""
    supported = ("filters", "kernel_size", "strides", "padding", "dilation_rate", "groups", "activation", "use_bias")
    config = settings(layer, *supported, data_format="channels_last")
    kernel = weights[""].get("kernel")
    if kernel is None or kernel.ndim != 3:
        raise ValueError(f"it has no kernel of three axes, but {shapes(weights)}")
    (K, I, O), groups = kernel.shape, integer("groups", config, 1)
    expected = {"kernel": (integer("kernel_size", config, K), I, integer("filters", config, O)), "bias": (O,)}
    check_shapes(shapes(weights), {name: expected[name] for name in weight_names(layer.kind, config)})
    converted = Conv1D(
        *(I * groups, O, K),
        stride=integer("strides", config, 1),
        padding=padding(config, ("valid", "same", "causal")),
        dilation=integer("dilation_rate", config, 1),
        groups=groups,
        bias="bias" in weights[""],
        ignore_mask=masked,
        dtype=dtype,
        seed=None,
    )
    converted.parameters["weight"][:] = kernel.transpose(2, 1, 0)
    if converted.bias:
        converted.parameters["bias"][:] = weights[""]["bias"]
    return converted


def normalization(
    layer: KerasLayer, weights: Weights, dtype: np.dtype[np.floating], features: int | None, *, timed: bool
) -> BatchNorm | LayerNorm:
    """Return the layer of a BatchNormalization (at inference) or a LayerNormalization.

    `features` is their number if it is known, and `timed` whether there is an axis of steps.
    """
    batch = layer.kind == "BatchNormalization"
    if batch:
        ignored = ("momentum", "synchronized", "fused", "renorm_clipping", "renorm_momentum")
        config = settings(layer, "axis", "epsilon", "center", "scale", *ignored, renorm=False)
    else:
        config = settings(layer, "axis", "epsilon", "center", "scale", rms_scaling=False)
    _check_last_axis(config.get("axis", -1), 3 if timed else 2)
    layer_weights, names = weights.get("", {}), weight_names(layer.kind, config)
    F = next((array.size for array in layer_weights.values()), features)
    if F is None:
        raise ValueError("the number of features must be known: it has no weights")
    check_shapes({name: array.shape for name, array in layer_weights.items()}, dict.fromkeys(names, (F,)))
    kind = BatchNorm if batch else LayerNorm
    converted = kind(
        F, epsilon=number("epsilon", config, 1e-3), gain="gamma" in names, shift="beta" in names, dtype=dtype
    )
    names_here = {"gamma": "gain", "beta": "shift", "moving_mean": "running_mean", "moving_variance": "running_var"}
    for name, array in layer_weights.items():
        arrays = converted.statistics if name.startswith("moving_") else converted.parameters
        arrays[names_here[name]][:] = array
    return converted


def fixed_normalization(layer: KerasLayer, weights: Weights) -> Normalization:
    """Return the layer of a Normalization, whose mean and variance are settings or weights."""
    config = settings(layer, "axis", "mean", "variance", "invert")
    if config.get("axis", -1) not in (None, [], ()):
        _check_last_axis(config.get("axis", -1), 3)
    values: dict[str, Any] = {name: weights.get("", {}).get(name, config.get(name)) for name in ("mean", "variance")}
    mean, variance = (numbers(name, value) for name, value in values.items())
    return Normalization(mean, variance, boolean("invert", config.get("invert", False)))


def shapes(weights: Weights) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the weights of a layer without directions, by name."""
    return {name: array.shape for name, array in weights[""].items()}


def _check_last_axis(axis: Any, rank: int) -> None:
    """Raise ValueError for an axis other than that of the features."""
    index = axis[0] if isinstance(axis, list | tuple) and len(axis) == 1 else axis
    if isinstance(index, bool) or index not in (-1, rank - 1):
        raise ValueError(f"axis must be the last one, of the features, got {shorten(axis)}")
