"""Export models as ONNX graphs of the operators that PyTorch's exporter uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import helper

from glasscell.atomic_files import OutputFile, StrPath
from glasscell.convert.onnx.exporter.graph import Graph, Shape
from glasscell.convert.onnx.exporter.layers import LAYER_EXPORTERS
from glasscell.convert.onnx.exporter.sequences import SEQUENCE_EXPORTERS
from glasscell.convert.onnx.exporter.tensor_ref import TensorRef, raise_unsupported
from glasscell.convert.weights_only import check_finite_weights
from glasscell.layers import LSTM, Embedding, Squeeze, Unsqueeze
from glasscell.layers.kinds import input_size
from glasscell.models.sequential import Layer, Sequential

OPSET, IR_VERSION = 17, 8  # supported by runtimes since 2022
MAX_WEIGHT_BYTES = 2**31 - 2**24  # protobuf holds 2 GiB

EXPORTERS: dict[type, Callable[[Graph, str, Any, TensorRef], TensorRef]] = {**SEQUENCE_EXPORTERS, **LAYER_EXPORTERS}


def save(model: Sequential | LSTM, path: StrPath, *, lengths: bool = False, states: bool = False) -> None:
    """Write a model to an ``.onnx`` file; see :func:`to_model`. An existing ONNX file is replaced."""
    file = OutputFile(path, (".onnx",))
    file.write(to_model(model, lengths=lengths, states=states).SerializeToString(deterministic=True))


def to_model(model: Sequential | LSTM, *, lengths: bool = False, states: bool = False) -> onnx.ModelProto:
    """Return a model as an ONNX graph of opset 17.

    The input is ``x`` (batch, time, features), or integers (batch, time) before an Embedding; the output is ``y``. An
    LSTM alone also has the outputs ``h_n`` and ``c_n``, (L·D, batch, H). Batch and time are dynamic. Dropout has no
    effect in inference. float64 numbers are exported as such; onnxruntime's LSTM supports float32 only.

    Parameters
    ----------
    model : Sequential or LSTM
    lengths : bool
        Whether the graph has a second input ``lengths`` (batch,) of int32: the length of each sequence.
    states : bool
        Whether the initial states are inputs, ``h_0`` and ``c_0`` (L·D, batch, H), and the final states outputs,
        ``h_n`` and ``c_n``; in a Sequential those of each LSTM, prefixed by its name: ``encoder.h_0``.

    Returns
    -------
    onnx.ModelProto

    Raises
    ------
    ValueError
        If ONNX cannot represent a layer. The message names the layer.
    """
    if not isinstance(model, Sequential | LSTM):
        raise TypeError(f"model must be a Sequential or an LSTM, got {type(model).__name__}")
    names, layers = (["lstm"], [model]) if isinstance(model, LSTM) else (model.names, model.layers)
    lstms = {name: layer for name, layer in zip(names, layers, strict=True) if isinstance(layer, LSTM)}
    _check_model(model, {"lengths": lengths, "states": states}, has_lstm=bool(lstms))
    prefixes = {name: "" if isinstance(model, LSTM) else f"{name}." for name in lstms}
    initial_states = {name: (f"{prefix}h_0", f"{prefix}c_0") for name, prefix in prefixes.items()} if states else {}
    graph = Graph(model.dtype, "lengths" if lengths else None, initial_states)
    tensor = TensorRef("x", input_size(layers))
    outputs: dict[str, tuple[str, Shape]] = {}
    inputs = _inputs(graph, layers[0], tensor.features, lstms)
    for name, layer in zip(names, layers, strict=True):
        tensor = _export_layer(graph, name, layer, tensor)
        if tensor.lstm is not None and name in lstms and (states or isinstance(model, LSTM)):
            for output, values in (("h_n", tensor.lstm.h), ("c_n", tensor.lstm.c)):
                outputs[prefixes[name] + output] = (graph.concat(graph.module, values), _state_shape(lstms[name]))
    features = [tensor.features] * (not isinstance(layers[-1], Squeeze))
    outputs = {"y": (tensor.value, ["batch", *[tensor.time] * tensor.is_sequence, *features])} | outputs
    return helper.make_model(
        graph.build(inputs, outputs),
        producer_name="glasscell",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )


def _check_model(model: Sequential | LSTM, options: dict[str, bool], *, has_lstm: bool) -> None:
    check_finite_weights(model)
    size = model.parameters.vector.nbytes
    if size > MAX_WEIGHT_BYTES:
        raise ValueError(f"model must have at most {MAX_WEIGHT_BYTES} bytes of weights for ONNX, got {size}")
    for option, value in options.items():
        if value and not has_lstm:
            raise ValueError(f"{option} must be False for a model without an LSTM, got True")


def _state_shape(lstm: LSTM) -> Shape:
    return [len(lstm.options.directions), "batch", lstm.hidden_size]


def _inputs(
    graph: Graph, first_layer: Layer, features: int | None, lstms: dict[str, LSTM]
) -> list[onnx.ValueInfoProto]:
    """Return x, lengths and initial states, as far as the graph has them."""
    has_features = not isinstance(first_layer, Embedding | Unsqueeze)
    dtype = np.int64 if isinstance(first_layer, Embedding) else None
    inputs = [graph.value_info("x", ["batch", "time", *[features] * has_features], dtype)]
    inputs += [graph.value_info(graph.lengths, ["batch"], np.int32)] if graph.lengths else []
    for name, states in graph.initial_states.items():
        inputs += [graph.value_info(state, _state_shape(lstms[name])) for state in states]
    return inputs


def _export_layer(graph: Graph, name: str, layer: Layer, tensor: TensorRef) -> TensorRef:
    """Add a layer to the graph."""
    graph.module = name.replace("/", ".")
    export = next((export for layer_type, export in EXPORTERS.items() if isinstance(layer, layer_type)), None)
    if export is None:
        raise_unsupported(name, f"is a {type(layer).__name__}, which the export to ONNX does not support")
    if layer.takes == "sequence" and not tensor.is_sequence:
        raise_unsupported(name, "needs a sequence, and its input is one vector per sequence")
    return export(graph, name, layer, tensor)
