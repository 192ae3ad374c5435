"""Scores of a classifier: confusion matrix, precision, recall and F1 of each class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glasscell.data.labelled.labels import Label, class_numbers


class ClassScore(NamedTuple):
    """Scores of one class; NaN where nothing was counted.

    Attributes
    ----------
    label : label
    precision : float
        Share of the predictions of this class that are right.
    recall : float
        Share of the class that is predicted.
    f1 : float
        2 · precision · recall / (precision + recall).
    support : int
        Number of sequences, or of steps, of the class.
    """

    label: Label
    precision: float
    recall: float
    f1: float
    support: int


def confusion_matrix(labels: Any, predicted: Any, classes: Sequence[Label]) -> NDArray[np.int64]:
    """Count the predictions of each class.

    Parameters
    ----------
    labels, predicted : sequence of N labels, or of N sequences of T_n labels
    classes : sequence of K labels

    Returns
    -------
    array (K, K)
        Rows are the labels, columns the predictions.

    Raises
    ------
    ValueError
        If a label is not one of the classes, or the numbers of labels differ.
    """
    true, guessed = _flat(labels, classes, "labels"), _flat(predicted, classes, "predicted")
    if true.shape != guessed.shape:
        raise ValueError(f"predicted must have one label for each of the {len(true)}, got {len(guessed)}")
    K = len(classes)
    counts: NDArray[np.int64] = np.bincount(true * K + guessed, minlength=K * K).reshape(K, K)
    return counts


def class_scores(matrix: NDArray[np.int64], classes: Sequence[Label]) -> list[ClassScore]:
    """Return the scores of each class of a confusion matrix."""
    right, support, predicted = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    with np.errstate(invalid="ignore"):
        precision, recall, f1 = right / predicted, right / support, 2 * right / (support + predicted)
    columns = zip(classes, precision.tolist(), recall.tolist(), f1.tolist(), support.tolist(), strict=True)
    return [ClassScore(*column) for column in columns]


def _flat(labels: Any, classes: Sequence[Label], name: str) -> NDArray[np.int64]:
    numbers = class_numbers(labels, classes, name)
    flat: NDArray[np.int64] = (
        numbers.ravel() if isinstance(numbers, np.ndarray) else np.concatenate([np.zeros(0, np.int64), *numbers])
    )
    return flat
