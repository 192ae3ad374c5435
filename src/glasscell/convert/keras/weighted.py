"""Layers of Keras with weights, other than LSTMs, as layers of ours."""

from typing import Any

import numpy as np

from glasscell.convert.keras.architecture import KerasLayer, shortened
from glasscell.convert.keras.kinds import weight_names
from glasscell.convert.keras.stateless import integer, number, numbers, padding, settings
from glasscell.convert.keras.weights import Weights
from glasscell.layers import BatchNorm, Conv1D, LayerNorm, Normalization
from glasscell.validation import boolean
from glasscell.weight_layouts import check_shapes


def convolution(layer: KerasLayer, weights: Weights, dtype: np.dtype[np.floating], *, masked: bool) -> Conv1D:
    """A Conv1D without its activation; `masked`: whether steps may be masked before it."""
    known = ("filters", "kernel_size", "strides", "padding", "dilation_rate", "groups", "activation", "use_bias")
    config = settings(layer, *known, data_format="channels_last")
    kernel = weights[""].get("kernel")
    if kernel is None or kernel.ndim != 3:
        raise ValueError(f"it has no kernel of three axes, but {shapes(weights)}")
    (K, I, O), groups = kernel.shape, integer("groups", config, 1)
    expected = {"kernel": (integer("kernel_size", config, K), I, integer("filters", config, O)), "bias": (O,)}
    check_shapes(shapes(weights), {name: expected[name] for name in weight_names(layer.kind, config)})
    ours = Conv1D(
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
    ours.parameters["weight"][:] = kernel.transpose(2, 1, 0)
    if ours.bias:
        ours.parameters["bias"][:] = weights[""]["bias"]
    return ours


def normalization(
    layer: KerasLayer, weights: Weights, dtype: np.dtype[np.floating], features: int | None, *, timed: bool
) -> BatchNorm | LayerNorm:
    """A BatchNormalization as it is outside training, or a LayerNormalization.

    `features` is how many there are, if that is known, and `timed` whether there is an axis of steps.
    """
    batch = layer.kind == "BatchNormalization"
    if batch:
        passed_over = ("momentum", "synchronized", "fused", "renorm_clipping", "renorm_momentum")
        config = settings(layer, "axis", "epsilon", "center", "scale", *passed_over, renorm=False)
    else:
        config = settings(layer, "axis", "epsilon", "center", "scale", rms_scaling=False)
    _check_last_axis(config.get("axis", -1), 3 if timed else 2)
    of_layer, names = weights.get("", {}), weight_names(layer.kind, config)
    F = next((array.size for array in of_layer.values()), features)
    if F is None:
        raise ValueError("it has no weights, and nothing says how many features there are")
    check_shapes({name: array.shape for name, array in of_layer.items()}, dict.fromkeys(names, (F,)))
    kind = BatchNorm if batch else LayerNorm
    ours = kind(F, epsilon=number("epsilon", config, 1e-3), gain="gamma" in names, shift="beta" in names, dtype=dtype)
    named = {"gamma": "gain", "beta": "shift", "moving_mean": "running_mean", "moving_variance": "running_var"}
    for name, array in of_layer.items():
        held = ours.statistics if name.startswith("moving_") else ours.parameters
        held[named[name]][:] = array
    return ours


def fixed_normalization(layer: KerasLayer, weights: Weights) -> Normalization:
    """A Normalization: its mean and variance are settings, or weights."""
    config = settings(layer, "axis", "mean", "variance", "invert")
    if config.get("axis", -1) not in (None, [], ()):
        _check_last_axis(config.get("axis", -1), 3)
    given: dict[str, Any] = {name: weights.get("", {}).get(name, config.get(name)) for name in ("mean", "variance")}
    mean, variance = (numbers(name, value) for name, value in given.items())
    return Normalization(mean, variance, boolean("invert", config.get("invert", False)))


def shapes(weights: Weights) -> dict[str, tuple[int, ...]]:
    """The shapes of the weights of a layer of one part, by name."""
    return {name: array.shape for name, array in weights[""].items()}


def _check_last_axis(axis: Any, rank: int) -> None:
    """Refuse another axis than that of the features."""
    given = axis[0] if isinstance(axis, list | tuple) and len(axis) == 1 else axis
    if isinstance(given, bool) or given not in (-1, rank - 1):
        raise ValueError(f"only features, the last axis, can be normalised, and axis is {shortened(axis)}")
