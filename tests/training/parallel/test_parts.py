"""Laws of the parts: sequences are divided evenly, sums are the same on all ranks, threads are divided."""

import numpy as np
import pytest
from fake_ranks import run_ranks
from hypothesis import given
from hypothesis import strategies as st

import glasscell as gc
from glasscell.core import blas_threads
from glasscell.data import Batch
from glasscell.training.parallel import ranks as ranks_module
from glasscell.training.parallel import shares
from glasscell.training.parallel.messages import UpdateMessage
from glasscell.training.parallel.ranks import Ranks


@given(st.lists(st.integers(0, 100), min_size=1, max_size=40), st.integers(1, 9))
def test_lengths_are_divided_evenly(lengths, size):
    owners = shares.divide(len(lengths), size, np.array(lengths))
    loads = np.bincount(owners, lengths, minlength=size)
    numbers = np.bincount(owners, minlength=size)
    assert loads.max() - loads.min() <= max(lengths)
    assert (numbers > 0).sum() == min(size, len(lengths))
    np.testing.assert_array_equal(owners, shares.divide(len(lengths), size, np.array(lengths)))


@given(st.integers(0, 40), st.integers(1, 9))
def test_equal_sequences_are_divided_in_order(number, size):
    owners = shares.divide(number, size)
    numbers = np.bincount(owners, minlength=size)
    assert numbers.max() - numbers.min() <= 1
    assert (np.diff(owners) >= 0).all()


@pytest.mark.parametrize("lengths", [None, np.array([3, 1, 4, 1, 5])])
def test_states_are_divided_and_joined(lengths, rng):
    states = (None, (rng.normal(size=(2, 5)), (rng.normal(size=5),)))
    owners = shares.divide(5, 3, lengths)
    parts = [shares.take_states(states, shares.rows_of(owners, rank)) for rank in range(3)]
    joined = shares.join_states(parts, owners)
    assert joined[0] is None
    np.testing.assert_array_equal(joined[1][0], states[1][0])
    np.testing.assert_array_equal(joined[1][1][0], states[1][1][0])


@pytest.mark.parametrize("weights", [None, (4, 3, 1), (4, 1, 1), (1, 3, 1), (3, 1), (1,)])
def test_weights_that_broadcast_stay(weights, rng):
    batch = Batch(np.zeros((4, 3, 2)), np.zeros((4, 3, 2)), None if weights is None else rng.random(weights))
    whole = np.broadcast_to(1 if weights is None else batch.weights, (4, 3, 2))
    share = shares.take_rows(batch, slice(1, 3))
    np.testing.assert_array_equal(np.broadcast_to(1 if share.weights is None else share.weights, (2, 3, 2)), whole[1:3])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 2, 5, 16, 1001])
def test_sums_have_the_same_bits(size, dtype):
    def run(comm):
        ranks = Ranks(comm)
        message = UpdateMessage(ranks, size, dtype)
        gradient = np.random.default_rng(ranks.rank).normal(size=size).astype(dtype)
        message.clear()
        message.add(gradient, 3.0)
        message.add(gradient, 1.0)
        message.status["loss"] = ranks.rank
        statuses = message.exchange()
        result = np.zeros(size, dtype)
        message.finish(10.0, result)
        return result, gradient, statuses["loss"]

    results = run_ranks(3, run)
    expected = sum(np.float64(gradient) for _, gradient, _ in results) * 4 / 10
    for result, _, losses in results:
        np.testing.assert_array_equal(result, results[0][0])
        np.testing.assert_allclose(result, expected, rtol=10 * np.finfo(dtype).eps, atol=np.finfo(dtype).eps)
        assert losses.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("cores", "expected"),
    [([[0, 1, 2, 3]] * 3, [1, 1, 1]), ([[0, 1, 2, 3]] * 2, [2, 2]), ([[0, 1], [2, 3]], [2, 2]), ([[0]] * 2, [1, 1])],
)
def test_cores_are_divided_among_the_ranks_that_share_them(cores, expected, monkeypatch):
    monkeypatch.setattr(ranks_module, "max_threads", lambda: 8)

    def run(comm):
        ranks = Ranks(comm)
        ranks.cores = lambda: cores[ranks.rank]
        return ranks.threads()

    assert run_ranks(len(cores), run) == expected


def test_a_rank_uses_its_threads_alone(monkeypatch):
    monkeypatch.setattr(blas_threads, "_blas_threads", lambda: 4)
    monkeypatch.setattr(blas_threads.os, "sched_getaffinity", lambda _: range(4), raising=False)
    seen = []

    def run(comm):
        model = gc.Sequential([gc.LSTM(2, 3), gc.Linear(3, 1)])
        data, callback = (np.ones((4, 2, 2)), np.ones((4, 2, 1))), lambda _: seen.append(blas_threads.max_threads())
        gc.fit(model, data, 2, comm=comm, callbacks=[callback], loss="squared_error")

    run_ranks(2, run)
    assert seen == [2, 2]
    assert blas_threads.max_threads() == 4
