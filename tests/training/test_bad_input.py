"""Law: invalid data and options raise one clear error before the first update."""

import numpy as np
import pytest
from case_loops import loop_over

import glasscell as gc
from glasscell.data import ArrayData, Batch, ContinuousData
from glasscell.layers import FinalState

X, Y = np.ones((6, 4, 3)), np.ones((6, 4, 2))
LOSS = "squared_error"


def model():
    return gc.Sequential([gc.LSTM(3, 4), gc.Linear(4, 2)])


def nan_metric(outputs, batch):
    return float("nan")


@loop_over(
    ("options", "error", "texts"),
    [
        ({"loss": None}, ValueError, ["loss must be passed"]),
        ({"loss": "hinge"}, ValueError, ["squared_error", "'hinge'"]),
        ({"metrics": ["speed"]}, ValueError, ["accuracy", "'speed'"]),
        ({"metrics": [3]}, TypeError, ["metrics", "3"]),
        ({"metrics": ["accuracy", "accuracy"]}, ValueError, ["different names"]),
        ({"updates": None}, ValueError, ["updates or epochs"]),
        ({"epochs": 0}, ValueError, ["epochs", "0"]),
        ({"trainable": ["9.*"]}, ValueError, ["trainable", "0.kernel_l0", "'9.*'"]),
        ({"trainable": "1.*"}, TypeError, ["trainable", "list"]),
        ({"trainable": []}, ValueError, ["at least one"]),
        ({"learning_rates": {"2.weight": 1.0}}, ValueError, ["learning_rates", "'2.weight'"]),
        ({"learning_rates": {"1.*": -1.0}}, ValueError, ["1.*", "-1"]),
        ({"stop_at": {}}, ValueError, ["stop_at", "{}"]),
        ({"stop_at": {"loss": 0.1}}, ValueError, ["validation must be passed"]),
        ({"stop_at": {"accuracy": 1.0}, "validation": 0.5}, ValueError, ["stop_at", "'accuracy'"]),
        ({"patience": 2, "monitor": "speed", "validation": 0.5}, ValueError, ["monitor", "'speed'"]),
        (
            {"patience": 2, "monitor": "validation_loss", "validation": 0.5},
            ValueError,
            ["monitor must name scores of the evaluation, loss, without the prefix validation_, got 'validation_loss'"],
        ),
        ({"patience": 0}, ValueError, ["patience", "0"]),
        ({"keep": "first"}, ValueError, ["keep", "'first'"]),
        ({"accumulate": 0}, ValueError, ["accumulate", "0"]),
        ({"validation": 1.5}, ValueError, ["between 0 and 1", "1.5"]),
        ({"validation": "half"}, TypeError, ["validation", "str"]),
        ({"tbptt_steps": 1.5}, TypeError, ["tbptt_steps", "1.5"]),
    ],
)
def test_invalid_options(options, error, texts):
    trained = model()
    with pytest.raises(error) as error_info:
        gc.fit(trained, (X, Y), **({"updates": 1, "loss": LOSS} | options))
    assert all(text in str(error_info.value) for text in texts)
    np.testing.assert_array_equal(trained.parameters.vector, model().parameters.vector)


@loop_over(
    ("data", "error", "texts"),
    [
        ((X, Y[:5]), ValueError, ["y must have one entry", "6", "5"]),
        ((X, Y[:, :3]), ValueError, ["T = 4", "(6, 3, 2)"]),
        ((X[..., :2], Y), ValueError, ["I = 3", "(6, 4, 2)"]),
        ((X, Y[..., :1]), ValueError, ["targets", "(6, 4, 1)", "(6, 4, 2)"]),
        ((X * np.nan, Y), ValueError, ["x must be finite, got nan at sequence 0, step 0, feature 0"]),
        ((X, Y * np.inf), ValueError, ["y must be finite, got inf at sequence 0, step 0, feature 0"]),
        ((X.astype(complex), Y), TypeError, ["complex"]),
        (([X[0], X[1, :2]], [Y[0], Y[1, :3]]), ValueError, ["one entry per step", "3", "2 steps", "sequence 1"]),
        (([X[0], X[1, :, :2]], [0, 1]), ValueError, ["one I"]),
        ((X[:0], Y[:0]), ValueError, ["at least one sequence"]),
        (([], []), ValueError, ["x must have at least one sequence, got none"]),
        ((X, []), ValueError, ["y must have one entry", "6", "0"]),
        ("text", TypeError, ["data must be", "str"]),
        (X, TypeError, ["data must be", "ndarray"]),
        (7, TypeError, ["data must be", "int"]),
        (iter([(X, Y)]), TypeError, ["once per epoch", "iterator"]),
        ([], ValueError, ["at least one batch"]),
        ([(X,)], TypeError, ["(x, y)", "tuple"]),
        ([(X, Y, [9] * 6)], ValueError, ["lengths", "T = 4"]),
        ([(X, Y[:5])], ValueError, ["one entry per sequence"]),
    ],
)
def test_invalid_data(data, error, texts):
    trained = model()
    with pytest.raises(error) as error_info:
        gc.fit(trained, data, 1, loss=LOSS)
    assert all(text in str(error_info.value) for text in texts)
    np.testing.assert_array_equal(trained.parameters.vector, model().parameters.vector)


class TaskOfTuples:
    """A task whose batches, or validation batches, are tuples."""

    loss = LOSS

    def __init__(self, kind):
        self.kind = kind

    def batches(self, *_):
        x, y = X.astype(np.float32), Y.astype(np.float32)
        yield (x, y) if self.kind == "batches" else Batch(x, y)

    def validation(self, *_):
        return [(X, Y)] if self.kind == "validation" else None


@pytest.mark.parametrize("kind", ["batches", "validation"])
@pytest.mark.parametrize("numbers", [False, True])
def test_batches_of_a_task_are_of_the_class_batch(kind, numbers):
    trained = type("Model", (gc.Sequential,), {"gives_numbers": numbers})([gc.LSTM(3, 4), gc.Linear(4, 2)])
    with pytest.raises(TypeError, match=r"^batches of a task must be glasscell\.data\.Batch, got a tuple$"):
        gc.fit(trained, TaskOfTuples(kind), epochs=1)
    np.testing.assert_array_equal(trained.parameters.vector, model().parameters.vector)


@pytest.mark.parametrize(("missing", "other"), [("batches", "validation"), ("validation", "batches")])
def test_a_task_has_both_methods(missing, other):
    task = type("Partial", (), {other: getattr(TaskOfTuples, other)})()
    with pytest.raises(
        TypeError, match=f"must have the methods batches and validation, got a Partial without {missing}"
    ):
        gc.fit(model(), task, updates=1, loss=LOSS)


def test_an_error_of_the_copy_model_does_not_print_the_data():
    with pytest.raises(
        TypeError, match=r"^task must be a tasks\.Copy, got a tuple; train a Sequential on other tasks$"
    ):
        gc.fit(gc.CopyLSTM(4), (X, Y), updates=1)


def test_a_batch_of_another_dtype():
    class Doubles:
        loss = LOSS

        def batches(self, *_):
            yield Batch(X, Y)

        def validation(self, *_):
            return None

    with pytest.raises(TypeError, match=r"float32.*float64"):
        gc.fit(model(), Doubles(), 1)


@pytest.mark.parametrize("value", [[1, -0.5, 1, 1, 1, 1], [1, np.nan, 1, 1, 1, 1], [1, 1], [0] * 6])
def test_invalid_sample_weights(value):
    with pytest.raises(ValueError, match="sample_weights"):
        ArrayData(X, Y, sample_weights=value)


def test_invalid_lengths():
    for lengths in ([5] * 6, [-1] * 6, [1.5] * 6, [1] * 5):
        with pytest.raises(ValueError, match="T = 4"):
            ArrayData(X, Y, lengths=lengths)
    with pytest.raises(ValueError, match="None for a list"):
        ArrayData([X[0], X[1, :2]], [0, 1], lengths=[4, 2])


def test_invalid_masks():
    mask = np.ones((6, 4), np.bool_)
    with pytest.raises(ValueError, match="lengths and mask must not be passed together"):
        ArrayData(X, Y, mask=mask, lengths=[4] * 6)
    with pytest.raises(ValueError, match="lengths and mask must not be passed together"):
        model()(X, lengths=[4] * 6, mask=mask)
    for wrong in (mask[:5], mask[:, :3], mask.astype(int), mask[0]):
        with pytest.raises(ValueError, match="mask must"):
            ArrayData(X, Y, mask=wrong)


def test_a_metric_that_is_not_a_number_is_noticed_before_the_first_update():
    trained, batches = model(), [(X, Y), (X, Y)]
    for data, validation in (((X, Y), (X, Y)), (batches, batches)):
        with pytest.raises(ValueError, match=r"NaN for 'nan_metric'"):
            gc.fit(trained, data, 1, loss=LOSS, metrics=[nan_metric], validation=validation)
    np.testing.assert_array_equal(trained.parameters.vector, model().parameters.vector)


@loop_over("value", [None, "high", np.ones(3), (1.0,), (1.0, 2, 3), (None, 1)], ids=repr)
def test_a_metric_returns_a_number_or_a_sum_and_a_count(value):
    with pytest.raises(TypeError, match=r"number or \(sum, count\).*'speed'"):
        gc.fit(model(), (X, Y), 1, loss=LOSS, metrics={"speed": lambda *_: value}, validation=(X, Y))


@pytest.mark.parametrize(
    ("loss", "targets"),
    [
        ("categorical_cross_entropy", Y),
        ("categorical_cross_entropy", np.full((6, 4), 2)),
        ("binary_cross_entropy", np.zeros((6, 4), int)),
        ("squared_error", np.zeros(6)),
    ],
)
def test_targets_that_do_not_fit_the_loss(loss, targets):
    trained = model()
    with pytest.raises((TypeError, ValueError), match="targets"):
        gc.fit(trained, (X, targets), 1, loss=loss)
    np.testing.assert_array_equal(trained.parameters.vector, model().parameters.vector)


def test_options_of_other_names():
    for name in ("steps", "truncate", "target", "learning_rate"):
        with pytest.raises(TypeError, match=name):
            gc.fit(model(), (X, Y), 1, loss=LOSS, **{name: 1})


@pytest.mark.parametrize("value", [None, 3, gc.Linear(3, 2), gc.Sequential, "model"], ids=str)
def test_invalid_models(value):
    with pytest.raises(TypeError, match="model must be a Sequential, an LSTM, a CopyLSTM"):
        gc.fit(value, (X, Y), 1, loss=LOSS)


def test_a_bidirectional_model_carries_no_state():
    both = gc.Sequential([gc.LSTM(3, 4, bidirectional=True), gc.Linear(8, 2)])
    for data, options in (((X, Y), {"tbptt_steps": 2}), (ContinuousData(X[0], Y[0], steps=2), {"batch_size": 1})):
        with pytest.raises(ValueError, match="forward in time only"):
            gc.fit(both, data, 1, loss=LOSS, **options)


def test_windows_need_a_target_at_every_step():
    last = gc.Sequential([gc.LSTM(3, 4), FinalState(), gc.Linear(4, 2)])
    for targets, loss in ((Y[:, 0], LOSS), (np.zeros(len(Y), int), "categorical_cross_entropy")):
        with pytest.raises(ValueError, match="tbptt_steps must be None for targets without one entry per step"):
            gc.fit(last, (X, targets), 1, loss=loss, tbptt_steps=2)


def test_a_generated_task_has_no_epochs():
    with pytest.raises(ValueError, match="epochs must be None"):
        gc.fit(gc.CopyLSTM(4), gc.tasks.Copy(4), epochs=1)


def test_layers_come_as_one_list():
    with pytest.raises(TypeError, match="pass one list"):
        gc.Sequential(gc.LSTM(3, 4), gc.Linear(4, 2))


def test_a_backward_pass_needs_a_tape():
    with pytest.raises(TypeError, match=r"Sequential.forward returned, got a NoneType"):
        model().backward(None, Y)


def test_an_unknown_parameter_lists_the_names():
    with pytest.raises(KeyError, match=r"'x'.*0\.kernel_l0, 1\.weight, 1\.bias"):
        model().parameters["x"]


def test_the_parts_of_labelled_sequences_are_named():
    x = [np.zeros((3, 2)), np.ones((2, 2))]
    data = gc.data.LabelledSequences(x, ["a", "b"], ["p", "q"], ["1", "2"], "t.csv")
    with pytest.raises(TypeError, match=r"got a LabelledSequences; pass \(data.x, data.labels\)"):
        gc.fit(gc.SequenceClassifier(2, ["a", "b"], 3), data, updates=1)


@pytest.mark.parametrize("policy", ["raise", "skip", "restore_best_and_halve_lr"])
def test_the_first_number_that_is_not_finite_is_named_before_the_training(policy, rng):
    def with_bad(shape, index):
        values = rng.normal(size=shape)
        values[index] = value
        values[-1] = np.nan  # a later one
        return values

    def as_list(shape, index):
        sequences = [*with_bad(shape, index)]
        return [sequence[: len(sequence) - (n == 1)] for n, sequence in enumerate(sequences)]

    for value in (np.nan, np.inf, -np.inf):
        place = f"must be finite, got {value} at "
        ragged_y = [np.ones((4 - (n == 1), 2)) for n in range(6)]
        cases = {
            rf"x {place}sequence 2, step 1, feature 0$": (with_bad((6, 4, 3), (2, 1, 0)), Y),
            rf"y {place}sequence 2, step 3, feature 1$": (X, with_bad((6, 4, 2), (2, 3, 1))),
            rf"y {place}sequence 3, feature 1$": (X, with_bad((6, 2), (3, 1))),
            rf"y {place}sequence 4$": (X, with_bad(6, 4)),
            rf"x {place}sequence 3, step 2, feature 2$": (as_list((6, 4, 3), (3, 2, 2)), ragged_y),
            rf"y {place}sequence 2, step 0, feature 1$": ([*X], as_list((6, 4, 2), (2, 0, 1))),
        }
        for message, data in cases.items():
            with pytest.raises(ValueError, match=message):
                gc.fit(model(), data, 1, loss=LOSS, on_failure=policy)
        for message, x, y in (
            (rf"x {place}step 7, feature 2$", with_bad((20, 3), (7, 2)), np.ones((20, 2))),
            (rf"y {place}step 7, feature 1$", np.ones((20, 3)), with_bad((20, 2), (7, 1))),
        ):
            with pytest.raises(ValueError, match=message):
                ContinuousData(x, y)
