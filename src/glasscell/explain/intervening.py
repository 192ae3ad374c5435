"""Run models under interventions."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ContextDecorator
from dataclasses import replace
from threading import RLock
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from glasscell.core.time_order import Index
from glasscell.core.types import Array
from glasscell.explain.intervention import Intervention, select_steps, select_units, symbol_values
from glasscell.recurrent.step_interventions import StepIntervention
from glasscell.trace.layer_trace import LayerTrace
from glasscell.trace.trace import Trace
from glasscell.validation import finite_array, type_name

Model = TypeVar("Model")

_lock = RLock()  # several threads may enter and leave blocks of one model
if hasattr(os, "register_at_fork"):  # a forked child has none of the other threads: none may hold the lock
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


class Target(NamedTuple):
    """One stacked layer in one direction.

    Attributes
    ----------
    layer : object
        The recurrent layer that it belongs to, with ``set_interventions``.
    k : int
        Its number among the directions of the layer.
    name : str
        As in a trace.
    number : int
        Of the stacked layer, from the input of the model upwards.
    reverse : bool
    """

    layer: Any
    k: int
    name: str
    number: int
    reverse: bool


def intervene(model: Model, *interventions: Intervention) -> AbstractContextManager[Model]:
    """Return a context in which a model runs under interventions.

    All that runs the model in the block is under them, forward and backward: ``model(x)``, ``forward``, ``infer``,
    ``predict``, ``trace``, training, and streams that are made in it. A backward pass is under the interventions of its
    forward pass, also after the block. Copies of the model and files do not have them. Blocks nest: interventions act
    in the order in which their blocks were entered, and each block removes its own, also if it ends with an exception.

    Parameters
    ----------
    model : model or recurrent layer
    *interventions : Intervention
        In the order in which they act on the same symbol.

    Returns
    -------
    context manager
        Its value is the model. It can be entered again.

    Raises
    ------
    TypeError, ValueError
        If a layer, a symbol or a unit does not exist, an option of the layer leaves a symbol without a value for each
        unit, or shapes do not fit. A pass raises the error for steps that do not exist.

    Examples
    --------
    >>> import glasscell as gc
    >>> model = gc.CopyLSTM(hidden_size=16, seed=0)
    >>> with gc.explain.intervene(model, gc.explain.Intervention("f", scale=0.9)):
    ...     bits = model.copy([1, 0, 1, 1])
    """
    return _Block(model, _resolve_all(model, interventions))


def intervene_in_batches(
    model: Model, interventions: Sequence[Intervention], lengths: Index
) -> AbstractContextManager[Model]:
    """Return the context of :func:`intervene` for batches, in some of which nothing may be changed.

    Parameters
    ----------
    model, interventions
        As for :func:`intervene`.
    lengths : array of int
        Numbers of steps of the sequences of all batches, in which something must be changed.
    """
    resolved = [(target, replace(one, may_be_idle=True)) for target, one in _resolve_all(model, interventions)]
    for _, one in resolved:
        one.check_acts(lengths)
    return _Block(model, resolved)


def _resolve_all(model: Any, interventions: Sequence[Intervention]) -> list[tuple[Target, StepIntervention]]:
    return [pair for one in interventions for pair in resolve(model, one)]


class _Block(ContextDecorator, AbstractContextManager[Model]):
    """The context of :func:`intervene`. It can be entered several times, also again in its own block."""

    def __init__(self, model: Model, resolved: Sequence[tuple[Target, StepIntervention]]) -> None:
        self._model, self._resolved = model, resolved
        self._entered: list[list[tuple[Target, StepIntervention]]] = []

    def __enter__(self) -> Model:
        entered = [(target, replace(one)) for target, one in self._resolved]  # new objects: blocks may nest
        with _lock:
            try:
                for target, one in entered:
                    target.layer.set_interventions(target.k, (*target.layer.interventions(target.k), one))
                self._entered.append(entered)
            except BaseException:  # an interrupt: __exit__ is not called
                _remove(entered)
                raise
        return self._model

    def __exit__(self, *exception: object) -> None:
        with _lock:
            entered = self._entered.pop()
            try:
                _remove(entered)
            except BaseException:  # an interrupt
                _remove(entered)
                raise


def _remove(entered: Sequence[tuple[Target, StepIntervention]]) -> None:
    """Remove interventions from their layers, as far as these have them."""
    for target, one in entered:
        remaining = [other for other in target.layer.interventions(target.k) if other is not one]
        target.layer.set_interventions(target.k, remaining)


def from_arguments(interventions: Sequence[Intervention | str], arguments: Mapping[str, Any]) -> Sequence[Intervention]:
    """Return the interventions of a call of ``model.intervene``."""
    symbols = [one for one in interventions if isinstance(one, str)]
    if symbols and len(interventions) > 1:
        raise TypeError("interventions must be one symbol with arguments, or Intervention objects, got several symbols")
    if symbols:
        return [Intervention(symbols[0], **arguments)]
    if arguments or not interventions:
        raise TypeError(
            f"interventions must be a symbol with arguments, or Intervention objects, got {interventions!r}"
        )
    return [one for one in interventions if not isinstance(one, str)]


def outputs_under(
    model: Any, interventions: Intervention | Sequence[Intervention], x: ArrayLike, **arguments: Any
) -> Any:
    """Return the outputs ``model(x, **arguments)`` under interventions."""
    with intervene(model, *as_sequence(interventions)):
        return model(x, **arguments)


def trace_under(
    model: Any,
    interventions: Intervention | Sequence[Intervention],
    x: ArrayLike,
    y: ArrayLike | None = None,
    **arguments: Any,
) -> Trace:
    """Return ``model.trace(x, y, **arguments)`` under interventions: its arrays have the values that acted."""
    with intervene(model, *as_sequence(interventions)):
        trace: Trace = model.trace(x, y, **arguments)
    return trace


def as_sequence(interventions: Intervention | Sequence[Intervention]) -> Sequence[Intervention]:
    """Return one or several interventions as a sequence."""
    if not isinstance(interventions, Intervention | list | tuple):
        raise TypeError(f"interventions must be Intervention objects, got {type_name(interventions)}")
    return [interventions] if isinstance(interventions, Intervention) else interventions


def targets(model: Any) -> list[Target]:
    """Return the stacked layers and directions of a model that its traces have.

    Raises
    ------
    TypeError, ValueError
        If the object is not a model or recurrent layer, or has no recurrent layer.
    """
    layers = {"": model} if hasattr(model, "tape_shape") else None
    if isinstance(model, type):
        raise TypeError(f"model must be a model or a recurrent layer, got the class {model.__name__}")
    if layers is None:
        if not hasattr(model, "layers") or not hasattr(model, "names"):
            raise TypeError(f"model must be a model or a recurrent layer, got {type_name(model)}")
        layers = dict(zip(model.names, model.layers, strict=True))
    recurrent = {name: layer for name, layer in layers.items() if getattr(layer, "traceable", False)}
    if not recurrent:
        raise ValueError("model must have a recurrent layer that can be traced, got none")
    result: list[Target] = []
    start = 0
    for name, layer in recurrent.items():
        prefix = f"{name} " if len(recurrent) > 1 else ""
        for k, (suffix, _, reverse) in enumerate(getattr(layer, "options", layer).directions):
            number = int(suffix.removeprefix("_l").removesuffix("_reverse"))
            result.append(Target(layer, k, f"{prefix}{suffix[1:]}", start + number, reverse))
        start += layer.num_layers
    return result


def resolve(model: Any, one: Intervention) -> list[tuple[Target, StepIntervention]]:
    """Return the steps of an intervention on each layer and direction that it concerns."""
    if not isinstance(one, Intervention):
        raise TypeError(f"interventions must be Intervention objects, got {type_name(one)}")
    selected = _select(targets(model), one)
    if len(selected) > 1 and one.patch is not None and not isinstance(one.patch, Trace):
        names = ", ".join(target.name for target in selected)
        raise ValueError(f"patch must be a Trace for several layers or directions, {names}; got {type_name(one.patch)}")
    directions = tuple({target.reverse for target in selected})
    return [(target, replace(_step_intervention(target, one), directions=directions)) for target in selected]


def _select(all_targets: Sequence[Target], one: Intervention) -> list[Target]:
    """Return the layers and directions of an intervention."""
    selected = list(all_targets)
    if isinstance(one.layer, str):
        name = one.layer.replace(" reverse", "_reverse")
        selected = [target for target in selected if target.name == name]
    elif one.layer is not None:
        count = 1 + max(target.number for target in all_targets)
        number = one.layer + count if one.layer < 0 else one.layer
        selected = [target for target in selected if target.number == number]
    if not selected:
        names = ", ".join(target.name for target in all_targets)
        raise ValueError(f"layer must be a number or name of {names}, got {one.layer!r}")
    if one.direction is not None:
        in_direction = [target for target in selected if target.reverse == (one.direction == "reverse")]
        if not in_direction:
            raise ValueError(f"direction must be that of {selected[0].name}, got {one.direction!r}")
        selected = in_direction
    return selected


def _step_intervention(target: Target, one: Intervention) -> StepIntervention:
    layer = target.layer
    if not hasattr(layer, "set_interventions"):
        raise ValueError(f"layer must be an LSTM, RNN or GRU, got the {type(layer).__name__} {target.name}")
    rows = layer.intervention_rows(one.symbol, target.k)
    units = select_units(one.units, rows, one.symbol)
    operation, value = one.operation, getattr(one, one.operation)
    if operation in ("scale", "set", "add"):
        value = _per_unit(operation, finite_array(operation, value, layer.dtype), len(units))
    elif operation == "clamp":
        value = tuple(_per_unit("clamp", limit, len(units)) for limit in one.limits())
    elif operation == "cut":
        operation, value = "set", np.zeros((len(units), 1))
    elif operation == "freeze":
        value = None
    else:
        value = _patch(target, one, rows)[:, units]
    name: Any = operation
    return StepIntervention(one.symbol, name, units, select_steps(one.steps), value, one.description())


def _per_unit(name: str, value: Array, n: int) -> Array:
    """Return numbers (n, 1), one for each unit."""
    if value.ndim and value.shape != (n,):
        raise ValueError(f"{name} must be a number or have shape ({n},), one for each of {n} units, got {value.shape}")
    return np.broadcast_to(value, (n,))[:, None].copy()  # the caller may change the original


def _patch(target: Target, one: Intervention, rows: int) -> Array:
    """Return the values of a patch, (T, rows, 1 or B)."""
    patch = one.patch
    if isinstance(patch, Trace):
        layers = {layer.name: layer for layer in patch.layer}
        if target.name not in layers:
            raise ValueError(f"patch must be a trace with the layer {target.name!r}, got one with {', '.join(layers)}")
        patch = layers[target.name]
    if isinstance(patch, LayerTrace):
        if "T" not in patch.axes or "R" not in patch.axes:
            raise ValueError("patch must have all steps and units, got a trace of one step or unit")
        patch = symbol_values(patch, one.symbol)
    values = np.asarray(patch)
    if values.dtype.kind not in "biuf":
        raise TypeError(f"patch must be an array of real numbers, got dtype {values.dtype}")
    if values.ndim not in (2, 3) or values.shape[-1] != rows or not values.size:
        raise ValueError(f"patch must have shape (T, {rows}) or (B, T, {rows}) for {one.symbol}, got {values.shape}")
    values = values[None] if values.ndim == 2 else values
    return values.transpose(1, 2, 0).copy()
