"""Find the cause of a loss or a gradient that is not finite. Nothing of it runs before such a failure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from glasscell.core.buffers import BufferPool
from glasscell.core.types import Array
from glasscell.data.batch import Batch
from glasscell.data.not_finite import Place, first_not_finite, in_batch

if TYPE_CHECKING:
    from glasscell.core.parameters import Parameters
    from glasscell.data.metrics import Loss
    from glasscell.models.protocol import States, Trainable


class Window(NamedTuple):
    """A window of an update.

    Attributes
    ----------
    batch : Batch
        The steps of the window.
    states : tuple or None
        A copy of the state that it begins with.
    first_step : int
        Its first step in the whole batch.
    """

    batch: Batch
    states: States | None
    first_step: int


class Cause(NamedTuple):
    """Cause of a failure.

    Attributes
    ----------
    kind : str
        "weights" (before the update), "data", "state", "outputs", "loss" or "gradient".
    text : str
        A clause that names the tensor, and the place if it was found.
    """

    kind: str
    text: str


def find_cause(
    model: Trainable, loss: Loss, windows: Sequence[Window], d_outputs: Array | None, gradients: Parameters
) -> Cause | None:
    """Return the first cause, from weights and data to gradients; None if everything is finite.

    Parameters
    ----------
    model : Trainable
    loss : callable
    windows : sequence of Window
    d_outputs : array or None
        Gradient of the loss on the outputs of the last window.
    gradients : Parameters
        Those of the update.
    """
    name = first_name(model.parameters)
    if name is not None:
        return Cause("weights", name)
    with np.errstate(all="ignore"):
        for find in (_in_data, _in_state, _in_outputs, _in_loss):
            for window in windows:
                cause = _safely(find, model, loss, window, d_outputs if window is windows[-1] else None)
                if cause is not None:
                    return cause
        name = first_name(gradients, "the gradient of ")
        return None if name is None else Cause("gradient", name + _origin(model, loss, windows))


def find_cause_in_data(windows: Sequence[Window]) -> Cause | None:
    """Return the first number of the data that is not finite."""
    causes = (_in_data(None, None, window, None) for window in windows)
    return next(filter(None, causes), None)


def _safely(find: Any, *arguments: Any) -> Cause | None:
    """Return the result of a function that calls the model or the loss, whose errors must not replace the failure."""
    try:
        result: Cause | None = find(*arguments)
    except Exception:  # noqa: BLE001 - whatever it is, the failure itself is reported
        return None
    return result


def first_name(parameters: Parameters, what: str = "") -> str | None:
    """Return a clause that names the first array with a number that is not finite, the number and its index."""
    for name, values in parameters.items():
        place = first_not_finite(values)
        if place is not None:
            verb = "has" if what else "have"
            return f"{what or 'the weights '}{name!r} {verb} {place.value} at index {place.position}"
    return None


def _at(window: Window, place: Place, *, has_steps: bool) -> str:
    return f"{place.value} at " + in_batch(
        place.position, has_steps=has_steps, first_step=window.first_step, indices=window.batch.indices
    )


def _in_data(model: Trainable | None, loss: Loss | None, window: Window, d_outputs: Array | None) -> Cause | None:
    del model, loss, d_outputs
    batch = window.batch
    T = batch.inputs.shape[1]
    valid = None
    if batch.lengths is not None:
        valid = np.arange(T) < np.asarray(batch.lengths)[:, None]
        valid = valid.reshape(valid.shape + (1,) * (batch.inputs.ndim - 2))
    for name, array in (("inputs", batch.inputs), ("targets", batch.targets), ("sample weights", batch.weights)):
        place = None if array is None else first_not_finite(array, valid if name == "inputs" else None)
        if array is not None and place is not None:
            has_steps = array.ndim > 1 and array.shape[1] == T
            return Cause("data", f"the {name} have {_at(window, place, has_steps=has_steps)}")
    return None


def state_arrays(value: Any) -> Iterator[Array]:
    """Yield the arrays of the states of a model, in core's layout."""
    if isinstance(value, np.ndarray):
        yield value
    elif value is not None:
        for item in value:
            yield from state_arrays(item)


def states_are_finite(states: States | None) -> bool:
    """Return whether all numbers of the states of a model are finite."""
    return all(np.isfinite(array).all() for array in state_arrays(states))


def _in_state(model: Trainable, loss: Loss, window: Window, d_outputs: Array | None) -> Cause | None:
    del model, loss, d_outputs
    for array in state_arrays(window.states):
        place = first_not_finite(np.moveaxis(array, -1, 0))
        if place is not None:
            where = in_batch(place.position[:1], has_steps=False, indices=window.batch.indices)
            return Cause("state", f"the state that is carried from earlier steps has {place.value} at {where}")
    return None


def _in_outputs(model: Trainable, loss: Loss, window: Window, d_outputs: Array | None) -> Cause | None:
    """Return the first layer whose outputs are not finite, without dropout."""
    del loss, d_outputs
    layer_outputs = getattr(model, "layer_outputs", None)
    if layer_outputs is None:
        outputs = [("", model.infer(window.batch, window.states, BufferPool()).outputs)]
    else:
        outputs = layer_outputs(window.batch, window.states)
    for name, array in outputs:
        place = first_not_finite(array)
        if place is not None:
            of_layer = f" of the layer {name!r}" if name else ""
            return Cause("outputs", f"the outputs{of_layer} have {_at(window, place, has_steps=array.ndim == 3)}")
    return None


def _in_loss(model: Trainable, loss: Loss, window: Window, d_outputs: Array | None) -> Cause | None:
    """Return where the loss of finite outputs, or its gradient on them, is not finite."""
    batch = window.batch
    outputs = None
    if d_outputs is None:
        outputs = model.infer(batch, window.states, BufferPool()).outputs
        d_outputs = loss(outputs, batch.targets, batch.weights)[1]
    place = first_not_finite(d_outputs)
    if place is not None:
        where = _at(window, place, has_steps=d_outputs.ndim == 3)
        if len(d_outputs) > 1 and all(first_not_finite(sequence) is not None for sequence in d_outputs):
            where = f"{place.value} in all sequences of the batch"
        return Cause("loss", f"the gradient of the loss on the outputs, which are finite, has {where}")
    if outputs is None:
        outputs = model.infer(batch, window.states, BufferPool()).outputs
    values = []
    for b in range(len(outputs)):
        part = _rows(batch, b)
        values.append(loss(outputs[b : b + 1], part.targets, part.weights)[0])
    finite = np.isfinite(values)
    if finite.all():
        return None
    b = int(finite.argmin())
    where = "at " + in_batch((b,), has_steps=False, indices=batch.indices)
    if len(finite) > 1 and not finite.any():
        where = "for all sequences of the batch"
    return Cause("loss", f"the loss of finite outputs is {values[b]} {where}")


def _rows(batch: Batch, b: int) -> Batch:
    """Return one sequence of a batch."""
    weights, rows = batch.weights, slice(b, b + 1)
    if weights is not None and weights.ndim and len(weights) == len(batch.inputs):
        weights = weights[rows]
    lengths = None if batch.lengths is None else batch.lengths[rows]
    return Batch(batch.inputs[rows], batch.targets[rows], weights, lengths, batch.continues)


def _origin(model: Trainable, loss: Loss, windows: Sequence[Window]) -> str:
    """Return the first sequence whose own gradient is not finite; "" if there is none, as with dropout."""
    try:
        gradients = model.parameters.zeros_like()
        for window in windows:
            for b in range(len(window.batch.inputs)):
                part = _rows(window.batch, b)
                states = None if window.states is None else _state_of_sequence(window.states, b)
                result = model.train_forward(part, states, BufferPool(), None)
                d_outputs = loss(result.outputs, part.targets, part.weights)[1]
                model.train_backward(result.tape, d_outputs, gradients, BufferPool())
                if not np.isfinite(gradients.vector).all():
                    return f", from {in_batch((b,), has_steps=False, indices=window.batch.indices)}"
    except Exception:  # noqa: BLE001 - whatever it is, the failure itself is reported
        return ""
    return ""


def _state_of_sequence(value: Any, b: int) -> Any:
    if isinstance(value, np.ndarray):
        return value[..., b : b + 1]
    items = [_state_of_sequence(item, b) for item in value]
    return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
