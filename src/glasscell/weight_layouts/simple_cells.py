"""PyTorch's and Keras' weights of an RNN and a GRU.

PyTorch has ``weight_ih`` (R, I), ``weight_hh`` (R, H) and two biases (R,), with the rows r z n of a GRU in our order.
Keras has a kernel (I, R) and a recurrent kernel (H, R), with the columns z r n, and a bias (R,); with
``reset_after=True`` a bias (2, R), for inputs and for h. This module stands below the layers: it uses their attributes.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from glasscell.core.types import Array
from glasscell.weight_layouts import check_shapes, prefix_hint, reorder
from glasscell.weight_layouts.keras import KERAS_IGNORED, shared_settings

GATE_COUNTS = {"RNN": 1, "GRU": 3}
KERAS_GATES = ("z", "r", "n")
KERAS_CLASSES = {"RNN": "SimpleRNN", "GRU": "GRU"}
# Settings that have one value here. Dropout and the direction are those of other layers.
KERAS_FIXED = {
    "activation": "tanh",
    "recurrent_activation": "sigmoid",
    "dropout": 0.0,
    "recurrent_dropout": 0.0,
    "go_backwards": False,
    "time_major": False,
}
_INPUT_WEIGHT = re.compile(r"weight_ih_l(\d{1,6})(_reverse)?")


def to_torch(layer: Any) -> dict[str, Array]:
    """Return the weights of a layer under PyTorch's names; a GRU with ``reset_after=False`` lacks ``bias_hh``."""
    weights: dict[str, Array] = {}
    H = layer.hidden_size
    for suffix, I, _ in layer.directions:
        kernel = layer.parameters[f"kernel{suffix}"]
        weights[f"weight_ih{suffix}"], weights[f"weight_hh{suffix}"] = kernel[:, H : H + I].copy(), kernel[:, :H].copy()
        if not layer.bias:
            continue
        weights[f"bias_ih{suffix}"] = kernel[:, -1].copy()
        if _has_recurrent_bias(layer):
            weights[f"bias_hh{suffix}"] = bias = np.zeros_like(kernel[:, -1])
            if "recurrent_bias" in layer.cell_weights(suffix):
                bias[-H:] = layer.parameters[f"recurrent_bias{suffix}"]
    return weights


def from_torch(weights: Mapping[str, Array], layer: Any) -> None:
    """Copy weights under PyTorch's names into a layer; biases are added where only their sum matters.

    Raises
    ------
    ValueError
        If a weight is missing, has another shape, or does not belong to the layer, which is then unchanged.
    """
    expected = {name: array.shape for name, array in to_torch(layer).items()}
    check_shapes({name: array.shape for name, array in weights.items()}, expected)
    H = layer.hidden_size
    for suffix, I, _ in layer.directions:
        kernel = layer.parameters[f"kernel{suffix}"]
        kernel[:, :H], kernel[:, H : H + I] = weights[f"weight_hh{suffix}"], weights[f"weight_ih{suffix}"]
        if not layer.bias:
            continue
        kernel[:, -1] = weights[f"bias_ih{suffix}"]
        if not _has_recurrent_bias(layer):
            continue
        recurrent = weights[f"bias_hh{suffix}"]
        if "recurrent_bias" in layer.cell_weights(suffix):
            kernel[:-H, -1] += recurrent[:-H]
            layer.parameters[f"recurrent_bias{suffix}"][:] = recurrent[-H:]
        else:
            kernel[:, -1] += recurrent


def check_supported(layer: Any) -> None:
    """Raise ValueError for a layer that PyTorch does not have."""
    if not layer.config.get("reset_after", True):
        raise ValueError("PyTorch's nn.GRU has no reset_after=False: its reset gate acts behind the product with h")


def infer_config(weights: Mapping[str, Array], kind: str) -> dict[str, Any]:
    """Infer the sizes of an RNN or a GRU from the names and shapes of PyTorch's weights."""
    gates = GATE_COUNTS[kind]
    for name in ("weight_ih_l0", "weight_hh_l0"):
        if name not in weights:
            listed = ", ".join(weights)[:400] or "none"
            raise ValueError(f"the weight {name!r} is missing; there are {listed}{prefix_hint(weights, name)}")
        if weights[name].ndim != 2 or not weights[name].size:
            raise ValueError(f"the weight {name!r} must be a matrix, got shape {weights[name].shape}")
    first, recurrent = weights["weight_ih_l0"], weights["weight_hh_l0"]
    if len(recurrent) != gates * recurrent.shape[1]:
        raise ValueError(
            f"the weight 'weight_hh_l0' must have shape ({gates}H, H) of {_article(kind)}, got {recurrent.shape}"
        )
    layers = {int(match[1]) for name in weights if (match := _INPUT_WEIGHT.fullmatch(name))}
    if layers != set(range(len(layers))):
        raise ValueError(f"there are weights for the layers {sorted(layers)}; expected 0 to {max(layers)}")
    return {
        "input_size": first.shape[1],
        "hidden_size": recurrent.shape[1],
        "num_layers": len(layers),
        "bidirectional": "weight_ih_l0_reverse" in weights,
        "bias": "bias_ih_l0" in weights,
    } | ({"reset_after": False} if kind == "GRU" and "bias_ih_l0" in weights and "bias_hh_l0" not in weights else {})


def config_from_keras(weights: Sequence[Array], config: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Return the options of an RNN or a GRU from the weights and the configuration of a Keras layer.

    Parameters
    ----------
    weights : sequence of array
        ``layer.get_weights()``.
    config : mapping
        ``layer.get_config()``, or a part of it: a setting that is absent has Keras' default.
    kind : {"RNN", "GRU"}

    Raises
    ------
    ValueError
        If a setting cannot be represented, or the weights do not fit together, by name.
    """
    merge, settings = _settings(config, kind)
    count = len(weights) // (1 if merge is None else 2)
    if count not in (2, 3) or len(weights) != count * (1 if merge is None else 2):
        each = "" if merge is None else ", for each direction"
        raise ValueError(f"there are {len(weights)} weights; expected kernel, recurrent_kernel and perhaps bias{each}")
    inputs, recurrent = np.shape(weights[0]), np.shape(weights[1])
    gates = GATE_COUNTS[kind]
    if len(inputs) != 2 or len(recurrent) != 2 or recurrent[1] != gates * recurrent[0]:
        raise ValueError(
            f"the weights must have the shapes (I, {gates}H) and (H, {gates}H) of {_article(kind)}, got {inputs} and "
            f"{recurrent}"
        )
    options = {"input_size": inputs[0], "hidden_size": recurrent[0], "bias": count == 3}
    if merge is not None:
        options["bidirectional"] = True
    bias_axes = np.ndim(weights[2]) if count == 3 else None
    expected = {"units": recurrent[0], "use_bias": count == 3}
    if kind == "GRU":
        expected["reset_after"] = settings.get("reset_after", True) if bias_axes is None else bias_axes == 2
        options["reset_after"] = expected["reset_after"]
    else:
        function = settings.pop("activation", "tanh")
        if function not in ("tanh", "relu"):
            raise ValueError(f"activation must be 'tanh' or 'relu', got {function!r}")
        options["nonlinearity"] = function
    for name, value in expected.items():
        if settings.pop(name, value) != value:
            raise ValueError(f"{name} must be {value!r}, as the weights have it, got {config.get(name)!r}")
    for name, value in settings.items():
        if name in KERAS_FIXED and value not in (KERAS_FIXED[name], None):
            raise ValueError(f"{name} must be {KERAS_FIXED[name]!r}, got {value!r}: {_article(kind)} has no other")
        if name not in KERAS_FIXED and not KERAS_IGNORED.fullmatch(name):
            raise ValueError(f"the setting {name}={value!r} of Keras cannot be represented")
    return options


def _settings(config: Mapping[str, Any], kind: str) -> tuple[str | None, dict[str, Any]]:
    """Return the merge mode of a Bidirectional, None for one direction; and the settings of each direction."""
    settings = dict(config)
    merge = settings.pop("merge_mode", "concat") if "layer" in settings else settings.pop("bidirectional", None)
    if merge not in (None, False, True, "concat"):
        raise ValueError(f"merge_mode must be 'concat', got {merge!r}: {_article(kind)} has no other")
    if "layer" in settings:
        entries = [settings.pop("layer"), settings.pop("backward_layer", None)]
        for entry in filter(None, entries):
            if not isinstance(entry, Mapping) or entry.get("class_name") != KERAS_CLASSES[kind]:
                raise ValueError(f"a Bidirectional must wrap a {KERAS_CLASSES[kind]} to become {_article(kind)}")
        settings |= shared_settings([entry["config"] for entry in filter(None, entries)])
    settings.pop("zero_output_for_mask", None)  # of masks: outputs are 0 here
    settings.pop("keras_version", None)
    return ("concat" if merge else None), settings


def from_keras(weights: Sequence[Array], layer: Any) -> None:
    """Copy the weights of a Keras layer, or of the two directions of a Bidirectional, into a layer of one level.

    Raises
    ------
    ValueError
        If their number or a shape does not fit; the layer is then unchanged.
    """
    expected = to_keras(layer)
    names = [f"weight {k}" for k in range(max(len(weights), len(expected)))]
    check_shapes(
        dict(zip(names, map(np.shape, weights), strict=False)),
        dict(zip(names, (array.shape for array in expected), strict=False)),
    )
    H, count = layer.hidden_size, len(weights) // len(layer.directions)
    for k, (suffix, _, _) in enumerate(layer.directions):
        inputs, recurrent, *bias = weights[k * count : (k + 1) * count]
        parts = [_from_keras_order(recurrent.T, layer), _from_keras_order(inputs.T, layer)]
        if layer.bias:
            both = [_from_keras_order(row, layer) for row in np.atleast_2d(bias[0])]
            if len(both) == 2:
                layer.parameters[f"recurrent_bias{suffix}"][:] = both[1][-H:]
                both[1][-H:] = 0
            parts.append(np.sum(both, axis=0)[:, None])
        layer.parameters[f"kernel{suffix}"][:] = np.concatenate(parts, axis=1)


def to_keras(layer: Any) -> list[Array]:
    """Return a copy of the weights of a layer of one level as ``set_weights`` of the Keras layer takes them."""
    if layer.num_layers > 1:
        raise ValueError(f"Keras has one layer for each level, and this one has num_layers={layer.num_layers}")
    H, weights = layer.hidden_size, list[Array]()
    for suffix, I, _ in layer.directions:
        kernel = layer.parameters[f"kernel{suffix}"]
        weights += [
            _to_keras_order(kernel[:, H : H + I], layer).T.copy(),
            _to_keras_order(kernel[:, :H], layer).T.copy(),
        ]
        if layer.bias:
            bias = kernel[:, -1].copy()
            if "recurrent_bias" in layer.cell_weights(suffix):
                recurrent = np.concatenate([np.zeros_like(bias[:-H]), layer.parameters[f"recurrent_bias{suffix}"]])
                weights.append(np.stack([_to_keras_order(row, layer) for row in (bias, recurrent)]))
            else:
                weights.append(_to_keras_order(bias, layer))
    return weights


def _from_keras_order(rows: Array, layer: Any) -> Array:
    return rows.copy() if len(layer.gates) == 1 else reorder(rows, KERAS_GATES, layer.gates)


def _to_keras_order(rows: Array, layer: Any) -> Array:
    return rows.copy() if len(layer.gates) == 1 else reorder(rows, layer.gates, KERAS_GATES)


def _has_recurrent_bias(layer: Any) -> bool:
    """Return whether PyTorch's names include ``bias_hh``: not for a GRU that PyTorch does not have."""
    return bool(layer.bias and layer.config.get("reset_after", True))


def _article(kind: str) -> str:
    return f"an {kind}" if kind == "RNN" else f"a {kind}"
