"""Law: a training continues from a copy of its state, in another object, to the same bits."""

import dataclasses
import inspect
import pickle

import numpy as np
import pytest
from case_loops import loop_over
from training_cases import CASES, ERROR, array_data, copy_model, copy_task, regressor

import glasscell as gc
from glasscell.training import Training, TrainingOptions


@loop_over("update", [1, 4, 9, 13])
@loop_over("case", CASES)
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


def test_a_state_has_a_checksum_of_each_array_of_the_batch():
    training = Training(regressor(), array_data(), TrainingOptions(updates=9, **ERROR))
    training.step()
    inputs, targets, weights, lengths = training.state()["last_batch"]
    assert (inputs[0], targets[0]) == ([4, 6, 3, "float32"], [4, 6, 2, "float32"])
    assert (weights, lengths) == (None, None)


def test_a_restored_training_forgets_an_update_that_was_begun():
    training = Training(copy_model(), copy_task(), TrainingOptions(updates=9, batch_size=4))
    training.step()
    state = training.state()

    def interrupt(*_):
        raise KeyboardInterrupt

    training.model.train_backward, train_backward = interrupt, training.model.train_backward
    with pytest.raises(KeyboardInterrupt):
        training.step()
    training.model.train_backward = train_backward
    assert training.attempt
    training.restore(state)
    assert not training.attempt
    assert training.step()["update"] == 2


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
    sizes = rf"state must be that of a training of {before.size} weights, got one of {state['weights'].size}$"
    for wrong, message in (
        (state, sizes),
        ({"weights": before}, r"state must be that of a training, with the entries .*, weights, got \['weights'\]$"),
    ):
        with pytest.raises(ValueError, match=message):
            other.restore(wrong)
    np.testing.assert_array_equal(other.model.parameters.vector, before)


def test_the_options_are_the_arguments_of_fit():
    arguments = {name: value.default for name, value in inspect.signature(gc.fit).parameters.items()}
    assert {field.name: field.default for field in dataclasses.fields(TrainingOptions)} == {
        name: default for name, default in arguments.items() if name not in ("model", "data")
    }
