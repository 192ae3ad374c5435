"""Inputs and outputs of a dependency: which steps and features, and what replaces an input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glasscell.data.batch import AnyArray
from glasscell.explain.samples import Place, Samples, input_kind
from glasscell.validation import choice, finite_array, non_negative_integer

Places: TypeAlias = Sequence["int | Place"]
Replacement: TypeAlias = "ArrayLike | str | None"
RULES = ("flip", "mean", "other")


class Input(NamedTuple):
    """One input: a step with all its features, or one feature of it; None: all, or inputs without features."""

    step: int
    feature: int | None = None

    @property
    def name(self) -> str:
        """Its name."""
        return f"step {self.step}" if self.feature is None else f"step {self.step}, feature {self.feature}"

    @property
    def key(self) -> tuple[Any, ...]:
        """Index of its values in inputs (N, T, I) or (N, T)."""
        index = (slice(None), self.step)
        return index if self.feature is None else (*index, slice(self.feature, self.feature + 1))


class Output(NamedTuple):
    """One output: a step with all its features, or one feature of it. The step is None for one vector per sequence."""

    step: int | None
    feature: int | None = None

    @property
    def name(self) -> str:
        """Its name."""
        words = [] if self.step is None else [f"step {self.step}"]
        return ", ".join(words + ([] if self.feature is None else [f"output {self.feature}"]))

    def features(self, O: int) -> list[tuple[Any, ...]]:
        """Return the indices of its numbers in outputs (N, T, O) or (N, O)."""
        steps = (slice(None),) if self.step is None else (slice(None), self.step)
        return [(*steps, k) for k in (range(O) if self.feature is None else [self.feature])]


def read_inputs(samples: Samples, inputs: Places | None) -> list[Input]:
    """Return the inputs, if they exist. Default: those of the bits of a copy task, or all steps that a sequence has."""
    if inputs is None:
        steps = np.flatnonzero(samples.valid.any(axis=0)).tolist()
        if not steps:
            raise ValueError("x must have at least one sequence with a step, got none")
        return [Input(*place) for place in samples.input_places] or [Input(t) for t in steps]
    sizes = samples.inputs.shape[1:]
    places = [_place("inputs", value, sizes, "(step, feature)") for value in _listed("inputs", inputs)]
    return [Input(*place) for place in places]


def read_outputs(samples: Samples, outputs: Places | None, shape: tuple[int, ...]) -> list[Output]:
    """Return the outputs of a model with outputs (N, T, O) or (N, O), if they exist.

    Default: those of the bits of a copy task, all steps, or all outputs of one vector per sequence.
    """
    if len(shape) == 2:
        values = range(shape[1]) if outputs is None else _listed("outputs", outputs)
        return [Output(None, *_place("outputs", value, shape[1:], "an output")) for value in values]
    if outputs is None:
        return [Output(*place) for place in samples.output_places] or [Output(t) for t in range(shape[1])]
    return [Output(*_place("outputs", value, shape[1:], "(step, output)")) for value in _listed("outputs", outputs)]


def _listed(name: str, places: Any) -> list[Any]:
    if isinstance(places, str) or not isinstance(places, Sequence | range | np.ndarray) or not len(places):
        raise ValueError(f"{name} must be a sequence of at least one step or pair, got {places!r:.100}")
    return list(places)


def _place(name: str, value: Any, sizes: tuple[int, ...], form: str) -> tuple[int, ...]:
    """Return the indices of a place, from 0; negative ones count from the end."""
    entries = tuple(value) if isinstance(value, tuple | list) else (value,)
    is_integer = [isinstance(entry, int | np.integer) and not isinstance(entry, bool) for entry in entries]
    if not all(is_integer) or not 1 <= len(entries) <= len(sizes):
        raise TypeError(f"{name} must be integers{'' if len(sizes) == 1 else ' or pairs ' + form}, got {value!r:.100}")
    for entry, size in zip(entries, sizes, strict=False):
        if not -size <= entry < size:
            raise ValueError(f"{name} must exist: from {-size} to {size - 1}, got {entry} in {value!r}")
    return tuple(int(entry) % size for entry, size in zip(entries, sizes, strict=False))


def check_ids(name: str, ids: NDArray[Any], symbols: int) -> NDArray[Any]:
    """Return ids, if they are integers from 0 to V - 1."""
    if ids.dtype.kind not in "iu":
        raise TypeError(f"{name} must be ids, integers from 0 to V - 1 = {symbols - 1}, got dtype {ids.dtype}")
    wrong = ids[(ids < 0) | (ids >= symbols)]
    if wrong.size:
        raise ValueError(f"{name} must be ids from 0 to V - 1 = {symbols - 1}, got {wrong[0]}")
    return ids


class Replacer:
    """Replaces one input of all sequences.

    Parameters
    ----------
    samples : Samples
    replacement : "flip", "mean", "other", or numbers
    symbols : int, optional
        V of a model of ids.
    seed : int
        Of the other symbols.
    """

    def __init__(self, samples: Samples, replacement: Replacement, symbols: int | None, seed: int) -> None:
        self.inputs, self.valid = samples.inputs, samples.valid
        is_ids = symbols is not None
        if symbols is not None:
            check_ids("x", self.inputs, symbols)
        if replacement is None:
            if not (is_ids or samples.input_places):
                raise ValueError("replacement must be passed for inputs that are numbers: 'flip', 'mean', or a number")
            replacement = "other" if is_ids else "flip"
        self.rule = replacement if isinstance(replacement, str) else "value"
        if isinstance(replacement, str):
            choice("replacement", replacement, ("other",) if is_ids else ("flip", "mean"))
        elif symbols is not None:
            self.values = self._broadcast(check_ids("replacement", np.asarray(replacement), symbols))
        else:
            self.values = self._broadcast(finite_array("replacement", replacement, self.inputs.dtype))
        if self.rule == "other" and symbols is not None:
            order = np.random.default_rng(non_negative_integer("seed", seed)).permutation(symbols)
            self.others = np.empty(symbols, np.intp)
            self.others[order] = np.roll(order, 1)

    def _broadcast(self, values: NDArray[Any]) -> NDArray[Any]:
        try:
            return np.broadcast_to(values, self.inputs.shape)
        except ValueError:
            raise ValueError(
                f"replacement must broadcast to the inputs {self.inputs.shape}, got shape {values.shape}"
            ) from None

    def __call__(self, place: Input) -> AnyArray:
        """Return the inputs with one of them replaced."""
        if not self.valid[:, place.step].any():
            raise ValueError(f"x must have sequences with {place.name}, got none")
        result = self.inputs.copy()
        old = self.inputs[place.key]
        if self.rule == "value":
            result[place.key] = self.values[place.key]
        elif self.rule == "other":
            result[place.key] = self.others[old]
        elif self.rule == "mean":
            result[place.key] = old[self.valid[:, place.step]].mean(axis=0)
        else:
            result[place.key] = self._flipped(place, old)
        return result

    def _flipped(self, place: Input, old: AnyArray) -> AnyArray:
        """Return low + high - x of inputs with the two values low and high; constant features stay."""
        present = old[self.valid[:, place.step]]
        low, high = present.min(axis=0), present.max(axis=0)
        if not ((present == low) | (present == high)).all():
            raise ValueError(f"inputs must have two values to be flipped, got more at {place.name}")
        if (low == high).all():
            raise ValueError(
                f"inputs must have two values to be flipped, got a data set with one class at {place.name}"
            )
        flipped: AnyArray = low + high - old
        return flipped


def has_output(outputs_valid: NDArray[np.bool_] | None, output: Output, N: int) -> NDArray[np.bool_]:
    """Return which of N sequences have an output, from the valid steps of outputs (S, N); None: all."""
    if outputs_valid is None or output.step is None:
        return np.ones(N, np.bool_)
    present: NDArray[np.bool_] = outputs_valid[output.step]
    return present


def num_symbols(model: Any) -> int | None:
    """Return V of a model whose inputs are ids; None for numbers."""
    return int(model.layers[0].vocabulary_size) if input_kind(model) == "ids" else None
