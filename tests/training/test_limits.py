"""Law: a training makes the passes that `epochs` allows, an update ends with its epoch, and a finished one is over."""

import math

import numpy as np
import pytest
from case_loops import loop_over

import glasscell as gc
from glasscell.data import ArrayData, ContinuousData
from glasscell.training import Training, TrainingOptions
from glasscell.training.arguments import expected_updates

LOSS = "squared_error"


def regressor():
    return gc.Sequential([gc.LSTM(2, 4, dtype=np.float64), gc.Linear(4, 1, dtype=np.float64)])


def arrays(N=20):
    rng = np.random.default_rng(4)
    x = rng.normal(size=(N, 5, 2))
    return x, np.cumsum(x[..., :1], axis=1)


class Counted(ArrayData):
    """Arrays that count the sequences taken from them."""

    taken = 0

    def batches(self, size, rng, dtype):
        for batch in super().batches(size, rng, dtype):
            self.taken += len(batch.inputs)
            yield batch


# Accumulated gradients


@loop_over("tbptt_steps", [None, 2])
@loop_over(("epochs", "accumulate"), [(1, 4), (2, 3), (3, 2), (2, 5), (2, 7)])
def test_epochs_are_passes_over_the_data_for_every_number_of_accumulated_batches(epochs, accumulate, tbptt_steps):
    data = Counted(*arrays(), validation=arrays(4))
    history = gc.fit(
        regressor(), data, epochs=epochs, loss=LOSS, batch_size=4, accumulate=accumulate, tbptt_steps=tbptt_steps
    )
    windows = 5 if tbptt_steps is None else 15
    per_epoch = math.ceil(windows / accumulate)
    assert data.taken == 20 * epochs
    np.testing.assert_array_equal(history["epoch"], np.repeat(np.arange(1, epochs + 1), per_epoch))
    evaluated = np.isfinite(history["validation_loss"])
    np.testing.assert_array_equal(np.flatnonzero(evaluated) + 1, per_epoch * np.arange(1, epochs + 1))


def test_the_last_update_of_an_epoch_averages_the_remaining_batches():
    x, y = arrays(20)
    gradients, rng = [], np.random.default_rng(0)
    gc.fit(
        regressor(), (x, y), epochs=1, loss=LOSS, batch_size=4, accumulate=3, optimizer=gc.SGD(0.0), clip_norm=None,
        callbacks=[lambda state: gradients.append(state.gradients.vector.copy())],
    )  # fmt: skip
    order, model = rng.permutation(20), regressor()
    assert len(gradients) == 2
    for rows, gradient in zip((order[:12], order[12:]), gradients, strict=True):
        outputs, _, tape = model.forward(x[rows])
        expected = model.backward(tape, 2 * (outputs - y[rows]) / outputs.size)[2].vector
        np.testing.assert_allclose(gradient, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("limit", [{"updates": 8}, {"updates": 8, "evaluate_every": 3}])
def test_each_epoch_ends_an_update_without_a_limit_on_epochs(limit):
    data = ContinuousData(np.random.default_rng(1).integers(0, 5, 101), steps=4)
    model = gc.Sequential([gc.Embedding(5, 3), gc.LSTM(3, 3), gc.Linear(3, 5)])
    history = gc.fit(model, data, loss="categorical_cross_entropy", batch_size=5, accumulate=4, **limit)
    np.testing.assert_array_equal(history["epoch"], [1, 1, 2, 2, 3, 3, 4, 4])  # 5 windows per epoch


@loop_over("updates", [None, 3, 300])
@loop_over("accumulate", [1, 2, 3, 8])
def test_the_expected_number_of_updates_is_that_of_the_training(accumulate, updates):
    options = TrainingOptions(updates=updates, epochs=3, loss=LOSS, batch_size=4, accumulate=accumulate)
    training = Training(regressor(), arrays(22), options)
    expected = expected_updates(training.data, training.updates, training.epochs, options, training.batch_size)
    assert training.run().updates == expected


# The end


ENDINGS = {
    "updates, best weights": {"updates": 9, "keep": "best", "evaluate_every": 1},
    "epochs, best weights": {"epochs": 3, "keep": "best", "evaluate_every": 2},
    "epochs of windows": {"epochs": 2, "tbptt_steps": 2, "evaluate_every": 4, "keep": "last"},
    "accumulated": {"epochs": 3, "accumulate": 3, "keep": "best"},
    "patience, best weights": {"updates": 400, "patience": 2, "evaluate_every": 1},
    "patience, last weights": {"epochs": 400, "patience": 2, "evaluate_every": 1, "keep": "last"},
    "target": {"updates": 400, "stop_at": {"loss": 1.0}, "evaluate_every": 1},
}


@loop_over("restored", [True, False], ids=["restored", "run again"])
@loop_over("ending", ENDINGS)
def test_a_finished_training_is_over(ending, restored):
    """The state of the last update, or the same training, makes no update, and has the weights that `keep` names."""
    x, noise = arrays()[0], np.random.default_rng(5).normal(size=(20, 5, 1))
    states = []
    options = TrainingOptions(
        loss=LOSS, batch_size=4, validation=arrays(6), optimizer=gc.Adam(0.05), **ENDINGS[ending],
        callbacks=[lambda state: states.append(state.training.state())],
    )  # fmt: skip
    training = Training(regressor(), (x, noise), options)
    history = training.run()
    weights, updates = training.model.parameters.vector.copy(), len(states)
    if "best" in ending:
        assert history.best_update < updates
        assert not np.array_equal(states[-1]["weights"], weights)
    again = Training(regressor(), (x, noise), options) if restored else training
    if restored:
        again.restore(states[-1])
    assert again.run() == history
    assert history.updates == updates == len(states)
    np.testing.assert_array_equal(again.model.parameters.vector, weights)
