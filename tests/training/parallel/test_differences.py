"""Laws: ranks with other data, batches, scores or communicators end with one error on all."""

import sys
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from fake_ranks import FakeComm, run_ranks
from parallel_cases import ERROR, batches, regressor

import glasscell as gc
from glasscell.core.losses import squared_error
from glasscell.data.batch import Batch
from glasscell.training import RankError
from glasscell.training.description import describe_function
from glasscell.training.parallel.errors import is_reported
from glasscell.training.parallel.ranks import Ranks


class OwnData:
    """Data of the user, in whose batch of this number the ranks differ."""

    def __init__(self, batch, rank):
        self.batch, self.rank = batch, rank

    def batches(self, *_):
        for number in range(4):
            x = np.full((6, 4, 3), 0.1)
            x[5, 3, 0] += self.rank * (number == self.batch)
            yield Batch(x, x[..., :2])

    def validation(self, *_):
        return None


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("kind", ["iterable", "data"])
@pytest.mark.parametrize("number", [0, 2])
def test_no_batch_of_the_user_may_differ(number, kind, accumulate):
    def fit(comm):
        data = OwnData(number, comm.Get_rank())
        entries = data if kind == "data" else [batch[:2] for batch in data.batches()]
        return gc.fit(regressor(), entries, 4, comm=comm, accumulate=accumulate, **ERROR)

    results = run_ranks(2, fit, catch=True)
    assert [type(result) for result in results] == [RankError] * 2
    update = number // accumulate + 1
    assert f"ranks must get the same batches from their data, at update {update}" in str(results[0])


@pytest.mark.parametrize("callbacks", [[], [lambda state: None]])
def test_validation_batches_that_differ_are_an_error(callbacks):
    class Validation:
        def __init__(self, rank):
            self.rank = rank

        def __iter__(self):
            x = np.full((6, 4, 3), 0.1) + self.rank
            yield x, x[..., :2]

    def fit(comm):
        validation = Validation(comm.Get_rank())
        return gc.fit(regressor(), batches(), 4, comm=comm, validation=validation, callbacks=callbacks, **ERROR)

    results = run_ranks(2, fit, catch=True)
    assert [type(result) for result in results] == [RankError] * 2
    assert "ranks must have the same validation batches, got validation losses" in str(results[0])
    assert [is_reported(result) for result in results] == [False, True]


def test_the_scores_of_the_first_rank_count():
    """A metric may differ between ranks; the decisions, and the histories, are still the same."""

    def fit(comm):
        values = iter([1.0, 2.0, 3.0, 4.0, 5.0] if comm.Get_rank() else [1.0, 5.0, 4.0, 3.0, 2.0])  # one to try it
        x, y = batches()[0]
        model = regressor()
        options = {"metrics": {"value": lambda *_: next(values)}, "monitor": "value", "keep": "best"}
        history = gc.fit(model, batches(), 4, comm=comm, validation=(x, y), evaluate_every=1, **ERROR | options)
        return repr(history.rows), history.best_update, model.parameters.vector.tolist()

    first, second = run_ranks(2, fit)
    assert first == second
    assert first[1] == 1


def test_rows_of_a_rank_have_no_weights():
    """A rank would leave a window out whose weights are all 0 in its part, and no other rank would."""

    class Rows(OwnData):
        def batches(self, size, *_):
            yield from self.batches_of_rows(slice(0, size), size)

        def batches_of_rows(self, rows, size, *_):
            x = np.full((size, 4, 3), 0.1)[rows]
            weights = np.ones(x.shape[:2])
            weights[:, 1] = 0
            for _ in range(3):
                yield Batch(x, x[..., :2], weights[..., None] if self.batch else None)

    def fit(comm, with_weights):
        return gc.fit(regressor(), Rows(with_weights, 0), 4, comm=comm, **ERROR).updates

    assert run_ranks(2, lambda comm: fit(comm, 0)) == [4, 4]
    results = run_ranks(2, lambda comm: fit(comm, 1), catch=True)
    assert [type(result) for result in results] == [ValueError] * 2
    assert "batches_of_rows must yield batches with targets and without weights" in str(results[0])


@pytest.mark.parametrize("name", ["checkpoint", "resume", "callbacks"])
def test_what_the_first_rank_alone_uses_must_be_passed_there(name, tmp_path):
    def fit(comm, rank):
        value = [lambda state: state.history.updates == 1] if name == "callbacks" else tmp_path / "run"
        options = {name: value} if comm.Get_rank() == rank else {}
        return gc.fit(regressor(), batches(), 2, comm=comm, **ERROR | options).updates

    results = run_ranks(2, lambda comm: fit(comm, 1), catch=True)
    assert [type(result) for result in results] == [ValueError] * 2
    assert f"{name} must be passed on rank 0, which alone uses it, got it on rank 1 only" in str(results[0])
    if name != "resume":
        updates = {"checkpoint": 2, "callbacks": 1}[name]
        assert run_ranks(2, lambda comm: fit(comm, 0)) == [updates, updates]


def half(*values, **_):
    return squared_error(*values)


def test_functions_and_objects_are_described_alike_in_each_process():
    """The text of a function has its address, which is another one in each process."""
    for function in (
        partial(half, other=half),
        partial(half, other=object()),
        partial(half, half),
        partial(half, [object(), half]),
    ):
        text = repr(describe_function(function))
        assert "0x" not in text
        assert "half" in text


class MPI(SimpleNamespace):
    """The state of an MPI library, and what is a communicator of it."""


class Comm(FakeComm):
    is_inter = False

    def Is_inter(self):
        return self.is_inter


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, None),
        ({"initialized": False}, "one of MPI that is not started"),
        ({"finalized": True}, "one of MPI that has ended"),
        ({"null": True}, "MPI.COMM_NULL: a process that Split leaves out"),
        ({"inter": True}, "one between two groups of processes"),
    ],
)
def test_a_communicator_must_be_usable(state, message, monkeypatch):
    comm = Comm(SimpleNamespace(size=1), 0)
    comm.is_inter = state.get("inter", False)
    mpi = MPI(
        Comm=Comm,
        COMM_NULL=comm if state.get("null") else None,
        Is_initialized=lambda: state.get("initialized", True),
        Is_finalized=lambda: state.get("finalized", False),
    )
    monkeypatch.setitem(sys.modules, "mpi4py.MPI", mpi)
    if message is None:
        assert Ranks(comm).size == 1
        return
    with pytest.raises(
        ValueError, match=f"comm must be a communicator of mpi4py such as MPI.COMM_WORLD, got {message}"
    ):
        Ranks(comm)
