"""Law: what a training records about itself is what it did."""

import copy
import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import glasscell as gc
from glasscell.data import Batch
from glasscell.training import Training, TrainingOptions, description, schedules
from glasscell.training.history import History
from glasscell.training.progress import progress_bar
from glasscell.training.sources import is_arrays
from glasscell.training.threads import SMALL_STEP

LOSS = "squared_error"


def regressor():
    return gc.Sequential([gc.LSTM(2, 4, dtype=np.float64), gc.Linear(4, 1, dtype=np.float64)], seed=1)


def arrays(N=20):
    rng = np.random.default_rng(4)
    x = rng.normal(size=(N, 5, 2))
    return x, np.cumsum(x[..., :1], axis=1)


def first_row(**options):
    return gc.fit(regressor(), arrays(), updates=1, loss=LOSS, optimizer=gc.SGD(0.1), **options).rows[0]


def test_the_loss_and_the_norm_of_accumulated_batches_are_those_of_one_batch():
    whole, accumulated = first_row(batch_size=20), first_row(batch_size=5, accumulate=4)
    assert accumulated["loss"] == pytest.approx(whole["loss"], rel=1e-12)
    assert accumulated["gradient_norm"] == pytest.approx(whole["gradient_norm"], rel=1e-12)


def test_frozen_parameters_have_no_gradient():
    gradients = {}

    def keep(state):
        gradients.update(copy.deepcopy(dict(state.gradients.items())))

    history = gc.fit(
        regressor(), arrays(), updates=1, loss=LOSS, optimizer=gc.SGD(0.1), trainable=["*bias"], callbacks=[keep]
    )
    frozen = [name for name in gradients if not name.endswith("bias")]
    assert frozen
    assert all(not gradients[name].any() for name in frozen)
    norm = math.sqrt(sum(float(np.sum(gradient**2)) for gradient in gradients.values()))
    assert 0 < history["gradient_norm"][0] == pytest.approx(norm, rel=1e-12)


def test_the_representation_of_a_history_has_the_last_measured_scores():
    assert repr(History()) == "History(0 updates)"
    rows = [
        {"update": 1, "loss": 4.0, "validation_loss": 8.0},
        {"update": 2, "loss": 3.0, "validation_loss": 7.0},
        {"update": 3, "loss": 2.0},
    ]
    history = History()
    history.rows.extend(rows)
    assert repr(history) == "History(3 updates: loss 2, validation_loss 7)"


def test_arrays_are_told_from_tuples_of_batches():
    x, y = arrays(3)
    pair, lengths = (x, y), np.array([5, 4, 3])
    assert is_arrays(pair)
    assert is_arrays((x, y, lengths))
    for batches in ((pair,), (pair, pair, pair), (x, y, lengths, x), (pair,) * 4, [x, y]):
        assert not is_arrays(batches)
    assert not is_arrays(Batch)


def test_schedules_of_the_update_alone_are_tabulated():
    linear = schedules.linear(10)
    known = {
        "linear": linear,
        "warmup": schedules.warmup(3, linear),
        "twice": schedules.warmup(2, schedules.warmup(3, linear)),
    }
    for schedule in known.values():
        assert schedules.tabulate(schedule, 12) == [schedule(update) for update in range(12)]
    for schedule in (lambda update: 1.0, schedules.warmup(3, lambda update: 1.0)):
        assert schedules.tabulate(schedule, 12) == []
    assert schedules.tabulate(linear, None) == schedules.tabulate(None, 12) == []


@pytest.mark.parametrize("updates", [None, 6])
def test_a_display_that_fails_ends_nothing(updates, monkeypatch):
    class Closed:
        writes = 0

        def isatty(self):
            return False

        def write(self, _):
            self.writes += 1
            raise BrokenPipeError(32, "Broken pipe")

        def flush(self):
            raise BrokenPipeError(32, "Broken pipe")

    closed = Closed()
    monkeypatch.setattr(sys, "stderr", closed)
    with progress_bar(updates) as report:
        for update in range(1, 7):
            report({"update": update, "loss": 1.0, "gradient_norm": 1.0, "learning_rate": 0.1, "validation_loss": 1.0})
    assert closed.writes == 1  # after the error nothing more is shown


def test_without_a_seed_it_is_0():
    weights = []
    for options in ({}, {"seed": 0}, {"seed": 1}):
        model = regressor()
        gc.fit(model, arrays(), updates=2, batch_size=3, loss=LOSS, **options)
        weights.append(model.parameters.vector)
    np.testing.assert_array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])


def test_threads_are_recorded_where_they_decide_the_last_bits(monkeypatch):
    """The numbers of a small step do not depend on threads, nor do those of the compiled engine."""
    monkeypatch.setattr(description, "max_threads", lambda: 2)
    vector, found = np.empty(SMALL_STEP // 256, np.float32), {}
    for uses_numba in (False, True):
        model = SimpleNamespace(parameters=SimpleNamespace(vector=vector), uses_numba=lambda _, used=uses_numba: used)
        for batch_size in (255, 256, 257):
            found[uses_numba, batch_size] = description.describe_environment(model, batch_size)["threads"]
    assert [size for size in found if found[size] is not None] == [(False, 257)]


def test_a_long_configuration_is_recorded_as_a_checksum():
    recorded = []
    for length in (4094, 4095):  # and two quotation marks
        kind = type("Described", (gc.Sequential,), {"config": "a" * length})
        model = kind([gc.LSTM(2, 1), gc.Linear(1, 1)])
        training = Training(model, arrays(), TrainingOptions(updates=1, loss=LOSS))
        recorded.append(training.description["model"]["config"])
    assert recorded[0] == "a" * 4094
    assert list(recorded[1]) == ["checksum"]


def test_a_difference_is_shortened_to_100_characters():
    parts = {key: {} for key in ("version", "model", "data", "options", "validation")}
    for length, text in ((98, f'"{"a" * 98}"'), (99, f'"{"a" * 96}...')):
        stored, current = parts | {"options": {"name": 1}}, parts | {"options": {"name": "a" * length}}
        assert description.difference(stored, current) == f"options.name {text}, where it was 1"
