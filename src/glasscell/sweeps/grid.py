"""The grid of a sweep: names with their values, and seeds; what its file states about it."""

from __future__ import annotations

import inspect
import itertools
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np

from glasscell.sweeps.rows import key_of, plain
from glasscell.validation import non_negative_integer, positive_integer

MAX_RUNS = 1_000_000
MARK, FORMAT = "glasscell_sweep", 1  # the first entry of the line that describes a sweep


@dataclass(frozen=True)
class Grid:
    """All runs of a sweep.

    Attributes
    ----------
    train : str
        Name of the training function.
    seeds : tuple of int
    values : dict of str to tuple
        Values by name, in the order in which they were passed.
    """

    train: str
    seeds: tuple[int, ...]
    values: dict[str, tuple[Any, ...]]

    @classmethod
    def of(cls, train: Callable[..., Any], seeds: int | Sequence[int], values: Mapping[str, Any]) -> Self:
        """Return the grid of the arguments of `sweep`, validated."""
        if not callable(train):
            raise TypeError(f"train must be a function, got {train!r:.100}")
        grid = cls(name_of(train), _seeds(seeds), {name: _values(name, given) for name, given in values.items()})
        check_number(grid.number)
        _check_signature(train, grid)
        return grid

    @property
    def number(self) -> int:
        """Number of runs."""
        return math.prod([len(self.seeds), *map(len, self.values.values())])

    @property
    def settings(self) -> list[dict[str, Any]]:
        """All combinations of values; the last name varies fastest."""
        return [dict(zip(self.values, chosen, strict=True)) for chosen in itertools.product(*self.values.values())]

    @property
    def runs(self) -> dict[str, tuple[dict[str, Any], int]]:
        """Setting and seed of all runs, by key; seeds vary fastest."""
        pairs = itertools.product(self.settings, self.seeds)
        return {key_of(setting, seed): (setting, seed) for setting, seed in pairs}

    @property
    def header(self) -> dict[str, Any]:
        """The first line of a file of rows, as JSON."""
        values = {name: list(chosen) for name, chosen in self.values.items()}
        return {MARK: FORMAT, "train": self.train, "seeds": list(self.seeds), "grid": values}

    @classmethod
    def from_header(cls, content: Mapping[str, Any]) -> Self:
        """Return the grid that a line of a file describes.

        Raises
        ------
        ValueError
            If it is of a newer format, or damaged.
        """
        if content.get(MARK) != FORMAT:
            raise ValueError(f"the file must be in format {FORMAT}, which this version reads, got another one")
        train, seeds, values = (content.get(name) for name in ("train", "seeds", "grid"))
        if not (isinstance(train, str) and isinstance(seeds, list) and isinstance(values, dict)):
            raise ValueError("there are other values than those of a sweep")  # noqa: TRY004 - of a file
        try:
            grid = cls(train, _seeds(seeds), {name: _values(name, given) for name, given in values.items()})
        except (TypeError, RecursionError):
            raise ValueError("there are other values than those of a sweep") from None
        check_number(grid.number)  # a short line can describe any number of runs
        return grid

    def difference(self, other: Grid) -> str:
        """Return why this grid is not an extension of another one; "" if it is one, or is equal.

        An extension has the same training function and names, and all values and seeds of the other one.
        """
        if self.train != other.train:
            return f"train is {self.train}, there it is {other.train}"
        if self.values.keys() != other.values.keys():
            names, others = (", ".join(grid.values) or "no names" for grid in (self, other))
            return f"the grid has {names}, there it has {others}"
        for name, values in {**other.values, "seeds": other.seeds}.items():
            present = {key_of({}, value) for value in (self.seeds if name == "seeds" else self.values[name])}
            missing = [value for value in values if key_of({}, value) not in present]
            if missing:
                return f"{name} must include {', '.join(map(repr, missing[:5]))}, as there"
        return ""


def check_number(number: int) -> None:
    """Raise ValueError if a sweep would have too many runs."""
    if number > MAX_RUNS:
        raise ValueError(f"a sweep must have at most {MAX_RUNS:,} runs, got {number:,}")


def name_of(train: Callable[..., Any]) -> str:
    """Return the name of a training function with its module and, of a `partial`, its arguments."""
    if isinstance(train, partial):
        listed = [*map(_named, train.args), *(f"{name}={_named(value)}" for name, value in train.keywords.items())]
        return f"{name_of(train.func)}({', '.join(listed)})"
    named_object: Any = train if hasattr(train, "__qualname__") else type(train)
    module = str(named_object.__module__)
    if module == "__main__":
        file = getattr(sys.modules["__main__"], "__file__", None)
        module = Path(file).stem if file else module
    return f"{module}.{named_object.__qualname__}"


def _named(argument: Any) -> str:
    """Return a number or a text as it is written, and the type of any other argument."""
    try:
        return repr(plain("", argument))
    except TypeError:
        return f"<{type(argument).__name__}>"


def _seeds(seeds: Any) -> tuple[int, ...]:
    if isinstance(seeds, int | np.integer):
        number = positive_integer("seeds", int(seeds) if isinstance(seeds, np.integer) else seeds)
        check_number(number)
        return tuple(range(number))
    given = _as_list("seeds", seeds, "a number or a list")
    result = tuple(non_negative_integer("seeds", plain("seeds", seed)) for seed in given)
    _check_different("seeds", result)
    return result


def _values(name: str, values: Any) -> tuple[Any, ...]:
    if name == "seed":
        raise ValueError("seed must not be a name of the grid: pass seeds")
    result = tuple(plain(name, value) for value in _as_list(name, values, "a list"))
    _check_different(name, result)
    return result


def _as_list(name: str, values: Any, rule: str) -> Sequence[Any]:
    if isinstance(values, np.ndarray) and values.ndim == 1:
        values = list(values)
    if isinstance(values, str | bytes) or not isinstance(values, Sequence):
        raise TypeError(f"{name} must be {rule} of values, got {values!r:.100}")
    if not values:
        raise ValueError(f"{name} must have at least one value, got none")
    check_number(len(values))  # before they are copied
    return values


def _check_different(name: str, values: Sequence[Any]) -> None:
    seen: set[str] = set()
    for value in values:
        key = key_of({}, value)
        if key in seen:
            raise ValueError(f"{name} must be different values, got {value!r:.100} twice")
        seen.add(key)


def _check_signature(train: Callable[..., Any], grid: Grid) -> None:
    """Raise TypeError if the function does not accept the names of the grid and `seed`, or needs further arguments."""
    try:
        signature = inspect.signature(train)
    except (ValueError, TypeError):  # of some built-in functions
        return
    parameters = signature.parameters
    accepted = [
        name
        for name, parameter in parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        for name in ("seed", *grid.values):
            if name not in accepted:
                similar = get_close_matches(name, accepted, n=1)
                hint = f"; did you mean {similar[0]}?" if similar else ""
                raise TypeError(f"train must accept {name}, got {grid.train}{signature}{hint}")
    for name, parameter in parameters.items():
        is_required = parameter.default is parameter.empty and parameter.kind not in (
            parameter.VAR_POSITIONAL,
            parameter.VAR_KEYWORD,
        )
        if is_required and name not in ("seed", *grid.values):
            raise TypeError(f"{name} must be in the grid, because train requires it: {grid.train}{signature}")
