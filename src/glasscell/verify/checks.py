"""What Glasscell claims, and what came out when it was checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import NamedTuple

MAX_BOUND = 0.01  # a larger bound would let a wrong computation pass


class Measured(NamedTuple):
    """An error, and the bound that the measured conditioning of its case justifies.

    Attributes
    ----------
    error : float
    allowed : float
        Default: 0, the bound of the claim holds.
    """

    error: float
    allowed: float = 0.0


class Check(NamedTuple):
    """One row: two computations of the same, and how far apart they are.

    Attributes
    ----------
    against : str
        The other side.
    what : str
        What was compared.
    cases : int
        How many were drawn.
    error : float, optional
        The largest difference; None where it could not be checked.
    bound : float
    note : str
        Why it could not be checked; or why the bound is larger than for other models.
    """

    against: str
    what: str
    cases: int
    error: float | None
    bound: float
    note: str = ""

    @property
    def holds(self) -> bool | None:
        """Whether the error is within the bound; None where it could not be checked. NaN is no small error."""
        return None if self.error is None else self.error <= self.bound


Errors = dict[str, Measured]


def run_checks(
    against: str,
    cases: Iterable[Callable[[], Errors]],
    whats: dict[str, tuple[str, float]],
    none: str = "no case",
) -> list[Check]:
    """Run cases, and make a row of the largest error of each kind.

    Parameters
    ----------
    against : str
    cases : iterable of callables
        Each gives its errors by kind.
    whats : dict
        What each kind is called, and its bound.
    none : str
        What is said where there is no case.
    """
    found: dict[str, list[Measured]] = {kind: [] for kind in whats}
    for run in cases:
        for kind, error in run().items():
            found[kind].append(error)
    return [_claim(against, what, found[kind], bound, none) for kind, (what, bound) in whats.items()]


def _claim(against: str, what: str, errors: list[Measured], bound: float, none: str) -> Check:
    """Return the row of the case that is closest to its bound, or furthest beyond it."""
    comparable = [one for one in errors if one.allowed <= max(bound, MAX_BOUND)]
    if not comparable:
        if not errors:
            return Check(against, what, 0, None, bound, none)
        least = min(one.allowed for one in errors)
        return Check(against, what, 0, None, bound, f"rounding alone moves the result by up to {least:.0e}")
    worst = max(comparable, key=lambda one: _order(one.error / max(one.allowed, bound)))
    note = ""
    if worst.allowed > bound:
        note = f"the model magnifies rounding: its bound is {worst.allowed:.1e} instead of {bound:.0e}"
    return Check(against, what, len(comparable), worst.error, max(worst.allowed, bound), note)


def skipped(against: str, why: str, whats: Iterable[tuple[str, float]]) -> list[Check]:
    """The rows of a side that could not be asked."""
    return [Check(against, what, 0, None, bound, why) for what, bound in whats]


def missing_dependency(modules: Iterable[str], packages: str) -> str:
    """Why one of these modules cannot be used, or nothing if all can.

    Parameters
    ----------
    modules : iterable of str
        By their whole names.
    packages : str
        What to install for them.
    """
    for module in modules:
        top = module.split(".")[0]
        try:
            import_module(top)
            import_module(module)
        except Exception as error:  # noqa: BLE001 - what is there may be damaged in any way
            absent = isinstance(error, ModuleNotFoundError) and error.name == top
            return f"not installed: pip install {packages}" if absent else f"{top} cannot be loaded: {error}"
    return ""


def _order(error: float) -> tuple[bool, float]:
    """Return what sorts NaN behind all other errors."""
    return error != error, error  # noqa: PLR0124 - NaN is not equal to itself
