"""An LSTM as nodes of an ONNX graph."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np

from glasscell.convert.onnx.exporter.graph import Graph
from glasscell.core.activations import ACTIVATIONS
from glasscell.core.types import Array
from glasscell.layers import LSTM, LSTMConfig
from glasscell.weight_layouts import GLASSCELL, ONNX, encode, reorder

PLAIN = (("Sigmoid", None, None), ("Tanh", None, None), ("Tanh", None, None))


class LSTMOutputs(NamedTuple):
    """What the nodes of an LSTM give.

    Attributes
    ----------
    y : str
        (B, T, F).
    h, c : list of str
        The final states (D, B, H) of each layer.
    directions : "forward", "reverse" or "both", or None
        Where along y the final hidden states are, as a FinalState says it, if y is in time and not merged.
    hidden_size : int
    """

    y: str
    h: list[str]
    c: list[str]
    directions: Literal["forward", "reverse", "both"] | None
    hidden_size: int


def write_lstm(graph: Graph, lstm: LSTM, x: str, starts: tuple[str, str] | None = None) -> LSTMOutputs:
    """Add an LSTM on x (B, T, I), which begins with states (L·D, B, H) if they are given."""
    options = lstm.options
    _check(options, with_lengths=graph.lengths is not None, with_states=starts is not None)
    D = options.num_directions
    states: dict[str, list[str]] = {"h": [], "c": []}
    shape_of = x
    x = graph.add("Transpose", [x], perm=[1, 0, 2])  # (T, B, I)
    for layer in range(options.num_layers):
        suffixes = [suffix for suffix, _, _ in options.directions[layer * D : (layer + 1) * D]]
        inputs = [x, *_weights(graph, lstm, layer, suffixes), graph.lengths or ""]
        if starts is None:
            inputs += _learned(graph, lstm, layer, suffixes, shape_of)
        else:
            inputs += [_of_layer(graph, options, start, layer) for start in starts]
        inputs += [_peepholes(graph, lstm, layer, suffixes)] if options.peepholes else []
        while not inputs[-1]:
            inputs.pop()
        x, h, c = graph.add_some("LSTM", inputs, 3, **_attributes(options))
        states["h"].append(h)
        states["c"].append(c)
        x = _outputs(graph, options, x)
        if options.dropout and layer < options.num_layers - 1:
            x = graph.add("Dropout", [x, graph.number(options.dropout)])
    y = graph.add("Transpose", [x], perm=[1, 0, 2])
    return LSTMOutputs(y, states["h"], states["c"], _directions(options), options.hidden_size)


def _check(options: LSTMConfig, *, with_lengths: bool, with_states: bool) -> None:
    """Refuse what ONNX does not support: the end of a sentence that begins with the layer's name."""
    for name, value in options.unsupported("onnx").items():
        raise ValueError(f"has {name}={value!r}, and ONNX's LSTM has no such thing")
    variant = options.cell_config
    for function in (variant.gate, variant.candidate, variant.output):
        if function.name not in ACTIVATIONS:
            raise ValueError(f"has the activation {function.name}; ONNX's LSTM has {', '.join(ACTIVATIONS)}")
    if options.coupled == "forget":
        raise ValueError("has coupled='forget', i = 1 - f; ONNX's LSTM has f = 1 - i")
    if with_states and options.learn_initial_state:
        raise ValueError("learns its initial states, which would be inputs with states=True")
    for name, expected in (("masked_outputs", "zero"), ("outputs_in", "time")):
        if with_lengths and getattr(options, name) != expected:
            value = getattr(options, name)
            raise ValueError(f"has {name}={value!r}; with lengths, ONNX's LSTM gives 0 behind each sequence")


def _attributes(options: LSTMConfig) -> dict[str, Any]:
    D = options.num_directions
    attributes: dict[str, Any] = {"hidden_size": options.hidden_size}
    if options.bidirectional or options.reverse:
        attributes["direction"] = "bidirectional" if options.bidirectional else "reverse"
    functions = (options.cell_config.gate, options.cell_config.candidate, options.cell_config.output)
    parameters = tuple(function.spec for function in functions)
    if parameters != PLAIN:
        attributes["activations"] = [name for name, _, _ in parameters] * D
        for key, place in (("activation_alpha", 1), ("activation_beta", 2)):
            numbers = [function[place] for function in parameters if function[place] is not None] * D
            attributes |= {key: numbers} if numbers else {}
    if options.clip is not None:
        attributes["clip"] = options.clip
    return attributes | ({"input_forget": 1} if options.coupled else {})


def _weights(graph: Graph, lstm: LSTM, layer: int, suffixes: list[str]) -> list[str]:
    """W (D, 4H, I), R (D, 4H, H) and B (D, 8H), of which the whole bias is the first half."""
    options = lstm.options
    I = options.output_size if layer else options.input_size
    parts = []
    for suffix in suffixes:
        kernel = reorder(options.kernel(lstm.parameters, suffix), options.cell_config.gates, GLASSCELL.gates)
        parts.append(encode(kernel, I, GLASSCELL.gates, ONNX, bias=options.bias))
    W, R = (np.stack(arrays) for arrays in zip(*((part.inputs, part.recurrent) for part in parts), strict=True))
    names = [graph.constant(f"W_l{layer}", W), graph.constant(f"R_l{layer}", R)]
    biases = [part.bias for part in parts if part.bias is not None]
    if not biases:
        return [*names, ""]
    return [*names, graph.constant(f"B_l{layer}", np.pad(biases, [(0, 0), (0, biases[0].size)]))]


def _peepholes(graph: Graph, lstm: LSTM, layer: int, suffixes: list[str]) -> str:
    of = lstm.options.cell_config.peepholes
    rows = [reorder(lstm.parameters[f"peepholes{suffix}"], of, ONNX.peepholes) for suffix in suffixes]
    return graph.constant(f"P_l{layer}", np.stack(rows))


def _of_layer(graph: Graph, options: LSTMConfig, states: str, layer: int) -> str:
    """The states (D, B, H) of a layer, of those (L·D, B, H) of all."""
    if options.num_layers == 1:
        return states
    D = options.num_directions
    return graph.add("Slice", [states, *(graph.integers([k]) for k in (layer * D, (layer + 1) * D, 0))])


def _learned(graph: Graph, lstm: LSTM, layer: int, suffixes: list[str], x: str) -> list[str]:
    """The learned initial states (D, B, H), the same for every sequence; x (B, …) says how many there are."""
    if not lstm.options.learn_initial_state:
        return ["", ""]
    batch = graph.add("Gather", [graph.add("Shape", [x]), graph.integers([0])])
    D, H = graph.integers([len(suffixes)]), graph.integers([lstm.hidden_size])
    shape = graph.add("Concat", [D, batch, H], axis=0)
    starts: list[Array] = [
        np.stack([lstm.parameters[f"initial_{name}{suffix}"] for suffix in suffixes])[:, None] for name in "hc"
    ]
    names = [graph.constant(f"initial_{name}_l{layer}", start) for name, start in zip("hc", starts, strict=True)]
    return [graph.add("Expand", [name, shape]) for name in names]


def _outputs(graph: Graph, options: LSTMConfig, Y: str) -> str:
    """From Y (T, D, B, H) to (T, B, F)."""
    if options.merge != "concat":
        return graph.merged(Y, 1, options.merge)
    if options.bidirectional:
        y = graph.add("Transpose", [Y], perm=[0, 2, 1, 3])
        return graph.add("Reshape", [y, graph.integers([0, 0, 2 * options.hidden_size])])
    y = graph.add("Squeeze", [Y, graph.integers([1])])
    if options.outputs_in == "processing":  # from the last step to the first
        y = graph.add("Slice", [y, *(graph.integers([k]) for k in (-1, -(2**63) + 1, 0, -1))])
    return y


def _directions(options: LSTMConfig) -> Literal["forward", "reverse", "both"] | None:
    if options.merge != "concat" or options.outputs_in != "time":
        return None
    return "both" if options.bidirectional else "reverse" if options.reverse else "forward"
