"""Law: a training continues from a copy of its state, in another object, to the same bits."""

import dataclasses
import inspect
import pickle

import numpy as np
import pytest

import glasscell as gc
from glasscell.data import ArrayData, ContinuousData
from glasscell.layers import Dropout, FinalState
from glasscell.training import Training, TrainingOptions

CLASSES = "categorical_cross_entropy"


def array_data():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(22, 6, 3))
    return ArrayData(x, np.cumsum(x, axis=1)[..., :2], validation=0.3)


def regressor():
    return gc.Sequential([gc.LSTM(3, 5), Dropout(0.3), gc.Linear(5, 2)])


def ragged_data():
    rng = np.random.default_rng(2)
    x = [rng.normal(size=(int(T), 3)) for T in rng.integers(1, 9, 30)]
    return ArrayData(x, np.arange(30) % 2, validation=(x[:9], np.arange(9) % 2))


def classifier():
    return gc.Sequential([gc.LSTM(3, 4, bidirectional=True), FinalState(), gc.Linear(8, 2)])


def continuous_data():
    return ContinuousData(np.random.default_rng(3).integers(0, 7, 230), steps=6)


def language_model():
    layers = [gc.Embedding(7, 4), gc.LSTM(4, 6, num_layers=2, dropout=0.2, zoneout=0.1), gc.Linear(6, 7)]
    return gc.Sequential(layers)


def copy_task():
    return gc.tasks.Copy(4, min_width=2)


def copy_model():
    return gc.CopyLSTM(6, task=copy_task(), learn_initial_state=True)


def batches():
    x, y = array_data().x, array_data().y
    return [(x[k : k + 4], y[k : k + 4]) for k in (0, 4, 8)]


ERROR, TASK = {"loss": "squared_error", "batch_size": 4}, {"batch_size": 8}
GROUPS = {"trainable": ["0.*"], "learning_rates": {"0.*": 2.0}}
CASES = {
    "arrays": (array_data, regressor, ERROR),
    "early stopping": (array_data, regressor, ERROR | {"evaluate_every": 2, "patience": 3}),
    "windows of arrays": (array_data, regressor, ERROR | {"tbptt_steps": 4}),
    "ragged": (ragged_data, classifier, {"loss": CLASSES, "batch_size": 4, "accumulate": 2, "keep": "best"}),
    "parameter groups": (ragged_data, classifier, {"loss": CLASSES, "batch_size": 8} | GROUPS),
    "continuous": (continuous_data, language_model, {"loss": CLASSES, "batch_size": 4}),
    "iterable": (batches, regressor, ERROR | {"optimizer": gc.SGD(0.1, momentum=0.9)}),
    "copy task": (copy_task, copy_model, TASK | {"evaluate_every": 3}),
    "windows of the copy task": (copy_task, copy_model, TASK | {"tbptt_steps": 4}),
}


@pytest.mark.parametrize("update", [1, 4, 9, 13])
@pytest.mark.parametrize("case", CASES)
def test_a_training_continues_from_its_state(case, update):
    """The state is copied after `update` updates, most of them within an epoch, and restored into a new training."""
    make_data, make_model, options = CASES[case]
    states, whole_model, model = [], make_model(), make_model()

    def copy_state(state):
        if state.history.updates == update:
            states.append(pickle.loads(pickle.dumps(state.training.state())))  # noqa: S301 - written one line above

    arguments = {"updates": 17, "seed": 5, **options}
    whole = gc.fit(whole_model, make_data(), callbacks=[copy_state], **arguments)
    continued = Training(model, make_data(), TrainingOptions(**arguments | {"seed": 6}))
    if not states:
        assert whole.stopped_early
        return
    continued.restore(states[0])
    history = continued.run()
    assert model.parameters.vector.tobytes() == whole_model.parameters.vector.tobytes()
    assert history == whole


def test_a_state_is_a_copy():
    training = Training(copy_model(), copy_task(), TrainingOptions(updates=9, batch_size=4))
    training.step()
    state = training.state()
    before = pickle.dumps(state)
    training.run()
    assert pickle.dumps(state) == before
    training.restore(state)
    training.run()
    assert pickle.dumps(state) == before


def test_a_restored_training_makes_the_same_updates_again():
    training = Training(copy_model(), copy_task(), TrainingOptions(updates=9, batch_size=4, tbptt_steps=2))
    for _ in range(3):
        training.step()
    state, vector = training.state(), training.model.parameters.vector
    runs = []
    for _ in range(2):
        training.restore(state)
        runs.append(([training.step()["loss"] for _ in range(5)], vector.tobytes()))
    assert runs[0] == runs[1]


def test_a_finished_training_makes_no_more_updates():
    training = Training(copy_model(), copy_task(), TrainingOptions(updates=2))
    assert training.run().updates == training.run().updates == 2


def test_a_state_of_another_model():
    state = Training(copy_model(), copy_task(), TrainingOptions()).state()
    other = Training(gc.CopyLSTM(3, task=copy_task()), copy_task(), TrainingOptions())
    before = other.model.parameters.vector.copy()
    for wrong in (state, {"weights": before}):
        with pytest.raises(ValueError, match="state must be that of a training"):
            other.restore(wrong)
    np.testing.assert_array_equal(other.model.parameters.vector, before)


def test_the_options_are_the_arguments_of_fit():
    arguments = {name: value.default for name, value in inspect.signature(gc.fit).parameters.items()}
    assert {field.name: field.default for field in dataclasses.fields(TrainingOptions)} == {
        name: default for name, default in arguments.items() if name not in ("model", "data")
    }
