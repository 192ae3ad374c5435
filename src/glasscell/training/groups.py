"""Parameter groups: trained and frozen weights, and their learning rates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from glasscell.core.optimizers import Optimizer, State
from glasscell.core.parameters import Parameters
from glasscell.core.types import Array
from glasscell.validation import non_negative_number


class ParameterGroup(NamedTuple):
    """A contiguous run of the parameter vector.

    Attributes
    ----------
    section : slice
    factor : float
        Factor on the learning rate; 0: frozen.
    """

    section: slice
    factor: float


def parameter_groups(
    parameters: Parameters,
    trainable: Sequence[str] | None,
    learning_rates: Mapping[str, float] | None,
    ties: Mapping[str, str] | None = None,
) -> list[ParameterGroup]:
    """Divide the parameter vector into runs of one learning rate.

    Parameters
    ----------
    parameters : Parameters
    trainable : sequence of str, optional
        Names of the parameters to train; ``*`` stands for anything: ``["readout.*"]``. Default: all.
    learning_rates : mapping of name to float, optional
        Factors on the learning rate; those of all matching patterns are multiplied. Default: 1.
    ties : mapping of str to str, optional
        Further names of parameters, each with the one whose array it shares: both names stand for it.

    Raises
    ------
    ValueError
        If a name matches no parameter, or a factor is not a finite number of 0 or more.
    """
    factors = dict.fromkeys(parameters, 1.0 if trainable is None else 0.0)
    if isinstance(trainable, str) or not isinstance(trainable, Iterable | None):
        raise TypeError(f"trainable must be a list of names, got {trainable!r}")
    if not isinstance(learning_rates, Mapping | None):
        raise TypeError(f"learning_rates must map names to factors, got {learning_rates!r}")
    for pattern in trainable or ():
        for name in _matching("trainable", pattern, parameters, ties or {}):
            factors[name] = 1.0
    for pattern, factor in (learning_rates or {}).items():
        non_negative_number(f"learning_rates[{pattern!r}]", factor)
        for name in _matching("learning_rates", pattern, parameters, ties or {}):
            factors[name] *= factor
    if factors and not any(factors.values()):
        raise ValueError("trainable must leave at least one parameter to train, got none")
    groups: list[ParameterGroup] = []
    start = 0
    for name, view in parameters.items():
        stop = start + view.size
        if groups and groups[-1].factor == factors[name]:
            groups[-1] = ParameterGroup(slice(groups[-1].section.start, stop), factors[name])
        else:
            groups.append(ParameterGroup(slice(start, stop), factors[name]))
        start = stop
    return groups


def _matching(argument: str, pattern: str, parameters: Parameters, ties: Mapping[str, str]) -> set[str]:
    """Return the parameters that a pattern names, directly or by a name that is tied to them."""
    names = {name for name in parameters if fnmatchcase(name, pattern)}
    names |= {source for tied, source in ties.items() if fnmatchcase(tied, pattern)}
    if not names:
        known = ", ".join([*parameters, *ties])
        raise ValueError(f"{argument} must name parameters of the model, {known}, got {pattern!r}")
    return names


def init_states(optimizer: Optimizer, vector: Array, groups: Sequence[ParameterGroup]) -> list[State]:
    """Return the optimiser state of each group; empty for a frozen one."""
    return [optimizer.init_state(vector[group.section]) if group.factor else {} for group in groups]


def update_groups(
    optimizer: Optimizer,
    vector: Array,
    gradient: Array,
    states: Sequence[State],
    groups: Sequence[ParameterGroup],
    rate: float,
) -> None:
    """Make one update of every group that is trained, in place."""
    for group, state in zip(groups, states, strict=True):
        if group.factor:
            optimizer.update(vector[group.section], gradient[group.section], state, rate * group.factor)


def zero_frozen(gradient: Array, groups: Sequence[ParameterGroup]) -> None:
    """Set the gradient of frozen parameters to 0, which excludes it from the norm."""
    for group in groups:
        if not group.factor:
            gradient[group.section] = 0
