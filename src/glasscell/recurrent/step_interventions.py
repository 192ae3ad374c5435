"""Interventions on the values of one direction, step by step: the hook that a pass or a stream calls.

A :class:`StepIntervention` names a symbol, an operation, units and steps. :meth:`StepIntervention.bind` fits it to the
steps of a pass, in processing order; a :class:`PassHook` applies all those of a pass, forward and backward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from glasscell.core.time_order import Index, TimeOrder
from glasscell.core.types import Array

Operation = Literal["scale", "set", "clamp", "add", "freeze", "patch"]
STATES = ("c", "h")
ALL_STEPS = (slice(None), slice(0, None), slice(None, None, 1), slice(0, None, 1))
Steps: TypeAlias = "slice | Index | NDArray[np.bool_] | None"  # a slice, numbers or a mask of steps; None: all


@dataclass(frozen=True, eq=False)
class StepIntervention:
    """An operation on a symbol of one direction.

    Attributes
    ----------
    symbol : str
        See :class:`glasscell.core.step_hook.StepHook`.
    operation : str
    units : array of int
        Rows of the symbol.
    steps : slice, array of int or bool, optional
        In time order; numbers from 0. Default: all.
    value : array (n, 1), or (T, n, 1 or B) in time order for "patch"; for "clamp" a pair of arrays (n, 1)
        For the n units.
    text : str
        Its description.
    may_be_idle : bool
        Whether it may change nothing in a pass: that of one batch of several.
    directions : tuple of bool
        Whether the directions on which the same intervention acts process the steps from the last to the first.
    """

    symbol: str
    operation: Operation
    units: Index
    steps: Steps
    value: Any
    text: str
    may_be_idle: bool = False
    directions: tuple[bool, ...] = (False,)

    def selects(self, times: Index) -> NDArray[np.bool_]:
        """Return which numbers of steps in time order are selected.

        Raises
        ------
        ValueError
            If a number, or a mask, does not fit the steps of a sequence: `times` has all of them.
        """
        steps = self.steps
        selected: NDArray[np.bool_] = np.ones(times.shape, np.bool_)
        if isinstance(steps, slice):
            start = steps.start or 0
            selected = np.logical_and(times >= start, (times - start) % (steps.step or 1) == 0)
            if steps.stop is not None:
                selected &= times < steps.stop
        elif steps is not None and steps.dtype == np.bool_:
            selected = np.logical_and(times < len(steps), steps[np.minimum(times, len(steps) - 1)])
        elif steps is not None:
            selected = np.isin(times, steps)
        return selected

    def check_steps(self, T: int) -> None:
        """Raise a ValueError if a selected step does not exist in sequences of T steps."""
        steps = self.steps
        if isinstance(steps, np.ndarray) and steps.dtype == np.bool_ and len(steps) != T:
            raise ValueError(f"steps must be a mask of the {T} steps of the sequences, got one of {len(steps)}")
        if isinstance(steps, np.ndarray) and steps.dtype != np.bool_ and steps.max() >= T:
            raise ValueError(f"steps must be from 0 to {T - 1} in sequences of {T} steps, got {steps.max()}")

    def check_acts(self, lengths: Index) -> None:
        """Raise a ValueError if nothing is changed in sequences of these numbers of steps."""
        times = np.arange(lengths.max(initial=0))[:, None]
        self._check_acts(np.logical_and(self.selects(times), times < lengths), lengths, reverse=False)

    def _check_acts(self, active: NDArray[np.bool_], lengths: Index, *, reverse: bool) -> None:
        """Raise a ValueError if an intervention that is active at these steps, in processing order, changes nothing."""
        if not lengths.any():
            return  # there is no step
        steps = self.steps.tolist() if isinstance(self.steps, np.ndarray) else self.steps
        if not active.any():
            raise ValueError(
                "steps must select at least one step of a sequence, the longest of which has "
                f"{lengths.max()}, got {steps!r:.100}"
            )
        selects_all = self.steps is None or (isinstance(self.steps, slice) and self.steps in ALL_STEPS)
        if self.operation == "freeze" and self.symbol not in STATES and not selects_all:
            k = np.arange(len(active))[:, None]
            acts = np.zeros(np.broadcast_shapes(active.shape, lengths.shape), np.bool_)
            for direction in self.directions:
                acts |= active & (k != (0 if direction == reverse else lengths - 1))
            if not acts.any():
                raise ValueError(
                    f"freeze of {self.symbol} must have steps that are not the first one to be processed, which has "
                    f"none before it, got {steps!r:.100}"
                )

    def check_acts_in_stream(self) -> None:
        """Raise a ValueError if nothing is changed in a stream, whose first step has none before it."""
        steps = self.steps
        if steps is None or (isinstance(steps, slice) and steps.stop is None):
            return
        if isinstance(steps, slice):
            last = max(range(steps.start or 0, steps.stop, steps.step or 1))
        else:
            last = int(np.flatnonzero(steps).max() if steps.dtype == np.bool_ else steps.max())
        self.check_acts(np.array([last + 1]))

    def bind(
        self, T: int, B: int, order: TimeOrder | None, dtype: np.dtype[np.floating], *, reverse: bool
    ) -> BoundIntervention:
        """Fit the intervention to a pass of B sequences of T steps.

        Raises
        ------
        ValueError
            If a selected step does not exist, nothing is changed in any sequence, or a patch has other steps or
            sequences, or no value at a selected step.
        """
        self.check_steps(T)
        times = np.arange(T)[:, None]
        if order is not None:
            times = order.time_index
        elif reverse:
            times = times[::-1]
        active = self.selects(times)
        if order is not None:
            active = active & order.valid[:, 0]
        if not self.may_be_idle:
            self._check_acts(active, np.array([T]) if order is None else order.lengths, reverse=reverse)
        value = self.value_in(dtype)
        if self.operation == "patch":
            value = self._patch_in_order(value, times, active, B)
        return BoundIntervention(self, active, value)

    def value_in(self, dtype: np.dtype[np.floating]) -> Any:
        """Return the value in a dtype; limits of "clamp" that are too large for it are infinite."""
        with np.errstate(over="ignore"):
            if self.operation == "clamp":
                return tuple(limit.astype(dtype) for limit in self.value)
            return None if self.value is None else self.value.astype(dtype)

    @staticmethod
    def _patch_in_order(patch: Array, times: Index, active: NDArray[np.bool_], B: int) -> Array:
        """Return the values of a patch in processing order, 0 at steps that are not selected."""
        if patch.shape[2] not in (1, B):
            raise ValueError(f"patch must be of one sequence or of {B}, as the inputs, got {patch.shape[2]}")
        if active.any() and (last := int(np.broadcast_to(times, active.shape)[active].max())) >= len(patch):
            raise ValueError(f"patch must have a value at each selected step, got {len(patch)} steps for step {last}")
        index = np.minimum(times, max(0, len(patch) - 1))
        values = patch[index[:, 0]] if index.shape[1] == 1 else patch[index, :, np.arange(B) % patch.shape[2]]
        values = values if index.shape[1] == 1 else values.transpose(0, 2, 1)  # (T, n, B)
        used = active[:, None] if values.shape[2] > 1 else np.any(active, axis=1, keepdims=True)[:, None]
        mask = np.broadcast_to(used, values.shape)
        if not np.isfinite(values[mask]).all():
            raise ValueError("patch must be finite at each selected step; a trace is NaN where a sequence has no step")
        return np.where(mask, values, 0)


class BoundIntervention(NamedTuple):
    """An intervention on the steps of one pass.

    Attributes
    ----------
    source : StepIntervention
    active : array (T, B) or (T, 1) of bool
        Where it acts, in processing order.
    value : array or None
        As that of the source, in processing order.
    """

    source: StepIntervention
    active: NDArray[np.bool_]
    value: Any


class PassHook:
    """The interventions of one pass; a :class:`glasscell.core.step_hook.StepHook`.

    Parameters
    ----------
    interventions : sequence of BoundIntervention
        In the order in which they act.
    start : int
        Number of the first step, of a segment of a pass.
    previous : dict of str to array, optional
        Values of the step before the first one, of symbols that are frozen.
    carried : dict of str to array, optional
        Gradients on values of the step before, during a backward pass. Shared by the segments of a pass.
    """

    def __init__(
        self,
        interventions: Sequence[BoundIntervention],
        start: int = 0,
        previous: dict[str, Array] | None = None,
        carried: dict[str, Array] | None = None,
    ) -> None:
        self.interventions, self.start = tuple(interventions), start
        self._by_symbol: dict[str, list[BoundIntervention]] = {}
        for one in interventions:
            self._by_symbol.setdefault(one.source.symbol, []).append(one)
        self._frozen = {one.source.symbol for one in interventions if one.source.operation == "freeze"}
        self._initial = dict(previous or {})
        self._previous = dict(self._initial)
        self._carried: dict[str, Array] = {} if carried is None else carried
        self._inside: dict[tuple[str, int, int], NDArray[np.bool_]] = {}  # where a clamp had no effect

    @property
    def texts(self) -> tuple[str, ...]:
        """The descriptions of the interventions."""
        return tuple(one.source.text for one in self.interventions)

    def segment(self, start: int) -> PassHook:
        """Return the hook of the steps from `start` on, after the steps that this one has seen."""
        return PassHook(self.interventions, start, self._previous, self._carried)

    def restart(self) -> PassHook:
        """Return a hook of the same segment, before its first step."""
        return PassHook(self.interventions, self.start, self._initial, self._carried)

    def begin_backward(self) -> None:
        """Forget gradients of an earlier backward pass that was interrupted."""
        self._carried.clear()

    def apply(self, symbol: str, t: int, value: Array, previous: Array | None = None) -> None:
        """Change the value of a symbol at step t in place; see :class:`glasscell.core.step_hook.StepHook`."""
        if symbol not in self._by_symbol:
            return
        for k, bound in enumerate(self._by_symbol[symbol]):
            units, operation = bound.source.units, bound.source.operation
            columns, before = self._columns(bound, t), value[units]
            after: Array
            if operation == "scale":
                after = before * bound.value
            elif operation == "set":
                after = np.broadcast_to(bound.value, before.shape)
            elif operation == "add":
                after = before + bound.value
            elif operation == "patch":
                after = self._patch(bound, t)
            elif operation == "clamp":
                low, high = bound.value
                self._inside[symbol, k, t] = (before > low) & (before < high)
                after = np.clip(before, low, high)
            elif previous is None:
                after = self._held(symbol, before, units)
            else:
                after = previous[units]
            value[units] = np.where(columns, after, before)
        if symbol in self._frozen and previous is None:
            self._hold(symbol, value)

    def _columns(self, bound: BoundIntervention, t: int) -> NDArray[np.bool_]:
        """Return in which sequences an intervention acts at step t, (B,) or (1,)."""
        columns: NDArray[np.bool_] = bound.active[t + self.start]
        return columns

    def _patch(self, bound: BoundIntervention, t: int) -> Array:
        """Return the values of a patch at step t, (n, B) or (n, 1)."""
        values: Array = bound.value[t + self.start]
        return values

    def _held(self, symbol: str, before: Array, units: Index) -> Array:
        """Return the values of the step before; at the first step those of this step."""
        return self._previous[symbol][units] if symbol in self._previous else before

    def _hold(self, symbol: str, value: Array) -> None:
        """Keep the values of a step for the next one."""
        self._previous[symbol] = value.copy()

    def add_carried(self, symbol: str, gradient: Array) -> None:
        """Add the gradient that reaches a value from the next step, which holds it, in place."""
        if symbol in self._carried:
            gradient += self._carried.pop(symbol)

    def backward(self, symbol: str, t: int, gradient: Array) -> Array | float:
        """Replace the gradient on the changed value by that on the value before, in place."""
        if symbol not in self._by_symbol:
            return 0.0
        is_state = symbol in STATES
        self.add_carried(symbol, gradient)
        d_previous = np.zeros_like(gradient) if symbol in self._frozen else None
        bounds = self._by_symbol[symbol]
        for k, bound in reversed(list(enumerate(bounds))):
            units, operation = bound.source.units, bound.source.operation
            columns, after = self._columns(bound, t), gradient[units]
            before: Array | float = 0.0
            if operation == "scale":
                before = after * bound.value
            elif operation == "add":
                before = after
            elif operation == "clamp":
                before = after * self._inside[symbol, k, t]
            elif operation == "freeze":
                if not is_state and t + self.start == 0:  # there is no step before: it had no effect
                    before = after
                elif d_previous is not None:
                    d_previous[units] += np.where(columns, after, after.dtype.type(0))
            gradient[units] = np.where(columns, before, after)
        if d_previous is None or (not is_state and t + self.start == 0):
            return 0.0
        if is_state:
            return d_previous
        self._carried[symbol] = d_previous
        return 0.0


def bind(
    interventions: Sequence[StepIntervention], x: Array, order: TimeOrder | None, *, reverse: bool
) -> PassHook | None:
    """Return the hook of a pass over x (T, I, B) in processing order; None without interventions."""
    if not interventions:
        return None
    T, _, B = x.shape
    return PassHook([one.bind(T, B, order, x.dtype, reverse=reverse) for one in interventions])
