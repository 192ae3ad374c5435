"""Laws: ranks decide alike, rank 0 calls the callbacks, and an update is one exchange of messages."""

import numpy as np
import pytest
from fake_ranks import run_ranks
from parallel_cases import CASES, train

import glasscell as gc
from glasscell.training import ParallelTraining, RankError, TrainingOptions


def test_an_update_is_one_exchange():
    def count(updates):
        def run(comm):
            train("weights", comm, updates, evaluate_every=2)
            return comm.messages

        return [sorted(messages) for messages in run_ranks(2, run)]

    few, many = count(3), count(10)
    for messages, more in zip(few, many, strict=True):
        for name in set(more):
            assert more.count(name) - messages.count(name) == (7 if name in ("Alltoall", "Allgather") else 0)


@pytest.mark.parametrize("with_callback", [False, True])
@pytest.mark.parametrize("name", ["text", "ragged", "continuous validation"])
def test_evaluations_are_divided(name, with_callback):
    """Each rank runs a part of the validation sequences, and all have the scores of one process."""

    def run(comm):
        make_data, make_model, arguments = CASES["text" if name.startswith("cont") else name]
        data, model, sequences = make_data(), make_model(), []
        validation = list(data.validation(5, np.float64)) if name.startswith("cont") else None
        infer = model.infer
        object.__setattr__(
            model, "infer", lambda batch, *others: (sequences.append(batch.inputs.shape), infer(batch, *others))[1]
        )
        callbacks = [lambda state: None] if with_callback else []
        options = {"metrics": ["accuracy"], "evaluate_every": 3, "callbacks": callbacks, "batch_size": 5}
        history = gc.fit(
            model, data, 7, comm=comm, validation=validation and Batches(validation), **(arguments | options)
        )
        return history, sum(B for B, _ in (shape[:2] for shape in sequences))

    history, number = run(None)
    results = run_ranks(2, run)
    for other, _ in results:
        for column in ("validation_loss", "validation_accuracy"):
            np.testing.assert_allclose(other[column], history[column], rtol=1e-12)
    assert sum(divided for _, divided in results) == number
    assert all(divided < number for _, divided in results)


class Batches:
    """Validation batches in a list."""

    def __init__(self, entries):
        self.entries = entries

    def batches(self, *_):
        yield from self.entries

    def validation(self, *_):
        return self.entries


def test_a_metric_of_the_user_gets_whole_batches():
    sizes = []

    def metric(outputs, batch):
        sizes.append(len(batch.inputs))
        return float(np.abs(outputs).max())

    run_ranks(2, lambda comm: train("text", comm, 3, metrics=[metric]))
    assert set(sizes) == {5}


@pytest.mark.parametrize(
    "options",
    [
        {"stop_at": {"loss": 0.55}, "evaluate_every": 2},
        {"patience": 2, "evaluate_every": 1, "optimizer": gc.Adam(0.3)},
        {"keep": "best", "evaluate_every": 3, "epochs": 5, "updates": None, "optimizer": gc.Adam(0.3)},
        {"schedule": gc.schedules.cosine(30)},
    ],
)
def test_limits_end_the_training_at_the_same_update(options):
    arguments = {"updates": 30} | options
    weights, history = train("ragged", None, **arguments)
    for other, other_history in run_ranks(3, lambda comm: train("ragged", comm, **arguments)):
        np.testing.assert_allclose(other, weights, rtol=0, atol=1e-12)
        for name in ("updates", "target_reached", "stopped_early", "best_update"):
            assert getattr(other_history, name) == getattr(history, name)


def test_the_first_rank_calls_the_callbacks_and_all_end():
    def run(comm):
        seen = []

        def callback(state):
            seen.append(state.history.updates)
            assert state.training.ranks.rank == 0
            with pytest.raises(RuntimeError, match="state\\(\\) needs all ranks"):
                state.training.state()
            return len(seen) == 4

        _, history = train("weights", comm, 20, callbacks=[callback])
        return seen, history.updates

    assert run_ranks(3, run) == [([1, 2, 3, 4], 4), ([], 4), ([], 4)]


CALLS_OF_ALL = {
    "state": lambda training, _: training.state(),
    "restore": lambda training, _: training.restore({}),
    "step": lambda training, _: training.step(),
    "run": lambda training, _: training.run(),
    "fit": lambda _, comm: train("weights", comm, 2),
    "training": lambda training, _: type(training)(training.model, training.data, training.options),
}


@pytest.mark.parametrize("name", CALLS_OF_ALL)
def test_a_callback_cannot_call_what_needs_all_ranks(name):
    """Rank 0 would wait for ever for the others, which wait for the end of the callback."""

    def run(comm):
        return train("weights", comm, 3, callbacks=[lambda state: CALLS_OF_ALL[name](state.training, comm) and None])

    results = run_ranks(2, run, catch=True)
    assert [type(result) for result in results] == [RuntimeError, RankError]
    assert "needs all ranks, got a call from a callback, which rank 0 alone makes" in str(results[0])
    assert train("weights", None, 3, callbacks=[lambda _: train("weights", None, 1) and None])[1].updates == 3


def test_what_a_callback_adds_to_the_history_is_added_on_all_ranks():
    def run(comm):
        def callback(state):
            if state.history.updates != 2:
                state.history.rows[-1]["norm"] = float(np.abs(state.model.parameters.vector).sum())

        return train("weights", comm, 4, callbacks=[callback])[1].rows

    rows = run(None)
    for other in run_ranks(2, run):
        assert [list(row) for row in other] == [list(row) for row in rows]
        np.testing.assert_allclose(other[-1]["norm"], rows[-1]["norm"])


@pytest.mark.parametrize("name", ["ragged", "text"])
def test_a_callback_can_evaluate(name):
    def run(comm):
        found = []
        train(name, comm, 4, evaluate_every=1, callbacks=[lambda state: found.append(state.training.evaluate())])
        return [scores["loss"] for scores in found]

    alone, (first, other) = run(None), run_ranks(2, run)
    np.testing.assert_allclose(first, alone, rtol=1e-12)
    assert other == []


def test_progress_is_shown_once(capfd):
    run_ranks(3, lambda comm: train("weights", comm, 4, progress=True))
    one = capfd.readouterr().err
    train("weights", None, 4, progress=True)
    alone = capfd.readouterr().err
    assert one.count("loss") == alone.count("loss") > 0


def test_steps_are_those_of_a_run():
    def steps(comm):
        make_data, make_model, arguments = CASES["text"]
        training = ParallelTraining(make_model(), make_data(), TrainingOptions(updates=9, comm=comm, **arguments))
        return [training.step()["loss"] for _ in range(9)]

    _, history = train("text", None, 9)
    for losses in run_ranks(2, steps):
        np.testing.assert_allclose(losses, history["loss"], rtol=1e-12)


def test_a_run_goes_on_after_a_callback():
    def run(comm):
        make_data, make_model, arguments = CASES["weights"]
        options = TrainingOptions(
            updates=9, comm=comm, callbacks=[lambda state: state.history.updates == 4], **arguments
        )
        training = ParallelTraining(make_model(), make_data(), options)
        assert training.run().updates == 4
        assert training.run().updates == 9
        return training.model.parameters.vector

    weights, _ = train("weights", None, 9)
    for other in run_ranks(2, run):
        np.testing.assert_allclose(other, weights, rtol=0, atol=1e-12)
