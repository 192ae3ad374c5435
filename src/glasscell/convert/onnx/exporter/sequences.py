"""Export LSTMs, and layers that select or reduce steps and final states."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from glasscell.convert.onnx.exporter.graph import Graph
from glasscell.convert.onnx.exporter.lstm import LSTMOutputs, export_lstm
from glasscell.convert.onnx.exporter.tensor_ref import TensorRef, raise_unsupported
from glasscell.layers import LSTM, FinalState, Pool, Step, SwapHalves


def _lstm(graph: Graph, name: str, layer: LSTM, tensor: TensorRef) -> TensorRef:
    try:
        outputs = export_lstm(graph, layer, tensor.value, graph.initial_states.get(name))
    except ValueError as error:
        raise_unsupported(name, str(error))
    return replace(tensor, value=outputs.y, features=layer.output_size, lstm=outputs)


def _step(graph: Graph, name: str, layer: Step, tensor: TensorRef) -> TensorRef:
    _check_all_steps_valid(graph, name)
    return TensorRef(graph.step(tensor.value, layer.index), tensor.features, is_sequence=False)


def _pool(graph: Graph, name: str, layer: Pool, tensor: TensorRef) -> TensorRef:
    _check_all_steps_valid(graph, name)
    op = "ReduceMean" if layer.how == "mean" else "ReduceMax"
    return TensorRef(graph.add(op, [tensor.value], axes=[1], keepdims=0), tensor.features, is_sequence=False)


def _check_all_steps_valid(graph: Graph, name: str) -> None:
    """Raise an error for a layer over all steps, if steps may be invalid or the input has none."""
    if graph.lengths is not None:
        raise_unsupported(name, "uses all steps, and ONNX ignores lengths there; use a FinalState, or lengths=False")


def _final_state(graph: Graph, name: str, layer: FinalState, tensor: TensorRef) -> TensorRef:
    if layer.merge != "concat":
        halves = _final_state(graph, name, FinalState("both"), tensor)
        directions = graph.add("Reshape", [halves.value, graph.integers([0, 2, -1])])
        merged = graph.merge(directions, 1, layer.merge)
        return TensorRef(merged, _output_features(layer, tensor.features), is_sequence=False)
    lstm = tensor.lstm
    if lstm is not None and lstm.directions == layer.directions:
        state = _last_hidden_state(graph, lstm, layer.keep)
        return TensorRef(state, _output_features(layer, tensor.features), is_sequence=False)
    _check_all_steps_valid(graph, name)
    if layer.directions != "both":
        index = -1 if layer.directions == "forward" else 0
        return TensorRef(graph.step(tensor.value, index), tensor.features, is_sequence=False)
    if tensor.features is None:
        raise_unsupported(name, "selects halves of the features, whose number no layer determines")
    middle, F = tensor.features // 2, tensor.features
    selections = {"forward": (-1, 0, middle), "reverse": (0, middle, F)}
    states = [
        graph.slice(graph.step(tensor.value, index), start, stop)
        for direction, (index, start, stop) in selections.items()
        if layer.keep in (direction, "both")
    ]
    return TensorRef(graph.concat(name, states, axis=-1), _output_features(layer, F), is_sequence=False)


def _last_hidden_state(graph: Graph, lstm: LSTMOutputs, keep: str) -> str:
    """Add the selection of the final hidden states (B, H) or (B, 2H) of an LSTM's last layer."""
    h = lstm.h[-1]  # (D, B, H)
    if lstm.directions != "both":
        return graph.add("Squeeze", [h, graph.integers([0])])
    if keep != "both":
        return graph.add("Gather", [h, graph.integer(0 if keep == "forward" else 1)])
    batch_first = graph.add("Transpose", [h], perm=[1, 0, 2])
    return graph.add("Reshape", [batch_first, graph.integers([0, 2 * lstm.hidden_size])])


def _output_features(layer: FinalState, features: int | None) -> int | None:
    """Return the number of features after a FinalState."""
    if features is None or not layer.halves:
        return features
    return features - features // 2 if layer.keep == "reverse" else features // 2


def _swap_halves(graph: Graph, name: str, layer: SwapHalves, tensor: TensorRef) -> TensorRef:
    del layer
    if tensor.features is None:
        raise_unsupported(name, "swaps halves of the features, whose number no layer determines")
    order = np.roll(np.arange(tensor.features), tensor.features // 2)
    y = graph.add("Gather", [tensor.value, graph.integers(order.tolist())], axis=-1)
    return replace(tensor, value=y, lstm=None)


SEQUENCE_EXPORTERS: dict[type, Callable[[Graph, str, Any, TensorRef], TensorRef]] = {
    LSTM: _lstm,
    Step: _step,
    Pool: _pool,
    FinalState: _final_state,
    SwapHalves: _swap_halves,
}
