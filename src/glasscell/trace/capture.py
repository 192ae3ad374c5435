"""Capture a trace: from the tapes of a forward pass and the step gradients of its backward pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glasscell.core import linear, losses, lstm, variants
from glasscell.core.step_gradients import StepGradients, StepGradientsByLayer
from glasscell.core.time_order import TimeOrder
from glasscell.core.types import Array
from glasscell.recurrent.config import LSTMConfig
from glasscell.trace import cell_stacks
from glasscell.trace.data import METADATA_KEYS, Readout
from glasscell.trace.layer_trace import GRADIENT_SYMBOLS, STATE_SYMBOLS, LayerTrace
from glasscell.trace.trace import Trace
from glasscell.validation import choice, finite_array

if TYPE_CHECKING:
    from glasscell.recurrent.rnn_tape import RNNDirectionTape, RNNTape
    from glasscell.recurrent.tape import LSTMTape
    from glasscell.trace.cell_stacks import CellStackTrace


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
    model: Any,
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
    model : LSTM, CopyLSTM or Sequential
        With ``forward(x, **arguments)`` and ``backward(tape, d_outputs, step_gradients=…)``.
    traced_layers : callable
        Returns the traceable layers with their tapes from the tape of the model.
    x : array
    targets : TraceTargets
    metadata : mapping
        With keys of :data:`glasscell.trace.data.METADATA_KEYS`.
    readout : Readout, optional
    **arguments
        Of ``forward``: states, lengths, mask.
    """
    targets.validate()
    if unknown := metadata.keys() - METADATA_KEYS:
        allowed = ", ".join(METADATA_KEYS[:4])
        raise TypeError(f"metadata of trace() must be one of {allowed}, got {', '.join(sorted(unknown))}")
    outputs, _, tape = model.forward(x, **arguments)
    layers = traced_layers(tape)
    valid, single = layers[0].layer.valid_steps(layers[0].tape), layers[0].tape.unbatched
    if valid is not None and single:  # trace a batch of one, and select its valid steps
        arguments = {name: _add_batch_axis(value) for name, value in arguments.items()}
        batch = np.asarray(x)[None], targets.with_batch_axis()
        return capture(model, traced_layers, *batch, metadata, readout, **arguments).sequence(0)
    inputs = np.asarray(x)
    lead = 1 if single else 2
    has_time_axis = outputs.shape[:lead] == inputs.shape[:lead] and outputs.ndim == lead + 1
    loss, d_outputs, y, weights = _loss_of_targets(targets, outputs, valid if has_time_axis else None)
    step_gradients: list[Any] | None = None
    d_x = None
    if d_outputs is not None:
        step_gradients = []
        d_x = model.backward(tape, d_outputs, step_gradients=step_gradients)[0]
    traces = _layer_traces(layers, step_gradients)
    _check_names(metadata, traces[0].x.shape[-1], outputs.shape[-1], inputs.shape[lead - 1])
    about = {"loss": targets.loss if loss is not None else None, "timeless": not has_time_axis, **metadata}
    axes = "T" if single else "BT"
    return Trace(traces, inputs, outputs, y, weights, loss, d_outputs, d_x, readout, valid, about, axes)


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


def layer_traces(
    tape: LSTMTape, step_gradients: StepGradientsByLayer | None, prefix: str = ""
) -> tuple[LayerTrace, ...]:
    """Return one trace per layer and direction of an LSTM."""
    direction_tapes, options = tape.layers, tape.options  # raises ValueError without gates
    names, axes = _names(options, gradients=step_gradients is not None), "TR" if tape.unbatched else "BTR"
    traces = []
    for k, (direction_tape, (suffix, _, reverse)) in enumerate(zip(direction_tapes, options.directions, strict=True)):
        gradients = None if step_gradients is None else step_gradients[k]
        compute = TapeReader(direction_tape, tape, tape.directions[k].order, gradients, reverse=reverse)
        weights = {"kernel": direction_tape.kernel} if isinstance(direction_tape, lstm.Tape) else direction_tape.weights
        traces.append(LayerTrace(f"{prefix}{suffix[1:]}", options, weights, names, compute, axes, reverse=reverse))
    return tuple(traces)


def cell_stack_traces(
    tape: RNNTape, step_gradients: Sequence[Any] | None, prefix: str = ""
) -> tuple[CellStackTrace, ...]:
    """Return the trace of each layer and direction of an RNN or a GRU."""

    def to_time_order(steps: Array, direction_tape: RNNDirectionTape) -> Array:
        return _to_time_order(steps, direction_tape.order, reverse=direction_tape.reverse, single=tape.unbatched)

    return cell_stacks.layer_traces(tape, step_gradients, to_time_order, prefix)


@cache
def _names(options: LSTMConfig, *, gradients: bool) -> tuple[str, ...]:
    gate_gradients = [f"d_{gate}" for gate in options.cell_config.gates]
    return STATE_SYMBOLS + ((*GRADIENT_SYMBOLS, *gate_gradients) if gradients else ())


class TapeReader:
    """Reads the arrays of a layer from its tape, and from its step gradients, which are computed on first access."""

    def __init__(
        self,
        direction_tape: lstm.Tape | variants.Tape,
        tape: LSTMTape,
        order: TimeOrder | None,
        gradients: Callable[[], StepGradients] | None,
        *,
        reverse: bool,
    ) -> None:
        self.tape, self.options, self.order, self.gradients = direction_tape, tape.options, order, gradients
        self.reverse, self.single = reverse, tape.unbatched

    def __call__(self, name: str) -> Array:
        """Return the array of a symbol in time order."""
        steps = self._gradients(name[2:]) if name.startswith("d_") else self._states(name)
        return _to_time_order(steps, self.order, reverse=self.reverse, single=self.single)

    def _states(self, name: str) -> Array:
        """Return a gate or a state in processing order, (T, rows, B)."""
        if name in ("h_prev", "c_prev"):
            return self.tape.h_with_initial[:-1] if name == "h_prev" else self.tape.c_with_initial[:-1]
        if name == "z" and isinstance(self.tape, lstm.Tape):
            return linear.batched_matmul(self.tape.kernel, self.tape.u)
        array: Array = getattr(self.tape, name)
        return array

    def _gradients(self, name: str) -> Array:
        """Return the gradient on a symbol in processing order, (T, rows, B)."""
        assert self.gradients is not None  # otherwise the trace has no gradient symbols  # noqa: S101
        gradients, gates = self.gradients(), self.options.cell_config.gates
        if name in gates:
            k, H = gates.index(name), self.tape.H
            return gradients.da[:, k * H : (k + 1) * H]
        if name == "tanh_c":
            return _output_activation_gradient(self.tape, gradients.dh, self.options.zoneout) * self.tape.o
        array: Array = getattr(gradients, f"d{name}")
        return array


def _output_activation_gradient(tape: lstm.Tape | variants.Tape, dh: Array, zoneout: float) -> Array:
    """Return the gradient on o ∘ tanh c: backward through zoneout and the projection."""
    d = dh * dh.dtype.type(1 - zoneout)
    if isinstance(tape, lstm.Tape) or "projection" not in tape.weights:
        return d
    return linear.batched_matmul(tape.weights["projection"].T, d)


def _to_time_order(steps: Array, order: TimeOrder | None, *, reverse: bool, single: bool) -> Array:
    """Return (T, rows, B) in processing order as (T, rows) or (B, T, rows) in time order; invalid steps are NaN."""
    if order is not None:
        valid = (order.inverse < order.lengths)[:, None, :]
        steps = np.where(valid, order.to_time_order(steps), steps.dtype.type(np.nan))
    elif reverse:
        steps = steps[::-1]
    return steps[:, :, 0] if single else steps.transpose(2, 0, 1)
