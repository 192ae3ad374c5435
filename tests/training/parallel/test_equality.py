"""Law: n ranks make the updates that one process makes, to rounding; their weights have the same bits."""

import numpy as np
import pytest
from fake_ranks import run_ranks
from parallel_cases import CASES, MAIN_CASES, OTHER_CASES, train

TOLERANCE = 1e-12


def check_equal(name, n, updates):
    weights, history = train(name, None, updates)
    results = run_ranks(n, lambda comm: train(name, comm, updates))
    first, first_history = results[0]
    for other, other_history in results[1:]:
        np.testing.assert_array_equal(other, first)
        assert repr(other_history.rows) == repr(first_history.rows)
    np.testing.assert_allclose(first, weights, rtol=0, atol=TOLERANCE)
    assert first_history.columns == history.columns
    for column in history.columns:
        np.testing.assert_allclose(first_history[column], history[column], rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("n", [2, 3, 4])
@pytest.mark.parametrize("name", MAIN_CASES)
def test_a_hundred_updates_of_n_ranks_are_those_of_one(name, n):
    check_equal(name, n, 100)


@pytest.mark.parametrize("name", OTHER_CASES)
def test_each_option_gives_the_same_updates(name):
    check_equal(name, 3, 12)


@pytest.mark.parametrize("name", CASES)
def test_one_rank_has_the_bits_of_none(name):
    weights, history = train(name, None, 6)
    ((other, other_history),) = run_ranks(1, lambda comm: train(name, comm, 6))
    np.testing.assert_array_equal(other, weights)
    assert repr(other_history.rows) == repr(history.rows)
