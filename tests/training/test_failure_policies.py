"""Laws: `on_failure` skips or restores as documented, to the same bits after a resume, and has limits."""

import math
import pickle
import warnings

import numpy as np
import pytest

import glasscell as gc
from glasscell.core.losses import squared_error
from glasscell.data import Batch
from glasscell.training import Training, TrainingError, TrainingOptions, TrainingWarning
from glasscell.training.checkpoint_files import read_manifest
from glasscell.training.divergence import FAR_UPDATES, UPDATES, ZERO_UPDATES, LossWatch
from glasscell.training.failures import Failure, handle

RNG = np.random.default_rng(1)
X = RNG.normal(size=(24, 6, 3)).astype(np.float32)
Y = np.cumsum(X, axis=1)[..., :2]
NAMES = ["lstm", "head"]
RESTORE = "restore_best_and_halve_lr"


def model_of():
    return gc.Sequential([gc.LSTM(3, 4), gc.layers.Dropout(0.2), gc.Linear(4, 2)], [*NAMES[:1], "dropout", *NAMES[1:]])


class Batches:
    """Eight batches of three sequences; some have a NaN, at one step of one sequence."""

    loss = "squared_error"

    def __init__(self, bad=(), step=3, *, continues=False, validates=False):
        self.bad, self.step, self.continues, self.validates = bad, step, continues, validates

    def batches(self, *_):
        for k in range(8):
            x = X[3 * k : 3 * k + 3].copy()
            if k in self.bad:
                x[1, self.step, 0] = np.nan
            yield Batch(x, Y[3 * k : 3 * k + 3], continues=self.continues and k > 0)

    def validation(self, *_):
        return [Batch(X[:6], Y[:6])] if self.validates else None


def fit(data, model=None, **options):
    """Train without raising the warnings; return weights, history and the texts of the warnings."""
    model = model_of() if model is None else model
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = gc.fit(model, data, **{"epochs": 2, "optimizer": gc.Adam(0.01), **options})
    assert all(warning.category is TrainingWarning for warning in caught)
    return model.parameters.vector, history, [str(warning.message) for warning in caught]


# Skip


def test_a_skipped_batch_changes_nothing():
    """Batches without dropout: the training is that of the other batches."""
    bad, good = Batches({2, 5}), Batches()
    all_batches = good.batches
    good.batches = lambda *_: (batch for k, batch in enumerate(all_batches()) if k not in bad.bad)
    results = []
    for data in (bad, good):
        model = gc.Sequential([gc.LSTM(3, 4), gc.Linear(4, 2)], NAMES)
        results.append(fit(data, model, on_failure="skip", schedule=gc.training.schedules.linear(16)))
    (vector, history, texts), (expected, expected_history, _) = results
    assert vector.tobytes() == expected.tobytes()
    assert history.rows == expected_history.rows
    assert [failure["update"] for failure in history.failures] == [3, 5, 9, 11]
    assert texts[1] == (
        "loss nan at update 5: the inputs have nan at sequence 1 of the batch, step 3, feature 0; the update is skipped"
    )
    assert texts[1] == f"{history.failures[1]['message']}; {history.failures[1]['action']}"


def test_with_accumulation_the_whole_update_is_skipped():
    _, history, texts = fit(Batches({2}), on_failure="skip", accumulate=2)
    assert history.updates == 6
    assert len(texts) == 2
    assert "sequence 1 of the batch, step 3" in texts[0]


def test_the_end_of_an_epoch_is_evaluated_if_its_last_update_is_skipped():
    data = Batches({7}, validates=True)
    _, history, _ = fit(data, on_failure="skip")
    assert [row["update"] for row in history if "validation_loss" in row] == [7, 14]
    assert [row["epoch"] for row in history] == [1] * 7 + [2] * 7


@pytest.mark.parametrize(("step", "bad"), [(3, {2}), (0, {0})])
def test_the_carried_state_is_finite_after_a_skipped_window(step, bad):
    """Windows that continue begin with the state before the skipped one; the first one with the initial state."""
    states = []
    data = Batches(bad, step, continues=True)
    training = Training(model_of(), data, TrainingOptions(epochs=1, tbptt_steps=2, on_failure="skip"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrainingWarning)
        for _ in range(20):
            training.step()
            states.append(pickle.loads(pickle.dumps(training.states)))  # noqa: S301 - written on this line
    assert all(np.isfinite(array).all() for state in states for layer in state for field in layer for array in field)
    assert training.failures.skipped == 1


def test_bad_batches_of_an_iterable_are_skipped():
    data = [(batch.inputs, batch.targets) for batch in Batches({3, 7}).batches()]
    _, history, texts = fit(data, loss="squared_error", on_failure="skip")
    assert history.updates == 12
    assert texts[0] == (
        "batch 4 of the data: x must be finite, got nan at sequence 1 of the batch, step 3, feature 0, at update 4; "
        "the update is skipped"
    )


def test_too_many_in_succession_raise():
    with pytest.raises(TrainingError, match=r"; 10 updates in succession were skipped before; correct the data"):
        fit(Batches(range(8)), on_failure="skip")


def test_too_many_in_all_raise():
    with pytest.raises(TrainingError, match=r"; 1[0-9] updates were skipped before; "):
        fit(Batches({0, 2, 4}), on_failure="skip", epochs=20)


def test_the_last_of_several_skipped_updates_is_named():
    data = [(batch.inputs, batch.targets) for batch in Batches(range(8)).batches()][:3]
    with pytest.raises(TrainingError, match=r"^batch 3 of the data: .*; all updates were skipped"):
        fit(data, loss="squared_error", on_failure="skip", epochs=1)


def test_a_training_whose_last_update_is_skipped_ends_with_a_checkpoint(tmp_path):
    data = Batches({2, 7})
    fit(data, on_failure="skip", epochs=1, checkpoint=tmp_path, checkpoint_every=5)
    manifest = read_manifest(tmp_path)
    assert [entry["updates"] for entry in manifest["checkpoints"]] == [5, 6]
    assert manifest["state"] == "finished"


def test_a_training_of_which_every_update_is_skipped_raises():
    text = "at update 1; all updates were skipped; the model has the weights before the first update$"
    with pytest.raises(TrainingError, match=text):
        fit(
            [(batch.inputs, batch.targets) for batch in Batches({0}).batches()][:1],
            loss="squared_error",
            on_failure="skip",
        )


# Divergence


def diverging(update):
    """A schedule with a rate that is far too high from the 20th update on."""
    return 1.0 if update < 20 else 3e4


@pytest.mark.parametrize("validates", [False, True])
def test_divergence_is_noticed_and_the_best_weights_are_kept(validates):
    model = model_of()
    with pytest.raises(TrainingError) as caught:
        fit(Batches(validates=validates), model, epochs=16, schedule=diverging)
    error = caught.value
    assert error.kind == "divergence"
    assert error.update <= 20 + UPDATES + 1
    assert "the training diverges, " in str(error)
    number = error.history.best_update if validates else 0
    assert str(error).endswith(f"the weights of update {number}" if number else "the weights before the first update")
    assert squared_error(model(X), Y)[0] < 10


def test_a_rate_of_a_million_on_the_copy_task_is_noticed():
    task = gc.tasks.Copy(8, min_width=4)
    with pytest.raises(
        TrainingError, match=r"^loss \S+ at update 11: the training diverges, 10 updates are above 1000 times "
    ):
        gc.fit(gc.CopyLSTM(task=task, seed=0), task, 6000, optimizer=gc.Adam(1e6))


def test_divergence_cannot_be_skipped():
    with pytest.raises(TrainingError, match="the training diverges"):
        fit(Batches(), epochs=16, schedule=diverging, on_failure="skip")


def test_without_a_factor_divergence_is_no_failure():
    assert fit(Batches(), epochs=10, schedule=diverging, divergence_factor=None)[1].updates == 80


@pytest.mark.parametrize("factor", [1, 0.5, -1, math.nan, math.inf, "10", True])
def test_the_factor_is_a_number_above_1(factor):
    with pytest.raises((TypeError, ValueError), match="divergence_factor must be"):
        fit(Batches(), divergence_factor=factor)


def watch_of(losses, first=1.0, factor=10.0, zero_loss=-math.inf, zero_losses=None):
    """Return a watch of these losses, up to divergence, and their number."""
    watch = LossWatch(factor)
    watch.begin(first, zero_loss)
    for number, loss in enumerate(losses, start=1):
        watch.ends_mean()
        if watch.begins and zero_losses is not None:
            watch.begin(loss, zero_losses[number])
        watch.add(loss)
        if watch.diverged:
            return watch, number
    return watch, None


def test_the_limits_of_divergence():
    assert watch_of([11.0] * 200)[1] == UPDATES
    assert watch_of([9.9] * 1000)[1] is None  # not 10 times the first one
    assert watch_of([1001.0] * 200, zero_loss=0.5)[1] == FAR_UPDATES
    assert watch_of([1000.0] * 200, zero_loss=0.5)[1] == UPDATES  # not above 1000 times the first one
    assert watch_of(([11.0] * 99 + [0.5]) * 5)[1] is None  # not in succession
    assert watch_of(([11.0] * 9 + [0.5]) * 25)[1] is None  # of a loss of the user
    assert watch_of(([21.0] * 9 + [0.5]) * 25, zero_loss=1.0)[1] == 238  # each below cancels five
    assert watch_of(([21.0] * 4 + [0.5]) * 90, zero_loss=1.0)[1] is None
    assert watch_of([0.05] * 100 + [0.9] * 1000)[1] is None  # not above the first one
    assert watch_of([0.05] * 100 + [1.1] * 1000)[1] == 200
    assert watch_of([0.2] * 100 + [1.1] * 1000)[1] is None  # not above 10 times the best mean
    assert watch_of([-1.0] * 100 + [50.0] * 1000, first=2.0)[1] is None  # not compared
    assert watch_of([50.0] * 1000, first=-2.0)[1] is None


def test_the_first_loss_is_that_of_outputs_of_0_where_it_is_higher():
    watch = LossWatch(10.0)
    assert watch.begins
    watch.begin(2.0, -math.inf)  # a loss of the user: not computed
    assert not watch.begins
    assert watch.first == 2
    watch = LossWatch(10.0)
    for number in range(ZERO_UPDATES):
        assert watch.begins
        watch.begin(1.0, float(number))
        assert watch.first == max(1, number / 2)  # the mean of 0, 1, ..., number
    assert not watch.begins


def test_each_mean_is_of_as_many_updates():
    watch, bests = LossWatch(10.0), []
    watch.begin(1.0, 1.0)
    for number in range(1, 4 * UPDATES + 1):
        watch.add(1 / number)
        if watch.ends_mean():
            bests.append(number)
    assert bests == [UPDATES, 2 * UPDATES, 3 * UPDATES, 4 * UPDATES]
    mean = sum(1 / number for number in range(3 * UPDATES + 1, 4 * UPDATES + 1)) / UPDATES
    assert watch.best == pytest.approx(mean, rel=1e-12)


@pytest.mark.parametrize(("loss", "is_best"), [(19.0, True), (21.0, False)])
def test_a_mean_above_ten_times_the_first_loss_is_no_best_one(loss, is_best):
    watch = LossWatch(10.0)
    watch.begin(2.0, 2.0)
    for _ in range(UPDATES):
        watch.add(loss)
    assert watch.ends_mean() == is_best
    assert (watch.best == loss) == is_best


def test_a_loss_that_stays_high_has_diverged_until_the_count_begins_again():
    watch = LossWatch(10.0)
    watch.begin(1.0, 1.0)
    diverged = []
    for _ in range(FAR_UPDATES + 3):
        watch.add(1e6)
        diverged.append(watch.diverged)
    assert diverged == [False] * (FAR_UPDATES - 1) + [True] * 4
    watch.restart()
    assert not watch.diverged


def test_losses_of_noisy_batches_do_not_diverge():
    """Squared errors of single numbers: the first may be low by chance."""
    rng = np.random.default_rng(2)
    for _ in range(100):
        losses, zeros = rng.normal(size=(2, 1000)) ** 2
        assert watch_of(losses, first=zeros[0], zero_loss=zeros[0], zero_losses=zeros)[1] is None
    assert [watch_of(rng.normal(size=1000) ** 2, first=rng.normal() ** 2)[1] for _ in range(50)] == [None] * 50


def test_larger_targets_are_no_divergence():
    """A series that grows: the error becomes larger, but not that of the outputs relative to 0."""
    scale = np.geomspace(1, 1e4, 250).astype(np.float32)
    data = [(X[:3], Y[:3] * s) for s in scale]
    assert fit(data, loss="squared_error", epochs=1)[1].updates == 250


def test_larger_targets_raise_the_loss_that_others_are_compared_with():
    scale = np.geomspace(1, 1e4, 250).astype(np.float32)
    options = TrainingOptions(epochs=1, loss="squared_error", optimizer=gc.Adam(0.01))
    training = Training(model_of(), [(X[:3], Y[:3] * s) for s in scale], options)
    training.run()
    raised = [np.mean((Y[:3] * s) ** 2) for s in scale[UPDATES:]]
    assert raised[0] < training.failures.watch.first <= raised[-1]


# Restore


def test_the_best_weights_are_restored_and_the_rate_halved():
    _, history, texts = fit(
        Batches(validates=True), epochs=20, schedule=diverging, on_failure=RESTORE, evaluate_every=4
    )
    rates = history["learning_rate"]
    first = history.failures[0]["update"]
    assert math.isclose(rates[first - 1], 0.5 * rates[first - 2])
    assert texts[0].endswith("; the weights of update 20 are restored, and the learning rate is halved")
    assert len({failure["update"] for failure in history.failures}) == len(texts) >= 2


def test_the_optimiser_begins_again_with_the_restored_weights():
    options = TrainingOptions(epochs=2, optimizer=gc.SGD(0.1, momentum=0.9), on_failure=RESTORE)
    training = Training(model_of(), Batches(), options)
    new = pickle.dumps(training.optimizer_states)
    for _ in range(3):
        training.step()
    assert pickle.dumps(training.optimizer_states) != new
    with pytest.warns(TrainingWarning, match="the learning rate is halved"):
        handle(training, Failure("divergence", "the training diverges"))
    assert pickle.dumps(training.optimizer_states) == new


def test_ten_halvings_at_most():
    with pytest.raises(TrainingError, match="; the learning rate was halved 10 times before; lower the learning rate"):
        fit(Batches(), epochs=200, optimizer=gc.Adam(1e12), on_failure=RESTORE)


def test_data_are_not_mended_by_a_lower_rate():
    with pytest.raises(TrainingError, match="the inputs have nan") as caught:
        fit(Batches({2}), on_failure=RESTORE)
    assert caught.value.history.failures == []


def test_frozen_weights_stay_frozen():
    options = {"trainable": ["head.*"], "learning_rates": {"head.bias": 2.0}}
    model = model_of()
    frozen = model.parameters["lstm.kernel_l0"].copy()
    _, _, texts = fit(Batches(), model, epochs=14, schedule=diverging, on_failure=RESTORE, **options)
    assert texts
    assert model.parameters["lstm.kernel_l0"].tobytes() == frozen.tobytes()


# Determinism


CASES = {
    "skip": (Batches({1, 5, 7}, validates=True), {"on_failure": "skip", "epochs": 3}),
    "skip with accumulation": (Batches({1, 6}), {"on_failure": "skip", "epochs": 3, "accumulate": 3}),
    "skip windows": (Batches({1, 5}, 0, continues=True), {"on_failure": "skip", "epochs": 2, "tbptt_steps": 2}),
    "restore": (Batches(validates=True), {"on_failure": RESTORE, "epochs": 8, "schedule": diverging}),
    "restore without evaluations": (Batches(), {"on_failure": RESTORE, "epochs": 8, "schedule": diverging}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_training_with_failures_resumes_to_the_same_bits(case):
    data, options = CASES[case]
    states = []
    vector, history, texts = fit(
        data, callbacks=[lambda state: states.append(pickle.dumps(state.training.state()))], **options
    )
    assert texts
    again = fit(data, **options)
    assert (again[0].tobytes(), again[1], again[2]) == (vector.tobytes(), history, texts)
    for state in states[:: max(1, len(states) // 5)]:
        model = model_of()
        continued = Training(model, data, TrainingOptions(seed=5, optimizer=gc.Adam(0.01), **options))
        continued.restore(pickle.loads(state))  # noqa: S301 - written above
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert continued.run() == history
        assert model.parameters.vector.tobytes() == vector.tobytes()


def test_a_checkpoint_keeps_the_failures(tmp_path):
    data, options = CASES["skip"]
    vector, history, _ = fit(data, **options)
    fit(data, checkpoint=tmp_path, checkpoint_every=1, **options | {"epochs": 1})
    model = model_of()
    resumed_vector, resumed, _ = fit(data, model, checkpoint=tmp_path, resume=True, **options)
    assert resumed == history
    assert resumed_vector.tobytes() == vector.tobytes()


def test_a_training_on_an_iterable_resumes_after_a_batch_that_was_skipped(tmp_path):
    """Which counts as one of the batches that the data give again."""
    data = [(batch.inputs, batch.targets) for batch in Batches({2}).batches()]
    options = {"loss": "squared_error", "on_failure": "skip"}
    vector, history, _ = fit(data, **options)
    for end in (2, 3, 5):
        folder = tmp_path / str(end)
        fit(data, checkpoint=folder, checkpoint_every=1, callbacks=[lambda s, n=end: s.history.updates == n], **options)
        resumed_vector, resumed, _ = fit(data, checkpoint=folder, resume=True, **options)
        assert resumed.updates == history.updates
        assert resumed_vector.tobytes() == vector.tobytes()


def test_no_windows_are_kept_of_an_update_that_was_made_or_given_up():
    """The last one is skipped, or the training ends with an error."""
    for policy in ("skip", "raise"):
        training = Training(model_of(), Batches({7}), TrainingOptions(epochs=1, on_failure=policy))
        assert training.step()["update"] == 1
        assert training.attempt == []
        with pytest.warns(TrainingWarning) if policy == "skip" else pytest.raises(TrainingError):
            training.run()
        assert training.attempt == []
        assert training.d_outputs is None


def test_a_training_ends_with_a_skipped_update_that_ends_an_epoch_which_reaches_the_target():
    _, history, _ = fit(Batches({7}, validates=True), on_failure="skip", stop_at={"loss": 1e9})
    assert history.target_reached
    assert (history.updates, history.stopped_early) == (7, False)
