"""Contenders of a benchmark: a callable with one setting, and the results of its first run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np

from glasscell.core.types import Array

Results = Mapping[str, Array]

# What may differ between two that do the same work in float32: relative to the norm of the first's numbers.
BOUNDS = {
    "outputs": 1e-5,
    "loss": 1e-5,
    "gradient": 1e-4,  # of unit length: PyTorch's second bias takes its share of the norm
    "norm": 1e-3,  # behind the clipping
    "moved": 2e-2,  # the mean way of a weight in some updates: Adam makes much of gradients near 0
}


@dataclass(frozen=True)
class Contender:
    """One implementation with one setting.

    Attributes
    ----------
    implementation : str
        Whose it is: "PyTorch".
    setting : str
        How it is set: "2 threads, fused Adam".
    run : callable
        Does the work once.
    answer : mapping of str to array
        What came out, under the names of `BOUNDS`.
    context : callable
        Makes the context that the setting needs while it runs: numbers of threads are the whole process's.
    """

    name: str
    setting: str
    run: Callable[[], object]
    answer: Results
    context: Callable[[], AbstractContextManager[object]] = nullcontext


def check_same(contenders: Iterable[Contender]) -> None:
    """Raise ValueError if the contenders do not do the same work.

    Raises
    ------
    ValueError
        If their results differ by more than `BOUNDS`.
    """
    first, *others = contenders
    for other in others:
        if other.answer.keys() != first.answer.keys():
            raise ValueError(f"{other.name} answers {[*other.answer]}, {first.name} {[*first.answer]}")
        for name, expected in first.answer.items():
            error = distance(other.answer[name], expected)
            if not error <= BOUNDS[name]:
                raise ValueError(
                    f"{other.name} ({other.setting}) does not do the work of {first.name}: its {name} differs by "
                    f"{error:.1e}, and {BOUNDS[name]:.0e} is allowed"
                )


def distance(a: Array, b: Array) -> float:
    """Return the norm of the difference, relative to the norm of b."""
    a, b = (np.asarray(array, np.float64) for array in (a, b))
    if a.shape != b.shape:
        return float("inf")
    return float(np.linalg.norm(a - b) / max(float(np.linalg.norm(b)), 1e-30))


def training_results(loss: float, gradients: Results, before: Results, after: Results) -> Results:
    """Return the results of a training step.

    Parameters
    ----------
    loss : float
        Of the first update.
    gradients : mapping of str to array
        Of the first update, clipped, under PyTorch's names.
    before, after : mapping of str to array
        The weights at first, and after some updates.
    """
    norm = np.sqrt(sum(float(np.square(array, dtype=np.float64).sum()) for array in gradients.values()))
    names = sorted(name for name in gradients if "bias_hh" not in name)  # PyTorch's alone
    flat = np.concatenate([np.ravel(gradients[name]) for name in names])
    matrices = [name for name in names if "bias" not in name]  # with two biases, theirs move twice as far
    moved = [np.abs(np.asarray(after[name]) - np.asarray(before[name])).mean() for name in matrices]
    return {
        "loss": np.asarray(loss),
        "gradient": flat / np.linalg.norm(flat),
        "norm": np.asarray(norm),
        "moved": np.asarray(moved),
    }
