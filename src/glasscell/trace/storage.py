"""Traces on disk: safetensors, with a header for what is not numbers. No pickle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from glasscell import checkpoint
from glasscell.atomic_files import OutputFile, StrPath
from glasscell.checkpoint import ENDINGS, FORMAT_VERSION, HEADER_KEY
from glasscell.escaping import one_line
from glasscell.recurrent.config import LSTMConfig
from glasscell.trace.consistency import arrays_of, check
from glasscell.trace.data import ARRAYS, LayerTrace, Readout, TraceData

ENTRIES = ("format", "kind", "layers", "loss", "about", "axes")  # of the header
ENTRIES_OF_LAYER = ("name", "reverse", "axes", "options")
READOUT = ("readout.weight", "readout.bias")


def save(trace: TraceData, path: StrPath) -> None:
    """Write everything to a file ``….safetensors``, whole or not at all; an existing one is replaced.

    Raises
    ------
    OSError
        If the folder does not exist or cannot be written, or the file is of another kind.
    ValueError
        If the name has another ending, a value is NaN or infinite, or the parts of the trace have been changed and do
        not fit together.
    """
    from glasscell.tensor_files import encode  # noqa: PLC0415

    file = OutputFile(path, ENDINGS)
    check(trace)
    arrays = arrays_of(trace)
    layers: list[dict[str, Any]] = []
    for k, layer in enumerate(trace.layer):
        arrays |= {f"layer.{k}.{name}": layer.value(name) for name in layer.names}
        arrays |= {f"weights.{k}.{name}": weight for name, weight in layer.weights.items()}
        options = layer.options.non_default()
        layers.append({"name": layer.name, "reverse": layer.reverse, "axes": layer.axes, "options": options})
    header = {"format": FORMAT_VERSION, "kind": "Trace", "layers": layers, "loss": trace.loss}
    header |= {"about": trace.about, "axes": trace.axes}
    contiguous = {name: array.copy(order="C") for name, array in arrays.items()}
    file.write(encode(HEADER_KEY, header, contiguous))


def load(path: StrPath) -> TraceData:
    """Read what :func:`save` wrote. What it gives can be shown by every view.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged, is no trace, or its parts do not fit together.
    """
    try:
        header, arrays = checkpoint.read_with_header(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no trace at {path}") from None
    try:
        if header is None or header.get("kind") != "Trace":
            what = None if header is None else header.get("kind")
            raise ValueError(f"it holds a {what!r}")  # noqa: TRY301
        checkpoint.check_entries(header, ENTRIES)
        trace = _trace(header, arrays)
        check(trace)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ValueError(f"{path} is not a trace that Glasscell saved: {one_line(error)}") from None
    return trace


def _trace(header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> TraceData:
    of_layers: dict[str, dict[str, NDArray[Any]]] = {}
    for name, array in arrays.items():
        if name not in (*ARRAYS, *READOUT):
            prefix, _, symbol = name.rpartition(".")
            of_layers.setdefault(prefix, {})[symbol] = array
    layers = tuple(_layer(k, entry, of_layers) for k, entry in enumerate(header["layers"]))
    if of_layers:
        raise ValueError(f"there are arrays of no layer: {', '.join(of_layers)}")
    readout = Readout(*(arrays[name] for name in READOUT)) if any(name in arrays for name in READOUT) else None
    about = header["about"]
    if not isinstance(about, dict):
        raise ValueError("it has no description")  # noqa: TRY004 - of a file, not of a call
    of_trace = {name: arrays.get(name) for name in ARRAYS} | {name: arrays[name] for name in ("x", "outputs")}
    return TraceData(layers, **of_trace, readout=readout, loss=header["loss"], about=about, axes=header["axes"])  # type: ignore[arg-type]


def _layer(k: int, entry: Mapping[str, Any], of_layers: dict[str, dict[str, NDArray[Any]]]) -> LayerTrace:
    values, weights = of_layers.pop(f"layer.{k}"), of_layers.pop(f"weights.{k}")
    if entry.keys() != {*ENTRIES_OF_LAYER} or type(entry["name"]) is not str or type(entry["reverse"]) is not bool:
        raise ValueError(f"layer {k} is described wrongly")
    options = LSTMConfig(**entry["options"])
    names = tuple(values)
    return LayerTrace(
        *(entry["name"], options, weights, names, values.__getitem__, entry["axes"]), reverse=entry["reverse"]
    )
