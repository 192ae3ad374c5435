"""PyTorch's names and layout for the weights of an LSTM: also those in our files.

``nn.LSTM`` keeps, for each layer and direction, ``weight_ih`` (4H, I), ``weight_hh`` (4H, P), perhaps two biases (4H,)
that add up, and ``weight_hr`` (P, H) where it projects. What nn.LSTM has no name for keeps its own.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from glasscell.convert.codec import TORCH, Parts, check_shapes, decode, encode
from glasscell.core.parameters import Parameters
from glasscell.core.typing import Array

if TYPE_CHECKING:
    from glasscell.layers.options import LSTMOptions


def to_torch(parameters: Parameters, options: "LSTMOptions") -> dict[str, Array]:
    """The weights of an LSTM under PyTorch's names.

    Our one bias becomes ``bias_ih``, and ``bias_hh`` is 0. What nn.LSTM has no name for keeps its own.
    """
    weights: dict[str, Array] = {}
    inputs = {suffix: I for suffix, I, _ in options.ways}
    for name, array in parameters.items():
        kind, suffix = _split(name)
        if kind == "projection":
            weights[f"weight_hr{suffix}"] = array.copy()
        elif kind != "kernel":
            weights[name] = array.copy()
        else:
            parts = encode(array, inputs[suffix], options.variant.gates, TORCH, bias=options.bias)
            weights[f"weight_ih{suffix}"], weights[f"weight_hh{suffix}"], bias = parts
            if bias is not None:
                weights[f"bias_ih{suffix}"], weights[f"bias_hh{suffix}"] = bias, np.zeros_like(bias)
    return weights


def from_torch(weights: Mapping[str, Array], parameters: Parameters, options: "LSTMOptions") -> None:
    """Copy weights under PyTorch's names into the parameters of an LSTM.

    Raises
    ------
    ValueError
        If a weight is missing, has another shape, or is not one of these parameters; they are then as they were.
    """
    expected = {name: array.shape for name, array in to_torch(parameters, options).items()}
    check_shapes({name: array.shape for name, array in weights.items()}, expected)
    for name, view in parameters.items():
        kind, suffix = _split(name)
        if kind == "projection":
            view[:] = weights[f"weight_hr{suffix}"]
        elif kind != "kernel":
            view[:] = weights[name]
        else:
            bias = weights[f"bias_ih{suffix}"] + weights[f"bias_hh{suffix}"] if options.bias else None
            parts = Parts(weights[f"weight_ih{suffix}"], weights[f"weight_hh{suffix}"], bias)
            view[:] = decode(parts, options.variant.gates, TORCH)


def torch_sizes(weights: Mapping[str, Array]) -> dict[str, Any]:
    """The options of an LSTM that the names and shapes of an nn.LSTM's weights tell."""
    first, recurrent = (_matrix(weights, name) for name in ("weight_ih_l0", "weight_hh_l0"))
    if first.shape[0] % 4 or not first.size:
        raise ValueError(f"the weight 'weight_ih_l0' has shape {first.shape}; expected (4H, I)")
    layers = {int(found[1]) for name in weights if (found := re.fullmatch(r"weight_ih_l(\d{1,6})(_reverse)?", name))}
    if layers != set(range(len(layers))):
        raise ValueError(f"there are weights for the layers {sorted(layers)}; expected 0 to {max(layers)}")
    projected = "weight_hr_l0" in weights
    return {
        "input_size": first.shape[1],
        "hidden_size": first.shape[0] // 4,
        "num_layers": len(layers),
        "bidirectional": "weight_ih_l0_reverse" in weights,
        "bias": "bias_ih_l0" in weights,
        "proj_size": recurrent.shape[1] if projected else None,
    }


def check_torch_has(options: "LSTMOptions") -> None:
    """Refuse options that nn.LSTM does not support."""
    for name, value in options.unsupported("torch").items():
        raise ValueError(f"PyTorch's nn.LSTM has no {name}, and here it is {value!r}")
    P, H = options.proj_size, options.hidden_size
    if P is not None and P >= H:
        raise ValueError(f"PyTorch's nn.LSTM has only a proj_size below hidden_size = {H}, and here it is {P}")


def _matrix(weights: Mapping[str, Array], name: str) -> Array:
    if name not in weights:
        raise ValueError(f"the weight {name!r} is missing; there are {', '.join(weights) or 'none'}")
    if weights[name].ndim != 2:
        raise ValueError(f"the weight {name!r} has shape {weights[name].shape}; expected a matrix")
    return weights[name]


def _split(name: str) -> tuple[str, str]:
    """The name without the suffix of its way, and that: kernel and _l0_reverse."""
    k = name.rindex("_l")
    return name[:k], name[k:]
