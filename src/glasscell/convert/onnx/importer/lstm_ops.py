"""Specifications of LSTM nodes, and operations that split, join and reverse them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from glasscell.convert.onnx.importer.constants import Attributes, Constant, UnsupportedNode, float32_literal
from glasscell.convert.onnx.importer.layer_specs import (
    DirectionWeights,
    InitialStateInput,
    LayerSpec,
    LSTMSpec,
    require_weights,
)
from glasscell.convert.onnx.operator import parse_attributes
from glasscell.core.types import Array
from glasscell.core.variants import CellConfig
from glasscell.layers import FinalState, LSTMConfig

InitialStates = Constant | Sequence[InitialStateInput] | None  # of all directions
FLOAT_LISTS = ("activation_alpha", "activation_beta")


def lstm_spec(
    attributes: Attributes,
    weights: Mapping[str, Any],
    h0: InitialStates,
    c0: InitialStates,
    *,
    input_size: int,
    batch_first: bool,
) -> LSTMSpec:
    """Return the specification of an LSTM node from its attributes, weights W, R, B and P, and initial states."""
    parsed = parse_attributes(_float32_literals(attributes))
    arrays = {name: require_weights(f"weights {name}", value) for name, value in weights.items() if value is not None}
    _check_shapes(arrays, len(parsed.reverse), parsed.hidden_size, input_size)
    variant = parsed.variants[0]
    if any(_functions(other) != _functions(variant) for other in parsed.variants):
        raise UnsupportedNode("has other activations in one direction than in the other")
    D, H = len(parsed.reverse), arrays["R"].shape[2]
    initial_h, initial_c = (_initial_states(value, D, H, batch_first=batch_first) for value in (h0, c0))
    options = LSTMConfig(
        input_size=input_size,
        hidden_size=H,
        bidirectional=D == 2,
        reverse=parsed.reverse == (True,),
        bias="B" in arrays,
        peepholes="P" in arrays,
        coupled=variant.coupled,
        clip=variant.clip,
        gate_activation=variant.gate,
        candidate_activation=variant.candidate,
        output_activation=variant.output,
        learn_initial_state=_are_learned(initial_h + initial_c),
    )
    directions = tuple(
        DirectionWeights(
            arrays["W"][d],
            arrays["R"][d],
            _sum_biases(arrays["B"][d]) if "B" in arrays else None,
            arrays["P"][d] if "P" in arrays else None,
            initial_h[d],
            initial_c[d],
        )
        for d in range(D)
    )
    return LSTMSpec(options, directions, arrays["W"].dtype)


def single_direction(spec: LSTMSpec, index: int) -> LSTMSpec:
    """Return one direction of a bidirectional LSTM: 0 for forward, 1 for reverse."""
    options = spec.options.replace(bidirectional=False, reverse=bool(index))
    return LSTMSpec(options, (spec.directions[index],), spec.dtype)


def bidirectional_from(forward: LayerSpec, reverse: LayerSpec) -> LSTMSpec:
    """Return the bidirectional LSTM whose directions are two LSTMs."""
    if isinstance(forward, LSTMSpec) and isinstance(reverse, LSTMSpec) and reverse.options.outputs_in == "time":
        options = forward.options.replace(reverse=True) if not forward.options.bidirectional else None
        if not forward.options.reverse and options == reverse.options and forward.dtype == reverse.dtype:
            bidirectional = forward.options.replace(bidirectional=True)
            return LSTMSpec(bidirectional, forward.directions + reverse.directions, forward.dtype)
    raise UnsupportedNode("joins LSTMs that are not the two directions of one layer")


def merge_spec(spec: LayerSpec | None, merge: Literal["sum", "average", "multiply"]) -> LSTMSpec | FinalState:
    """Return a bidirectional LSTM, or its final states, with the outputs of both directions merged."""
    if spec == FinalState("both"):
        return FinalState("both", merge=merge)
    if not (isinstance(spec, LSTMSpec) and spec.options.bidirectional and spec.options.merge == "concat"):
        raise UnsupportedNode("merges values that are not the two directions of an LSTM")
    return replace(spec, options=spec.options.replace(merge=merge))


def reverse_lstm(spec: LSTMSpec) -> LSTMSpec | None:
    """Return the LSTM whose outputs are in reverse order of time. If the LSTM runs forward, None."""
    if not spec.options.reverse:
        return None
    order = "processing" if spec.options.outputs_in == "time" else "time"
    return replace(spec, options=spec.options.replace(outputs_in=order))


def conjugate_by_reversal(spec: LSTMSpec) -> LSTMSpec:
    """Return the LSTM that equals a reversal of the sequence, the given LSTM, and a reversal of its outputs."""
    if spec.options.bidirectional or spec.options.reverse:
        raise UnsupportedNode("runs in reverse over reversed sequences")
    return replace(spec, options=spec.options.replace(reverse=True, outputs_in="processing"))


def stack(below: LSTMSpec, above: LSTMSpec, dropout: float = 0.0) -> LSTMSpec | None:
    """Return two LSTMs as one of more layers, with dropout between them. If their options differ, None."""
    if isinstance(below.directions[0].h0, InitialStateInput) != isinstance(above.directions[0].h0, InitialStateInput):
        return None
    if "processing" in (below.options.outputs_in, above.options.outputs_in):
        return None
    sizes = {"input_size": below.options.input_size, "num_layers": below.options.num_layers}
    if above.options.replace(**sizes, dropout=below.options.dropout) != below.options:
        return None
    if below.options.num_layers > 1 and below.options.dropout != dropout:
        return None
    options = below.options.replace(num_layers=below.options.num_layers + above.options.num_layers, dropout=dropout)
    return LSTMSpec(options, below.directions + above.directions, below.dtype)


def _are_learned(states: Sequence[Constant | InitialStateInput | None]) -> bool:
    """Return whether initial states are constants, and not inputs of the graph or zeros."""
    are_inputs = {isinstance(state, InitialStateInput) for state in states if state is not None}
    if len(are_inputs) == 2:
        raise UnsupportedNode("has initial states of which one is an input, and the other a constant")
    return False in are_inputs


def _float32_literals(attributes: Attributes) -> Attributes:
    """Return the attributes with float32 numbers as the decimal numbers that they were rounded from."""
    literals = {name: [float32_literal(x) for x in attributes[name]] for name in FLOAT_LISTS if name in attributes}
    return attributes | literals | ({"clip": float32_literal(attributes["clip"])} if "clip" in attributes else {})


def _check_shapes(arrays: Mapping[str, Array], D: int, hidden_size: int | None, input_size: int) -> None:
    for name in "WR":
        if name not in arrays or arrays[name].ndim != 3:
            raise UnsupportedNode(f"has no weights {name} of three axes")
    I, H = arrays["W"].shape[2], arrays["R"].shape[2]
    shapes = {"W": (D, 4 * H, I), "R": (D, 4 * H, H), "B": (D, 8 * H), "P": (D, 3 * H)}
    if hidden_size not in (None, H):
        raise UnsupportedNode(f"has hidden_size {hidden_size}, and R of shape {arrays['R'].shape}")
    for name in ("R", *arrays):  # H is R's
        array = arrays[name]
        if array.shape != shapes[name]:
            raise UnsupportedNode(f"has weights {name} of shape {array.shape}; expected {shapes[name]}")
        if array.dtype != arrays["W"].dtype:
            raise UnsupportedNode(f"has weights {name} of dtype {array.dtype}, and W of {arrays['W'].dtype}")
    if input_size != I:
        raise UnsupportedNode(f"has weights for {I} features, and its input has {input_size}")


def _functions(variant: CellConfig) -> list[Any]:
    return [function.spec for function in (variant.gate, variant.candidate, variant.output)]


def _sum_biases(biases: Array) -> Array:
    """Return the sum (4H,) of a direction's two biases (8H,): that of the inputs, and that of the state."""
    return require_weights("biases", biases.reshape(2, -1).sum(axis=0))


def _initial_states(
    value: InitialStates, D: int, H: int, *, batch_first: bool
) -> list[Constant | InitialStateInput | None]:
    """Return the initial state of each direction: an input of the graph, a vector (H,), or None for zeros."""
    if value is None:
        return [None] * D
    if not isinstance(value, np.ndarray):
        if len(value) != D:
            raise UnsupportedNode(f"has {len(value)} initial states for {D} directions")
        return list(value)
    array = require_weights("initial states", value)
    states = array.swapaxes(0, 1) if batch_first and array.ndim == 3 else array
    if states.ndim != 3 or states.shape[::2] != (D, H) or not states.shape[1]:
        raise UnsupportedNode(f"has initial states of shape {value.shape}; expected D = {D}, H = {H} and the batch")
    if (states != states[:, :1]).any():
        raise UnsupportedNode("has constant initial states that differ between sequences")
    return [states[d, 0] for d in range(D)] if states.any() else [None] * D
