"""Weights of steps and of classes in the loss."""

import numpy as np
import pytest

import glasscell as gc
from glasscell.core.losses import categorical_cross_entropy
from glasscell.data import ArrayData, class_weights


def test_weights_of_steps_reach_the_batches_whatever_the_form_of_the_data() -> None:
    rng = np.random.default_rng(0)
    lengths = [4, 2, 3]
    x, y = rng.normal(size=(3, 4, 1)), rng.integers(0, 2, (3, 4))
    weights = rng.random((3, 4))
    padded = ArrayData(x, y, lengths=lengths, sample_weights=weights)
    lists = [[array[:n] for array, n in zip(whole, lengths, strict=True)] for whole in (x, y, weights)]
    ragged = ArrayData(lists[0], lists[1], sample_weights=lists[2])
    mask = np.arange(4) < np.array(lengths)[:, None]
    masked = ArrayData(x, y, mask=mask, sample_weights=weights) if mask.any(axis=0).all() else None
    for data in (padded, ragged, masked):
        assert data is not None
        (batch,) = data.in_order(3, np.float64)
        np.testing.assert_array_equal(batch.weights, weights * mask)
    whole = ArrayData(x, y, sample_weights=weights, validation=1 / 3)
    assert whole.validation(8, np.float64)[0].weights.tolist() == weights[2:].tolist()
    assert whole.in_order(8, np.float64)[0].weights.tolist() == weights[:2].tolist()


def test_a_weight_of_a_step_counts_as_that_number_of_equal_steps() -> None:
    x = [np.array([[1.0], [2.0]]), np.array([[3.0]])]
    model = gc.SequenceClassifier(1, 2, 3, per_step=True, dtype=np.float64, scale=False)

    def gradient(weights: list[list[float]]) -> np.ndarray:
        data = ArrayData(x, [np.array([0, 1]), np.array([1])], sample_weights=weights)
        (batch,) = data.in_order(2, np.float64)
        outputs = model.predict(x)
        logits = np.zeros((2, 2, 2))
        logits[0], logits[1, :1] = outputs
        return categorical_cross_entropy(logits, batch.targets, batch.weights)[1]

    np.testing.assert_allclose(gradient([[2, 0], [1]]), gradient([[4, 0], [2]]))
    assert not gradient([[2, 0], [1]])[0, 1].any()


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([[1.0, 1.0], [1.0, 2.0]], r"per step, got shape \(2,\) for the 1 steps of sequence 1"),
        ([[1.0, -1.0], [1.0]], "must be 3 finite numbers of 0 or more, got -1.0"),
        ([[0.0, 0.0], [0.0]], "must have at least one above zero, got zero for all"),
        ([1.0, 2.0, 3.0], r"must be 2 finite numbers of 0 or more, got shape \(3,\)"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weights: list[object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ArrayData([np.zeros((2, 1)), np.zeros((1, 1))], [np.zeros(2, int), np.zeros(1, int)], sample_weights=weights)


def test_balanced_weights_let_all_classes_count_equally() -> None:
    labels = np.array(["a", "b", "b", "b", "c", "c"])
    weights = class_weights(labels)
    assert [weights[labels == label].sum() for label in "abc"] == pytest.approx([2, 2, 2])
    by_step = class_weights([["a", "b"], ["b"], ["b"]])
    assert [entry.tolist() for entry in by_step] == [[2, 2 / 3], [2 / 3], [2 / 3]]
    assert class_weights([True, "1", None], {"1": 3, True: 2, None: 0.5}).tolist() == [2, 3, 0.5]


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        ("even", ValueError, "weights must be 'balanced' or a mapping of label to weight, got 'even'"),
        ([1, 2], TypeError, r"weights must be 'balanced' or a mapping of label to weight, got \[1, 2\]"),
        ({"a": 1}, ValueError, "weights must have every label, got none for 'b'"),
        ({"a": 1, "b": -1}, ValueError, r"weights must be finite and 0 or more, got \[1, -1\]"),
    ],
)
def test_class_weights_that_do_not_fit_are_refused(weights: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        class_weights(["a", "b"], weights)
