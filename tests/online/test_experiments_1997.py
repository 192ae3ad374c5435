"""Laws of the experiments of 1997: they are reproducible, they solve short lags, and they stop by their criterion."""

import pytest

from glasscell.core.packages import is_installed
from glasscell.online import experiments_1997

compiled = pytest.mark.skipif(not is_installed("numba"), reason="pip install -e '.[jit]': NumPy takes 20 seconds")


def test_a_short_lag_is_solved():
    scores = experiments_1997.noise_free_lag(0, lag=4)
    assert scores == experiments_1997.noise_free_lag(0, lag=4)
    assert scores["solved"] is True
    assert 0 < scores["sequences_before_cell"] < scores["sequences"] < 20_000
    assert scores["sequences_before_cell"] < scores["sequences_to_test"] <= scores["sequences"] + 100


def test_the_cell_of_a_lag_is_added_after_a_number_of_sequences():
    scores = experiments_1997.noise_free_lag(0, lag=4, cell_after=400, max_sequences=500)
    assert (scores["sequences_before_cell"], scores["sequences_to_test"]) == (400, -1)


def test_without_success_training_stops_at_the_largest_number_of_sequences():
    scores = experiments_1997.noise_free_lag(0, lag=4, max_sequences=300)
    assert scores["solved"] is False
    assert 0 <= scores["sequences"] <= 300


@compiled
@pytest.mark.parametrize("name", ["adding", "multiplication"])
def test_marked_numbers_are_trained_and_tested(name):
    train = getattr(experiments_1997, name)
    scores = train(1, max_sequences=200)
    assert scores["solved"] is False
    assert scores["sequences"] == 200
    assert scores["sequences_to_90_percent"] == -1
    assert 1500 < scores["wrong"] < 2560
    assert scores["squared_error"] < 0.1 < scores["absolute_error"] < 0.3
    assert scores == train(1, max_sequences=200)
    assert scores != train(2, max_sequences=200)


@compiled
def test_the_criterion_of_multiplication_counts_the_most_recent_sequences():
    scores = experiments_1997.multiplication(0, max_incorrect=2000, max_sequences=9000)
    assert scores["solved"] is True
    assert scores["sequences"] == experiments_1997.RECENT
