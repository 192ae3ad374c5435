"""Capture a trace: from the tapes of a forward pass and the step gradients of its backward pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glasscell.core import losses
from glasscell.core.types import Array
from glasscell.trace.data import METADATA_KEYS, Readout
from glasscell.trace.layer_trace import LayerTrace
from glasscell.trace.trace import Trace
from glasscell.validation import choice, finite_array


class TracedLayer(NamedTuple):
    """A recurrent layer of the model, and its tape of the pass.

    Attributes
    ----------
    layer : RecurrentLayer
        With ``layer_traces``, ``valid_steps`` and ``num_states``.
    tape : object
        With a field ``unbatched``.
    prefix : str
        Put before the names of its traces.
    """

    layer: Any
    tape: Any
    prefix: str = ""


class Passes(NamedTuple):
    """The passes of a layer or model that a trace runs, on arrays of users.

    Attributes
    ----------
    forward : callable
        ``forward(x, **arguments)`` returns (outputs, final states in core's layout, tape).
    backward : callable
        ``backward(tape, d_outputs, step_gradients=…)`` returns the gradients on x and on the initial states.
    """

    forward: Callable[..., tuple[Array, Any, Any]]
    backward: Callable[..., tuple[Array | None, Any]]


class TraceTargets(NamedTuple):
    """Targets and loss of a trace.

    Attributes
    ----------
    y : array, optional
        Targets.
    loss : str
        One of :data:`glasscell.core.losses.LOSSES`.
    weights : array, optional
        Weights of the loss; broadcasts to the targets.
    d_outputs : array, optional
        Alternative to targets: the gradient on the outputs.
    """

    y: ArrayLike | None = None
    loss: str = "squared_error"
    weights: ArrayLike | None = None
    d_outputs: ArrayLike | None = None

    def validate(self) -> None:
        """Raise ValueError for an unknown loss, or for arguments that exclude each other."""
        choice("loss", self.loss, losses.LOSSES)
        if self.y is not None and self.d_outputs is not None:
            raise ValueError("y and d_outputs must not both be passed")
        if self.y is None and self.weights is not None:
            raise ValueError("weights must be passed with y")

    def with_batch_axis(self) -> TraceTargets:
        """Return the targets of a single sequence as those of a batch of one."""
        y, weights, d_outputs = map(_add_batch_axis, (self.y, self.weights, self.d_outputs))
        return TraceTargets(y, self.loss, weights, d_outputs)


def capture(
    passes: Passes,
    traced_layers: Callable[[Any], Sequence[TracedLayer]],
    x: ArrayLike,
    targets: TraceTargets,
    metadata: Mapping[str, Any],
    readout: Readout | None = None,
    **arguments: Any,
) -> Trace:
    """Run a model forward and, with targets or d_outputs, backward, and return the trace.

    Parameters
    ----------
    passes : Passes
        Of the layer or model.
    traced_layers : callable
        Returns the traceable layers with their tapes from the tape of the model.
    x : array
    targets : TraceTargets
    metadata : mapping
        With keys of :data:`glasscell.trace.data.METADATA_KEYS`.
    readout : Readout, optional
    **arguments
        Of the forward pass: states, lengths, mask.
    """
    targets.validate()
    if unknown := metadata.keys() - METADATA_KEYS:
        allowed = ", ".join(METADATA_KEYS[:4])
        raise TypeError(f"metadata of trace() must be one of {allowed}, got {', '.join(sorted(unknown))}")
    outputs, _, tape = passes.forward(x, **arguments)
    layers = traced_layers(tape)
    valid, single = layers[0].layer.valid_steps(layers[0].tape), layers[0].tape.unbatched
    if valid is not None and single:  # trace a batch of one, and select its valid steps
        arguments = {name: _add_batch_axis(value) for name, value in arguments.items()}
        batch = np.asarray(x)[None], targets.with_batch_axis()
        return capture(passes, traced_layers, *batch, metadata, readout, **arguments).sequence(0)
    inputs = np.asarray(x)
    sample_axes = 1 if single else 2
    has_time_axis = outputs.shape[:sample_axes] == inputs.shape[:sample_axes] and outputs.ndim == sample_axes + 1
    loss, d_outputs, y, weights = _loss_of_targets(targets, outputs, valid if has_time_axis else None)
    step_gradients: list[Any] | None = None
    d_x = None
    if d_outputs is not None:
        step_gradients = []
        d_x, _ = passes.backward(tape, d_outputs, step_gradients=step_gradients)
    traces = _layer_traces(layers, step_gradients)
    _check_names(metadata, traces[0].x.shape[-1], outputs.shape[-1], inputs.shape[sample_axes - 1])
    about = {"loss": targets.loss if loss is not None else None, "timeless": not has_time_axis, **metadata}
    axes = "T" if single else "BT"
    return Trace(traces, inputs, outputs, y, weights, loss, d_outputs, d_x, readout, valid, about, axes)


def trace_sequential(
    layers: Mapping[str, Any],
    passes: Passes,
    x: ArrayLike,
    targets: TraceTargets,
    metadata: Mapping[str, Any],
    **arguments: Any,
) -> Trace:
    """Trace the traceable layers of a model; see :meth:`Model.trace`.

    Parameters
    ----------
    layers : mapping of str to Layer
        By name, from the input upwards.
    passes, x, targets, metadata, **arguments
        As in :func:`capture`. The tape has the tapes of all layers in ``layers``.
    """
    names, entries = list(layers), list(layers.values())
    indices = [k for k, layer in enumerate(entries) if layer.traceable]
    if not indices:
        raise ValueError("there is no LSTM in this model to look into")
    *first, last = replayed = _active(entries)
    readout_weights = last.readout_weights() if replayed[-2:-1] == [entries[indices[-1]]] else None
    readout = None if readout_weights is None else Readout(*readout_weights)
    prefixes = [f"{names[k]} " if len(indices) > 1 else "" for k in indices]
    inputs, outputs = entries[0].inputs == "numbers", last.outputs == "numbers"
    if inputs or outputs:
        passes = _with_features(passes, inputs=inputs, outputs=outputs)
    if inputs:
        x = np.asarray(x)[..., None]
    if outputs:
        y, loss, weights, d_outputs = targets
        targets = TraceTargets(_with_axis(y), loss, _with_axis(weights), _with_axis(d_outputs))
    shape = np.shape(x)
    T = (shape if entries[0].inputs == "ids" else shape[:-1])[-1]

    def traced_layers(tape: Any) -> list[TracedLayer]:
        result = []
        for prefix, k in zip(prefixes, indices, strict=True):
            steps = entries[k].tape_shape(tape.layers[k])[0]
            if steps != T:
                raise ValueError(
                    f"a trace has one axis of time, and {names[k]!r} takes {steps} steps for the {T} of x: "
                    "trace a model of the layers behind the one that changes the number of steps"
                )
            result.append(TracedLayer(entries[k], tape.layers[k], prefix))
        return result

    # Views may recompute standard stacks of LSTMs, with at most a readout after them.
    is_replayable = all(getattr(layer, "replayable", False) for layer in first)
    is_replayable &= getattr(last, "replayable", False) or readout is not None
    metadata = {"chain": is_replayable, **metadata}
    if "title" not in metadata:
        metadata["title"] = " → ".join(map(repr, entries))
    return capture(passes, traced_layers, x, targets, metadata, readout, **arguments)


def _active(entries: Sequence[Any]) -> list[Any]:
    """Return the layers that compute something outside training; without an Embedding, if its vectors are traced.

    A trace has the inputs of its first recurrent layer. An Embedding in front of it only looks them up, unless it masks
    steps.
    """
    active = [layer for layer in entries if not layer.only_in_training]
    first, *rest = active
    looks_up = first.inputs == "ids" and rest and rest[0].traceable and not getattr(first, "mask_zero", False)
    return rest if looks_up else active


def _with_features(passes: Passes, *, inputs: bool, outputs: bool) -> Passes:
    """Return passes with an axis of one feature where inputs or outputs have none: views show features."""

    def forward(x: Any, *args: Any, **arguments: Any) -> tuple[Array, Any, Any]:
        y, states, tape = passes.forward(x[..., 0] if inputs else x, *args, **arguments)
        return (y[..., None] if outputs else y), states, tape

    def backward(tape: Any, d_outputs: Any, **arguments: Any) -> tuple[Array | None, Any]:
        d = np.asarray(d_outputs)
        dx, d_states = passes.backward(tape, d[..., 0] if outputs else d, **arguments)
        return (dx[..., None] if inputs and dx is not None else dx), d_states

    return Passes(forward, backward)


def _with_axis(value: ArrayLike | None) -> Any:
    """Return a target, or weights, with an axis of one feature."""
    return value if value is None else np.asarray(value)[..., None]


def _loss_of_targets(
    targets: TraceTargets, outputs: Array, valid: NDArray[np.bool_] | None
) -> tuple[float | None, Array | None, NDArray[Any] | None, Array | None]:
    """Return loss, gradient on the outputs, targets and weights; invalid steps have the weight 0."""
    if targets.y is None:
        d_outputs = targets.d_outputs
        return None, None if d_outputs is None else finite_array("d_outputs", d_outputs, outputs.dtype), None, None
    weights = targets.weights
    if valid is not None:
        valid = valid if targets.loss == "categorical_cross_entropy" else valid[..., None]
        weights = valid * (1.0 if weights is None else np.asarray(weights))
    return compute_loss(targets.loss, outputs, targets.y, weights)


def compute_loss(
    loss: str, outputs: Array, y: ArrayLike, weights: ArrayLike | None
) -> tuple[float, Array, NDArray[Any], Array | None]:
    """Validate targets and weights, and return the loss, its gradient on outputs (…, O), targets and weights."""
    are_classes = loss == "categorical_cross_entropy"
    expected = outputs.shape[:-1] if are_classes else outputs.shape
    targets: NDArray[Any] = np.asarray(y)
    if are_classes and targets.dtype.kind not in "iu":
        raise TypeError(f"y must be class numbers for {loss}, got dtype {targets.dtype}")
    if not are_classes:
        targets = finite_array("y", y, outputs.dtype)
    if targets.shape != expected:
        raise ValueError(f"y must have shape {expected} for outputs {outputs.shape} and {loss}, got {targets.shape}")
    loss_weights = None
    if weights is not None:
        array = finite_array("weights", weights, outputs.dtype)
        try:
            loss_weights = np.broadcast_to(array, expected)
        except ValueError:
            raise ValueError(f"weights must broadcast to {expected}, got shape {array.shape}") from None
    function: Any = getattr(losses, loss)
    value, d_outputs = function(outputs, targets, loss_weights)
    return value, d_outputs, targets, loss_weights


def _check_names(metadata: Mapping[str, Any], features: int, outputs: int, T: int) -> None:
    for key, size in (("input_names", features), ("output_names", outputs), ("step_names", T)):
        names = metadata.get(key)
        if names is not None and len(names) != size:
            raise ValueError(f"{key} must have {size} names, got {len(names)}")


def _add_batch_axis(value: Any) -> Any:
    """Return a target, lengths, mask or states of a single sequence as those of a batch of one."""
    if value is None:
        return None
    if hasattr(value, "_fields"):  # a state
        return type(value)(*(np.asarray(field)[:, None] for field in value))
    if isinstance(value, list | tuple) and any(hasattr(state, "_fields") or state is None for state in value):
        return [_add_batch_axis(state) for state in value]
    return np.asarray(value)[None]


def _layer_traces(layers: Sequence[TracedLayer], step_gradients: list[Any] | None) -> tuple[LayerTrace, ...]:
    """Return the traces of all layers, each with its share of the gradients."""
    result: list[LayerTrace] = []
    start = 0
    for layer, tape, prefix in layers:
        end = start + layer.num_states[1]
        result += layer.layer_traces(tape, None if step_gradients is None else step_gradients[start:end], prefix)
        start = end
    return tuple(result)
