"""Law: `fit` draws the noise that a model has, from the training's seed; a model without noise sees none of it."""

import numpy as np
import pytest
from case_loops import loop_over

import glasscell as gc
from glasscell.models import TrainingBuffers

TASK = gc.tasks.Copy(4)
NOISES = {
    "dropout": {"dropout": 0.5, "num_layers": 2},
    "input_dropout": {"input_dropout": 0.5},
    "recurrent_dropout": {"recurrent_dropout": 0.4},
    "zoneout": {"zoneout": 0.4},
    "zoneout_cell": {"zoneout_cell": 0.4},
}
OPTIONS = {"batch_size": 4, "clip_norm": None, "schedule": gc.schedules.constant()}


def model_of(**options):
    return gc.CopyLSTM(6, task=TASK, dtype=np.float64, **options)


def quiet(options):
    """The same without noise, where zoneout is its expectation: as a model is evaluated."""
    return {name: value for name, value in options.items() if name == "num_layers"}


@loop_over("name", NOISES)
@loop_over("tbptt_steps", [None, 3])
def test_training_draws_noise_from_its_seed(name, tbptt_steps):
    models = [model_of(**NOISES[name]) for _ in range(3)] + [model_of(**quiet(NOISES[name]))]
    histories = [
        gc.fit(model, TASK, 4, tbptt_steps=tbptt_steps, seed=seed, **OPTIONS)
        for model, seed in zip(models, (1, 1, 2, 1), strict=True)
    ]
    np.testing.assert_array_equal(models[0].parameters.vector, models[1].parameters.vector)
    assert histories[0] == histories[1]
    assert not np.array_equal(models[0].parameters.vector, models[2].parameters.vector)
    assert histories[0]["loss"][0] != histories[3]["loss"][0]  # of the same batch and the same weights


@pytest.mark.parametrize("name", NOISES)
def test_noisy_training_is_a_loop_with_one_generator(name):
    model, by_hand = model_of(**NOISES[name]), model_of(**NOISES[name])
    history = gc.fit(model, TASK, 3, optimizer=gc.SGD(0.3), seed=5, **OPTIONS)
    rng, workspace, losses = np.random.default_rng(5), TrainingBuffers(by_hand.parameters), []
    for _ in range(3):
        loss, gradients, _ = by_hand.loss_and_gradients(TASK.batch(4, rng, np.float64), None, workspace, rng)
        gc.SGD(0.3).update(by_hand.parameters.vector, gradients.vector, {})
        losses.append(loss)
    np.testing.assert_array_equal(history["loss"], losses)
    np.testing.assert_array_equal(model.parameters.vector, by_hand.parameters.vector)


def test_every_update_draws_other_noise():
    """Repeated passes over one batch have different losses with noise, and equal ones without noise."""
    batch = TASK.batch(4, np.random.default_rng(0), np.float64)

    class OneBatch:
        loss, endless = "binary_cross_entropy", True

        def batches(self, *_):
            while True:
                yield batch

        def validation(self, *_):
            return [batch]

    class Learner(gc.CopyLSTM):
        def bind_task(self, task):
            pass

    for options, count in ((NOISES["recurrent_dropout"], 5), ({}, 1)):
        learner = Learner(6, task=TASK, dtype=np.float64, **options)
        history = gc.fit(learner, OneBatch(), 5, optimizer=gc.SGD(0.0), evaluate_every=1, **OPTIONS)
        assert len(set(history["loss"])) == count
        assert len(set(history["validation_loss"])) == 1  # evaluations see no noise


def test_a_model_without_noise_draws_only_batches():
    """So the bits of a training without noise are those of batches alone."""
    drawn = []

    class Counting(gc.tasks.Copy):
        def batch(self, size, rng, dtype):
            drawn.append(rng.bit_generator.state)
            return super().batch(size, rng, dtype)

    model = model_of(num_layers=2, learn_initial_state=True)
    gc.fit(model, Counting(4), 4, seed=7, **OPTIONS)
    rng = np.random.default_rng(7)
    for state in drawn:
        assert state == rng.bit_generator.state
        TASK.batch(4, rng, np.float64)


@pytest.mark.parametrize("name", NOISES)
def test_the_gradient_of_a_noisy_pass_is_the_derivative(name):
    """Forward and backward see the same noise."""
    model = model_of(**NOISES[name])
    batch = TASK.batch(3, np.random.default_rng(1), np.float64)

    def loss():
        return model.loss_and_gradients(batch, None, None, np.random.default_rng(2)).loss

    gradient = model.loss_and_gradients(batch, None, None, np.random.default_rng(2)).gradients.vector
    vector = model.parameters.vector
    for k in np.random.default_rng(3).integers(vector.size, size=12):
        at, step = vector[k], 1e-6
        vector[k] = at + step
        above = loss()
        vector[k] = at - step
        slope = (above - loss()) / (2 * step)
        vector[k] = at
        assert gradient[k] == pytest.approx(slope, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("name", NOISES)
def test_noise_is_kept_by_files_and_copies(name, tmp_path):
    model = model_of(**NOISES[name])
    model.save(tmp_path / "m.safetensors")
    other = gc.load(tmp_path / "m.safetensors")
    assert other.lstm.options == model.lstm.options
    assert model.as_sequential().layers[0].options == model.lstm.options
    for one in (model, other):
        gc.fit(one, TASK, 2, seed=3, **OPTIONS)
    np.testing.assert_array_equal(other.parameters.vector, model.parameters.vector)


@pytest.mark.parametrize("name", NOISES)
def test_outside_training_there_is_no_noise(name, rng):
    model = model_of(**NOISES[name])
    x = rng.normal(size=(2, 5, 2))
    np.testing.assert_allclose(model(x), model.forward(x)[0], rtol=0, atol=1e-14)
    assert not np.array_equal(model(x), model.forward(x, rng=rng)[0])
    outputs = [model.copy([1, 0, 1, 1]) for _ in range(3)]
    assert all((one == outputs[0]).all() for one in outputs)


# Only True ends the training


@pytest.mark.parametrize("value", [True, np.True_])
def test_true_ends_the_training(value):
    assert gc.fit(model_of(), TASK, 5, callbacks=[lambda moment: value], **OPTIONS).updates == 1


@pytest.mark.parametrize("value", [None, False, np.False_])
def test_none_and_false_do_not(value):
    assert gc.fit(model_of(), TASK, 5, callbacks=[lambda moment: value], **OPTIONS).updates == 5


@loop_over("value", [1, 0, 0.5, "stop", [True], [], np.ones(2)])
def test_any_other_value_is_refused(value):
    with pytest.raises(TypeError, match="a callback must return True, which ends the training, False or None, got"):
        gc.fit(model_of(), TASK, 5, callbacks=[lambda moment: None, lambda moment: value], **OPTIONS)


@pytest.mark.parametrize("callbacks", [iter([print]), print, [3], None])
def test_callbacks_are_a_list_of_functions(callbacks):
    """An iterator would be used up by the first update."""
    with pytest.raises(TypeError, match="callbacks must be a list of functions"):
        gc.fit(model_of(), TASK, 5, callbacks=callbacks, **OPTIONS)


# Weights that are not finite are named


def test_training_from_weights_that_are_not_finite_names_them():
    model = model_of()
    model.parameters["lstm.kernel_l0"][2, 1] = np.nan
    with pytest.raises(
        FloatingPointError,
        match=r"^loss nan at update 1: the weights 'lstm\.kernel_l0' have nan at index \(2, 1\)",
    ):
        gc.fit(model, TASK, 2, **OPTIONS)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_model_with_weights_that_are_not_finite_names_them_not_its_input(value, rng):
    chain = gc.Sequential([gc.LSTM(3, 4), gc.Linear(4, 2), gc.layers.Function("Relu"), gc.Linear(2, 1)], list("abcd"))
    copying = model_of()
    for model, name, x in (
        (chain, "a.kernel_l0", rng.normal(size=(2, 5, 3))),
        (chain, "b.weight", rng.normal(size=(2, 5, 3))),
        (copying, "lstm.kernel_l0", rng.normal(size=(2, 5, 2))),
    ):
        weight = model.parameters[name]
        before = weight[1, 1]
        weight[1, 1] = value
        with np.errstate(all="ignore"):
            calls = [lambda model=model, x=x: model(x), lambda model=model, x=x: model.forward(x)]
            if model is copying:
                calls.append(lambda: copying.copy([1, 0, 1, 1]))
            for call in calls:
                if np.isnan(value) or name != "lstm.kernel_l0":
                    with pytest.raises(
                        ValueError, match=rf"the weights '{name}' must be finite, and have {value} at index \(1, 1\)"
                    ):
                        call()
        weight[1, 1] = before
        with pytest.raises(ValueError, match="x must be finite"):  # and what the input has is said of the input
            model(np.where(x > x.max() - 1e-9, np.nan, x))
