"""Traces of a Sequential: its recurrent layers, and the readout after the last one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from glasscell.core.types import Array
from glasscell.trace.capture import TracedLayer, TraceTargets, capture
from glasscell.trace.data import Readout

if TYPE_CHECKING:
    from glasscell.trace.trace import Trace


def trace_sequential(
    model: Any, x: ArrayLike, targets: TraceTargets, metadata: Mapping[str, Any], **forward_arguments: Any
) -> Trace:
    """Trace the layers of a model that can be traced; see :meth:`Sequential.trace`."""
    layers, names = model.layers, model.names
    indices = [k for k, layer in enumerate(layers) if layer.traceable]
    if not indices:
        raise ValueError("there is no LSTM in this model to look into")
    last = layers[-1]
    readout_weights = last.readout_weights() if indices[-1] == len(layers) - 2 else None
    readout = None if readout_weights is None else Readout(*readout_weights)
    prefixes = [f"{names[k]} " if len(indices) > 1 else "" for k in indices]
    adapter = _WithFeatures(model)
    if adapter.inputs:
        x = np.asarray(x)[..., None]
    if adapter.outputs:
        y, loss, weights, d_outputs = targets
        targets = TraceTargets(_with_axis(y), loss, _with_axis(weights), _with_axis(d_outputs))
    shape = np.shape(x)
    T = (shape if layers[0].inputs == "ids" else shape[:-1])[-1]

    def traced_layers(tape: Any) -> list[TracedLayer]:
        result = []
        for prefix, k in zip(prefixes, indices, strict=True):
            layer: Any = layers[k]
            steps = layer.tape_shape(tape.layers[k])[0]
            if steps != T:
                raise ValueError(
                    f"a trace has one axis of time, and {names[k]!r} takes {steps} steps for the {T} of x: "
                    "trace a model of the layers behind the one that changes the number of steps"
                )
            result.append(TracedLayer(layer, tape.layers[k], prefix))
        return result

    metadata = {"title": " → ".join(map(repr, layers)), "chain": _is_replayable(model), **metadata}
    return capture(adapter, traced_layers, x, targets, metadata, readout, **forward_arguments)


def _is_replayable(model: Any) -> bool:
    """Return whether views may recompute all layers: standard stacks of LSTMs, and at most a readout after them."""
    *first, last = model.layers
    return all(getattr(layer, "replayable", False) for layer in first) and (
        getattr(last, "replayable", False) or last.readout_weights() is not None
    )


class _WithFeatures:
    """A model with an axis of one feature where its inputs or outputs have none: views show features."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.inputs, self.outputs = model.layers[0].inputs == "numbers", model.layers[-1].outputs == "numbers"

    def forward(self, x: Any, states: Any = None, **arguments: Any) -> tuple[Array, Any, Any]:
        y, states, tape = self.model.forward(x[..., 0] if self.inputs else x, states, **arguments)
        return (y[..., None] if self.outputs else y), states, tape

    def backward(self, tape: Any, d_outputs: Any, *, step_gradients: list[Any] | None = None) -> tuple[Any, Any, Any]:
        d = np.asarray(d_outputs)
        dx, d_states, gradients = self.model.backward(
            tape, d[..., 0] if self.outputs else d, step_gradients=step_gradients
        )
        return dx[..., None] if self.inputs and dx is not None else dx, d_states, gradients


def _with_axis(value: ArrayLike | None) -> Any:
    """Return a target, or weights, with an axis of one feature."""
    return value if value is None else np.asarray(value)[..., None]
