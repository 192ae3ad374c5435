"""Which model a saved state belongs to.

A state fits a model whose layers compute the same from weights of the same shapes: kinds of layers in their order,
sizes, options, dtype. Names of layers do not count, nor what only training sees (dropout), nor the values of the
weights: a stream goes on after its model has been trained further, and with a copy of it.
"""

from collections.abc import Mapping
from typing import Any

from glasscell.stream import stages
from glasscell.stream.stages import kind_of

ABSENT = "the default"


def fingerprint(layers: Mapping[str, Any], dtype: object, batch: int | None) -> dict[str, Any]:
    """What is written beside a state, and compared when it is read. It is plain JSON."""
    import json  # noqa: PLC0415 - only where a state is saved or read

    described = [
        {"name": name, **_described(layer)}
        for name, layer in layers.items()
        if kind_of(layer) not in stages.FOR_TRAINING
    ]
    plain: dict[str, Any] = json.loads(json.dumps({"dtype": str(dtype), "batch": batch, "layers": described}))
    return plain


def _described(layer: Any) -> dict[str, Any]:
    kind = kind_of(layer)
    if kind == "LSTM":
        declared = layer.options.declared
        options = {name: value for name, value in layer.options.changed().items() if not declared[name].training_only}
    elif kind == "Linear":
        options = {"input_size": layer.input_size, "output_size": layer.output_size, "bias": layer.bias}
    elif kind == "Embedding":
        options = {name: getattr(layer, name) for name in ("vocabulary_size", "embedding_size", "mask_zero")}
    else:
        options = layer.config
    return {"kind": kind, "options": options}


def differences(saved: Mapping[str, Any], own: Mapping[str, Any]) -> list[str]:
    """What differs between two identities, by name; nothing if they fit."""
    found = [
        f"{name} is {_shown(saved.get(name))} there, {_shown(own[name])} here"
        for name in ("dtype", "batch")
        if saved.get(name) != own[name]
    ]
    there, here = saved.get("layers"), own["layers"]
    if not isinstance(there, list) or not all(isinstance(layer, dict) for layer in there):
        return [*found, "its layers are not described"]
    kinds = [[layer.get("kind") for layer in layers] for layers in (there, here)]
    if kinds[0] != kinds[1]:
        return [*found, f"the layers are {', '.join(map(str, kinds[0]))} there, {', '.join(map(str, kinds[1]))} here"]
    for one, other in zip(there, here, strict=True):
        a, b = one.get("options"), other["options"]
        a = a if isinstance(a, dict) else {}
        found += [
            f"{name} of layer {other['name']!r} is {a.get(name, ABSENT)} there, {b.get(name, ABSENT)} here"
            for name in sorted({*a, *b})
            if a.get(name, ABSENT) != b.get(name, ABSENT)
        ]
    return found


def _shown(value: object) -> object:
    return "none" if value is None else value
