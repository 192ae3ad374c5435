"""Random arguments of the examples of properties, and what is checked of results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Generator = np.random.Generator


def pick(rng: Generator, values: Sequence[Any]) -> Any:
    """Return one of the values."""
    return values[int(rng.integers(len(values)))]


def values(rng: Generator, shape: tuple[int, ...], dtype: Any, limit: float = 1e38) -> Any:
    """Return finite numbers: of all sizes up to a limit, subnormal ones, zeros of both signs, and borders."""
    exponents = rng.uniform(-44, np.log10(limit), shape) if rng.random() < 0.5 else rng.uniform(-3, 1, shape)
    array = np.minimum(10.0**exponents, limit) * rng.choice([-1, 1], shape)
    borders = np.array([0.0, -0.0, limit, -limit, 1e-45, -1e-40, 1.0, -1.0, 88.7, -88.8, 709.8, -745.2, 17.0, -37.0])
    special = rng.random(shape) < rng.choice([0.0, 0.2, 1.0])
    return np.where(special, np.clip(rng.choice(borders, shape), -limit, limit), array).astype(dtype)


def dtype_of(rng: Generator) -> Any:
    """Return float32 or float64."""
    return pick(rng, (np.float32, np.float64))


def shape_of(rng: Generator, axes: int | None = None) -> tuple[int, ...]:
    """Return a small shape; axes may be empty."""
    return tuple(int(n) for n in rng.choice([0, 1, 1, 2, 3, 5, 17], axes if axes is not None else rng.integers(0, 4)))


def check(condition: Any, law: str) -> None:
    """Raise an error unless the condition is true."""
    if not condition:
        raise AssertionError(law)


def check_finite(*results: Any) -> None:
    """Raise an error unless all numbers are finite."""
    for result in results:
        if isinstance(result, tuple | list):
            check_finite(*result)
        elif result is not None and not np.isfinite(result).all():
            raise AssertionError(f"must be finite, got {np.asarray(result)[~np.isfinite(result)][:3]}")


def check_refused(call: Callable[[], object], what: object = "") -> None:
    """Raise an error unless the call raises a ValueError or a TypeError of one line."""
    try:
        call()
    except (ValueError, TypeError) as error:
        if "\n" in str(error) or not str(error):
            raise AssertionError(f"message must be one line, got {str(error)!r}") from error
        return
    raise AssertionError(f"must be refused: {what}")
