"""LSTM nodes of a graph as plans of layers, taken apart and put together."""

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
    weights_of,
)
from glasscell.convert.onnx.operator import parse_attributes
from glasscell.core.types import Array
from glasscell.core.variants import CellConfig
from glasscell.layers import FinalState, LSTMConfig

Initial = Constant | Sequence[InitialStateInput] | None  # of all directions


def lstm_plan(
    attributes: Attributes, weights: Mapping[str, Any], h0: Initial, c0: Initial, *, inputs: int, batch_first: bool
) -> LSTMSpec:
    """The plan of an LSTM node: its attributes, its weights W, R, B and P, and the states that it begins with."""
    settings = parse_attributes(_float32_literals(attributes))
    arrays = {name: weights_of(f"weights {name}", value) for name, value in weights.items() if value is not None}
    _check_shapes(arrays, len(settings.reverse), settings.hidden_size, inputs)
    variant = settings.variants[0]
    if any(_functions(other) != _functions(variant) for other in settings.variants):
        raise UnsupportedNode("has other activations in one direction than in the other")
    D, H = len(settings.reverse), arrays["R"].shape[2]
    starts = {name: _starts(value, D, H, batch_first=batch_first) for name, value in (("h0", h0), ("c0", c0))}
    given = [start for of_ways in starts.values() for start in of_ways if start is not None]
    learned = any(not isinstance(start, InitialStateInput) for start in given)
    if learned and any(isinstance(start, InitialStateInput) for start in given):
        raise UnsupportedNode("begins with states of which one is an input, and the other a constant")
    options = LSTMConfig(
        input_size=inputs,
        hidden_size=H,
        bidirectional=D == 2,
        reverse=settings.reverse == (True,),
        bias="B" in arrays,
        peepholes="P" in arrays,
        coupled=variant.coupled,
        clip=variant.clip,
        gate_activation=variant.gate,
        candidate_activation=variant.candidate,
        output_activation=variant.output,
        learn_initial_state=learned,
    )
    ways = tuple(
        DirectionWeights(
            arrays["W"][d],
            arrays["R"][d],
            _bias(arrays["B"][d]) if "B" in arrays else None,
            arrays["P"][d] if "P" in arrays else None,
            starts["h0"][d],
            starts["c0"][d],
        )
        for d in range(D)
    )
    return LSTMSpec(options, ways, arrays["W"].dtype)


def single_direction(plan: LSTMSpec, way: int) -> LSTMSpec:
    """One direction of a bidirectional LSTM."""
    options = plan.options.replace(bidirectional=False, reverse=bool(way))
    return LSTMSpec(options, (plan.ways[way],), plan.dtype)


def bidirectional_from(forward: LayerSpec, back: LayerSpec) -> LSTMSpec:
    """Two LSTMs as the two directions of one."""
    if isinstance(forward, LSTMSpec) and isinstance(back, LSTMSpec) and back.options.outputs_in == "time":
        options = forward.options.replace(reverse=True) if not forward.options.bidirectional else None
        if not forward.options.reverse and options == back.options and forward.dtype == back.dtype:
            bidirectional = forward.options.replace(bidirectional=True)
            return LSTMSpec(bidirectional, forward.ways + back.ways, forward.dtype)
    raise UnsupportedNode("joins LSTMs that are not the two directions of one layer")


def merge_plan(plan: LayerSpec | None, how: Literal["sum", "average", "multiply"]) -> LSTMSpec | FinalState:
    """A bidirectional LSTM whose outputs, or final states, become one in this way."""
    if plan == FinalState("both"):
        return FinalState("both", merge=how)
    if not (isinstance(plan, LSTMSpec) and plan.options.bidirectional and plan.options.merge == "concat"):
        raise UnsupportedNode("makes one of what are not the two directions of an LSTM")
    return replace(plan, options=plan.options.replace(merge=how))


def reverse_lstm(plan: LSTMSpec) -> LSTMSpec | None:
    """The LSTM whose outputs are the other way round in time, if there is one."""
    if not plan.options.reverse:
        return None
    order = "processing" if plan.options.outputs_in == "time" else "time"
    return replace(plan, options=plan.options.replace(outputs_in=order))


def conjugate_by_reversal(plan: LSTMSpec) -> LSTMSpec:
    """The LSTM that does to a sequence what this one does to it the other way round: its outputs are also so."""
    if plan.options.bidirectional or plan.options.reverse:
        raise UnsupportedNode("runs back over sequences that are the other way round")
    return replace(plan, options=plan.options.replace(reverse=True, outputs_in="processing"))


def stack(below: LSTMSpec, above: LSTMSpec, dropout: float = 0.0) -> LSTMSpec | None:
    """Two LSTMs as one of more layers, with dropout between them, if they are of one kind."""
    if above.options.input_size != below.options.output_size or above.dtype != below.dtype:
        return None
    if isinstance(below.ways[0].h0, InitialStateInput) != isinstance(above.ways[0].h0, InitialStateInput):
        return None
    if "processing" in (below.options.outputs_in, above.options.outputs_in):
        return None
    own = {"input_size": below.options.input_size, "num_layers": below.options.num_layers}
    if above.options.replace(**own, dropout=below.options.dropout) != below.options:
        return None
    if below.options.num_layers > 1 and below.options.dropout != dropout:
        return None
    options = below.options.replace(num_layers=below.options.num_layers + above.options.num_layers, dropout=dropout)
    return LSTMSpec(options, below.ways + above.ways, below.dtype)


def _float32_literals(attributes: Attributes) -> Attributes:
    """The attributes, with numbers as they were before a file kept them as float32."""
    meant = {name: [float32_literal(x) for x in attributes[name]] for name in ALPHAS if name in attributes}
    return attributes | meant | ({"clip": float32_literal(attributes["clip"])} if "clip" in attributes else {})


ALPHAS = ("activation_alpha", "activation_beta")


def _check_shapes(arrays: Mapping[str, Array], D: int, hidden_size: int | None, inputs: int) -> None:
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
    if inputs != I:
        raise UnsupportedNode(f"has weights for {I} features, and its input has {inputs}")


def _functions(variant: CellConfig) -> list[Any]:
    return [function.parameters for function in (variant.gate, variant.candidate, variant.output)]


def _bias(of_inputs_and_state: Array) -> Array:
    """The two biases (8H,) of a direction as the one that they add up to."""
    return weights_of("biases", of_inputs_and_state.reshape(2, -1).sum(axis=0))


def _starts(value: Initial, D: int, H: int, *, batch_first: bool) -> list[Constant | InitialStateInput | None]:
    """Where each direction begins: at an input of the graph, at a vector (H,), or, None, at 0."""
    if value is None:
        return [None] * D
    if not isinstance(value, np.ndarray):
        if len(value) != D:
            raise UnsupportedNode(f"begins with {len(value)} states for {D} directions")
        return list(value)
    array = weights_of("initial states", value)
    by_way = array.swapaxes(0, 1) if batch_first and array.ndim == 3 else array
    if by_way.ndim != 3 or by_way.shape[::2] != (D, H) or not by_way.shape[1]:
        raise UnsupportedNode(f"begins with states of shape {value.shape}; expected D = {D}, H = {H} and the batch")
    if (by_way != by_way[:, :1]).any():
        raise UnsupportedNode("begins with constant states that differ from sequence to sequence")
    return [by_way[d, 0] for d in range(D)] if by_way.any() else [None] * D
