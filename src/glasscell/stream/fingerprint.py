"""The fingerprint of a model that a saved state belongs to.

A state fits a model whose layers compute the same from weights of the same shapes: types of layers in their order,
sizes, options, dtype. Names of layers do not count, nor options that only training uses (dropout), nor the values of
the weights: a state fits after further training, and a copy of the model.
"""

import json
from collections.abc import Mapping
from typing import Any

from glasscell.stream.building import Stage

DEFAULT = "the default"


def fingerprint(
    layers: Mapping[str, Any], stages: Mapping[str, Stage], dtype: object, batch: int | None
) -> dict[str, Any]:
    """Return the fingerprint, plain JSON.

    Parameters
    ----------
    layers : mapping of str to layer
    stages : mapping of str to Stage
        Without entries for layers that change nothing outside training.
    dtype : float32 or float64
    batch : int, optional
    """
    entries = [
        {
            "name": name,
            "kind": _type_name(layers[name]),
            "options": {key: v for key, v in layers[name].config.items() if key not in stage.training_only},
        }
        for name, stage in stages.items()
    ]
    result: dict[str, Any] = json.loads(json.dumps({"dtype": str(dtype), "batch": batch, "layers": entries}))
    return result


def _type_name(layer: object) -> str:
    """Return the name of the class that defines the layer's stage: a subclass has the fingerprint of its base."""
    return next(cls.__name__ for cls in type(layer).__mro__ if "stream_stage" in vars(cls))


def differences(saved: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """Return the differences between two fingerprints, by name."""
    result = [
        f"{name} is {_format(saved.get(name))} there, {_format(expected[name])} here"
        for name in ("dtype", "batch")
        if saved.get(name) != expected[name]
    ]
    there, here = saved.get("layers"), expected["layers"]
    if not isinstance(there, list) or not all(isinstance(layer, dict) for layer in there):
        return [*result, "its layers are not described"]
    types = [[layer.get("kind") for layer in layers] for layers in (there, here)]
    if types[0] != types[1]:
        return [*result, f"the layers are {', '.join(map(str, types[0]))} there, {', '.join(map(str, types[1]))} here"]
    for saved_layer, layer in zip(there, here, strict=True):
        a, b = saved_layer.get("options"), layer["options"]
        a = a if isinstance(a, dict) else {}
        result += [
            f"{name} of layer {layer['name']!r} is {a.get(name, DEFAULT)} there, {b.get(name, DEFAULT)} here"
            for name in sorted({*a, *b})
            if a.get(name, DEFAULT) != b.get(name, DEFAULT)
        ]
    return result


def _format(value: object) -> object:
    return "none" if value is None else value
