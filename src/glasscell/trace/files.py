"""Traces on disk: safetensors, with a header for what is not numbers. No pickle."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from glasscell import checkpoint
from glasscell.atomic_files import OutputFile, StrPath
from glasscell.checkpoint import ENDINGS, HEADER
from glasscell.core.typing import Array
from glasscell.layers.options import LSTMOptions
from glasscell.trace.record import ARRAYS, LayerTrace, Readout, Trace

FORMAT = 1


def save(trace: Trace, path: StrPath) -> None:
    """Write everything to a file ``….safetensors``, whole or not at all; an existing one is replaced.

    Raises
    ------
    OSError
        If the folder does not exist or cannot be written, or the file is of another kind.
    ValueError
        If the name has another ending.
    """
    from safetensors.numpy import save as to_bytes  # noqa: PLC0415

    file = OutputFile(path, ENDINGS)
    arrays = {name: getattr(trace, name) for name in ARRAYS}
    if trace.readout is not None:
        arrays |= {"readout.weight": trace.readout.weight, "readout.bias": trace.readout.bias}
    layers: list[dict[str, Any]] = []
    for k, layer in enumerate(trace.layer):
        arrays |= {f"layer.{k}.{name}": layer.value(name) for name in layer.names}
        arrays |= {f"weights.{k}.{name}": weight for name, weight in layer.weights.items()}
        options = layer.options.changed()
        layers.append({"name": layer.name, "reverse": layer.reverse, "axes": layer.axes, "options": options})
    header = {"format": FORMAT, "kind": "Trace", "layers": layers, "loss": trace.loss}
    header |= {"about": trace.about, "axes": trace.axes}
    given = {name: np.ascontiguousarray(array) for name, array in arrays.items() if array is not None}
    file.write(to_bytes(given, {HEADER: json.dumps(header)}))


def load(path: StrPath) -> Trace:
    """Read what :func:`save` wrote.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged, or is no trace.
    """
    entry, arrays = checkpoint.read(path)
    try:
        header = json.loads(entry or "")
        if (header["kind"], header["format"]) != ("Trace", FORMAT):
            raise ValueError(f"it holds a {header['kind']!r} of format {header['format']!r}")  # noqa: TRY301
        layers = tuple(_layer(k, one, arrays) for k, one in enumerate(header["layers"]))
        weight = arrays.get("readout.weight")
        return Trace(
            layers,
            **{name: arrays.get(name) for name in ARRAYS},  # type: ignore[arg-type] # x and outputs are always there
            readout=None if weight is None else Readout(weight, arrays["readout.bias"]),
            loss=header["loss"],
            about=header["about"],
            axes=header["axes"],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} is not a trace that Glasscell saved: {error}") from None


def _layer(k: int, one: dict[str, Any], arrays: dict[str, Array]) -> LayerTrace:
    of_layer, of_weights = f"layer.{k}.", f"weights.{k}."
    values = {name.removeprefix(of_layer): array for name, array in arrays.items() if name.startswith(of_layer)}
    weights = {name.removeprefix(of_weights): array for name, array in arrays.items() if name.startswith(of_weights)}
    options = LSTMOptions(**one["options"])
    return LayerTrace(
        one["name"], options, weights, tuple(values), values.__getitem__, one["axes"], reverse=one["reverse"]
    )
