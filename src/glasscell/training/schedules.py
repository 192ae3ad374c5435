"""Learning-rate schedules: from the number of updates done to a factor on the optimiser's learning rate."""

import math
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from glasscell.validation import non_negative_number, positive_integer, positive_number

Schedule: TypeAlias = Callable[[int], float]


def constant() -> Schedule:
    """Always 1."""
    return _constant


def linear(steps: int, final: float = 0.0) -> Schedule:
    """From 1 down to `final`, 0 or more, in equal steps, over so many updates."""
    return partial(_linear, positive_integer("steps", steps), non_negative_number("final", final))


def cosine(steps: int, final: float = 0.0) -> Schedule:
    """From 1 down to `final`, 0 or more, along half a cosine, over so many updates: Loshchilov & Hutter (2017)."""
    return partial(_cosine, positive_integer("steps", steps), non_negative_number("final", final))


def exponential(factor: float, every: int = 1) -> Schedule:
    """Times `factor`, above 0, every so many updates."""
    return partial(_exponential, positive_number("factor", factor), positive_integer("every", every))


def warmup(steps: int, then: Schedule) -> Schedule:
    """Up to 1 in equal steps over so many updates, times another schedule."""
    return partial(_warmup, positive_integer("steps", steps), then)


# Functions of a module, which can be pickled: a training may be sent to another process.


def _constant(_: int) -> float:
    return 1.0


def _linear(steps: int, final: float, done: int) -> float:
    return final + (1 - final) * (1 - min(done / steps, 1))


def _cosine(steps: int, final: float, done: int) -> float:
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(done / steps, 1)))


def _exponential(factor: float, every: int, done: int) -> float:
    return factor ** (done // every)


def _warmup(steps: int, then: Schedule, done: int) -> float:
    return min((done + 1) / steps, 1) * then(done)
