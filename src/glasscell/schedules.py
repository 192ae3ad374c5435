"""Learning-rate schedules: from the number of updates done to a factor on the optimiser's learning rate."""

import math
from collections.abc import Callable
from typing import TypeAlias

from glasscell.validation import positive_integer

Schedule: TypeAlias = Callable[[int], float]


def constant() -> Schedule:
    """Always 1."""
    return lambda _: 1.0


def linear(steps: int, final: float = 0.0) -> Schedule:
    """From 1 down to `final` in equal steps, over so many updates."""
    positive_integer("steps", steps)
    return lambda done: final + (1 - final) * (1 - min(done / steps, 1))


def cosine(steps: int, final: float = 0.0) -> Schedule:
    """From 1 down to `final` along half a cosine, over so many updates: Loshchilov & Hutter (2017)."""
    positive_integer("steps", steps)
    return lambda done: final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(done / steps, 1)))


def exponential(factor: float, every: int = 1) -> Schedule:
    """Times `factor` every so many updates."""
    positive_integer("every", every)
    return lambda done: factor ** (done // every)


def warmup(steps: int, then: Schedule) -> Schedule:
    """Up to 1 in equal steps over so many updates, times another schedule."""
    positive_integer("steps", steps)
    return lambda done: min((done + 1) / steps, 1) * then(done)
