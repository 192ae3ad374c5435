"""Models as ONNX graphs, as PyTorch's exporter would write them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import helper

from glasscell.atomic_files import OutputFile, StrPath
from glasscell.convert.onnx.exporter.flow import TensorRef, refuse
from glasscell.convert.onnx.exporter.further import FURTHER_WRITERS
from glasscell.convert.onnx.exporter.graph import Dims, Graph
from glasscell.convert.onnx.exporter.lstm import LSTMOutputs, write_lstm
from glasscell.convert.weights_only import check_finite_weights
from glasscell.layers import LSTM, Embedding, FinalState, Linear, Pool, Squeeze, Step, SwapHalves, Unsqueeze
from glasscell.layers.kinds import input_size
from glasscell.models.sequential import Layer, Sequential

OPSET, IR_VERSION = 17, 8  # what runtimes of 2022 and later run
LARGEST = 2**31 - 2**24  # bytes of weights: protobuf holds 2 GiB


def save(model: Sequential | LSTM, path: StrPath, *, lengths: bool = False, states: bool = False) -> None:
    """Write a model to an ``.onnx`` file; see :func:`to_model`. An existing ONNX file is replaced."""
    file = OutputFile(path, (".onnx",))
    file.write(to_model(model, lengths=lengths, states=states).SerializeToString(deterministic=True))


def to_model(model: Sequential | LSTM, *, lengths: bool = False, states: bool = False) -> onnx.ModelProto:
    """A model as an ONNX graph of version 17.

    The input is ``x`` (batch, time, features), or integers (batch, time) before an Embedding; the output is ``y``. An
    LSTM alone also gives ``h_n`` and ``c_n``, (L·D, batch, H). Batch and time may be of any size. Dropout is there, and
    does nothing in inference. Numbers of float64 are written as such; onnxruntime's LSTM computes with float32 alone.

    Parameters
    ----------
    model : Sequential or LSTM
    lengths : bool
        Whether there is a second input ``lengths`` (batch,) of int32: the number of steps of each sequence.
    states : bool
        Whether the initial states are inputs, ``h_0`` and ``c_0`` (L·D, batch, H), and the final states outputs,
        ``h_n`` and ``c_n``; in a Sequential those of each LSTM, called after it: ``encoder.h_0``.

    Returns
    -------
    onnx.ModelProto

    Raises
    ------
    ValueError
        If ONNX has no way to say what a layer computes, by the layer's name.
    """
    if not isinstance(model, Sequential | LSTM):
        raise TypeError(f"model must be a Sequential or an LSTM, got {type(model).__name__}")
    check_finite_weights(model)
    if model.parameters.vector.nbytes > LARGEST:
        raise ValueError(f"the model has {model.parameters.vector.nbytes} bytes of weights; an ONNX file holds 2 GiB")
    names, layers = (["lstm"], [model]) if isinstance(model, LSTM) else (model.names, model.layers)
    chain: list[tuple[str, Layer]] = [*zip(names, layers, strict=True)]
    lstms = {name: layer for name, layer in chain if isinstance(layer, LSTM)}
    for what, asked in (("lengths", lengths), ("states", states)):
        if asked and not lstms:
            raise ValueError(f"{what} are for LSTMs, and the model has none")
    shapes: dict[str, Dims] = {
        name: [len(lstm.options.directions), "batch", lstm.hidden_size] for name, lstm in lstms.items()
    }
    prefixes = {name: "" if isinstance(model, LSTM) else f"{name}." for name in lstms}
    starts = {name: (f"{prefix}h_0", f"{prefix}c_0") for name, prefix in prefixes.items()} if states else {}
    graph = Graph(model.dtype, "lengths" if lengths else None, starts)
    flow = TensorRef("x", input_size(layers))
    takes = flow.features
    finals: dict[str, tuple[str, Dims]] = {}
    for name, layer in chain:
        flow = _written(graph, name, layer, flow)
        if flow.lstm is not None and name in lstms and (states or isinstance(model, LSTM)):
            for kind, of_layers in (("h_n", flow.lstm.h), ("c_n", flow.lstm.c)):
                finals[prefixes[name] + kind] = (graph.joined(graph.module, of_layers), shapes[name])
    bare = isinstance(layers[0], Embedding | Unsqueeze)
    ids = np.int64 if isinstance(layers[0], Embedding) else None
    inputs = [graph.info("x", ["batch", "time", *[takes] * (not bare)], ids)]
    inputs += [graph.info("lengths", ["batch"], np.int32)] if lengths else []
    inputs += [graph.info(start, shapes[name]) for name, of_lstm in starts.items() for start in of_lstm]
    features = [flow.features] * (not isinstance(layers[-1], Squeeze))
    outputs: dict[str, tuple[str, Dims]] = {"y": (flow.value, ["batch", *[flow.time] * flow.in_time, *features])}
    made = graph.made(inputs, outputs | finals)
    return helper.make_model(
        made, producer_name="glasscell", opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )


def _written(graph: Graph, name: str, layer: Layer, flow: TensorRef) -> TensorRef:
    """Add a layer to the graph."""
    graph.module = name.replace("/", ".")
    write = next((write for kind, write in WRITERS.items() if isinstance(layer, kind)), None)
    if write is None:
        refuse(name, f"is of kind {type(layer).__name__}, which ONNX does not support")
    if layer.takes == "sequence" and not flow.in_time:
        refuse(name, "looks for steps where there is one vector a sequence")
    return write(graph, name, layer, flow)


def _lstm(graph: Graph, name: str, layer: LSTM, flow: TensorRef) -> TensorRef:
    if not flow.in_time:
        refuse(name, "runs over one vector a sequence")
    try:
        written = write_lstm(graph, layer, flow.value, graph.starts.get(name))
    except ValueError as error:
        refuse(name, str(error))
    return replace(flow, value=written.y, features=layer.output_size, lstm=written)


def _embedding(graph: Graph, name: str, layer: Embedding, flow: TensorRef) -> TensorRef:
    if layer.mask_zero:
        refuse(name, "says with mask_zero which steps there are; ONNX has that for LSTMs alone: lengths=True")
    table = graph.constant("weight", layer.parameters["weight"])
    return replace(flow, value=graph.add("Gather", [table, flow.value]), features=layer.embedding_size)


def _linear(graph: Graph, name: str, layer: Linear, flow: TensorRef) -> TensorRef:
    del name
    weight = layer.parameters["weight"]
    bias = [graph.constant("bias", layer.parameters["bias"])] if layer.bias else []
    if not flow.in_time:
        y = graph.add("Gemm", [flow.value, graph.constant("weight", weight), *bias], transB=1)
    else:  # its columns are those of x: the other way round than in a Gemm
        y = graph.add("MatMul", [flow.value, graph.constant("weight", weight.T)])
        y = graph.add("Add", [y, *bias]) if bias else y
    return replace(flow, value=y, features=layer.output_size, lstm=None)


def _step(graph: Graph, name: str, layer: Step, flow: TensorRef) -> TensorRef:
    _check_sees_all(graph, name, flow)
    return TensorRef(graph.step(flow.value, layer.index), flow.features, in_time=False)


def _pool(graph: Graph, name: str, layer: Pool, flow: TensorRef) -> TensorRef:
    _check_sees_all(graph, name, flow)
    op = "ReduceMean" if layer.how == "mean" else "ReduceMax"
    return TensorRef(graph.add(op, [flow.value], axes=[1], keepdims=0), flow.features, in_time=False)


def _check_sees_all(graph: Graph, name: str, flow: TensorRef) -> None:
    """Refuse what makes one of all steps, where some are no steps of a sequence, or there are none."""
    if not flow.in_time:
        refuse(name, "looks for steps where there is one vector a sequence")
    if graph.lengths is not None:
        refuse(name, "looks at steps, and ONNX does not know there which are a sequence's own; a FinalState does")


def _final_state(graph: Graph, name: str, layer: FinalState, flow: TensorRef) -> TensorRef:
    if layer.merge != "concat":
        both = _final_state(graph, name, FinalState("both"), flow)
        ways = graph.add("Reshape", [both.value, graph.integers([0, 2, -1])])
        return TensorRef(graph.merged(ways, 1, layer.merge), _kept(layer, flow.features), in_time=False)
    lstm = flow.lstm
    if lstm is not None and lstm.directions == layer.directions:
        return TensorRef(_of_states(graph, lstm, layer.keep), _kept(layer, flow.features), in_time=False)
    _check_sees_all(graph, name, flow)
    if layer.directions != "both":
        return TensorRef(
            graph.step(flow.value, -1 if layer.directions == "forward" else 0), flow.features, in_time=False
        )
    if flow.features is None:
        refuse(name, "takes halves of the features, and no layer says how many there are")
    middle, F = flow.features // 2, flow.features
    halves = {"forward": (-1, 0, middle), "reverse": (0, middle, F)}
    parts = [
        graph.part(graph.step(flow.value, at), start, stop)
        for way, (at, start, stop) in halves.items()
        if layer.keep in (way, "both")
    ]
    return TensorRef(graph.joined(name, parts, axis=-1), _kept(layer, F), in_time=False)


def _of_states(graph: Graph, lstm: LSTMOutputs, keep: str) -> str:
    """The final states (B, H) or (B, 2H) of an LSTM's last layer."""
    last = lstm.h[-1]  # (D, B, H)
    if lstm.directions != "both":
        return graph.add("Squeeze", [last, graph.integers([0])])
    if keep != "both":
        return graph.add("Gather", [last, graph.integer(0 if keep == "forward" else 1)])
    side_by_side = graph.add("Transpose", [last], perm=[1, 0, 2])
    return graph.add("Reshape", [side_by_side, graph.integers([0, 2 * lstm.hidden_size])])


def _kept(layer: FinalState, features: int | None) -> int | None:
    """How many features there are behind a FinalState."""
    if features is None or not layer.halves:
        return features
    return features - features // 2 if layer.keep == "reverse" else features // 2


def _swap_halves(graph: Graph, name: str, layer: SwapHalves, flow: TensorRef) -> TensorRef:
    del layer
    if flow.features is None:
        refuse(name, "swaps halves of the features, and no layer says how many there are")
    order = np.roll(np.arange(flow.features), flow.features // 2)
    y = graph.add("Gather", [flow.value, graph.integers(order.tolist())], axis=-1)
    return replace(flow, value=y, lstm=None)


WRITERS: dict[type, Callable[[Graph, str, Any, TensorRef], TensorRef]] = {
    LSTM: _lstm,
    Embedding: _embedding,
    Linear: _linear,
    Step: _step,
    Pool: _pool,
    FinalState: _final_state,
    SwapHalves: _swap_halves,
    **FURTHER_WRITERS,
}
