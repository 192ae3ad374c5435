"""Law: every task draws the same sequences for the same seed, in the layout of layers, and an LSTM learns it.

The tests of Adding, TemporalOrder and EmbeddedReber are in test_classic.py, those of Copy in test_copy.py.
"""

import pickle
from dataclasses import FrozenInstanceError, fields, replace

import numpy as np
import pytest
from case_loops import loop_over

import glasscell as gc
from glasscell import tasks
from glasscell.data.metrics import loss_function
from glasscell.layers import FinalState

# A small task of each kind; hidden units, updates and learning rate of a short training; the loss that it reaches, as a
# fraction of the baseline's.
CASES = {
    "copy memory": (tasks.CopyMemory(4, 2, 2), (12, 150, 0.03), 0.5),
    "continual Reber": (tasks.ContinualReber(20, 100), (16, 150, 0.03), 0.5),
    "multiplication": (tasks.Multiplication(20), (12, 100, 0.02), 0.95),
    "vector copy": (tasks.VectorCopy(2, 1, 2), (16, 150, 0.03), 0.6),
    "noise-free lag": (tasks.NoiseFreeLag(6), (12, 150, 0.05), 0.5),
    "distractors 2b": (tasks.DistractorLag("2b", 4), (12, 100, 0.03), 0.9),
    "distractors 2c": (tasks.DistractorLag("2c", 2, 2), (12, 100, 0.03), 0.5),
    "two-sequence 3a": (tasks.TwoSequence("3a", 3, 8), (8, 60, 0.03), 0.5),
    "two-sequence 3b": (tasks.TwoSequence("3b", 3, 8), (8, 60, 0.03), 0.6),
    "two-sequence 3c": (tasks.TwoSequence("3c", 3, 8), (8, 60, 0.03), 0.85),
    "repeat copy": (tasks.RepeatCopy(2, 1, 1, 1, 2), (16, 150, 0.03), 0.6),
    "parity": (tasks.Parity(2, 3), (8, 150, 0.05), 0.7),
    "parity per step": (tasks.Parity(2, 4, per_step=True), (8, 150, 0.05), 0.7),
}
TASKS = [task for task, *_ in CASES.values()]
each_task = pytest.mark.parametrize("task", TASKS, ids=CASES)


def arrays(batch):
    return [part for part in batch[:4] if part is not None]


def model_for(task, hidden_size):
    batch = task.validation_batch()
    per_step = batch.targets.ndim > 1 and batch.targets.shape[1] == batch.inputs.shape[1]
    layers = [gc.LSTM(task.input_size, hidden_size), *[FinalState()] * (not per_step)]
    return gc.Sequential([*layers, gc.Linear(hidden_size, task.output_size)])


@each_task
def test_the_same_seed_draws_the_same_sequences(task):
    for one, same in zip(*(arrays(task.batch(9, np.random.default_rng(1))) for _ in range(2)), strict=True):
        np.testing.assert_array_equal(one, same)
    one, other = (task.batch(9, np.random.default_rng(seed)).inputs for seed in (1, 2))
    assert one.shape != other.shape or (one != other).any()
    stream = task.batches(3, np.random.default_rng(5), np.float64)
    first, second = next(stream), next(stream)
    assert first.inputs.dtype == np.float64
    assert first.inputs.shape != second.inputs.shape or (first.inputs != second.inputs).any()


@each_task
def test_both_dtypes_have_the_same_sequences(task):
    single, double = (task.batch(5, np.random.default_rng(3), dtype) for dtype in (np.float32, np.float64))
    for a, b in zip(arrays(single), arrays(double), strict=True):
        np.testing.assert_array_equal(a, b.astype(a.dtype))
    assert single.inputs.dtype == np.float32


@each_task
def test_evaluation_sequences_are_fixed_by_the_seed(task):
    again, other = pickle.loads(pickle.dumps(task)), replace(task, seed=1)  # noqa: S301 - our own bytes
    assert again == task != other
    for name in ("test_batch", "validation_batch"):
        one, same, changed = (getattr(t, name)() for t in (task, again, other))
        for a, b in zip(arrays(one), arrays(same), strict=True):
            np.testing.assert_array_equal(a, b)
        assert changed.inputs.shape != one.inputs.shape or (changed.inputs != one.inputs).any()
    validation, test = task.validation_batch().inputs, task.test_batch().inputs[:256]
    assert validation.shape != test.shape or (validation != test).any()
    with pytest.raises(FrozenInstanceError):
        task.seed = 2


@each_task
def test_batches_have_the_layout_of_layers_and_the_sizes_of_the_task(task, rng):
    for batch in (task.batch(7, rng), task.test_batch(7), task.batch(0, rng)):
        B, T, features = batch.inputs.shape
        assert features == task.input_size
        assert len(batch.targets) == B
        assert batch.inputs.transpose(1, 2, 0).flags.c_contiguous
        if batch.targets.dtype.kind == "f":
            assert batch.targets.shape[-1] == task.output_size
        if batch.lengths is not None:
            assert batch.lengths.max(initial=0) == T
            ended = np.arange(T) >= batch.lengths[:, None]
            assert not batch.inputs[ended].any()
            if batch.weights is not None:
                assert not batch.weights[ended].any()
                assert not batch.targets[ended].any()
    assert task.batch(7, rng).inputs.shape[0] == 7


@each_task
def test_the_seed_is_checked(task):
    assert "seed" in {field.name for field in fields(task)}
    with pytest.raises(ValueError, match="seed must be 0 or more, got -1"):
        replace(task, seed=-1)
    with pytest.raises(TypeError, match="seed must be an integer, got True"):
        replace(task, seed=True)


@loop_over(("task", "training", "fraction"), CASES.values(), ids=CASES)
def test_an_lstm_learns_it(task, training, fraction):
    """The loss falls clearly below that of a predictor without memory, and every metric is computed."""
    hidden_size, updates, rate = training
    model = model_for(task, hidden_size)
    history = gc.fit(
        model, task, updates, batch_size=32, optimizer=gc.Adam(rate), schedule=gc.schedules.cosine(updates),
        evaluate_every=updates,
    )  # fmt: skip
    batch = task.test_batch(512)
    outputs = model(batch.inputs, lengths=batch.lengths)
    loss = loss_function(task.loss)(outputs, batch.targets, batch.weights)[0]
    assert loss < fraction * task.memoryless_baseline_loss(batch)
    scores = [name for name in history.rows[-1] if name.startswith("validation_")]
    assert len(scores) == 1 + len(task.metrics)


def test_the_list_is_complete():
    others = {"Adding", "Copy", "EmbeddedReber", "RowDigits", "TemporalOrder"}  # which other files test
    classes = {name for name in tasks.__all__ if name[0].isupper()} - {"Batch"}
    assert {type(task).__name__ for task in TASKS} == classes - others
