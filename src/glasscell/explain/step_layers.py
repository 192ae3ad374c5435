"""The layers of a step map: which can be used, in float64, and their states as vectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from glasscell.core.types import Array
from glasscell.validation import type_name

CONSTANT_OPERATIONS = ("scale", "set", "clamp", "add")  # of interventions: they make a step no function of more than s


class Part(NamedTuple):
    """One array of the state of a recurrent layer: stacked layer, field, and components in the layer's vector."""

    stacked: int
    field: str
    rows: slice


def state_parts(layer: Any) -> list[Part]:
    """Return the arrays of the state of a recurrent layer, from its first stacked layer to the last."""
    parts: list[Part] = []
    start = 0
    for stacked in range(layer.num_states[1]):
        for field, (_, rows) in layer.state_sizes.items():
            parts.append(Part(stacked, field, slice(start, start + rows)))
            start += rows
    return parts


def to_layer_state(layer: Any, values: Array) -> Any:
    """Return a state in core's layout from vectors (n, M)."""
    fields: dict[str, list[Array]] = {}
    for part in state_parts(layer):
        fields.setdefault(part.field, []).append(values[part.rows])
    return layer.state_type(**fields)


def from_layer_state(layer: Any, state: Any) -> Array:
    """Return vectors (n, M) from a state in core's layout."""
    return np.concatenate([getattr(state, part.field)[part.stacked] for part in state_parts(layer)])


def layers_of(model: Any) -> tuple[list[Any], list[str]]:
    """Return the layers up to the last recurrent one, and their names, if one step of them is a map of their state."""
    is_layer = getattr(model, "stateful", False)
    layers: list[Any] = [model] if is_layer else list(getattr(model, "layers", ()))
    names: list[str] = ["layer"] if is_layer else list(getattr(model, "names", ()))
    if not layers or len(layers) != len(names) or not all(hasattr(layer, "stateful") for layer in layers):
        raise TypeError(f"model must be a recurrent layer or a Sequential, got {type(model).__name__}")
    recurrent = [k for k, layer in enumerate(layers) if layer.stateful]
    if not recurrent:
        raise ValueError("model must have a recurrent layer, got none")
    layers, names = layers[: recurrent[-1] + 1], names[: recurrent[-1] + 1]
    for name, layer in zip(names, layers, strict=True):
        label = "model" if is_layer else f"layer {name!r}"
        if layer.runs_backward:
            raise ValueError(f"{label} must run forward in time only, got {layer!r}")
        if layer.stateful:
            _check_recurrent(label, layer)
        elif layer.takes != "any" and not layer.pointwise:
            raise ValueError(f"{label} must compute each step from that step alone, got {layer!r}")
    return layers, names


def _check_recurrent(label: str, layer: Any) -> None:
    if not layer.traceable:
        raise ValueError(f"{label} must be an LSTM, a GRU or an RNN, got {type_name(layer)}")
    unsupported = getattr(getattr(layer, "options", None), "unsupported", None)
    for name, value in unsupported("trace").items() if unsupported else ():
        raise ValueError(f"{label} must have no {name}={value!r}: its Jacobian is not supported")


def in_float64(layer: Any) -> Any:
    """Return a copy of a layer with parameters, in float64 and run by NumPy; other layers as they are."""
    if not hasattr(layer, "named_weights"):
        return layer
    weights: Mapping[str, Array] = layer.named_weights()
    for name, weight in weights.items():
        if not np.isfinite(weight).all():
            raise ValueError(f"weights must be finite, got {name} with NaN or infinite values")
    options: dict[str, Any] = {"seed": None} if layer.seeded else {}
    if hasattr(layer, "execution"):
        options["engine"] = "numpy"
    copy = type(layer)(**layer.config, dtype=np.float64, **options)
    copy.load_named_weights({name: weight.astype(np.float64) for name, weight in weights.items()})
    if hasattr(layer, "set_interventions"):
        for k in range(layer.num_states[1]):
            for one in (interventions := layer.interventions(k)):
                if one.operation not in CONSTANT_OPERATIONS or one.steps is not None:
                    operations = ", ".join(CONSTANT_OPERATIONS)
                    raise ValueError(f"interventions must act at all steps, by {operations} or cut, got {one.text}")
            copy.set_interventions(k, interventions)
    return copy
