"""In which respect alone the interventions of an ablation differ: the axis of its figure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from glasscell.core.types import Array
from glasscell.explain.ablations import Ablation
from glasscell.explain.intervention import Intervention


def factors_of(result: Ablation) -> Array | None:
    """Return the factors of interventions that differ in them only; None for others."""
    first = [group[0] for group in result.interventions]
    if any(len(group) > 1 for group in result.interventions) or any(
        np.ndim(one.scale) or one.scale is None for one in first
    ):
        return None
    if len({repr(replace(one, scale=1.0)) for one in first}) > 1:
        return None
    return np.array([one.scale for one in first], np.float64)


def units_of(result: Ablation) -> list[int] | None:
    """Return the units of interventions that differ in them, and in the number they are set to, only; None: others."""
    first = [group[0] for group in result.interventions]
    if len(first) < 2 or any(len(group) > 1 for group in result.interventions):
        return None
    units = [one.units for one in first if isinstance(one.units, int | np.integer)]
    if len(units) < len(first) or len({*map(_all_but_unit, first)}) > 1:
        return None
    return list(map(int, units))


def _all_but_unit(one: Intervention) -> tuple[Any, ...]:
    value = getattr(one, one.operation)
    exact = {"set": None, "patch": id(value)}.get(one.operation, repr(value))
    steps = one.steps.tolist() if isinstance(one.steps, np.ndarray) else one.steps
    return one.symbol, one.operation, exact, one.layer, one.direction, repr(steps)
