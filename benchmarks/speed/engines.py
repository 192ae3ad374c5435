"""Our own engines: which of them are here."""

from __future__ import annotations

from typing import Any, NamedTuple

from glasscell.verify.checks import missing_dependency

NUMPY, NUMBA, OURS = "Glasscell (NumPy)", "Glasscell (Numba)", "Glasscell"


class Engines(NamedTuple):
    """Sides of ours.

    Attributes
    ----------
    options : dict of str to dict
        By the name of the implementation, the options of :class:`glasscell.LSTM`: an engine, or none, and it chooses.
    absent : dict of str to str
        By the name of the implementation why it is not here.
    """

    options: dict[str, dict[str, Any]]
    absent: dict[str, str]


def engines(*, training: bool = False) -> Engines:
    """Return those that can be used here and now; the default is one of its own in training alone, else NumPy's."""
    if why := missing_dependency(["numba"], "numba"):
        return Engines({NUMPY: {"engine": "numpy"}}, {NUMBA: why})
    return Engines({NUMPY: {"engine": "numpy"}, NUMBA: {"engine": "numba"}} | ({OURS: {}} if training else {}), {})
