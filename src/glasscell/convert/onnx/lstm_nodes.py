"""LSTM nodes of a graph as layers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from glasscell.convert.codec import ONNX, OURS, Parts, decode, reorder
from glasscell.convert.onnx.operator import settings_of
from glasscell.convert.onnx.views import Refusal, States, View
from glasscell.core.variants import Variant
from glasscell.layers import LSTM
from glasscell.models.sequential import Layer

Constant = NDArray[Any]


def lstm_layer(attributes: dict[str, Any], weights: dict[str, Constant], inputs: int) -> LSTM:
    """The layer of an LSTM node's attributes, its weights W, R, B and P, and the number of its inputs."""
    settings = settings_of(attributes)
    W, R, B, P = (weights.get(name) for name in "WRBP")
    if W is None or R is None or W.ndim != 3 or R.ndim != 3:
        raise Refusal("has no weights W (D, 4H, I) and R (D, 4H, H)")
    D, I, H = len(settings.reverse), W.shape[2], R.shape[2]
    shapes = {"W": (D, 4 * H, I), "R": (D, 4 * H, H), "B": (D, 8 * H), "P": (D, 3 * H)}
    for name, array in weights.items():
        if array.shape != shapes[name]:
            raise Refusal(f"has {name} of shape {array.shape}; expected {shapes[name]}")
    if settings.hidden_size not in (None, H):
        raise Refusal(f"has hidden_size {settings.hidden_size}, and R of shape {R.shape}")
    if inputs != I:
        raise Refusal(f"has weights for {I} inputs, and is given {inputs}")
    variant = settings.variants[0]
    if any(_functions(other) != _functions(variant) for other in settings.variants):
        raise Refusal("has other activations in one direction than in the other")
    layer = LSTM(
        I,
        H,
        bidirectional=D == 2,
        reverse=settings.reverse == (True,),
        bias=B is not None,
        peepholes=P is not None,
        coupled=variant.coupled,
        clip=variant.clip,
        gate_activation=variant.gate,
        candidate_activation=variant.candidate,
        output_activation=variant.output,
        dtype=float_type_of(W),
    )
    for d, (suffix, _, _) in enumerate(layer.options.ways):
        bias = None if B is None else B[d].reshape(2, 4 * H).sum(axis=0)
        kernel = reorder(decode(Parts(W[d], R[d], bias), OURS.gates, ONNX), OURS.gates, variant.gates)
        layer.parameters[f"kernel{suffix}"][:] = kernel
        if P is not None:
            layer.parameters[f"peepholes{suffix}"][:] = reorder(P[d], ONNX.peepholes, variant.peepholes)
    return layer


def _functions(variant: Variant) -> list[Any]:
    return [function.parameters for function in (variant.gate, variant.candidate, variant.output)]


def with_start(layer: LSTM, h0: Any, c0: Any, *, batch_first: bool) -> LSTM:
    """The layer with the initial state that the graph gives it: an input's, 0, or the same for every sequence."""
    starts = {"h": h0, "c": c0}
    constants = {
        name: known(value) for name, value in starts.items() if not isinstance(value, View) and value is not None
    }
    for value in starts.values():
        if isinstance(value, States) or (isinstance(value, View) and value.link is not None):
            raise Refusal("begins with states that another layer computes")
    if not any(array.any() for array in constants.values()):
        return layer
    learned = LSTM(**(layer.options.changed() | {"learn_initial_state": True}), dtype=layer.dtype)
    for name, view in layer.parameters.items():
        learned.parameters[name][:] = view
    for name, array in constants.items():
        by_way = array.swapaxes(0, 1) if batch_first else array  # (D, B, H)
        if (by_way != by_way[:, :1]).any():
            raise Refusal("begins with constant states that differ from sequence to sequence")
        for d, (suffix, _, _) in enumerate(layer.options.ways):
            learned.parameters[f"initial_{name}{suffix}"][:] = by_way[d, 0]
    return learned


def bidirectional(forward: LSTM, backward: LSTM) -> LSTM:
    """Two LSTMs as the two directions of one."""
    options = forward.options.replaced(bidirectional=True)
    if forward.options.reverse or backward.options.replaced(reverse=False, bidirectional=True) != options:
        raise Refusal("joins LSTMs that are not the two directions of one layer")
    lstm = LSTM(**options.changed(), dtype=forward.dtype)
    for name, view in lstm.parameters.items():
        one = backward if name.endswith("_reverse") else forward
        view[:] = one.parameters[name.removesuffix("_reverse")]
    return lstm


def stacked(below: Layer, above: Layer) -> LSTM | None:
    """Two LSTMs as one of more layers, if they are of one kind."""
    if not (isinstance(below, LSTM) and isinstance(above, LSTM)) or above.input_size != below.output_size:
        return None
    same = above.options.replaced(input_size=below.input_size, num_layers=below.num_layers)
    if same != below.options or below.dtype != above.dtype:
        return None
    options = below.options.changed() | {"num_layers": below.num_layers + above.num_layers}
    lstm = LSTM(**options, dtype=below.dtype)
    lstm.parameters.vector[:] = np.concatenate([below.parameters.vector, above.parameters.vector])
    return lstm


def known(value: Any) -> Constant:
    """A value of a graph that must be a constant."""
    if isinstance(value, View | States) or value is None:
        raise Refusal("needs a constant where it has a value that is computed from the inputs, or none")
    return np.asarray(value)


def float_type_of(array: Constant) -> np.dtype[np.floating]:
    """The dtype of weights, if it is float32 or float64."""
    if array.dtype not in (np.float32, np.float64):
        raise Refusal(f"has weights of dtype {array.dtype}; expected float32 or float64")
    return array.dtype
