"""Learning-rate schedules: from the number of updates done to a factor on the optimiser's learning rate."""

import math
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from glasscell.validation import non_negative_number, positive_integer, positive_number

Schedule: TypeAlias = Callable[[int], float]

MAX_TABULATED = 1 << 17  # updates whose factors are computed before the first one


def constant() -> Schedule:
    """Return 1 for every update."""
    return _constant


def linear(num_updates: int, final: float = 0.0) -> Schedule:
    """Decrease from 1 to `final`, 0 or more, in equal steps over `num_updates` updates."""
    return partial(_linear, positive_integer("num_updates", num_updates), non_negative_number("final", final))


def cosine(num_updates: int, final: float = 0.0) -> Schedule:
    """Decrease from 1 to `final`, 0 or more, along half a cosine, over `num_updates`: Loshchilov & Hutter (2017)."""
    return partial(_cosine, positive_integer("num_updates", num_updates), non_negative_number("final", final))


def exponential(factor: float, interval: int = 1) -> Schedule:
    """Multiply by `factor`, above 0, after every `interval` updates."""
    return partial(_exponential, positive_number("factor", factor), positive_integer("interval", interval))


def warmup(num_updates: int, after: Schedule) -> Schedule:
    """Increase to 1 in equal steps over `num_updates` updates, times the schedule `after`."""
    return partial(_warmup, positive_integer("num_updates", num_updates), after)


def tabulate(schedule: Schedule | None, num_updates: int | None) -> list[float]:
    """Return the factors of all updates for a schedule of this module, otherwise an empty list.

    Other functions must be called at each update: their values may depend on the training.
    """
    if schedule is None or num_updates is None or num_updates > MAX_TABULATED or not _depends_on_update_only(schedule):
        return []
    return [schedule(update) for update in range(num_updates)]


def _depends_on_update_only(schedule: Schedule) -> bool:
    if not isinstance(schedule, partial):
        return schedule is _constant
    if schedule.func is _warmup:
        return _depends_on_update_only(schedule.args[1])
    return schedule.func in (_linear, _cosine, _exponential)


# Functions of a module can be pickled, unlike closures: a training may be sent to another process.


def _constant(_: int) -> float:
    return 1.0


def _linear(num_updates: int, final: float, update: int) -> float:
    return final + (1 - final) * (1 - min(update / num_updates, 1))


def _cosine(num_updates: int, final: float, update: int) -> float:
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(update / num_updates, 1)))


def _exponential(factor: float, interval: int, update: int) -> float:
    return factor ** (update // interval)


def _warmup(num_updates: int, after: Schedule, update: int) -> float:
    return min((update + 1) / num_updates, 1) * after(update)
