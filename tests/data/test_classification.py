"""Scores of a classifier against scikit-learn and counts by hand."""

import numpy as np
import pytest

from glasscell.data.labelled.classification import class_scores, confusion_matrix


def test_counts_and_scores_by_hand() -> None:
    labels, predicted = ["a", "a", "b", "b", "b", "c"], ["a", "b", "b", "b", "a", "b"]
    matrix = confusion_matrix(labels, predicted, ["a", "b", "c"])
    assert matrix.tolist() == [[1, 1, 0], [1, 2, 0], [0, 1, 0]]
    a, b, c = class_scores(matrix, ["a", "b", "c"])
    assert a == ("a", 0.5, 0.5, 0.5, 2)
    assert (b.precision, b.recall, b.support) == (0.5, pytest.approx(2 / 3), 3)
    assert np.isnan(c.precision)
    assert (c.recall, c.f1) == (0, 0)


def test_scores_equal_those_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 4, 200), rng.integers(0, 4, 200)
    matrix = confusion_matrix(labels, predicted, range(4))
    np.testing.assert_array_equal(matrix, metrics.confusion_matrix(labels, predicted))
    scores = np.array([score[1:] for score in class_scores(matrix, range(4))]).T
    np.testing.assert_allclose(scores, metrics.precision_recall_fscore_support(labels, predicted))


def test_labels_per_step_count_every_step() -> None:
    matrix = confusion_matrix([["a", "b"], ["b"]], [["a", "a"], ["b"]], ["a", "b"])
    assert matrix.tolist() == [[1, 0], [1, 1]]


def test_labels_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="labels must be labels of the classes 'a', 'b', got 'c'"):
        confusion_matrix(["c"], ["a"], ["a", "b"])
    with pytest.raises(ValueError, match="predicted must have one label for each of the 1, got 2"):
        confusion_matrix(["a"], ["a", "b"], ["a", "b"])
