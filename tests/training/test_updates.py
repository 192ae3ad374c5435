"""Law: training is the plain loop of batch, gradient, clip and step, as by hand, and a seed decides every bit."""

import csv
import math

import numpy as np
import pytest
from case_loops import loop_over

import glasscell as gc
from glasscell.core.norms import clip_by_global_norm
from glasscell.layers import LSTMState
from glasscell.tasks import Copy

TASK = Copy(3, noise=0.2)  # recall: T = 7


def small_model(dtype=np.float64, task=TASK, seed=1):
    return gc.CopyLSTM(6, task=task, num_layers=2, learn_initial_state=True, dtype=dtype, seed=seed)


def plain(steps=6, **options):
    """Training without what would be in the way of a comparison by hand."""
    return {"updates": steps, "batch_size": 8, "clip_norm": None, "schedule": gc.schedules.constant()} | options


def windows_of(batch, size):
    for start in range(0, batch.inputs.shape[1], size):
        yield batch.window(start, start + size)


# It learns


@pytest.mark.parametrize(("mode", "width", "steps"), [("echo", 4, 300), ("recall", 3, 800)])
@pytest.mark.parametrize("seed", range(3))
def test_it_learns(mode, width, steps, seed):
    task = Copy(width, mode, noise=0.2)
    model = gc.CopyLSTM(16, task=task, seed=seed)
    before = model.evaluate(task.validation_batch())
    target = {"loss": 0.1, "sequence_accuracy": 1.0}
    history = gc.fit(model, task, steps, batch_size=32, optimizer=gc.Adam(0.03), stop_at=target, seed=seed)
    assert history.target_reached
    assert before["sequence_accuracy"] < 1
    assert model.evaluate(task.validation_batch())["sequence_accuracy"] == 1
    if mode == "echo":
        assert model.evaluate(task.held_out_batch())["sequence_accuracy"] == 1


def test_every_layer_and_the_initial_state_learn():
    model = small_model()
    before = {name: array.copy() for name, array in model.parameters.items()}
    gc.fit(model, TASK, **plain())
    assert all((model.parameters[name] != array).any() for name, array in before.items())


# A seed decides


@pytest.mark.parametrize("tbptt_steps", [None, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_seed_decides_every_bit(dtype, tbptt_steps):
    models = [small_model(dtype) for _ in range(4)]
    seeds = [5, 5, np.random.default_rng(5), 6]
    first, again, generator, other = (
        gc.fit(model, TASK, 30, batch_size=8, evaluate_every=10, tbptt_steps=tbptt_steps, seed=seed)
        for model, seed in zip(models, seeds, strict=True)
    )
    for history, model in zip((again, generator), models[1:], strict=False):
        assert history == first
        assert model.parameters.vector.tobytes() == models[0].parameters.vector.tobytes()
    assert other != first
    assert (models[3].parameters.vector != models[0].parameters.vector).mean() > 0.5


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_of_the_model_is_that_of_training(dtype):
    model, seen = small_model(dtype), set()
    gc.fit(model, TASK, 3, callbacks=[lambda moment: seen.add(moment.gradients.vector.dtype)])
    assert seen == {np.dtype(dtype)}
    assert model.parameters.vector.dtype == dtype
    if dtype == np.float64:
        assert (model.parameters.vector != model.parameters.vector.astype(np.float32)).any()


# The loop, by hand


@pytest.mark.parametrize("clip_norm", [None, 0.05])
@pytest.mark.parametrize("optimizer", [gc.SGD(0.1, momentum=0.9), gc.Adam(0.01)], ids=["SGD", "Adam"])
def test_an_update_is_batch_gradient_clip_and_step(optimizer, clip_norm):
    model, by_hand = small_model(), small_model()
    history = gc.fit(model, TASK, **plain(optimizer=optimizer, clip_norm=clip_norm, seed=3))

    rng, vector, losses = np.random.default_rng(3), by_hand.parameters.vector, []
    state = optimizer.init_state(vector)
    for _ in range(6):
        loss, gradients, _ = by_hand.loss_and_gradients(TASK.batch(8, rng, np.float64))
        losses.append(loss)
        if clip_norm:
            clip_by_global_norm(gradients.vector, clip_norm)
        optimizer.update(vector, gradients.vector, state)
    np.testing.assert_array_equal(history["loss"], losses)
    np.testing.assert_array_equal(model.parameters.vector, vector)


def test_without_options_it_is_adam():
    trained = gc.fit(small_model(), TASK, 5)
    assert gc.fit(small_model(), TASK, 5, optimizer=gc.Adam(trained["learning_rate"][0])) == trained
    assert gc.fit(small_model(), TASK, 5, optimizer=gc.SGD(trained["learning_rate"][0])) != trained


@pytest.mark.parametrize("tbptt_steps", [7, 8, 100])
def test_one_window_is_no_truncation(tbptt_steps):
    whole, one = small_model(), small_model()
    assert gc.fit(whole, TASK, **plain()) == gc.fit(one, TASK, **plain(tbptt_steps=tbptt_steps))
    np.testing.assert_array_equal(whole.parameters.vector, one.parameters.vector)


@pytest.mark.parametrize("tbptt_steps", [1, 2, 3, 6])
def test_tbptt_stepsd_training_is_a_loop_over_windows(tbptt_steps):
    """The state is carried from window to window, as numbers; a window without an answer makes no update."""
    steps, optimizer = 6, gc.SGD(0.5)
    model, by_hand = small_model(), small_model()
    history = gc.fit(model, TASK, **plain(steps, tbptt_steps=tbptt_steps, optimizer=optimizer, seed=4))

    rng, losses = np.random.default_rng(4), []
    while len(losses) < steps:
        state = None
        for window in windows_of(TASK.batch(8, rng, np.float64), tbptt_steps):
            loss, gradients, tape = by_hand.loss_and_gradients(window, state)
            state = LSTMState(*map(np.array, tape.final_state))
            if window.weights.any() and len(losses) < steps:
                losses.append(loss)
                optimizer.update(by_hand.parameters.vector, gradients.vector, {})
    np.testing.assert_array_equal(history["loss"], losses)
    np.testing.assert_array_equal(model.parameters.vector, by_hand.parameters.vector)


@pytest.mark.parametrize("tbptt_steps", [1, 2, 3])
def test_carried_states_make_the_loss_of_the_whole_sequence(tbptt_steps):
    """With a learning rate of 0, windows weighted by their answers add up to one pass over the batch."""
    batch = TASK.batch(8, np.random.default_rng(0), np.float64)
    answers = [window.weights.sum() for window in windows_of(batch, tbptt_steps) if window.weights.any()]
    model = small_model()
    history = gc.fit(model, TASK, **plain(len(answers), tbptt_steps=tbptt_steps, optimizer=gc.SGD(0.0), seed=0))
    whole, _, _ = model.loss_and_gradients(batch)
    assert np.average(history["loss"], weights=answers) == pytest.approx(whole, rel=1e-12)


def test_no_gradient_flows_between_windows():
    """The last window's gradient is that of a sequence which begins there, in a state that depends on nothing."""
    model, gradients = small_model(), []
    options = plain(2, tbptt_steps=5, optimizer=gc.SGD(0.0), seed=0)  # two windows: steps 0 to 4, 5 and 6
    gc.fit(model, TASK, **options, callbacks=[lambda moment: gradients.append(moment.gradients.vector.copy())])
    batch = TASK.batch(8, np.random.default_rng(0), np.float64)
    first, last = windows_of(batch, 5)
    _, state, _ = model.forward(first.inputs)
    logits, _, tape = model.forward(last.inputs, state)
    d_logits = (1 / (1 + np.exp(-logits)) - last.targets) * last.weights / last.weights.sum()
    _, d_state, expected = model.backward(tape, d_logits)
    np.testing.assert_allclose(gradients[1], expected.vector, rtol=0, atol=1e-15)
    assert np.abs(d_state.h).max() > 1e-6  # there was something to be cut
    whole = model.loss_and_gradients(batch).gradients.vector
    assert np.abs(np.average(gradients, axis=0, weights=[1, 2]) - whole).max() > 1e-6


# Clipping


def trace_gradients(**options):
    """The history of a training, and its gradients after clipping."""
    gradients = []
    watch = [lambda moment: gradients.append(moment.gradients.vector.copy())]
    history = gc.fit(small_model(), TASK, **plain(**options, callbacks=watch))
    return history, np.array(gradients)


def test_the_history_has_the_norm_before_clipping():
    history, gradients = trace_gradients(optimizer=gc.SGD(0.0))
    clipped, clipped_gradients = trace_gradients(optimizer=gc.SGD(0.0), clip_norm=0.01)
    np.testing.assert_allclose(history["gradient_norm"], np.linalg.norm(gradients, axis=1), rtol=1e-12)
    np.testing.assert_array_equal(clipped["gradient_norm"], history["gradient_norm"])
    assert (history["gradient_norm"] > 0.01).all()
    scale = 0.01 / (history["gradient_norm"] + 1e-6)
    np.testing.assert_allclose(clipped_gradients, gradients * scale[:, None], rtol=1e-12)


def test_a_norm_below_the_bound_is_left_alone():
    _, gradients = trace_gradients()
    _, clipped = trace_gradients(clip_norm=100.0)
    np.testing.assert_array_equal(clipped, gradients)


def test_clipping_by_value():
    _, gradients = trace_gradients(optimizer=gc.SGD(0.0))
    _, clipped = trace_gradients(optimizer=gc.SGD(0.0), clip_value=0.01)
    np.testing.assert_array_equal(clipped, gradients.clip(-0.01, 0.01))
    assert (np.abs(gradients) > 0.01).any()


# Schedules


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (gc.schedules.constant(), [1, 1, 1, 1, 1, 1]),
        (gc.schedules.linear(4), [1, 0.75, 0.5, 0.25, 0, 0]),
        (gc.schedules.linear(4, final=0.2), [1, 0.8, 0.6, 0.4, 0.2, 0.2]),
        (gc.schedules.cosine(4), [1, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5, 0, 0]),
        (gc.schedules.cosine(2, final=0.5), [1, 0.75, 0.5, 0.5, 0.5, 0.5]),
        (gc.schedules.exponential(0.5), [1, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32]),
        (gc.schedules.exponential(0.1, interval=2), [1, 1, 0.1, 0.1, 0.01, 0.01]),
        (gc.schedules.warmup(4, gc.schedules.constant()), [0.25, 0.5, 0.75, 1, 1, 1]),
        (gc.schedules.warmup(2, gc.schedules.exponential(0.5)), [0.5, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32]),
    ],
)
def test_schedules(schedule, expected):
    history = gc.fit(small_model(), TASK, **plain(optimizer=gc.SGD(0.3), schedule=schedule))
    np.testing.assert_allclose(history["learning_rate"], 0.3 * np.array(expected), rtol=1e-12, atol=1e-16)


def test_a_schedule_scales_the_step():
    model, frozen = small_model(), small_model()
    gc.fit(model, TASK, **plain(1, optimizer=gc.SGD(0.3), schedule=gc.schedules.constant()))
    half = small_model()
    gc.fit(half, TASK, **plain(1, optimizer=gc.SGD(0.3), schedule=lambda _: 0.5))
    whole_step, half_step = (m.parameters.vector - frozen.parameters.vector for m in (model, half))
    np.testing.assert_allclose(half_step, whole_step / 2, rtol=1e-9, atol=1e-15)
    assert np.abs(whole_step).max() > 1e-3


# Ending


def test_a_target_ends_training_at_the_evaluation_that_reaches_it():
    task = Copy(4, "echo")
    history = gc.fit(
        gc.CopyLSTM(8, task=task),
        task,
        500,
        optimizer=gc.Adam(0.05),
        stop_at={"loss": 0.1, "bit_accuracy": 0.99},
        evaluate_every=10,
    )
    losses, bits = history["validation_loss"], history["validation_bit_accuracy"]
    assert history.target_reached
    assert history.updates < 500
    assert history.updates % 10 == 0
    reached = (losses <= 0.1) & (bits >= 0.99)
    assert reached[-1]
    assert not reached[:-1].any()


def test_a_target_out_of_reach_ends_nothing():
    history = gc.fit(small_model(), TASK, **plain(stop_at={"loss": 0.0}, evaluate_every=1))
    assert history.updates == 6
    assert not history.target_reached


@pytest.mark.parametrize("target", [{"sequence_accuracy": 0.0}, {"loss": 100.0}])
def test_a_target_already_reached_ends_training_at_once(target):
    history = gc.fit(small_model(), TASK, **plain(stop_at=target, evaluate_every=2))
    assert (history.updates, history.target_reached) == (2, True)


def test_a_callback_ends_training_by_true_alone():
    seen = []
    callbacks = [seen.append, lambda moment: moment.history.updates == 4, lambda _: None]
    model = small_model()
    history = gc.fit(model, TASK, **plain(callbacks=callbacks))
    assert history.updates == len(seen) == 4
    assert not history.target_reached
    assert all(moment.model is model and moment.history is history for moment in seen)
    assert list(seen[0].gradients) == list(model.parameters)


def test_callbacks_see_the_weights_after_the_update():
    model, weights = small_model(), []
    gc.fit(model, TASK, **plain(callbacks=[lambda moment: weights.append(moment.model.parameters.vector.copy())]))
    assert all((a != b).any() for a, b in zip([small_model().parameters.vector, *weights], weights, strict=False))
    np.testing.assert_array_equal(weights[-1], model.parameters.vector)


# The history


def test_the_history_measures_what_it_says(rng):
    model, seen = small_model(), []
    validation = TASK.validation_batch(np.float64)
    history = gc.fit(
        model, TASK, **plain(5, evaluate_every=2, callbacks=[lambda _: seen.append(model.evaluate(validation))])
    )
    assert history.columns == [
        *("update", "loss", "gradient_norm", "learning_rate"),
        *("validation_loss", "validation_bit_accuracy", "validation_sequence_accuracy"),
    ]
    np.testing.assert_array_equal(history["update"], [1, 2, 3, 4, 5])
    for name in ("loss", "bit_accuracy", "sequence_accuracy"):
        column = history[f"validation_{name}"]
        np.testing.assert_array_equal(np.isnan(column), [True, False, True, False, False])
        np.testing.assert_array_equal(column[[1, 3, 4]], [seen[k][name] for k in (1, 3, 4)])


def test_a_column_that_is_not_there_is_named():
    history = gc.fit(small_model(), TASK, **plain(1))
    with pytest.raises(KeyError, match=r"'accuracy'.*gradient_norm"):
        history["accuracy"]


def test_a_callback_may_add_to_the_history():
    history = gc.fit(
        small_model(), TASK, **plain(3, callbacks=[lambda m: m.history.rows[-1].update(mine=m.history.updates)])
    )
    np.testing.assert_array_equal(history["mine"], [1, 2, 3])


def test_the_history_comes_back_from_its_file(tmp_path):
    history = gc.fit(small_model(), TASK, **plain(evaluate_every=4))
    history.save(tmp_path / "history.csv")
    with (tmp_path / "history.csv").open(newline="") as file:
        rows = [{name: float(text) for name, text in row.items() if text} for row in csv.DictReader(file)]
    assert rows == history.rows
    assert (tmp_path / "history.csv").read_text().count("\n") == 7


# What is refused


@loop_over(
    ("options", "error", "parts"),
    [
        ({"updates": 0}, ValueError, ["updates", "1", "0"]),
        ({"updates": 2.5}, TypeError, ["updates", "2.5"]),
        ({"batch_size": 0}, ValueError, ["batch_size", "0"]),
        ({"batch_size": True}, TypeError, ["batch_size", "True"]),
        ({"evaluate_every": -1}, ValueError, ["evaluate_every", "-1"]),
        ({"tbptt_steps": 0}, ValueError, ["tbptt_steps", "0"]),
        ({"tbptt_steps": "2"}, TypeError, ["tbptt_steps", "'2'"]),
        ({"clip_norm": 0.0}, ValueError, ["clip_norm", "0.0"]),
        ({"clip_norm": math.nan}, ValueError, ["clip_norm", "nan"]),
        ({"clip_value": -1.0}, ValueError, ["clip_value", "-1.0"]),
        ({"stop_at": {"accuracy": 1.0}}, ValueError, ["'accuracy'", "loss, bit_accuracy, sequence_accuracy"]),
    ],
)
def test_bad_options_are_refused_before_the_first_update(options, error, parts):
    model = small_model()
    with pytest.raises(error) as caught:
        gc.fit(model, TASK, **plain(**options))
    assert all(part in str(caught.value) for part in parts)
    np.testing.assert_array_equal(model.parameters.vector, small_model().parameters.vector)


def test_a_task_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="3 bits per step"):
        gc.fit(small_model(), Copy(3, bits_per_step=3), 1)


@pytest.mark.parametrize("clip", [{"clip_norm": None}, {"clip_norm": 1.0}, {"clip_value": 0.1}])
def test_training_that_diverges_keeps_the_weights_of_before(clip, monkeypatch):
    model, two_updates = small_model(), small_model()
    gc.fit(two_updates, TASK, **plain(2, **clip))
    draw, drawn = Copy.batch, []

    def with_a_nan_in_the_third(task, size, rng, dtype):
        drawn.append(draw(task, size, rng, dtype))
        if len(drawn) == 3:
            drawn[-1].inputs[0, 0, 0] = np.nan
        return drawn[-1]

    monkeypatch.setattr(Copy, "batch", with_a_nan_in_the_third)
    with pytest.raises(FloatingPointError, match=r"^loss nan at update 3: the inputs have nan at sequence 0 "):
        gc.fit(model, TASK, **plain(**clip))
    assert np.isfinite(model.parameters.vector).all()
    np.testing.assert_array_equal(model.parameters.vector, two_updates.parameters.vector)


def test_weights_that_are_not_numbers_are_noticed():
    model = small_model()
    model.parameters["readout.bias"][:] = np.nan
    before = model.parameters.vector.tobytes()
    with pytest.raises(FloatingPointError, match="update 1"):
        gc.fit(model, TASK, **plain())
    assert model.parameters.vector.tobytes() == before


def test_a_schedule_that_is_no_number_ends_training(capsys):
    model = gc.CopyLSTM(hidden_size=4, task=TASK)
    before = model.parameters.vector.copy()
    with pytest.raises(FloatingPointError, match="learning rate nan"):
        gc.fit(model, TASK, 1, schedule=lambda _: float("nan"))
    np.testing.assert_array_equal(model.parameters.vector, before)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"optimizer": gc.Adam}, "optimizer"),
        ({"schedule": 0.5}, "schedule"),
        ({"callbacks": print}, "callbacks"),
        ({"stop_at": "loss"}, "stop_at"),
    ],
)
def test_options_of_another_kind_are_refused(options, part):
    with pytest.raises(TypeError, match=part):
        gc.fit(gc.CopyLSTM(hidden_size=4, task=TASK), TASK, 1, **options)
