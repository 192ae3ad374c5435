"""Laws: a number that is not finite is named with its tensor, sequence and update, and the model stays usable."""

import math
import pickle
import warnings

import numpy as np
import pytest
from case_loops import loop_over

import glasscell as gc
from glasscell.core.losses import squared_error
from glasscell.data import ArrayData, Batch
from glasscell.layers import FinalState
from glasscell.training import Training, TrainingDataError, TrainingError, TrainingOptions, TrainingWarning

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(12, 5, 3)), RNG.normal(size=(12, 5, 2))
LOSS = "squared_error"
DATA_ADVICE = "correct the data, or pass on_failure='skip'"
ADVICE = "lower the learning rate, or clip the gradient"
LOSS_ADVICE = "check the loss function, or lower the learning rate"
FIRST = "the model has the weights before the first update"


def model_of(**options):
    return gc.Sequential([gc.LSTM(3, 4, **options), gc.Linear(4, 2)], ["lstm", "head"])


class Planted:
    """Four batches of three sequences, in order, one number of which is not finite."""

    loss = LOSS

    def __init__(self, name=None, batch=2, position=(1, 2, 0), value=np.nan, **batch_options):
        self.batches_of_epoch = []
        for k in range(4):
            arrays = {"inputs": X[3 * k : 3 * k + 3], "targets": Y[3 * k : 3 * k + 3], "weights": np.ones((3, 5, 2))}
            arrays = {key: array.astype(np.float32) for key, array in arrays.items()}
            if k == batch and name is not None:
                arrays[name][position] = value
            self.batches_of_epoch.append(Batch(**arrays, **batch_options))

    def batches(self, *_):
        yield from self.batches_of_epoch

    def validation(self, *_):
        return None


def error_of(model, data, **options):
    with pytest.raises(TrainingError) as caught:
        gc.fit(model, data, **{"epochs": 2, "on_failure": "raise", **options})
    return caught.value


# Each place is named


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("inputs", np.nan, "loss nan at update 3: the inputs have nan at"),
        ("inputs", -np.inf, "gradient norm nan at update 3: the inputs have -inf at"),
        ("targets", np.inf, "targets must be finite at update 3: the targets have inf at"),
        ("weights", np.nan, "weights must be finite and 0 or more at update 3: the sample weights have nan at"),
    ],
)
def test_the_data(name, value, text):
    two_updates, model = model_of(), model_of()
    gc.fit(two_updates, Planted(), updates=2)
    error = error_of(model, Planted(name, value=value))
    assert isinstance(error, TrainingDataError | ValueError)
    assert str(error) == (
        f"{text} sequence 1 of the batch, step 2, feature 0; {DATA_ADVICE}; the model has the weights of update 2"
    )
    assert (error.kind, error.update, error.history.updates) == ("data", 3, 2)
    assert model.parameters.vector.tobytes() == two_updates.parameters.vector.tobytes()


def test_the_error_can_be_pickled():
    error = error_of(model_of(), Planted("inputs"))
    restored = pickle.loads(pickle.dumps(error))  # noqa: S301 - written on this line
    assert (str(restored), restored.update, restored.history) == (str(error), 3, error.history)


def test_the_sequence_of_the_data_is_named():
    """A number beyond float32 is finite in the data of the user, and infinite in the batch."""
    x = X.copy()
    x[4, 3, 1] = 1e300
    data = ArrayData(x, Y)
    order = np.random.default_rng(0).permutation(12)
    error = error_of(model_of(), data, loss=LOSS, batch_size=5)
    place = order.tolist().index(4)
    assert str(error).startswith(
        f"gradient norm nan at update {place // 5 + 1}: the inputs have inf at "
        f"sequence {place % 5} of the batch (sequence 4 of the data), step 3, feature 1; "
    )


def test_steps_after_the_end_of_a_sequence_do_not_count():
    data = Planted("inputs", position=(1, 4, 0), lengths=np.array([5, 3, 5]))
    assert gc.fit(model_of(), data, epochs=2).updates == 8


@pytest.mark.parametrize("step", [3, 4])
def test_a_number_after_the_end_of_a_sequence_is_not_named(step):
    data = Planted("inputs", position=(1, step, 0), lengths=np.array([5, 3, 5]))
    data.batches_of_epoch[2].inputs[2, 1, 1] = np.nan
    assert "the inputs have nan at sequence 2 of the batch, step 1, feature 1; " in str(error_of(model_of(), data))


def test_targets_of_a_whole_sequence_have_no_step():
    """Of seven classes for five steps."""
    targets = np.zeros((12, 7))
    targets[1, 6] = np.inf
    data = Planted()
    data.batches_of_epoch = [Batch(X.astype(np.float32), targets.astype(np.float32))]
    model = gc.Sequential([gc.LSTM(3, 4), FinalState(), gc.Linear(4, 7)])
    assert "the targets have inf at sequence 1 of the batch, feature 6; " in str(error_of(model, data))


@loop_over("name", model_of(learn_initial_state=True).parameters)
@loop_over("value", [np.nan, np.inf])
def test_each_weight_tensor(name, value):
    model = model_of(learn_initial_state=True)
    weights = model.parameters[name]
    position = tuple(np.array(weights.shape) - 1)
    weights[position] = value
    before = model.parameters.vector.tobytes()
    error = error_of(model, (X, Y), loss=LOSS, batch_size=4, on_failure="skip")  # no policy mends it
    index = tuple(map(int, position))
    assert error.kind == "weights"
    assert str(error).endswith(f"update 1: the weights {name!r} have {value} at index {index}; {FIRST}")
    assert model.parameters.vector.tobytes() == before


def test_weights_that_a_callback_makes_nan_after_the_last_update():
    model = model_of()

    def poison(state):
        model.parameters["head.bias"][1] = np.nan

    error = error_of(model, (X, Y), epochs=None, updates=1, loss=LOSS, callbacks=[poison])
    assert str(error).startswith(
        "weights that are not finite after update 1: the weights 'head.bias' have nan at index (1,); "
    )


@pytest.mark.parametrize("of_gradient", [False, True])
@pytest.mark.parametrize("updates", [3, 30])
def test_a_loss_of_the_user_that_is_never_finite(of_gradient, updates):
    """No sequence is named, and the class is the same for every policy and number of updates."""

    def loss(outputs, targets, weights):
        value, gradient = squared_error(outputs, targets, weights)
        return (value, gradient * np.nan) if of_gradient else (np.nan, gradient)

    text = "which are finite, has nan in all sequences of the batch"
    if not of_gradient:
        text = "loss nan at update 1: the loss of finite outputs is nan for all sequences of the batch"
    data = [(X[:3], Y[:3])] * updates
    for policy in ("raise", "skip", "restore_best_and_halve_lr"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TrainingWarning)
            error = error_of(model_of(), data, loss=loss, epochs=1, on_failure=policy)
        assert text in str(error)
        assert "sequence 0" not in str(error)
        assert (type(error), error.kind) == (TrainingError, "loss")


def test_the_gradient_of_a_loss_of_the_user():
    def loss(outputs, targets, weights):
        value, gradient = squared_error(outputs, targets, weights)
        gradient[2, 3, 1] = np.nan
        return value, gradient

    assert str(error_of(model_of(), Planted(), loss=loss)) == (
        "gradient norm nan at update 1: the gradient of the loss on the outputs, which are finite, has nan at "
        f"sequence 2 of the batch, step 3, feature 1; {LOSS_ADVICE}; {FIRST}"
    )


def test_the_gradient_of_a_loss_of_whole_sequences_has_no_step():
    def loss(outputs, targets, weights):
        value, gradient = squared_error(outputs, targets, weights)
        gradient[1, 6] = np.nan
        return value, gradient

    data = Planted()
    data.batches_of_epoch = [Batch(X.astype(np.float32), np.zeros((12, 7), np.float32))]
    model = gc.Sequential([gc.LSTM(3, 4), FinalState(), gc.Linear(4, 7)])
    assert "has nan at sequence 1 of the batch, feature 6; " in str(error_of(model, data, loss=loss))


def test_the_value_of_a_loss_of_the_user():
    rare = Y[7].astype(np.float32)

    def loss(outputs, targets, weights):
        value, gradient = squared_error(outputs, targets, weights)
        return (math.inf if (targets == rare).all(axis=(1, 2)).any() else value), gradient

    assert str(error_of(model_of(), Planted(), loss=loss)) == (
        "loss inf at update 3: the loss of finite outputs is inf at sequence 1 of the batch; "
        f"{LOSS_ADVICE}; the model has the weights of update 2"
    )


def test_the_gradient_of_the_last_of_several_windows():
    """Its step counts from the beginning of the batch: the second window begins with step 2."""
    calls = []

    def loss(outputs, targets, weights):
        calls.append(1)
        value, gradient = squared_error(outputs, targets, weights)
        if len(calls) == 2:
            gradient[0, 1, 0] = np.nan
        return value, gradient

    text = str(error_of(model_of(), Planted(), loss=loss, tbptt_steps=2, accumulate=2))
    assert "which are finite, has nan at sequence 0 of the batch, step 3, feature 0; " in text


def test_a_loss_that_is_not_finite_only_once():
    calls = []

    def loss(outputs, targets, weights):
        calls.append(1)
        value, gradient = squared_error(outputs, targets, weights)
        return (math.nan if len(calls) == 3 else value), gradient

    assert str(error_of(model_of(), Planted(), loss=loss)).startswith(f"loss nan at update 3; {LOSS_ADVICE}; ")


@pytest.mark.parametrize("clip", [{"clip_norm": None}, {"clip_norm": 1.0}, {"clip_norm": None, "clip_value": 1.0}])
def test_the_gradient_of_a_parameter(clip, monkeypatch):
    """Infinite gradients are not hidden by clipping, which would make them finite, or NaN."""
    backward = gc.Sequential.train_backward

    def with_an_infinite_one(self, tape, d_outputs, gradients, buffers):
        backward(self, tape, d_outputs, gradients, buffers)
        gradients["head.weight"][1, 3] = np.inf

    monkeypatch.setattr(gc.Sequential, "train_backward", with_an_infinite_one)
    assert str(error_of(model_of(), Planted(), **clip)) == (
        "gradient norm inf at update 1: the gradient of 'head.weight' has inf at index (1, 3), "
        f"from sequence 0 of the batch; {ADVICE}; {FIRST}"
    )


def test_the_outputs_of_a_layer():
    x, y = X.copy(), Y.copy()
    x[:] = 0
    x[5] = 1e20
    layers = [gc.Linear(3, 2), gc.Linear(2, 2), gc.LSTM(2, 2)]
    model = gc.Sequential(layers, ["first", "second", "lstm"])
    for name in ("first.weight", "second.weight"):
        model.parameters[name][:] = 1e15
    data = Planted()
    data.batches_of_epoch = [Batch(x[k : k + 4].astype(np.float32), y[k : k + 4].astype(np.float32)) for k in (0, 4)]
    error = str(error_of(model, data, divergence_factor=None))
    assert error.startswith(
        "loss nan at update 2: the outputs of the layer 'second' have inf at sequence 1 of the batch, step 0"
    )


def test_a_model_without_named_layers():
    lstm = gc.LSTM(3, 2)
    data = Planted("inputs", value=np.float32(1))
    for batch in data.batches_of_epoch:
        batch.targets[:] = 1e30
    error = error_of(lstm, data, clip_norm=None, optimizer=gc.SGD(1e30))
    assert str(error).startswith("loss nan at update 2: ") or "update 1" in str(error)
    assert np.isfinite(lstm.parameters.vector).all()


def test_weights_after_an_update():
    model, before = model_of(), model_of().parameters.vector
    error = error_of(model, (X, Y * 1e6), loss=LOSS, clip_norm=None, optimizer=gc.SGD(3e38))
    assert str(error).startswith("weights that are not finite after update 1: the weights 'lstm.kernel_l0' have ")
    assert model.parameters.vector.tobytes() == before.tobytes()


def test_a_state_of_the_optimizer_that_overflows():
    model, before = model_of(), model_of().parameters.vector
    error = error_of(model, (X, Y * 1e30), loss=LOSS, clip_norm=None)
    assert "'squares' of the optimiser overflows float32; " in str(error)
    assert model.parameters.vector.tobytes() == before.tobytes()
    assert gc.fit(model, (X, Y * 1e30), 2, loss=LOSS, clip_norm=1.0).updates == 2


@pytest.mark.parametrize("policy", ["raise", "skip", "restore_best_and_halve_lr"])
def test_a_learning_rate_that_is_no_number(policy):
    def schedule(update):
        return math.inf if update == 2 else 1.0

    error = error_of(model_of(), Planted(), schedule=schedule, on_failure=policy)
    assert str(error) == (
        "learning rate inf at update 3; the schedule must return finite numbers; the model has the weights of update 2"
    )


def test_finite_numbers_whose_sum_is_infinite_are_no_failure():
    def loss(outputs, targets, weights):
        return 1.7e308, np.zeros_like(outputs)

    model = gc.Sequential([gc.Linear(3, 2, dtype=np.float64)])
    history = gc.fit(model, (X, Y), 2, loss=loss, optimizer=gc.SGD(1.7e308), on_failure="raise")
    assert [(row["loss"], row["learning_rate"]) for row in history.rows] == [(1.7e308, 1.7e308)] * 2


def test_batches_of_an_iterable():
    """The batch is named also if it is read ahead, at the end of an epoch."""
    x = X.copy()
    x[7, 1, 2] = np.nan
    data = [(x[:6], Y[:6]), (x[6:], Y[6:])]
    for options in ({}, {"validation": [(X, Y)]}):
        assert str(error_of(model_of(), data, loss=LOSS, **options)).startswith(
            "batch 2 of the data: x must be finite, got nan at sequence 1 of the batch, step 1, feature 2, at update 2"
        )


def test_a_window_that_only_carries_the_state():
    """The copy task has no targets in its first steps: NaN there reaches the loss by the state."""
    data = Planted("inputs", position=(1, 0, 0))
    for batch in data.batches_of_epoch:
        batch.weights[:, :2] = 0
    error = str(error_of(model_of(), data, tbptt_steps=2))
    assert error.startswith("loss nan at update 5: the inputs have nan at sequence 1 of the batch, step 0, feature 0; ")


def test_a_step_of_a_later_window():
    error = str(error_of(model_of(), Planted("inputs", position=(0, 4, 2)), tbptt_steps=2))
    assert error.startswith("loss nan at update 9: the inputs have nan at sequence 0 of the batch, step 4, feature 2; ")


def test_a_carried_state():
    training = Training(model_of(), Planted(), TrainingOptions(updates=9, tbptt_steps=2))
    training.step()
    training.states = tuple(
        type(state)(tuple(np.full_like(a, np.nan) for a in state.h), tuple(state.c))
        for state in pickle.loads(pickle.dumps(training.states))  # noqa: S301 - written on this line
    )
    with pytest.raises(
        TrainingError, match=r"^loss nan at update 2: the state that is carried from earlier steps has nan at"
    ):
        training.step()


def test_a_validation_loss_that_is_not_finite_is_a_warning():
    data = Planted()
    validation = Planted("inputs", batch=0).batches_of_epoch
    data.validation = lambda *_: validation
    text = (
        "^validation loss nan at update 4: the inputs have nan at sequence 1 of the batch, step 2, feature 0; "
        "it counts as no improvement$"
    )
    with pytest.warns(TrainingWarning, match=text):
        history = gc.fit(model_of(), data, epochs=1)
    assert history.best_update is None


# The best weights are kept


def test_the_model_has_the_best_weights():
    model, best = model_of(), []
    data = Planted("inputs", batch=3)
    data.validation = lambda *_: [Batch(X.astype(np.float32), Y.astype(np.float32))]

    def copy_best(state):
        if state.history.best_update == state.history.updates:
            best.append(state.model.parameters.vector.copy())

    error = error_of(model, data, evaluate_every=1, callbacks=[copy_best], optimizer=gc.SGD(0.5))
    number = error.history.best_update
    assert str(error).endswith(f"; the model has the weights of update {number}")
    assert model.parameters.vector.tobytes() == best[-1].tobytes()


def test_no_training_is_disturbed_by_the_checks():
    """The loss of outputs that are 0 draws no random numbers."""
    vectors = []
    for factor in (None, 10.0):
        model = gc.Sequential([gc.LSTM(3, 4), gc.layers.Dropout(0.5), FinalState(), gc.Linear(4, 2)])
        gc.fit(model, (X, np.arange(12) % 2), 9, loss="categorical_cross_entropy", divergence_factor=factor)
        vectors.append(model.parameters.vector.tobytes())
    assert vectors[0] == vectors[1]
