"""Laws: an error on one rank ends all, whatever it is and wherever it is raised."""

import pytest
from fake_ranks import Aborted, FakeComm, run_ranks
from parallel_cases import DTYPE, ERROR, arrays, batches, regressor, train

import glasscell as gc
from glasscell.data import ArrayData
from glasscell.training import (
    CheckpointFolder,
    ParallelTraining,
    RankError,
    TrainingOptions,
)
from glasscell.training.parallel.errors import is_reported

N = 3


class TroubleError(Exception):
    pass


class TextlessError(Exception):
    def __str__(self):
        raise TypeError("no text")


def raise_at(count, error):
    """Return a function that raises an error at its call of this number."""
    calls = 0

    def call(*_):
        nonlocal calls
        calls += 1
        if calls == count:
            raise error

    return call


class DataWithTrouble(ArrayData):
    trouble = staticmethod(lambda: None)

    def batches(self, size, rng, dtype):
        for batch in super().batches(size, rng, dtype):
            self.trouble()
            yield batch


def fit_with_trouble(comm, place, rank, error, **options):
    """Train, with an error on one rank after some updates."""
    model, data, rank_has_it = regressor(), arrays(DataWithTrouble), comm.Get_rank() == rank
    trouble = raise_at(6, error) if rank_has_it else lambda *_: None
    arguments = ERROR | {"updates": 20, "comm": comm} | options
    if place == "data":
        data.trouble = trouble
    if place == "loss":
        squared_error = gc.core.losses.squared_error
        arguments["loss"] = lambda *values: (trouble(), squared_error(*values))[1]
    if place == "metric":
        arguments["metrics"] = {"score": lambda *_: (trouble(), 1.0)[1]}
        arguments["evaluate_every"] = 1
    if place == "callback":
        arguments["callbacks"] = [trouble]
    if place == "optimizer":
        arguments["optimizer"] = Optimizer(trouble)
    if place == "schedule":
        arguments["schedule"] = lambda _: (trouble(), 1.0)[1]
    return gc.fit(model, data, **arguments)


class Optimizer(gc.SGD):
    def __init__(self, trouble):
        super().__init__(0.1)
        object.__setattr__(self, "trouble", trouble)

    def update(self, *arguments, **keywords):
        self.trouble()
        super().update(*arguments, **keywords)


PLACES = {"data": 1, "loss": 2, "metric": 1, "callback": 0, "optimizer": 2, "schedule": 0}


@pytest.mark.parametrize("with_callback", [False, True])
@pytest.mark.parametrize("place", PLACES)
def test_an_error_on_one_rank_ends_all(place, with_callback):
    options = {"callbacks": [lambda state: None]} if with_callback and place != "callback" else {}
    rank = PLACES[place]
    results = run_ranks(N, lambda comm: fit_with_trouble(comm, place, rank, TroubleError("!"), **options), catch=True)
    assert [type(result) for result in results] == [TroubleError if k == rank else RankError for k in range(N)]
    assert [is_reported(result) for result in results] == [k != rank for k in range(N)]
    others = {str(result) for k, result in enumerate(results) if k != rank}
    assert others == {f"rank {rank} failed: TroubleError: !"}


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), MemoryError("full"), SystemExit(3), ValueError("no"), TextlessError()]
)
@pytest.mark.parametrize("place", ["data", "optimizer"])
def test_so_does_any_kind_of_error(error, place):
    results = run_ranks(2, lambda comm: fit_with_trouble(comm, place, 1, error), catch=True)
    assert type(results[1]) is type(error)
    assert type(results[0]) is (KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else RankError)


@pytest.mark.parametrize("name", ["training.reported_losses", "ranks.Ranks.threads"])
def test_an_error_between_the_first_messages_aborts(name, monkeypatch):
    """The other ranks wait in the next message, which carries no error."""

    def fail(*arguments):
        ranks = arguments[0]
        if ranks.rank == 1:
            raise TroubleError("!")
        ranks.gather(None)

    monkeypatch.setattr(f"glasscell.training.parallel.{name}", fail)
    results = run_ranks(2, lambda comm: train("weights", comm, 2), catch=True)
    assert [type(result) for result in results] == [Aborted] * 2


@pytest.mark.parametrize("batch_size", [3, 6])
@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_of_a_rank_while_the_others_evaluate_ends_all(rank, batch_size):
    """The evaluation is divided among the ranks with the first number of sequences, and not with the second."""
    options = {"callbacks": [lambda state: None], "evaluate_every": 1, "batch_size": batch_size}
    error = TroubleError("!")
    results = run_ranks(2, lambda comm: fit_with_trouble(comm, "optimizer", rank, error, **options), catch=True)
    assert [type(result) for result in results] == [TroubleError if k == rank else RankError for k in range(2)]


def test_an_error_of_all_ranks_is_raised_by_all_and_printed_once():
    def fit(comm):
        data = arrays(DataWithTrouble)
        data.trouble = raise_at(3, TroubleError("!"))
        return gc.fit(regressor(), data, 20, comm=comm, **ERROR)

    results = run_ranks(N, fit, catch=True)
    assert [type(result) for result in results] == [TroubleError] * N
    assert [is_reported(result) for result in results] == [False, True, True]


def test_an_error_within_a_message_aborts():
    def fit(comm):
        if comm.Get_rank() == 1:
            exchange, trouble = comm.Alltoall, raise_at(3, TroubleError("network"))
            comm.Alltoall = lambda *arrays: (trouble(), exchange(*arrays))
        return train("weights", comm)

    results = run_ranks(2, fit, catch=True)
    assert [type(result) for result in results] == [Aborted] * 2


@pytest.mark.parametrize("place", ["data", "optimizer"])
def test_an_error_in_a_step_ends_all(place):
    def run(comm):
        data = arrays(DataWithTrouble)
        trouble = raise_at(3, TroubleError("!")) if comm.Get_rank() == 1 else lambda *_: None
        options = TrainingOptions(updates=9, comm=comm, optimizer=Optimizer(trouble), **ERROR)
        if place == "data":
            data.trouble, options = trouble, TrainingOptions(updates=9, comm=comm, **ERROR)
        training = ParallelTraining(regressor(), data, options)
        for _ in range(9):
            training.step()

    results = run_ranks(2, run, catch=True)
    assert [type(result) for result in results] == [RankError, TroubleError]


def test_an_interrupt_of_one_rank_ends_all_after_the_update(tmp_path):
    def run(comm):
        options = TrainingOptions(updates=20, comm=comm, checkpoint=tmp_path, checkpoint_every=9, **ERROR)
        data = arrays(DataWithTrouble)
        training = ParallelTraining(regressor(), data, options)
        calls = iter(range(100))

        def interrupt():
            if comm.Get_rank() == 1 and next(calls) == 4:
                training._parallel_checkpoints._handle(2, None)

        data.trouble = interrupt
        return training.run()

    results = run_ranks(2, run, catch=True)
    text = f"resume=True goes on from update 5, in {tmp_path}"
    assert [(type(result), str(result)) for result in results] == [(KeyboardInterrupt, text)] * 2
    with CheckpointFolder(tmp_path) as folder:
        assert folder.manifest["state"] == "interrupted"
        assert folder.newest().updates == 5


# Before the first update

DIFFERENCES = {
    "seed": ("got 0 on rank 0 and 1 on rank 2", lambda arguments: arguments.update(seed=1)),
    "options (clip_norm)": ("got 1.0 on rank 0 and 2.0 on rank 2", lambda arguments: arguments.update(clip_norm=2.0)),
    "weights": ("", lambda arguments: arguments["model"].parameters.vector.__imul__(2)),
    "data (x.1)": ("", lambda arguments: arguments["data"].x.__imul__(2)),
    "limits (updates)": ("got 4 on rank 0 and 5 on rank 2", lambda arguments: arguments.update(updates=5)),
    "options (on_failure)": ("", lambda arguments: arguments.update(on_failure="skip")),
}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_ranks_that_differ_are_an_error_on_all(name):
    text, change = DIFFERENCES[name]

    def fit(comm):
        arguments = {"model": regressor(), "data": arrays(), "updates": 4, "comm": comm} | ERROR
        if comm.Get_rank() == 2:
            change(arguments)
        return gc.fit(**arguments)

    results = run_ranks(N, fit, catch=True)
    assert [type(result) for result in results] == [ValueError] * N
    assert str(results[0]).startswith(f"ranks must have the same {name}, got ")
    assert text in str(results[0])
    assert [is_reported(result) for result in results] == [False, True, True]


def test_a_model_of_another_size_is_an_error_on_all():
    def fit(comm):
        model = gc.Sequential([gc.LSTM(3, 5 + comm.Get_rank(), **DTYPE), gc.Linear(5 + comm.Get_rank(), 2, **DTYPE)])
        return gc.fit(model, arrays(), 4, comm=comm, **ERROR)

    results = run_ranks(2, fit, catch=True)
    assert [type(result) for result in results] == [ValueError] * 2
    assert "ranks must have the same model" in str(results[0])


def test_an_argument_that_one_rank_alone_has_wrong_ends_all():
    def fit(comm):
        return gc.fit(regressor(), arrays(), 4, comm=comm, keep="best" if comm.Get_rank() else "worst", **ERROR)

    results = run_ranks(2, fit, catch=True)
    assert [type(result) for result in results] == [ValueError, RankError]


def test_batches_smaller_than_the_number_of_ranks_are_an_error():
    def fit(comm, data, size):
        return gc.fit(regressor(), data(), 4, comm=comm, loss="squared_error", batch_size=size)

    for data, size, text in (
        (arrays, 2, "batch_size must be at least the number of ranks, 3, got 2"),
        (lambda: [(x[:2], y[:2]) for x, y in batches()], 8, "batches must have at least one sequence for each of 3 ra"),
    ):
        results = run_ranks(N, lambda comm, data=data, size=size: fit(comm, data, size), catch=True)
        assert [type(result) for result in results] == [ValueError] * N
        assert text in str(results[0])


def test_a_comm_that_is_none_is_a_type_error():
    message = r"comm must be a communicator of mpi4py such as .*, got "
    with pytest.raises(TypeError, match=message + "int without"):
        train("weights", 3)
    with pytest.raises(TypeError, match=message + "int without"):
        gc.training.Training(regressor(), arrays(), gc.training.TrainingOptions(updates=1, comm=3, **ERROR))
    with pytest.raises(TypeError, match=message + "the class FakeComm"):
        train("weights", FakeComm)


# During the training


def test_iterables_with_other_batches_are_an_error():
    def fit(comm):
        entries = batches()
        if comm.Get_rank() == 1:
            entries.reverse()
        return gc.fit(regressor(), entries, 4, comm=comm, **ERROR)

    results = run_ranks(2, fit, catch=True)
    assert [type(result) for result in results] == [RankError] * 2
    assert "ranks must get the same batches from their data, at update 1" in str(results[0])


def test_weights_that_differ_are_an_error_of_all():
    def fit(comm):
        model, data = regressor(), arrays(DataWithTrouble)
        if comm.Get_rank() == 1:
            calls = iter(range(100))
            data.trouble = lambda: next(calls) == 4 and model.parameters.vector.__setitem__(0, 1.0)
        return gc.fit(model, data, 20, comm=comm, compare_ranks_every=3, **ERROR)

    results = run_ranks(2, fit, catch=True)
    assert [type(result) for result in results] == [RankError] * 2
    assert "ranks must have the same weights before update 7, got checksums" in str(results[0])
    assert [is_reported(result) for result in results] == [False, True]
