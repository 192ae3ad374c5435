"""What Glasscell claims, and what came out when it was checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import NamedTuple


class Claim(NamedTuple):
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
        Why it could not be checked.
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


Errors = dict[str, float]


def claims_of(
    against: str,
    cases: Iterable[Callable[[], Errors]],
    whats: dict[str, tuple[str, float]],
    none: str = "no case",
) -> list[Claim]:
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
    found: dict[str, list[float]] = {kind: [] for kind in whats}
    for run in cases:
        for kind, error in run().items():
            found[kind].append(error)
    return [
        Claim(against, what, len(found[kind]), _worst(found[kind]), bound)
        if found[kind]
        else Claim(against, what, 0, None, bound, none)
        for kind, (what, bound) in whats.items()
    ]


def unchecked(against: str, why: str, whats: Iterable[tuple[str, float]]) -> list[Claim]:
    """The rows of a side that could not be asked."""
    return [Claim(against, what, 0, None, bound, why) for what, bound in whats]


def lacking(modules: Iterable[str], packages: str) -> str:
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


def _worst(errors: list[float]) -> float:
    """The largest, and NaN before all others."""
    return max(errors, key=lambda error: (error != error, error))  # noqa: PLR0124 - NaN is not equal to itself
