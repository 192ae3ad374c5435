"""Law: an output that is NaN is a wrong prediction where predictions are counted, and no label where they are named."""

import numpy as np
import pytest

import glasscell as gc
from glasscell.data import Batch
from glasscell.data.metrics import METRICS
from glasscell.data.predictions import bits_of_signs, has_largest_output, has_right_sign, largest_output
from glasscell.layers import FinalState
from glasscell.models.text_sampling import chooser
from glasscell.trace.display import all_steps_correct, output_rows

NAN = "must be numbers to predict a class or bit, got NaN for"
COUNTS = ("accuracy", "bit_accuracy", "sequence_accuracy")


def predictions(kind, rng, shape=(6, 5)):
    """Return outputs whose signs or classes are right, with their targets."""
    if kind == "bits":
        targets = rng.integers(0, 2, (*shape, 3)).astype(float)
        return (2 * targets - 1) * rng.uniform(0.5, 2, targets.shape), targets
    targets = rng.integers(0, 4, shape)
    outputs = rng.normal(size=(*shape, 4))
    np.put_along_axis(outputs, targets[..., None], 9.0, -1)
    return outputs, targets


@pytest.mark.parametrize("kind", ["bits", "classes"])
def test_each_output_that_is_nan_is_one_wrong_prediction(rng, kind):
    """Also where the target is 0: class 0 and bit 0 are those of a comparison with NaN."""
    outputs, targets = predictions(kind, rng)
    by_class = kind == "classes"
    size, right = targets.size, has_largest_output if by_class else has_right_sign
    assert right(outputs, targets).all()
    for index in np.ndindex(*targets.shape):
        spoiled = outputs.copy()
        spoiled[(*index, rng.integers(4)) if by_class else index] = np.nan
        expected = np.ones(targets.shape, bool)
        expected[index] = False
        assert np.array_equal(right(spoiled, targets), expected)
        batch = Batch(np.zeros((6, 5, 1)), targets)
        counts = {name: METRICS[name](spoiled, batch) for name in COUNTS}
        assert counts == {"accuracy": (size - 1, size), "bit_accuracy": (size - 1, size), "sequence_accuracy": (5, 6)}


def test_nan_where_nothing_counts_changes_nothing(rng):
    outputs, targets = predictions("classes", rng)
    outputs[2, 3] = np.nan
    weights = np.ones((6, 5))
    weights[2, 3] = 0
    for name, expected in zip(COUNTS, ((29, 29), (29, 29), (6, 6)), strict=True):
        assert METRICS[name](outputs, Batch(np.zeros((6, 5, 1)), targets, weights)) == expected


def test_infinite_outputs_are_numbers():
    outputs = np.array([[np.inf, 0.0], [-np.inf, 1.0], [-np.inf, -np.inf]])
    assert largest_output(outputs).tolist() == [0, 1, 0]
    assert bits_of_signs(outputs).tolist() == [[True, False], [False, True], [False, False]]
    assert has_right_sign(outputs, np.array([[1, 0], [0, 1], [0, 0]])).all()


def spoiled(model):
    """Make one output of the readout NaN, the last one: another class or bit is the largest."""
    model.readout.parameters["bias"][-1] = np.nan
    return model


def no_labels():
    """Functions that name the predictions of a model whose outputs are NaN."""
    classifier = spoiled(gc.SequenceClassifier(2, 3, 4))
    steps = spoiled(gc.SequenceClassifier(2, 3, 4, per_step=True))
    copy = gc.CopyLSTM(4)
    copy.parameters.vector[-1] = np.nan
    x = np.zeros((2, 5, 2), np.float32)
    batch = copy.task.make_batch([np.zeros((1, 4), int)], np.float32)
    outputs = np.full((1, 9, 1), np.nan)
    return {
        "classify": lambda: classifier.classify(x),
        "classify one": lambda: classifier.classify(x[0]),
        "classify steps": lambda: steps.classify(x, lengths=[3, 5]),
        "ensemble": lambda: gc.Ensemble([gc.SequenceClassifier(2, 3, 4), classifier]).classify(x),
        "ensemble of steps": lambda: gc.Ensemble([steps]).classify(list(x)),
        "copy of an ensemble": lambda: gc.Ensemble([gc.CopyLSTM(4), copy]).copy([0, 0, 0, 0]),
        "decoded bits": lambda: copy.task.decode_outputs(outputs[:, : batch.inputs.shape[1]], 4),
    }


@pytest.mark.parametrize("name", no_labels())
def test_outputs_that_are_nan_have_no_label(name):
    with pytest.raises(ValueError, match=NAN):
        no_labels()[name]()


def test_estimators_have_no_label_for_outputs_that_are_nan(rng):
    estimators = pytest.importorskip("glasscell.estimators", exc_type=ImportError)
    X, y = rng.normal(size=(12, 4, 2)), np.array([0, 1] * 6)
    estimator = estimators.LSTMClassifier(hidden_size=3, updates=2).fit(X, y)
    spoiled(estimator.model_)
    with pytest.raises(ValueError, match=NAN):
        estimator.predict(X)


def test_labels_of_steps_behind_the_end_do_not_count():
    steps = gc.SequenceClassifier(2, 3, 4, per_step=True)
    x = np.zeros((1, 5, 2), np.float32)
    assert len(gc.Ensemble([steps]).classify(x, lengths=[3])[0]) == 3


@pytest.mark.parametrize("temperature", [0.0, 0.7])
@pytest.mark.parametrize("top_k", [None, 2])
def test_no_symbol_is_drawn_from_logits_that_are_nan(temperature, top_k):
    with pytest.raises(ValueError, match=r"must be numbers to .*, got NaN"):
        chooser(4, temperature, top_k)(np.array([1.0, 3.0, np.nan, 0.0]), 0.5)


@pytest.mark.parametrize("loss", ["binary_cross_entropy", "categorical_cross_entropy"])
def test_views_of_a_trace_mark_nan_as_wrong(rng, loss):
    by_class = loss.startswith("cat")
    model = gc.Sequential([gc.LSTM(2, 3), gc.Linear(3, 3 if by_class else 1)])
    targets = np.zeros(4, int) if by_class else np.zeros((4, 1), np.float32)
    trace = model.trace(rng.normal(size=(4, 2)).astype("f"), targets, loss=loss)
    trace.outputs[...] = -1.0
    trace.outputs[:, 0] = 1.0 if by_class else -1.0
    assert all_steps_correct(trace)
    trace.outputs[2, -1] = np.nan
    (row,) = output_rows(trace)
    assert row.wrong.tolist() == [False, False, True, False]
    assert row.texts == ("0", "0", "NaN", "0")
    assert not all_steps_correct(trace)


def test_an_evaluation_of_a_model_counts_nan_as_wrong(rng):
    x, y = rng.normal(size=(8, 5, 2)).astype("f"), np.zeros(8, int)
    layers = [gc.LSTM(2, 3), FinalState(), gc.Linear(3, 2)]
    model = gc.Sequential(layers)
    layers[-1].parameters["bias"][0] = np.nan
    metric = METRICS["accuracy"](model.predict(x), Batch(x, y))
    assert metric == (0, 8)
