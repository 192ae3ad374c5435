"""Laws: a run of n ranks goes on with the same bits, with another number to rounding; rank 0 alone uses the folder."""

import numpy as np
import pytest
from fake_ranks import run_ranks
from parallel_cases import CASES, ERROR, noisy_regressor, train, weighted_data

import glasscell as gc
from glasscell.training import (
    CheckpointFolder,
    CheckpointWarning,
    ParallelTraining,
    RankError,
    Training,
    TrainingOptions,
    has_checkpoint,
)

NOISY = (weighted_data, noisy_regressor, ERROR | {"tbptt_steps": 3})
CASES_WITH_NOISE = CASES | {"noise": NOISY}


def fit(name, comm, updates, **options):
    make_data, make_model, arguments = CASES_WITH_NOISE[name]
    model = make_model()
    history = gc.fit(model, make_data(), updates, comm=comm, **(arguments | options))
    return model.parameters.vector.copy(), history


def stop_at_five(state):
    return state.history.updates == 5


@pytest.mark.parametrize("name", CASES_WITH_NOISE)
def test_the_same_number_of_ranks_goes_on_with_the_same_bits(name, tmp_path):
    options = {"checkpoint": tmp_path, "checkpoint_every": 1}
    whole = run_ranks(3, lambda comm: fit(name, comm, 11))
    run_ranks(3, lambda comm: fit(name, comm, 11, callbacks=[stop_at_five], **options))
    resumed = run_ranks(3, lambda comm: fit(name, comm, 11, resume=True, **options))
    for (weights, history), (expected, expected_history) in zip(resumed, whole, strict=True):
        np.testing.assert_array_equal(weights, expected)
        assert repr(history.rows) == repr(expected_history.rows)


@pytest.mark.parametrize(
    ("name", "before"),
    [
        *(("text", None), ("text", 4), ("ragged", 2), ("windows", 4)),
        *(("continuous", 2), ("windows of the copy task", None), ("iterable", 4)),
    ],
)
def test_another_number_of_ranks_goes_on_to_rounding(name, before, tmp_path):
    def run(n, *arguments, **options):
        if n is None:
            return fit(name, None, *arguments, **options)
        return run_ranks(n, lambda comm: fit(name, comm, *arguments, **options))[0]

    after = {None: 3, 4: None, 2: 4}[before]
    expected, _ = fit(name, None, 11)
    options = {"checkpoint": tmp_path, "checkpoint_every": 1}
    run(before, 11, callbacks=[stop_at_five], **options)
    with pytest.raises(ValueError, match=r"comm must have as many processes as the training of .*change_ranks=True"):
        run(after, 11, resume=True, **options)
    now = f"{after} ranks" if after else "1 rank"
    told = f"goes on with {now} instead of {before or 1}: results agree"
    with pytest.warns(CheckpointWarning, match=told):
        weights, _ = run(after, 11, resume=True, change_ranks=True, **options)
    np.testing.assert_allclose(weights, expected, rtol=0, atol=1e-12)


def test_ranks_change_with_noise(tmp_path):
    run_ranks(2, lambda comm: fit("noise", comm, 5, checkpoint=tmp_path))
    with pytest.warns(CheckpointWarning, match="ranks"):
        results = run_ranks(3, lambda comm: fit("noise", comm, 9, checkpoint=tmp_path, resume=True, change_ranks=True))
    for weights, history in results:
        np.testing.assert_array_equal(weights, results[0][0])
        assert history.updates == 9


def test_each_rank_has_other_noise():
    def noise(comm):
        make_data, make_model, arguments = NOISY
        training = ParallelTraining(make_model(), make_data(), TrainingOptions(updates=3, comm=comm, **arguments))
        training.step()
        return training.noise_rng.random(), training.rng.random()

    (first, common), (second, also_common) = run_ranks(2, noise)
    assert first != second
    assert common == also_common


def test_only_the_first_rank_uses_the_folder(tmp_path):
    def run(comm):
        folder = tmp_path / str(comm.Get_rank())
        train("weights", comm, 4, checkpoint=folder)
        return folder.exists()

    assert run_ranks(3, run) == [True, False, False]


def test_a_folder_that_the_first_rank_cannot_use_ends_all(tmp_path):
    train("weights", None, 4, checkpoint=tmp_path)
    results = run_ranks(2, lambda comm: train("weights", comm, 4, checkpoint=tmp_path), catch=True)
    assert [type(result) for result in results] == [FileExistsError, RankError]
    results = run_ranks(2, lambda comm: train("weights", comm, 4, resume=tmp_path / "none"), catch=True)
    assert [type(result) for result in results] == [FileNotFoundError, RankError]
    with CheckpointFolder(tmp_path / "used"):
        results = run_ranks(2, lambda comm: train("weights", comm, 4, checkpoint=tmp_path / "used"), catch=True)
    assert [type(result) for result in results] == [BlockingIOError, RankError]


def test_after_an_error_the_last_checkpoint_is_complete(tmp_path):
    def run(comm):
        make_data, make_model, arguments = CASES["weights"]
        calls = iter(range(100))

        def loss(*values):
            if comm.Get_rank() == 1 and next(calls) == 6:
                raise OSError("the disk is gone")
            return gc.core.losses.squared_error(*values)

        return gc.fit(
            make_model(),
            make_data(),
            20,
            comm=comm,
            checkpoint=tmp_path,
            checkpoint_every=2,
            **(arguments | {"loss": loss}),
        )

    results = run_ranks(2, run, catch=True)
    assert [type(result) for result in results] == [RankError, OSError]
    with CheckpointFolder(tmp_path) as folder:
        assert folder.manifest["state"] == "failed"
        assert folder.manifest["reason"] == "RankError: rank 1 failed: OSError: the disk is gone"
        assert folder.newest().updates == 6


def test_a_checkpoint_that_cannot_be_written_ends_all_at_the_end(tmp_path, monkeypatch):
    save, calls = CheckpointFolder.save, iter(range(100))

    def fail(self, *arguments, **keywords):
        if next(calls):
            raise OSError(28, "No space left on device")
        return save(self, *arguments, **keywords)

    monkeypatch.setattr(CheckpointFolder, "save", fail)
    with pytest.warns(CheckpointWarning, match="No space left"):
        results = run_ranks(2, lambda comm: train("weights", comm, 4, checkpoint=tmp_path), catch=True)
    assert type(results[0]).__name__ == "CheckpointError"
    assert type(results[1]) is RankError


def test_the_state_is_that_of_all_ranks():
    def run(comm):
        make_data, make_model, arguments = CASES["continuous"]
        training = ParallelTraining(make_model(), make_data(), TrainingOptions(updates=9, comm=comm, **arguments))
        for _ in range(3):
            training.step()
        state = training.state()
        rows = [training.step() for _ in range(3)]
        weights = training.model.parameters.vector.copy()
        training.restore(state)
        assert rows == [training.step() for _ in range(3)]
        np.testing.assert_array_equal(training.model.parameters.vector, weights)
        return state

    make_data, make_model, arguments = CASES["continuous"]
    alone = Training(make_model(), make_data(), TrainingOptions(updates=9, **arguments))
    for _ in range(3):
        alone.step()
    first, second = run_ranks(2, run)
    for state in (first, second):
        for own, expected in zip(arrays_of(state["states"]), arrays_of(alone.state()["states"]), strict=True):
            np.testing.assert_allclose(own, expected, rtol=0, atol=1e-12)
    assert first["ranks"]["size"] == 2
    assert repr(first["ranks"]) == repr(second["ranks"])


def arrays_of(value):
    if isinstance(value, np.ndarray):
        return [value]
    return [array for item in value or () for array in arrays_of(item)]


def test_a_plain_training_does_not_take_ranks():
    def run(comm):
        make_data, make_model, arguments = CASES["weights"]
        with pytest.raises(ValueError, match="comm must have one process for a Training, got 2: ParallelTraining"):
            Training(make_model(), make_data(), TrainingOptions(updates=2, comm=comm, **arguments))

    run_ranks(2, run)


def test_a_checkpoint_of_another_folder(tmp_path):
    run_ranks(2, lambda comm: train("weights", comm, 4, checkpoint=tmp_path / "a"))
    results = run_ranks(2, lambda comm: train("weights", comm, 8, checkpoint=tmp_path / "b", resume=tmp_path / "a"))
    expected = run_ranks(2, lambda comm: train("weights", comm, 8))
    np.testing.assert_array_equal(results[0][0], expected[0][0])
    assert has_checkpoint(tmp_path / "b")
    without_folder = run_ranks(2, lambda comm: train("weights", comm, 8, resume=tmp_path / "a"))
    np.testing.assert_array_equal(without_folder[1][0], expected[0][0])
