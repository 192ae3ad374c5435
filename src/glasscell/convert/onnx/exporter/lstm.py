"""Export an LSTM as nodes of an ONNX graph."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np

from glasscell.convert.onnx.exporter.graph import Graph
from glasscell.core.activations import ACTIVATIONS
from glasscell.core.types import Array
from glasscell.layers import LSTM, LSTMConfig
from glasscell.weight_layouts import GLASSCELL, ONNX, encode, reorder

STANDARD_ACTIVATIONS = (("Sigmoid", None, None), ("Tanh", None, None), ("Tanh", None, None))


class LSTMOutputs(NamedTuple):
    """Outputs of an LSTM's nodes.

    Attributes
    ----------
    y : str
        (B, T, F).
    h, c : list of str
        The final states (D, B, H) of each layer.
    directions : "forward", "reverse" or "both", or None
        Where y has the final hidden states, in terms of a FinalState. None if y is not in order of time, or merged.
    hidden_size : int
    """

    y: str
    h: list[str]
    c: list[str]
    directions: Literal["forward", "reverse", "both"] | None
    hidden_size: int


def export_lstm(graph: Graph, lstm: LSTM, x: str, initial_states: tuple[str, str] | None = None) -> LSTMOutputs:
    """Add an LSTM on x (B, T, I), with initial states h and c (L·D, B, H). Default: the learned ones, or zeros."""
    options = lstm.options
    _check(options, with_lengths=graph.lengths is not None, with_states=initial_states is not None)
    D = options.num_directions
    states: dict[str, list[str]] = {"h": [], "c": []}
    y = graph.add("Transpose", [x], perm=[1, 0, 2])  # (T, B, I)
    for layer in range(options.num_layers):
        suffixes = [suffix for suffix, _, _ in options.directions[layer * D : (layer + 1) * D]]
        inputs = [y, *_weights(graph, lstm, layer, suffixes), graph.lengths or ""]
        if initial_states is None:
            inputs += _learned_states(graph, lstm, layer, suffixes, x)
        else:
            inputs += [_states_of_layer(graph, options, value, layer) for value in initial_states]
        inputs += [_peepholes(graph, lstm, layer, suffixes)] if options.peepholes else []
        while not inputs[-1]:
            inputs.pop()
        y, h, c = graph.add_multi_output("LSTM", inputs, 3, **_attributes(options))
        states["h"].append(h)
        states["c"].append(c)
        y = _merge_directions(graph, options, y)
        if options.dropout and layer < options.num_layers - 1:
            y = graph.add("Dropout", [y, graph.number(options.dropout)])
    y = graph.add("Transpose", [y], perm=[1, 0, 2])
    return LSTMOutputs(y, states["h"], states["c"], _final_directions(options), options.hidden_size)


def _check(options: LSTMConfig, *, with_lengths: bool, with_states: bool) -> None:
    """Raise a ValueError for options that ONNX does not support. Its message continues the layer's name."""
    for name, value in options.unsupported("onnx").items():
        raise ValueError(f"has {name}={value!r}, which ONNX's LSTM does not support")
    variant = options.cell_config
    for function in (variant.gate, variant.candidate, variant.output):
        if function.name not in ACTIVATIONS:
            raise ValueError(f"has the activation {function.name}; ONNX's LSTM supports {', '.join(ACTIVATIONS)}")
    if options.coupled == "forget":
        raise ValueError("has coupled='forget', i = 1 - f; ONNX's LSTM supports f = 1 - i")
    if with_states and options.learn_initial_state:
        raise ValueError("has learned initial states, which states=True replaces by inputs")
    for name, expected in (("masked_outputs", "zero"), ("outputs_in", "time")):
        value = getattr(options, name)
        if with_lengths and value != expected:
            raise ValueError(f"has {name}={value!r}; with lengths, ONNX's LSTM outputs 0 after each sequence's end")


def _attributes(options: LSTMConfig) -> dict[str, Any]:
    D = options.num_directions
    attributes: dict[str, Any] = {"hidden_size": options.hidden_size}
    if options.bidirectional or options.reverse:
        attributes["direction"] = "bidirectional" if options.bidirectional else "reverse"
    functions = (options.cell_config.gate, options.cell_config.candidate, options.cell_config.output)
    parameters = tuple(function.spec for function in functions)
    if parameters != STANDARD_ACTIVATIONS:
        attributes["activations"] = [name for name, _, _ in parameters] * D
        for name, index in (("activation_alpha", 1), ("activation_beta", 2)):
            numbers = [function[index] for function in parameters if function[index] is not None] * D
            attributes |= {name: numbers} if numbers else {}
    if options.clip is not None:
        attributes["clip"] = options.clip
    return attributes | ({"input_forget": 1} if options.coupled else {})


def _weights(graph: Graph, lstm: LSTM, layer: int, suffixes: list[str]) -> list[str]:
    """Add W (D, 4H, I), R (D, 4H, H) and B (D, 8H), of which the whole bias is the first half."""
    options = lstm.options
    I = options.output_size if layer else options.input_size
    matrices = []
    for suffix in suffixes:
        kernel = reorder(options.kernel(lstm.parameters, suffix), options.cell_config.gates, GLASSCELL.gates)
        matrices.append(encode(kernel, I, GLASSCELL.gates, ONNX, bias=options.bias))
    W, R = (np.stack(arrays) for arrays in zip(*((m.inputs, m.recurrent) for m in matrices), strict=True))
    names = [graph.constant(f"W_l{layer}", W), graph.constant(f"R_l{layer}", R)]
    biases = [direction.bias for direction in matrices if direction.bias is not None]
    if not biases:
        return [*names, ""]
    return [*names, graph.constant(f"B_l{layer}", np.pad(biases, [(0, 0), (0, biases[0].size)]))]


def _peepholes(graph: Graph, lstm: LSTM, layer: int, suffixes: list[str]) -> str:
    source = lstm.options.cell_config.peepholes
    rows = [reorder(lstm.parameters[f"peepholes{suffix}"], source, ONNX.peepholes) for suffix in suffixes]
    return graph.constant(f"P_l{layer}", np.stack(rows))


def _states_of_layer(graph: Graph, options: LSTMConfig, states: str, layer: int) -> str:
    """Return the states (D, B, H) of a layer from those (L·D, B, H) of all."""
    D = options.num_directions
    return states if options.num_layers == 1 else graph.slice(states, layer * D, (layer + 1) * D, axis=0)


def _learned_states(graph: Graph, lstm: LSTM, layer: int, suffixes: list[str], x: str) -> list[str]:
    """Add the learned initial states h and c (D, B, H), the same for each sequence of x (B, T, I)."""
    if not lstm.options.learn_initial_state:
        return ["", ""]
    batch = graph.add("Gather", [graph.add("Shape", [x]), graph.integers([0])])
    D, H = graph.integers([len(suffixes)]), graph.integers([lstm.hidden_size])
    shape = graph.add("Concat", [D, batch, H], axis=0)
    states: list[Array] = [
        np.stack([lstm.parameters[f"initial_{name}{suffix}"] for suffix in suffixes])[:, None] for name in "hc"
    ]
    names = [graph.constant(f"initial_{name}_l{layer}", state) for name, state in zip("hc", states, strict=True)]
    return [graph.add("Expand", [name, shape]) for name in names]


def _merge_directions(graph: Graph, options: LSTMConfig, Y: str) -> str:
    """Return the outputs (T, B, F) of a layer from those (T, D, B, H) of its node."""
    if options.merge != "concat":
        return graph.merge(Y, 1, options.merge)
    if options.bidirectional:
        y = graph.add("Transpose", [Y], perm=[0, 2, 1, 3])
        return graph.add("Reshape", [y, graph.integers([0, 0, 2 * options.hidden_size])])
    y = graph.add("Squeeze", [Y, graph.integers([1])])
    if options.outputs_in == "processing":  # from the last step to the first
        y = graph.slice(y, -1, -(2**63) + 1, axis=0, step=-1)
    return y


def _final_directions(options: LSTMConfig) -> Literal["forward", "reverse", "both"] | None:
    if options.merge != "concat" or options.outputs_in != "time":
        return None
    return "both" if options.bidirectional else "reverse" if options.reverse else "forward"
