"""Checks and their results."""

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
        Default: 0; the bound of the check applies.
    """

    error: float
    allowed: float = 0.0


class Check(NamedTuple):
    """A comparison of two computations of the same values.

    Attributes
    ----------
    reference : str
        The other implementation.
    label : str
        The values that were compared.
    cases : int
        Number of cases.
    error : float, optional
        The largest difference; None if the check was skipped.
    bound : float
    note : str
        Why the check was skipped, or why the bound is larger than for other models.
    """

    reference: str
    label: str
    cases: int
    error: float | None
    bound: float
    note: str = ""

    @property
    def holds(self) -> bool | None:
        """Whether the error is within the bound; None if the check was skipped. NaN is not within any bound."""
        return None if self.error is None else self.error <= self.bound


Errors = dict[str, Measured]


def run_checks(
    reference: str,
    cases: Iterable[Callable[[], Errors]],
    labels: dict[str, tuple[str, float]],
    skipped_reason: str = "only LSTMs are compared",
) -> list[Check]:
    """Run cases, and return a check for each kind of value.

    Parameters
    ----------
    reference : str
    cases : iterable of callables
        Each returns its errors by kind.
    labels : dict
        Label and bound of each kind.
    skipped_reason : str
        Note of the checks if there are no cases.
    """
    errors: dict[str, list[Measured]] = {kind: [] for kind in labels}
    for run in cases:
        for kind, error in run().items():
            errors[kind].append(error)
    return [_check(reference, label, errors[kind], bound, skipped_reason) for kind, (label, bound) in labels.items()]


def _check(reference: str, label: str, errors: list[Measured], bound: float, skipped_reason: str) -> Check:
    """Return the result of the case with the largest ratio of error to bound."""
    comparable = [measured for measured in errors if measured.allowed <= max(bound, MAX_BOUND)]
    if not comparable:
        if not errors:
            return Check(reference, label, 0, None, bound, skipped_reason)
        least = min(measured.allowed for measured in errors)
        return Check(reference, label, 0, None, bound, f"rounding alone changes the result by up to {least:.0e}")
    worst = max(comparable, key=lambda measured: _nan_last(measured.error / max(measured.allowed, bound)))
    note = ""
    if worst.allowed > bound:
        note = f"the model amplifies rounding: its bound is {worst.allowed:.1e} instead of {bound:.0e}"
    return Check(reference, label, len(comparable), worst.error, max(worst.allowed, bound), note)


def skipped(reference: str, reason: str, labels: Iterable[tuple[str, float]]) -> list[Check]:
    """Return the checks against a reference that is not available."""
    return [Check(reference, label, 0, None, bound, reason) for label, bound in labels]


def missing_dependency(modules: Iterable[str], packages: str) -> str:
    """Return why a module cannot be imported; "" if all can be.

    Parameters
    ----------
    modules : iterable of str
        Full names.
    packages : str
        Packages to install for them.
    """
    for module in modules:
        top = module.split(".")[0]
        try:
            import_module(top)
            import_module(module)
        except Exception as error:  # noqa: BLE001 - a damaged installation may raise any error
            absent = isinstance(error, ModuleNotFoundError) and error.name == top
            return f"not installed: pip install {packages}" if absent else f"{top} cannot be loaded: {error}"
    return ""


def _nan_last(error: float) -> tuple[bool, float]:
    """Return a key that sorts NaN after all other errors."""
    return error != error, error  # noqa: PLR0124 - NaN is not equal to itself
