"""How long a perturbation of a cell still changes states and outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glasscell.core.types import Array
from glasscell.explain.lyapunov import finite_trajectory
from glasscell.explain.step_inputs import at_each_step
from glasscell.explain.step_maps import StepMap
from glasscell.trace.diagnostics import half_life
from glasscell.trace.layer_trace import check_index
from glasscell.validation import choice, integer, positive_number

Target = Literal["cells", "own", "outputs"]
MAX_PERTURBED = 32
BLOCK_STEPS = 64  # whose Jacobians are kept at a time


@dataclass(frozen=True, repr=False, eq=False)
class EffectiveMemory:
    """Effective memory of each unit of a layer: the result of :func:`effective_memory`.

    Attributes
    ----------
    durations : array (H,)
        Steps after which the effect of a perturbation stays below the threshold: the median over the perturbed steps.
        inf if most effects are above it when the sequence ends; 0 without an effect.
    durations_by_step : array (S, H)
        The same for each perturbed step.
    perturbed_steps : array (S,) of int
        The steps after which the state is changed.
    decay : array (S, T, H)
        Effect after n = 0, 1, 2 … steps, relative to the largest; NaN after the end of the sequence.
    half_lives : array (H,) or None
        For comparison, :func:`glasscell.trace.diagnostics.half_life` of the forget gates along the trajectory, of a GRU
        of its update gates; None for an RNN.
    """

    durations: Array
    durations_by_step: Array
    perturbed_steps: NDArray[np.intp]
    decay: Array
    half_lives: Array | None

    def __repr__(self) -> str:
        order = np.argsort(-self.durations, kind="stable")[:5]
        longest = ", ".join(f"unit {k} {self.durations[k]:.3g}" for k in order)
        more = ", …" * (len(self.durations) > 5)
        return f"EffectiveMemory({len(self.durations)} units; steps: {longest}{more})"


def effective_memory(
    model: Any,
    x: ArrayLike,
    *,
    steps: int | None = None,
    layer: int = -1,
    target: Target = "cells",
    threshold: float = float(np.exp(-1)),
    perturbed_steps: Sequence[int] | None = None,
    state: Any = None,
    lengths: ArrayLike | None = None,
) -> Any:
    """Compute for how many steps a perturbation of each unit's cell state still has an effect.

    The cell state of unit k that step t passes on is changed by a small δ. After n more steps, each under its input,
    the state has changed by δ times a column of the product of step Jacobians, J_{t+n} … J_{t+1}: the factor whose
    decay Hochreiter (1991) and Bengio, Simard & Frasconi (1994) study, in the notation of Pascanu, Mikolov & Bengio
    (2013), section 2. The effect e_n is the norm of a part of this column, relative to its largest value:

    - "cells": ‖∂c_{t+n} / ∂c_{t,k}‖, on all cells of the layer
    - "own": abs(∂c_{t+n,k} / ∂c_{t,k}), on the same cell
    - "outputs": ‖∂y_{t+n} / ∂c_{t,k}‖, on the outputs y of the last recurrent layer

    The effective memory is the n after which e_n stays below the threshold, interpolated between two steps as an
    exponential. This definition is Glasscell's. With W_h = 0 the column is f_{t+1} ∘ … ∘ f_{t+n}: at a threshold of ½
    and with constant gates, the effective memory is the half-life.

    Difference from the half-life (:func:`glasscell.trace.diagnostics.half_life`): the half-life multiplies forget
    gates. It ignores that c changes h, and h the gates and candidates of later steps. A unit with a short half-life has
    a long effective memory if the network copies its value into other cells before it fades ("cells"), or writes it
    back ("own"). Conversely, an open forget gate means nothing for "outputs" if no output gate shows the cell. Both are
    derivatives along one trajectory; a large change may last shorter or longer.

    Parameters
    ----------
    model : LSTM, GRU, RNN, or a model of layers
        As for :func:`fixed_points`. A GRU and an RNN have no c: their h is perturbed.
    x : array (T, I), (B, T, I) or (I,), a constant; ids (T,), (B, T) or one, for a model that begins with an Embedding
        The inputs of the trajectory, or of one for each of B sequences.
    steps : int, optional
        Number of steps with a constant x.
    layer : int
        Index of the layer, as in ``trace.layer``: stacked layers count one by one.
    target : {"cells", "own", "outputs"}
    threshold : float
        Above 0 and below 1. Default: 1/e.
    perturbed_steps : sequence of int, optional
        Steps t of the perturbations. Default: up to 32 in the first half of each sequence.
    state : state, optional
        Initial state of the trajectory, as ``forward`` takes it; of B sequences with B. Default: the learned one, or 0.
    lengths : array (B,) of int, optional
        Number of steps of each sequence, 1 to T. Default: T.

    Returns
    -------
    EffectiveMemory, or a tuple of them
        One for each of B sequences: a derivative is that along one trajectory.

    Raises
    ------
    RuntimeError
        If the trajectory diverges, or the effect of a perturbation overflows, as along a long chaotic one.
    IndexError, TypeError, ValueError
        As :func:`fixed_points`; or a layer, step, target or threshold does not exist.
    """
    choice("target", target, get_args(Target))
    if positive_number("threshold", threshold) >= 1:
        raise ValueError(f"threshold must be below 1, got {threshold}")
    step_map = StepMap(model)
    sequences, B = step_map.inputs.sequences(x, steps, lengths)
    states = np.atleast_2d(step_map.from_user("state", state, B))
    results = tuple(
        _memory(step_map, inputs, initial, layer, target, threshold, perturbed_steps)
        for inputs, initial in zip(sequences, states, strict=True)
    )
    return results[0] if B is None else results


def _memory(
    step_map: StepMap,
    inputs: NDArray[Any],
    initial: Array,
    layer: int,
    target: Target,
    threshold: float,
    perturbed_steps: Sequence[int] | None,
) -> EffectiveMemory:
    """Return the effective memory along the trajectory of one sequence."""
    source = step_map.source(layer)
    rows = source.fields.get("c", source.fields["h"])
    perturbed = _perturbed_steps(perturbed_steps, len(inputs))
    states = finite_trajectory(step_map, initial, inputs)
    outputs = step_map.sources[-1].fields["h"]
    measure = _MEASURES[target]

    def size(effect: Array) -> Array:
        return measure(effect[:, outputs if target == "outputs" else rows])

    sizes = _effect_sizes(step_map, states, inputs, perturbed, rows, size)
    largest = np.nanmax(sizes, axis=1, keepdims=True)
    decay = np.divide(sizes, largest, out=np.where(np.isnan(sizes), np.nan, 0.0), where=largest > 0)
    durations = np.array([[_duration(unit, threshold) for unit in start.T] for start in decay])
    gate = step_map.keep_gate(initial, inputs, source)
    half_lives = None if gate is None else half_life(gate)
    return EffectiveMemory(np.median(durations, axis=0), durations, perturbed, decay, half_lives)


def _perturbed_steps(chosen: Sequence[int] | None, T: int) -> NDArray[np.intp]:
    """Validate the steps; default: up to MAX_STARTS in the first half."""
    if chosen is None:
        last = max(1, T // 2) - 1
        return np.unique(np.linspace(0, last, min(MAX_PERTURBED, last + 1)).round().astype(np.intp))
    if not isinstance(chosen, Iterable):
        raise TypeError(f"perturbed_steps must be a sequence of steps, got {chosen!r}")
    steps = np.array([integer("perturbed_steps", t) for t in chosen], np.intp)
    if not len(steps):
        raise ValueError("perturbed_steps must have at least one step, got none")
    for t in steps:
        check_index("perturbed_steps", int(t), T)
    return np.unique(steps % T)


def _effect_sizes(
    step_map: StepMap,
    states: Array,
    inputs: NDArray[Any],
    perturbed: NDArray[np.intp],
    rows: slice,
    size: Callable[[Array], Array],
) -> Array:
    """Return the sizes of the effects of each perturbed step after n steps, (S, T, H); NaN after the last step."""
    T, H = len(inputs), rows.stop - rows.start
    effect = np.zeros((len(perturbed), step_map.size, H))
    effect[:, rows] = np.eye(H)
    sizes = np.full((len(perturbed), T, H), np.nan)
    sizes[:, 0] = size(effect)
    for first in range(int(perturbed[0]) + 1, T, BLOCK_STEPS):
        block = slice(first, first + BLOCK_STEPS)
        jacobians = step_map.jacobians(states[:-1][block], at_each_step(inputs[block]))
        for t, J in enumerate(jacobians, start=first):
            active = slice(0, int(np.searchsorted(perturbed, t)))
            with np.errstate(over="ignore", invalid="ignore"):
                effect[active] = J @ effect[active]
                current = size(effect[active])
            if not np.isfinite(current).all():
                n = t - int(perturbed[0])
                raise RuntimeError(f"the effect of a perturbation must stay finite, but overflows after {n} steps")
            sizes[np.arange(len(perturbed))[active], t - perturbed[active]] = current
    return sizes


def _diagonals(effect: Array) -> Array:
    return np.abs(np.diagonal(effect, axis1=1, axis2=2))


def _norms(effect: Array) -> Array:
    return np.asarray(np.linalg.norm(effect, axis=1))


_MEASURES: dict[str, Callable[[Array], Array]] = {"cells": _norms, "own": _diagonals, "outputs": _norms}


def _duration(decay: Array, threshold: float) -> float:
    """Return the number of steps after which a decay (T,) stays below a threshold, interpolated as an exponential."""
    valid = decay[np.isfinite(decay)]
    above = np.flatnonzero(valid >= threshold)
    if not len(above):
        return 0.0
    n = int(above[-1])
    if n == len(valid) - 1:
        return float("inf")
    if not valid[n + 1]:
        return float(n)
    return float(n + np.log(valid[n] / threshold) / np.log(valid[n] / valid[n + 1]))
