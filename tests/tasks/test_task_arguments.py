"""Law: every task refuses arguments of `batch`, and outputs of another shape, that NumPy would convert or broadcast."""

import dataclasses
import sys

import numpy as np
import pytest
from case_loops import loop_over

from glasscell import tasks

CASES = {
    "adding": tasks.Adding(20),
    "multiplication": tasks.Multiplication(20),
    "temporal order": tasks.TemporalOrder(min_length=30),
    "embedded Reber": tasks.EmbeddedReber(num_strings=8),
    "continual Reber": tasks.ContinualReber(4, 8),
    "copy": tasks.Copy(3),
    "copy memory": tasks.CopyMemory(4, 2, 2),
    "vector copy": tasks.VectorCopy(2, 1, 2),
    "repeat copy": tasks.RepeatCopy(2, 1, 2, 1, 2),
    "noise-free lag": tasks.NoiseFreeLag(6),
    "distractors 2b": tasks.DistractorLag("2b", 4),
    "distractors 2c": tasks.DistractorLag("2c", 2, 2),
    "two-sequence": tasks.TwoSequence("3b", 1, 4),
    "parity": tasks.Parity(2, 3),
    "parity per step": tasks.Parity(2, 3, per_step=True),
    "row digits": tasks.RowDigits(np.arange(160).reshape(10, 4, 4) % 17, np.arange(10), 16),
}
each_task = loop_over("task", CASES.values(), ids=CASES)


@each_task
@loop_over(
    ("arguments", "error", "message"),
    [
        ((-1,), ValueError, "size must be at least 0, got -1"),
        ((1.5,), TypeError, "size must be an integer, got 1.5"),
        ((True,), TypeError, "size must be an integer, got True"),
        ((None,), TypeError, "size must be an integer, got None"),
        ((2, 0), TypeError, "rng must be a numpy.random.Generator, got an int"),
        ((2, None), TypeError, "rng must be a numpy.random.Generator, got a NoneType"),
        ((2, np.random.default_rng(0), int), TypeError, "dtype must be float32 or float64, got int64"),
        ((2, np.random.default_rng(0), "float16"), TypeError, "dtype must be float32 or float64, got float16"),
        ((2, np.random.default_rng(0), object), TypeError, "dtype must be float32 or float64, got object"),
    ],
)
def test_arguments_of_batch_are_checked(task, arguments, error, message):
    size, rng, dtype = (*arguments, *(2, np.random.default_rng(0), np.float32)[len(arguments) :])
    with pytest.raises(error, match=message):
        task.batch(size, rng, dtype)
    with pytest.raises(error, match=message):
        next(iter(task.batches(size, rng, dtype)))


@each_task
def test_evaluation_batches_have_the_dtype_of_a_float(task):
    for name in ("validation_batch", "test_batch", "held_out_batch"):
        if hasattr(task, name):
            with pytest.raises(TypeError, match="dtype must be float32 or float64, got int64"):
                getattr(task, name)(dtype=np.int64)


@each_task
def test_a_size_of_numpy_and_none_are_accepted(task):
    assert len(task.batch(np.uint8(3), np.random.default_rng(0)).inputs) == 3
    assert len(task.batch(0, np.random.default_rng(0)).inputs) == 0


def test_batches_of_a_length_check_their_arguments():
    for draw in (
        lambda *first: tasks.VectorCopy().batch_of_length(first[0], 2, *first[1:]),
        lambda *first: tasks.RepeatCopy().batch_of(first[0], 2, 2, *first[1:]),
    ):
        with pytest.raises(ValueError, match="size must be at least 0"):
            draw(-1, np.random.default_rng(0))
        with pytest.raises(TypeError, match=r"rng must be a numpy.random.Generator"):
            draw(1, 0)
        with pytest.raises(TypeError, match="dtype must be float32 or float64"):
            draw(1, np.random.default_rng(0), int)


def is_correct(task, outputs, batch):
    """Return the result of the function of the module; its argument is a batch, or targets."""
    if hasattr(task, "is_correct"):
        return task.is_correct(outputs, batch)
    module = sys.modules[type(task).__module__]
    takes_targets = module.__name__.endswith(("adding", "multiplication", "temporal_order"))
    return module.is_correct(outputs, batch.targets if takes_targets else batch)


@loop_over("name", [name for name in CASES if name != "copy"])
def test_outputs_of_another_shape_are_refused(name):
    task = CASES[name]
    batch = task.batch(3, np.random.default_rng(0))
    classes = (task.output_size,) if task.loss == "categorical_cross_entropy" else ()
    outputs = np.zeros((*batch.targets.shape, *classes))
    assert is_correct(task, outputs, batch).shape == (3,)
    assert is_correct(task, outputs.tolist(), batch).shape == (3,)
    for wrong in (outputs[..., 0], outputs[:1], outputs[None], outputs[:2], 0.5):
        with pytest.raises(ValueError, match="outputs must have the shape of the targets"):
            is_correct(task, wrong, batch)


@loop_over("name", [name for name in CASES if name != "copy"])
def test_outputs_that_are_nan_are_not_correct(name):
    task = CASES[name]
    batch = task.batch(50, np.random.default_rng(0))
    classes = (task.output_size,) if task.loss == "categorical_cross_entropy" else ()
    assert not is_correct(task, np.full((*batch.targets.shape, *classes), np.nan), batch).any()


def test_a_table_of_outputs_that_are_nan_has_no_right_bit():
    task = tasks.VectorCopy(2, 1, 2)
    (row,) = task.length_table(lambda x: np.full((*x.shape[:2], 2), np.nan), lengths=(2,), size=10)
    assert row["bit_accuracy"] == row["sequence_accuracy"] == row["correct_prefix"] == 0


def test_indices_of_digits_are_integers():
    task = CASES["row digits"]
    for wrong in ([0.5, 1.0], [True, False], ["0"]):
        with pytest.raises(TypeError, match="indices must be integers"):
            task.make_batch(wrong)
    assert len(task.make_batch([]).inputs) == 0
    np.testing.assert_array_equal(task.make_batch(range(10)).targets, np.arange(10))


def test_the_seed_of_copy_is_an_integer():
    for wrong in (True, 1.5, None, "0"):
        with pytest.raises(TypeError, match="seed must be an integer"):
            dataclasses.replace(CASES["copy"], seed=wrong)
