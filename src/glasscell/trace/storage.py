"""Save and load traces: safetensors files with a JSON header, without pickle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from glasscell import checkpoint
from glasscell.atomic_files import OutputFile, StrPath
from glasscell.checkpoint import ENDINGS, FORMAT_VERSION, HEADER_KEY
from glasscell.escaping import one_line
from glasscell.recurrent.config import LSTMConfig
from glasscell.trace.cell_stacks import CLASSES, CellStackOptions
from glasscell.trace.consistency import arrays_of, check
from glasscell.trace.data import ARRAYS, Readout, TraceData
from glasscell.trace.layer_trace import LayerTrace

HEADER_ENTRIES = ("format", "kind", "layers", "loss", "about", "axes")
LAYER_ENTRIES = ("name", "reverse", "axes", "options")
READOUT = ("readout.weight", "readout.bias")


def save(trace: TraceData, path: StrPath) -> None:
    """Write a trace to a file ``….safetensors``, atomically; replaces an existing trace.

    Raises
    ------
    OSError
        If the folder does not exist or cannot be written, or an existing file is not a trace.
    ValueError
        If the path has another extension, or the trace is inconsistent: see :mod:`glasscell.trace.consistency`.
    """
    from glasscell.tensor_files import encode_pieces  # noqa: PLC0415

    file = OutputFile(path, ENDINGS)
    check(trace)
    arrays = arrays_of(trace)
    layers: list[dict[str, Any]] = []
    for k, layer in enumerate(trace.layer):
        arrays |= {f"layer.{k}.{name}": layer.value(name) for name in layer.names}
        arrays |= {f"weights.{k}.{name}": weight for name, weight in layer.weights.items()}
        options = layer.options.non_default()
        under = {"interventions": list(layer.interventions)} if layer.interventions else {}
        layers.append({"name": layer.name, "reverse": layer.reverse, "axes": layer.axes, "options": options} | under)
    header = {"format": FORMAT_VERSION, "kind": "Trace", "layers": layers, "loss": trace.loss}
    header |= {"about": trace.about, "axes": trace.axes}
    contiguous = {name: array.copy(order="C") for name, array in arrays.items()}
    file.write(*encode_pieces(HEADER_KEY, header, contiguous))


def load(path: StrPath) -> TraceData:
    """Read a file written by :func:`save`. Every view can display the result.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the file is damaged, not a trace, or inconsistent.
    """
    try:
        header, arrays = checkpoint.read_with_header(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no trace at {path}") from None
    try:
        if header is None or header.get("kind") != "Trace":
            kind = None if header is None else header.get("kind")
            raise ValueError(f"kind must be 'Trace', got {kind!r}")  # noqa: TRY301
        checkpoint.check_entries(header, HEADER_ENTRIES)
        trace = _trace(header, arrays)
        check(trace)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ValueError(f"{path} is not a trace that Glasscell saved: {one_line(error)}") from None
    return trace


def _trace(header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> TraceData:
    layer_arrays: dict[str, dict[str, NDArray[Any]]] = {}
    for name, array in arrays.items():
        if name not in (*ARRAYS, *READOUT):
            prefix, _, symbol = name.rpartition(".")
            layer_arrays.setdefault(prefix, {})[symbol] = array
    layers = tuple(_layer(k, entry, layer_arrays) for k, entry in enumerate(header["layers"]))
    if layer_arrays:
        raise ValueError(f"arrays must belong to a layer, got {', '.join(layer_arrays)}")
    readout = Readout(*(arrays[name] for name in READOUT)) if any(name in arrays for name in READOUT) else None
    about = header["about"]
    if not isinstance(about, dict):
        raise ValueError("about must be a dictionary")  # noqa: TRY004 - of a file, not of a call
    trace_arrays = {name: arrays.get(name) for name in ARRAYS} | {name: arrays[name] for name in ("x", "outputs")}
    return TraceData(layers, **trace_arrays, readout=readout, loss=header["loss"], about=about, axes=header["axes"])  # type: ignore[arg-type]


def _layer(k: int, entry: Mapping[str, Any], layer_arrays: dict[str, dict[str, NDArray[Any]]]) -> LayerTrace:
    values, weights = layer_arrays.pop(f"layer.{k}"), layer_arrays.pop(f"weights.{k}")
    texts = entry.get("interventions", [])
    if type(texts) is not list or not all(type(text) is str for text in texts):
        raise ValueError(f"interventions of layer {k} must be a list of texts")
    if (
        entry.keys() - {"interventions"} != {*LAYER_ENTRIES}
        or type(entry["name"]) is not str
        or type(entry["reverse"]) is not bool
    ):
        raise ValueError(f"layer {k} must have valid entries {', '.join(LAYER_ENTRIES)}")
    options, cls = _options(entry["options"])
    names = tuple(values)
    about: dict[str, Any] = {"reverse": entry["reverse"], "interventions": tuple(texts)}
    return cls(entry["name"], options, weights, names, values.__getitem__, entry["axes"], **about)


def _options(entry: Mapping[str, Any]) -> tuple[Any, type[LayerTrace]]:
    """Return the options of a layer, and the class of its trace."""
    if "kind" not in entry:
        return LSTMConfig(**entry), LayerTrace
    kind, config = entry["kind"], {name: value for name, value in entry.items() if name != "kind"}
    if kind not in CLASSES:
        raise ValueError(f"kind of layer must be one of {', '.join(CLASSES)}, got {kind!r}")
    return CellStackOptions(kind, config), CLASSES[kind]
