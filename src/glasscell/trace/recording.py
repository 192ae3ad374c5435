"""How a record is made: from the tapes of a forward pass and the gradients at every step of its backward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glasscell.core import losses, lstm
from glasscell.core.gradients import Gradients
from glasscell.core.sequences import Order
from glasscell.core.typing import Array
from glasscell.layers.records import LSTMState, LSTMTape, Pass
from glasscell.trace.record import LayerTrace, Readout, Trace
from glasscell.validation import finite_array, one_of

Tapes = Sequence[tuple[str, LSTMTape]]

LOSSES = ("squared_error", "binary_cross_entropy", "categorical_cross_entropy")

ABOUT = ("title", "input_names", "output_names", "step_names", "copy", "chain")
STATES = ("i", "f", "o", "g", "c", "tanh_c", "h")


class Asked(NamedTuple):
    """What a trace is asked for, beside the inputs.

    Attributes
    ----------
    y : array, optional
        Targets.
    loss : str
        One of :data:`LOSSES`.
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
        one_of("loss", self.loss, LOSSES)
        if self.y is not None and self.d_outputs is not None:
            raise ValueError("give targets y, or d_outputs, the gradient on the outputs: not both")
        if self.y is None and self.weights is not None:
            raise ValueError("weights are for targets, and there is no y")

    def of_one(self) -> Asked:
        """The same with a batch axis."""
        parts = (None if part is None else np.asarray(part)[None] for part in (self.y, self.weights, self.d_outputs))
        y, weights, d_outputs = parts
        return Asked(y, self.loss, weights, d_outputs)


def trace(
    model: Any,
    tapes_of: Callable[[Any], Tapes],
    x: ArrayLike,
    asked: Asked,
    about: Mapping[str, Any],
    readout: Readout | None = None,
    **given: Any,
) -> Trace:
    """Run a model forward, and backward if there is something to answer, and keep everything.

    Parameters
    ----------
    model : LSTM, CopyLSTM or Sequential
        What has ``forward(x, **given)`` and ``backward(tape, d_outputs, every=…)``.
    tapes_of : callable
        From the model's tape, the tapes of its LSTMs and what stands before the names of their layers.
    x : array
    asked : Asked
    about : mapping
    readout : Readout, optional
    **given
        For ``forward``: states, lengths, mask.
    """
    asked.check()
    if unknown := about.keys() - ABOUT:
        raise TypeError(f"trace() knows no {', '.join(sorted(unknown))}; for the views it takes {', '.join(ABOUT[:4])}")
    outputs, _, tape = model.forward(x, **given)
    tapes = tapes_of(tape)
    order, single = tapes[0][1].passes[0].order, tapes[0][1].single
    if order is not None and single:  # a batch of one, of which then the steps are taken that there are
        given = {name: _of_one(value) for name, value in given.items()}
        return trace(model, tapes_of, np.asarray(x)[None], asked.of_one(), about, readout, **given).sequence(0)
    valid = None if order is None else (order.back < order.lengths).T
    inputs = np.asarray(x)
    in_time = outputs.shape[: 1 if single else 2] == inputs.shape[: 1 if single else 2] and outputs.ndim == 3 - single
    loss, d_outputs, targets, weights = None, None, None, None
    if asked.y is not None:
        counted = asked.weights
        if valid is not None and in_time:
            there = valid if asked.loss == "categorical_cross_entropy" else valid[..., None]
            counted = there * (1.0 if counted is None else np.asarray(counted))
        loss, d_outputs, targets, weights = measured(asked.loss, outputs, asked.y, counted)
    elif asked.d_outputs is not None:
        d_outputs = finite_array("d_outputs", asked.d_outputs, outputs.dtype)
    every: list[Gradients] | None = None
    d_x = None
    if d_outputs is not None:
        every = []
        d_x = model.backward(tape, d_outputs, every=every)[0]
    found = tuple(layer for part in _with_gradients(tapes, every) for layer in layers(*part))
    about = {"loss": asked.loss if loss is not None else None, "timeless": not in_time, **about}
    axes = "T" if single else "BT"
    return Trace(found, inputs, outputs, targets, weights, loss, d_outputs, d_x, readout, valid, dict(about), axes)


def _of_one(given: Any) -> Any:
    """Lengths, mask or states of a single sequence as those of a batch of one."""
    if given is None:
        return None
    if isinstance(given, LSTMState):
        return LSTMState(*(np.asarray(part)[:, None] for part in given))
    return [_of_one(state) for state in given] if isinstance(given, list | tuple) else np.asarray(given)[None]


def _with_gradients(
    tapes: Tapes, every: list[Gradients] | None
) -> Iterator[tuple[LSTMTape, list[Gradients] | None, str]]:
    start = 0
    for prefix, tape in tapes:
        end = start + len(tape.passes)
        yield tape, None if every is None else every[start:end], prefix
        start = end


def layers(tape: LSTMTape, every: Sequence[Gradients] | None, prefix: str = "") -> tuple[LayerTrace, ...]:
    """The record of an LSTM, a layer and direction each."""
    tape.layers  # noqa: B018 - says so if gates were not kept
    of_steps = [None] * len(tape.passes) if every is None else every
    return tuple(
        _layer(done, gradients, f"{prefix}{suffix[1:]}", tape, reverse=reverse)
        for done, gradients, (suffix, _, reverse) in zip(tape.passes, of_steps, tape.options.ways, strict=True)
    )


def _layer(done: Pass, every: Gradients | None, name: str, tape: LSTMTape, *, reverse: bool) -> LayerTrace:
    of: Any = done.tape
    public = partial(_in_time, of=done.order, reverse=reverse, single=tape.single)
    processed: dict[str, Callable[[], Array]] = {
        "x": lambda: of.x,
        "h_prev": lambda: of.hiddens[:-1],
        "c_prev": lambda: of.cells[:-1],
        "z": lambda: np.matmul(of.kernel, of.u) if isinstance(of, lstm.Tape) else of.z,
    }
    processed |= {name: partial(getattr, of, name) for name in STATES}
    if every is not None:
        options, H = tape.options, of.H
        gates = options.variant.gates
        shown = partial(_on_shown, of, every.dh, options.zoneout)
        rows = {gate: slice(k * H, (k + 1) * H) for k, gate in enumerate(gates)}
        processed |= {
            "d_y": lambda: every.dy,
            "d_h": lambda: every.dh,
            "d_tanh_c": lambda: shown() * of.o,
            "d_c": lambda: every.dc,
        }
        processed |= {f"d_{gate}": partial(_rows, every.da, rows[gate]) for gate in gates}
        processed |= {"d_z": lambda: every.dz, "d_x": lambda: every.dx}
    values = {name: partial(_public, public, array) for name, array in processed.items()}
    weights = {"kernel": of.kernel} if isinstance(of, lstm.Tape) else of.weights
    return LayerTrace(name, tape.options, weights, values, "TR" if tape.single else "BTR", reverse=reverse)


def _public(public: Callable[[Array], Array], array: Callable[[], Array]) -> Array:
    return public(array())


def _rows(array: Array, rows: slice) -> Array:
    return array[:, rows]


def _on_shown(tape: Any, dh: Array, zoneout: float) -> Array:
    """The gradient on o ∘ tanh c: before a projection, and of what zoneout lets through."""
    d = dh * dh.dtype.type(1 - zoneout)
    if isinstance(tape, lstm.Tape) or "projection" not in tape.weights:
        return d
    on_shown: Array = np.matmul(tape.weights["projection"].T, d)
    return on_shown


def _in_time(steps: Array, *, of: Order | None, reverse: bool, single: bool) -> Array:
    """From the order of processing (T, rows, B) to time (T, rows) or (B, T, rows); NaN where there is no step."""
    if of is not None:
        valid = (of.back < of.lengths)[:, None, :]
        steps = np.where(valid, of.in_time(steps), steps.dtype.type(np.nan))
    elif reverse:
        steps = steps[::-1]
    return steps[:, :, 0] if single else steps.transpose(2, 0, 1)


def measured(
    loss: str, outputs: Array, y: ArrayLike, weights: ArrayLike | None
) -> tuple[float, Array, NDArray[Any], Array | None]:
    """The loss of outputs (…, O), its gradient on them, and targets and weights as arrays, checked."""
    one_of("loss", loss, LOSSES)
    of_classes = loss == "categorical_cross_entropy"
    expected = outputs.shape[:-1] if of_classes else outputs.shape
    targets: NDArray[Any] = np.asarray(y)
    if of_classes and targets.dtype.kind not in "iu":
        raise TypeError(f"y must be class numbers for {loss}, and has dtype {targets.dtype}")
    if not of_classes:
        targets = finite_array("y", y, outputs.dtype)
    if targets.shape != expected:
        raise ValueError(f"y has shape {targets.shape}; expected {expected} for outputs {outputs.shape} and {loss}")
    counted = None
    if weights is not None:
        counted = finite_array("weights", weights, outputs.dtype)
        try:
            np.broadcast_to(counted, expected)
        except ValueError:
            raise ValueError(f"weights has shape {counted.shape}, which does not broadcast to {expected}") from None
    function: Any = getattr(losses, loss)
    value, d_outputs = function(outputs, targets, counted)
    return value, d_outputs, targets, counted
