"""Property: data that cannot be trained on raise an error that names the argument, the rule and the value."""

import numpy as np
import pytest
from case_loops import loop_over

import glasscell as gc
from glasscell.data import ArrayData, ContinuousData
from glasscell.data.arrays import from_tuple
from glasscell.data.batch import Batch
from glasscell.data.iterables import IterableData
from glasscell.data.metrics import accuracy, metric_functions
from glasscell.training.history import History

X, Y = np.ones((4, 5, 2)), np.ones((4, 5, 1))


@loop_over(
    ("make", "error", "text"),
    [
        (
            lambda: ArrayData(X, Y, validation=0.1),
            ValueError,
            "validation must leave sequences on both sides of 4, got 0.1",
        ),
        (lambda: from_tuple((X,)), ValueError, r"data must be \(x, y\) or \(x, y, lengths\), got a tuple of 1"),
        (lambda: ArrayData("text", Y), TypeError, "x must be an array or a list of arrays, got a str"),
        (lambda: ArrayData({"x": X}, Y), TypeError, "x must be an array or a list of arrays, got a dict"),
        (
            lambda: ArrayData([[1, [2]], [3]], Y),
            TypeError,
            "x must be an array or a list of arrays of numbers, got setting an array element",
        ),
        (lambda: ArrayData(5, Y), TypeError, "x must be an array or a list of arrays of numbers, got 'int'"),
        (lambda: ArrayData(np.array(5), Y), ValueError, "x must have one entry for each sequence, got a number"),
        (
            lambda: ContinuousData(X[0]),
            ValueError,
            r"y must be passed unless x are ids \(T,\), got x of shape \(5, 2\) and float64",
        ),
        (
            lambda: ContinuousData(X[0], Y[0, :3]),
            ValueError,
            "y must have one entry for each of the 5 steps of x, got 3",
        ),
        (lambda: ContinuousData([7]), ValueError, "x must have at least one step with a target, got 1 steps"),
        (
            lambda: list(ContinuousData([1, 2, 3]).windows(5, 0, np.float32)),
            ValueError,
            "x must have at least one step for each of 5 segments, got 2 steps",
        ),
        (lambda: metric_functions({"loss": accuracy}), TypeError, "metrics must map names other than 'loss'"),
        (lambda: metric_functions(7), TypeError, "metrics must be a list of names or functions, got 7"),
        (lambda: metric_functions([7]), TypeError, "metrics must be names or functions, got 7"),
    ],
)
def test_invalid_data_are_refused(make, error, text):
    with pytest.raises(error, match=f"^{text}"):
        make()


@pytest.mark.parametrize(
    ("x", "error", "text"),
    [
        (np.full((2, 3, 1), "a"), TypeError, "x must be real numbers, got dtype <U1"),
        (
            np.full((2, 3, 1), np.nan),
            ValueError,
            "batch 1 of the data: x must be finite, got nan at sequence 0 of the batch, step 0, feature 0",
        ),
    ],
)
def test_invalid_batches_of_an_iterable_are_refused_when_they_are_read(x, error, text):
    data = IterableData([(x, np.ones((2, 1)))])
    with pytest.raises(error, match=text):
        list(data.batches(2, np.random.default_rng(0), np.float32))


def test_targets_after_the_end_of_a_sequence_have_no_weight(rng):
    x, lengths = rng.normal(size=(3, 4, 2)), [4, 0, 2]
    valid = np.arange(4) < np.array(lengths)[:, None]
    for y in (rng.normal(size=(3, 4, 1)), rng.integers(5, size=(3, 4))):
        (batch,) = IterableData([(x, y, lengths)]).batches(3, rng, np.float64)
        np.testing.assert_array_equal(batch.weights.reshape(3, 4), valid)
        np.testing.assert_array_equal(batch.inputs, x * valid[..., None])


def test_batches_of_an_iterable_keep_their_weights_and_continuation(rng):
    entry = Batch(rng.normal(size=(2, 3, 1)), rng.normal(size=(2, 3, 1)), np.full((2, 3, 1), 0.5), continues=True)
    (batch,) = IterableData([entry]).batches(2, rng, np.float64)
    np.testing.assert_array_equal(batch.weights, entry.weights)
    assert batch.continues


def test_one_metric_may_be_passed_by_its_name():
    assert metric_functions("accuracy") == metric_functions(["accuracy"]) == {"accuracy": accuracy}


def test_a_history_is_the_sequence_of_its_rows():
    history = History([{"loss": 2.0}, {"loss": 1.0, "validation_loss": 3.0}])
    assert len(history) == history.updates == 2
    assert list(history) == history.rows
    assert repr(history) == "History(2 updates: loss 1, validation_loss 3)"
    assert repr(History()) == "History(0 updates)"


def test_an_invalid_target_of_a_loss_function_stops_a_training_before_it_changes_weights():
    model = gc.Sequential([gc.LSTM(2, 3, seed=0), gc.Linear(3, 2, seed=1)])
    before = model.parameters.vector.copy()
    with pytest.raises(ValueError, match="targets"):
        gc.fit(model, (X, np.ones((4, 5, 3))), 1, loss="squared_error")
    np.testing.assert_array_equal(model.parameters.vector, before)


def test_masked_values_are_refused_wherever_data_enter():
    x, y = np.random.default_rng(0).normal(size=(12, 5, 2)), np.arange(12) % 2
    masked, masked_y = np.ma.masked_greater(x, 1.0), np.ma.masked_array(y, mask=y == 1)
    model, regressor = gc.SequenceClassifier(2, 2, 4), gc.SequenceRegressor(2, 1, 4)
    calls = {
        "x": [
            *(lambda value=value: gc.fit(model, (value, y), updates=1) for value in (masked, list(masked))),
            *(lambda call=call: call(masked) for call in (model.classify, model.predict, model, regressor.predict)),
            lambda: model.classify(np.ma.masked_array(x[0], mask=True)),
        ],
        "y": [
            lambda: gc.fit(model, (x, masked_y), updates=1),
            lambda: gc.fit(regressor, (x, masked_y * 1.5), updates=1),
            lambda: ArrayData(x, masked_y),
        ],
        "sample_weights": [lambda: ArrayData(x, y, sample_weights=masked_y + 1)],
        "labels": [lambda: gc.data.class_weights(masked_y)],
        "series": [lambda: gc.Forecaster(2, 4).training_data(np.ma.masked_greater(np.arange(30.0), 20))],
    }
    for name, entries in calls.items():
        for call in entries:
            with pytest.raises(ValueError, match=f"^{name} must have no masked values, got [0-9]+: fill them"):
                call()
    history = gc.fit(model, (np.ma.masked_array(x), y), updates=1)  # none is masked
    assert history.updates == 1
