"""How a record is made: from the tapes of a forward pass and the gradients at every step of its backward pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from glasscell.core import linear, losses, lstm, variants
from glasscell.core.step_gradients import StepGradients, StepGradientsByLayer
from glasscell.core.time_order import TimeOrder
from glasscell.core.types import Array
from glasscell.recurrent.config import LSTMConfig
from glasscell.trace import cell_stacks
from glasscell.trace.data import GRADIENT_SYMBOLS, METADATA_KEYS, STATE_SYMBOLS, LayerTrace, Readout
from glasscell.trace.loss import compute_loss
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
        How much each answer counts; broadcasts to the targets.
    d_outputs : array, optional
        Instead of targets: the gradient on the outputs.
    """

    y: ArrayLike | None = None
    loss: str = "squared_error"
    weights: ArrayLike | None = None
    d_outputs: ArrayLike | None = None

    def check(self) -> None:
        """Refuse what does not go together."""
        choice("loss", self.loss, losses.LOSSES)
        if self.y is not None and self.d_outputs is not None:
            raise ValueError("give targets y, or d_outputs, the gradient on the outputs: not both")
        if self.y is None and self.weights is not None:
            raise ValueError("weights are for targets, and there is no y")

    def of_one(self) -> TraceTargets:
        """The same with a batch axis."""
        parts = (None if part is None else np.asarray(part)[None] for part in (self.y, self.weights, self.d_outputs))
        y, weights, d_outputs = parts
        return TraceTargets(y, self.loss, weights, d_outputs)


def capture(
    model: Any,
    traced_layers: Callable[[Any], Sequence[TracedLayer]],
    x: ArrayLike,
    asked: TraceTargets,
    about: Mapping[str, Any],
    readout: Readout | None = None,
    **given: Any,
) -> Trace:
    """Run a model forward, and backward if there is something to answer, and keep everything.

    Parameters
    ----------
    model : LSTM, CopyLSTM or Sequential
        What has ``forward(x, **given)`` and ``backward(tape, d_outputs, step_gradients=…)``.
    traced_layers : callable
        From the model's tape, its traceable layers with their tapes.
    x : array
    asked : Asked
    about : mapping
    readout : Readout, optional
    **given
        For ``forward``: states, lengths, mask.
    """
    asked.check()
    if unknown := about.keys() - METADATA_KEYS:
        raise TypeError(
            f"trace() knows no {', '.join(sorted(unknown))}; for the views it takes {', '.join(METADATA_KEYS[:4])}"
        )
    outputs, _, tape = model.forward(x, **given)
    traced = traced_layers(tape)
    valid, single = traced[0].layer.valid_steps(traced[0].tape), traced[0].tape.unbatched
    if valid is not None and single:  # a batch of one, of which then the steps are taken that there are
        given = {name: _of_one(value) for name, value in given.items()}
        return capture(model, traced_layers, np.asarray(x)[None], asked.of_one(), about, readout, **given).sequence(0)
    inputs = np.asarray(x)
    in_time = outputs.shape[: 1 if single else 2] == inputs.shape[: 1 if single else 2] and outputs.ndim == 3 - single
    loss, d_outputs, targets, weights = None, None, None, None
    if asked.y is not None:
        counted = asked.weights
        if valid is not None and in_time:
            there = valid if asked.loss == "categorical_cross_entropy" else valid[..., None]
            counted = there * (1.0 if counted is None else np.asarray(counted))
        loss, d_outputs, targets, weights = compute_loss(asked.loss, outputs, asked.y, counted)
    elif asked.d_outputs is not None:
        d_outputs = finite_array("d_outputs", asked.d_outputs, outputs.dtype)
    step_gradients: list[Any] | None = None
    d_x = None
    if d_outputs is not None:
        step_gradients = []
        d_x = model.backward(tape, d_outputs, step_gradients=step_gradients)[0]
    found = _layer_traces(traced, step_gradients)
    _check_names(about, found[0].x.shape[-1], outputs.shape[-1], inputs.shape[0 if single else 1])
    about = {"loss": asked.loss if loss is not None else None, "timeless": not in_time, **about}
    axes = "T" if single else "BT"
    return Trace(found, inputs, outputs, targets, weights, loss, d_outputs, d_x, readout, valid, dict(about), axes)


def _check_names(about: Mapping[str, Any], features: int, outputs: int, T: int) -> None:
    for key, size in (("input_names", features), ("output_names", outputs), ("step_names", T)):
        if about.get(key) is not None and len(about[key]) != size:
            raise ValueError(f"{key} has {len(about[key])} names; expected {size}")


def _of_one(given: Any) -> Any:
    """Lengths, mask or states of a single sequence as those of a batch of one."""
    if given is None:
        return None
    if hasattr(given, "_fields"):  # a state
        return type(given)(*(np.asarray(part)[:, None] for part in given))
    return [_of_one(state) for state in given] if isinstance(given, list | tuple) else np.asarray(given)[None]


def _layer_traces(traced: Sequence[TracedLayer], step_gradients: list[Any] | None) -> tuple[LayerTrace, ...]:
    """Return the traces of all layers, each with its share of the gradients."""
    result: list[LayerTrace] = []
    start = 0
    for layer, tape, prefix in traced:
        end = start + layer.num_states[1]
        result += layer.layer_traces(tape, None if step_gradients is None else step_gradients[start:end], prefix)
        start = end
    return tuple(result)


def layer_traces(tape: LSTMTape, every: StepGradientsByLayer | None, prefix: str = "") -> tuple[LayerTrace, ...]:
    """The record of an LSTM, a layer and direction each."""
    kept, options = tape.layers, tape.options  # says so if gates were not kept
    names, axes = _names(options, gradients=every is not None), "TR" if tape.unbatched else "BTR"
    found = []
    for k, (of, (suffix, _, reverse)) in enumerate(zip(kept, options.directions, strict=True)):
        compute = TapeReader(of, tape, tape.directions[k].order, None if every is None else every[k], reverse=reverse)
        weights = {"kernel": of.kernel} if isinstance(of, lstm.Tape) else of.weights
        found.append(LayerTrace(f"{prefix}{suffix[1:]}", options, weights, names, compute, axes, reverse=reverse))
    return tuple(found)


def cell_stack_traces(
    tape: RNNTape, step_gradients: Sequence[Any] | None, prefix: str = ""
) -> tuple[CellStackTrace, ...]:
    """Return the trace of each layer and direction of an RNN or a GRU."""

    def to_time_order(steps: Array, done: RNNDirectionTape) -> Array:
        return _to_time_order(steps, of=done.order, reverse=done.reverse, single=tape.unbatched)

    return cell_stacks.layer_traces(tape, step_gradients, to_time_order, prefix)


@cache
def _names(options: LSTMConfig, *, gradients: bool) -> tuple[str, ...]:
    of_gates = [f"d_{gate}" for gate in options.cell_config.gates]
    return STATE_SYMBOLS + ((*GRADIENT_SYMBOLS, *of_gates) if gradients else ())


class TapeReader:
    """Where the arrays of a layer come from: its tape, and the gradients at every step, once one is asked for."""

    def __init__(
        self,
        of: lstm.Tape | variants.Tape,
        tape: LSTMTape,
        order: TimeOrder | None,
        every: Callable[[], StepGradients] | None,
        *,
        reverse: bool,
    ) -> None:
        self.of, self.options, self.order, self.every = of, tape.options, order, every
        self.reverse, self.single = reverse, tape.unbatched

    def __call__(self, name: str) -> Array:
        """The array of a symbol, in time."""
        steps = self._of_gradients(name[2:]) if name.startswith("d_") else self._of_states(name)
        return _to_time_order(steps, of=self.order, reverse=self.reverse, single=self.single)

    def _of_states(self, name: str) -> Array:
        """In the order of processing, (T, rows, B)."""
        if name in ("h_prev", "c_prev"):
            return self.of.h_with_initial[:-1] if name == "h_prev" else self.of.c_with_initial[:-1]
        if name == "z" and isinstance(self.of, lstm.Tape):
            return linear.batched_matmul(self.of.kernel, self.of.u)
        array: Array = getattr(self.of, name)
        return array

    def _of_gradients(self, name: str) -> Array:
        assert self.every is not None  # or there would be no such name  # noqa: S101
        every, gates = self.every(), self.options.cell_config.gates
        if name in gates:
            k, H = gates.index(name), self.of.H
            return every.da[:, k * H : (k + 1) * H]
        if name == "tanh_c":
            return _output_activation_gradient(self.of, every.dh, self.options.zoneout) * self.of.o
        array: Array = getattr(every, f"d{name}")
        return array


def _output_activation_gradient(tape: lstm.Tape | variants.Tape, dh: Array, zoneout: float) -> Array:
    """The gradient on o ∘ tanh c: before a projection, and of what zoneout lets through."""
    d = dh * dh.dtype.type(1 - zoneout)
    if isinstance(tape, lstm.Tape) or "projection" not in tape.weights:
        return d
    return linear.batched_matmul(tape.weights["projection"].T, d)


def _to_time_order(steps: Array, *, of: TimeOrder | None, reverse: bool, single: bool) -> Array:
    """From the order of processing (T, rows, B) to time (T, rows) or (B, T, rows); NaN where there is no step."""
    if of is not None:
        valid = (of.inverse < of.lengths)[:, None, :]
        steps = np.where(valid, of.to_time_order(steps), steps.dtype.type(np.nan))
    elif reverse:
        steps = steps[::-1]
    return steps[:, :, 0] if single else steps.transpose(2, 0, 1)
