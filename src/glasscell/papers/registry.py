"""All experiments by name. A new paper is one file with `EXPERIMENTS`, and one line here."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType

from glasscell.papers import (
    copying,
    digits,
    forget_gates,
    long_lags,
    music,
    original_rule,
    parity,
    reber,
    two_sequence,
    vectors,
)
from glasscell.papers.experiment import Experiment
from glasscell.validation import type_name

MODULES = (reber, forget_gates, long_lags, two_sequence, parity, original_rule, copying, vectors, music, digits)
EXPERIMENTS: Mapping[str, Experiment] = MappingProxyType(
    {experiment.name: experiment for module in MODULES for experiment in module.EXPERIMENTS}
)


def find(name: str) -> Experiment:
    """Return the experiment of this name.

    Raises
    ------
    TypeError
        If the name is not a str.
    ValueError
        If there is none; the message has the most similar names, or says where all are.
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a str, got {type_name(name)}")
    if name not in EXPERIMENTS:
        nearest = get_close_matches(name.lower(), EXPERIMENTS, n=3, cutoff=0.4)
        hint = (
            f"the nearest names are {', '.join(nearest)}"
            if nearest
            else "`glasscell reproduce --list` prints all names"
        )
        raise ValueError(f"there is no experiment {name!r:.80}; {hint}")
    return EXPERIMENTS[name]
