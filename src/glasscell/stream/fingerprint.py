"""The fingerprint of a model that a saved state belongs to.

A state fits a model whose layers have the same types, in the same order, with the same sizes, options and dtype. The
layers' names, options that only training uses (dropout), and the values of weights do not matter: a state fits a copy
of the model, also after further training.
"""

import json
from collections.abc import Mapping
from typing import Any

from glasscell.stream.building import Stage

DEFAULT = "the default"


def fingerprint(
    layers: Mapping[str, Any], stages: Mapping[str, Stage], dtype: object, batch: int | None
) -> dict[str, Any]:
    """Return the fingerprint, as JSON values.

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
    saved_layers, layers = saved.get("layers"), expected["layers"]
    if not isinstance(saved_layers, list) or not all(isinstance(layer, dict) for layer in saved_layers):
        return [*result, "the file does not describe the layers"]
    saved_types, types = ([str(layer.get("kind")) for layer in entries] for entries in (saved_layers, layers))
    if saved_types != types:
        return [*result, f"the layers are {', '.join(saved_types)} there, {', '.join(types)} here"]
    for saved_layer, layer in zip(saved_layers, layers, strict=True):
        saved_options, options = saved_layer.get("options"), layer["options"]
        saved_options = saved_options if isinstance(saved_options, dict) else {}
        pairs = {
            name: (saved_options.get(name, DEFAULT), options.get(name, DEFAULT))
            for name in sorted({*saved_options, *options})
        }
        result += [
            f"{name} of layer {layer['name']!r} is {there} there, {here} here"
            for name, (there, here) in pairs.items()
            if there != here
        ]
    return result


def _format(value: object) -> object:
    return "none" if value is None else value
