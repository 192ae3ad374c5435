"""Engines of Glasscell that are installed."""

from __future__ import annotations

from typing import Any, NamedTuple

from glasscell.verify.checks import missing_dependency

NUMPY, NUMBA, OURS = "Glasscell (NumPy)", "Glasscell (Numba)", "Glasscell"


class Engines(NamedTuple):
    """Implementations of Glasscell.

    Attributes
    ----------
    options : dict of str to dict
        Arguments of :class:`glasscell.LSTM` by implementation: an engine, or none for the default.
    absent : dict of str to str
        The reason by implementation that is not installed.
    """

    options: dict[str, dict[str, Any]]
    absent: dict[str, str]


def engines(*, training: bool = False) -> Engines:
    """Return the installed engines; the default differs from NumPy's in training only."""
    if why := missing_dependency(["numba"], "numba"):
        return Engines({NUMPY: {"engine": "numpy"}}, {NUMBA: why})
    return Engines({NUMPY: {"engine": "numpy"}, NUMBA: {"engine": "numba"}} | ({OURS: {}} if training else {}), {})
