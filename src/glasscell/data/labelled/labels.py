"""Labels: their order, class numbers, and weights. A label is text, a number, a truth value or None."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from glasscell.validation import check_not_masked

Label: TypeAlias = "str | int | float | bool | None"
ClassWeights: TypeAlias = "Literal['balanced'] | Mapping[Any, float]"


def plain_label(label: Any) -> Label:
    """Return a label as a value of JSON; NumPy's scalars become those of Python.

    Raises
    ------
    TypeError, ValueError
        If it is something else, or NaN or infinite.
    """
    value = (
        label.item() if isinstance(label, np.generic) or (isinstance(label, np.ndarray) and not label.ndim) else label
    )
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"labels must be finite, got {value}")
    if value is not None and not isinstance(value, str | int | float):
        raise TypeError(f"labels must be text, numbers, truth values or None, got a {type(value).__name__}")
    return value


def label_key(label: Label) -> tuple[bool, Label]:
    """Return a key that tells True from 1; 1 and 1.0 are equal."""
    return isinstance(label, bool), label


def classes_of(labels: Any) -> list[Label]:
    """Return the different labels in order: None, truth values, numbers, text; text that is a number by its value.

    Parameters
    ----------
    labels : sequence of labels, or of sequences of labels
    """
    found = {label_key(label): label for label in map(plain_label, _distinct(labels))}
    return sorted(found.values(), key=_order)


def _order(label: Label) -> tuple[Any, ...]:
    if label is None:
        return (0,)
    if isinstance(label, bool | int | float):
        return (1 if isinstance(label, bool) else 2, label)
    try:
        number = float(label)
    except ValueError:
        number = math.nan
    return (4, 0.0, label) if not math.isfinite(number) else (3, number, label)


def _is_nested(labels: Any) -> bool:
    """Return whether these are sequences of labels, one per step."""
    if isinstance(labels, np.ndarray):
        return labels.ndim > 1
    return any(map(_is_sequence, labels))


def _is_sequence(entry: Any) -> bool:
    """Return whether an entry is a sequence of labels, and not a label."""
    return isinstance(entry, list | tuple) or (isinstance(entry, np.ndarray) and entry.ndim > 0)


def _distinct(labels: Any) -> Iterable[Any]:
    """Yield labels, each at least once."""
    check_not_masked("labels", labels)
    if isinstance(labels, np.ndarray) and labels.dtype.kind in "biufU":
        yield from np.unique(labels)
        return
    for entry in labels:
        if _is_sequence(entry):
            yield from _distinct(entry)
        else:
            yield entry


def check_classes(classes: int | Sequence[Any]) -> list[Label]:
    """Return the labels of the classes; those of a number K are 0 to K - 1.

    Raises
    ------
    TypeError, ValueError
        If there are fewer than two, or a label occurs twice.
    """
    if isinstance(classes, str | bytes | Mapping) or not isinstance(classes, int | np.integer | Iterable):
        raise TypeError(f"classes must be a number or a list of labels, got {classes!r}")
    if isinstance(classes, bool | Set):  # the order of a set differs between processes
        raise TypeError(f"classes must be a number or a list of labels, got {classes!r}")
    labels: list[Label]
    labels = (
        [*range(int(classes))] if isinstance(classes, int | np.integer) else [plain_label(label) for label in classes]
    )
    if len(labels) < 2:
        got = classes if isinstance(classes, int | np.integer) else labels
        raise ValueError(f"classes must be at least two, got {got!r}")
    seen: set[Any] = set()
    for label in labels:
        if label_key(label) in seen:
            raise ValueError(f"classes must be different labels, got {label!r} twice")
        seen.add(label_key(label))
    return labels


def class_numbers(labels: Any, classes: Sequence[Label], name: str = "y") -> Any:
    """Return the number of each label's class: an array (N,), or for labels per step (N, T) or a list of arrays (T_n,).

    Raises
    ------
    ValueError
        If a label is not one of the classes.
    """
    check_not_masked(name, labels)
    numbers = {label_key(label): k for k, label in enumerate(classes)}
    if isinstance(labels, np.ndarray) and labels.dtype.kind in "biufU":
        distinct, inverse = np.unique(labels, return_inverse=True)
        of_distinct = np.array([_number(label, numbers, classes, name) for label in distinct], np.int64)
        return of_distinct[inverse].reshape(labels.shape) if labels.size else np.zeros(labels.shape, np.int64)
    if _is_nested(labels):
        return [class_numbers(entry, classes, name) for entry in labels]
    return np.array([_number(label, numbers, classes, name) for label in labels], np.int64)


def _number(label: Any, numbers: Mapping[Any, int], classes: Sequence[Label], name: str) -> int:
    label = plain_label(label)
    number = numbers.get(label_key(label))
    if number is None:
        known = ", ".join(map(repr, classes[:12])) + (", …" if len(classes) > 12 else "")
        raise ValueError(f"{name} must be labels of the classes {known}, got {label!r}")
    return number


def class_weights(labels: Any, weights: ClassWeights = "balanced") -> Any:
    """Return a weight for each label: of its sequence or, for labels per step, of its step.

    Parameters
    ----------
    labels : sequence of labels, (N,), or one sequence per entry
    weights : "balanced" or mapping of label to weight
        "balanced": N / (K · count of the label), so that all K classes count equally. A mapping must have every label.

    Returns
    -------
    array (N,), (N, T), or list of arrays (T_n,)
        The argument `sample_weights` of :class:`glasscell.data.ArrayData`.

    Raises
    ------
    TypeError, ValueError
        If a label has no weight, or a weight is negative or not finite.
    """
    classes = classes_of(labels)
    numbers = class_numbers(labels, classes)
    if isinstance(weights, str):
        if weights != "balanced":
            raise ValueError(f"weights must be 'balanced' or a mapping of label to weight, got {weights!r}")
        flat = numbers.ravel() if isinstance(numbers, np.ndarray) else np.concatenate(numbers)
        counts = np.bincount(flat, minlength=len(classes))
        values: NDArray[np.float64] = len(flat) / (len(classes) * counts)
    else:
        if not isinstance(weights, Mapping):
            raise TypeError(f"weights must be 'balanced' or a mapping of label to weight, got {weights!r}")
        by_key = {label_key(plain_label(label)): weight for label, weight in weights.items()}
        for label in classes:
            if label_key(label) not in by_key:
                raise ValueError(f"weights must have every label, got none for {label!r}")
        values = np.array([by_key[label_key(label)] for label in classes], np.float64)
        if not np.isfinite(values).all() or (values < 0).any():
            raise ValueError(f"weights must be finite and 0 or more, got {list(by_key.values())}")
    return values[numbers] if isinstance(numbers, np.ndarray) else [values[entry] for entry in numbers]
