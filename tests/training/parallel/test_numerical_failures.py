"""Law: a failure of numbers, and what is done about it, is the same on all ranks and in one process."""

import math

import numpy as np
import pytest
from fake_ranks import run_ranks
from parallel_cases import CASES, ERROR, arrays, regressor, weighted_data

import glasscell as gc
from glasscell.training import TrainingDataError, TrainingError, TrainingWarning

N = 3


def hole(data):
    """Set one number to NaN."""
    data.x[13, 1, 2] = math.nan
    return data


def fit_with_failures(comm, **options):
    model = regressor()
    history = gc.fit(model, hole(arrays()), 12, comm=comm, **(ERROR | options))
    return model.parameters.vector.copy(), history


def test_updates_are_skipped_by_all_ranks():
    with pytest.warns(TrainingWarning):
        weights, history = fit_with_failures(None, on_failure="skip")
    with pytest.warns(TrainingWarning):
        results = run_ranks(N, lambda comm: fit_with_failures(comm, on_failure="skip"))
    for other, other_history in results:
        np.testing.assert_allclose(other, weights, rtol=0, atol=1e-12)
        assert len(other_history.failures) == len(history.failures) > 0
        assert [entry["update"] for entry in other_history.failures] == [entry["update"] for entry in history.failures]
        assert "(sequence 13 of the data)" in other_history.failures[0]["message"]


@pytest.mark.parametrize("callbacks", [[], [lambda state: None]])
def test_data_that_are_not_finite_are_the_same_error_on_all_ranks(callbacks):
    results = run_ranks(N, lambda comm: fit_with_failures(comm, callbacks=callbacks), catch=True)
    assert {type(result) for result in results} == {TrainingDataError}
    assert len({str(result) for result in results}) == 1
    assert "(sequence 13 of the data)" in str(results[0])


def test_states_that_are_not_finite_are_replaced_on_all_ranks():
    def fit(comm):
        model = CASES["continuous"][1]()
        history = gc.fit(
            model,
            ContinuousHole(),
            8,
            comm=comm,
            on_failure="skip",
            loss=CASES["continuous"][2]["loss"],
            batch_size=5,
            divergence_factor=None,
        )
        return model.parameters.vector.copy(), history

    with pytest.warns(TrainingWarning):
        weights, _ = fit(None)
    with pytest.warns(TrainingWarning):
        results = run_ranks(2, fit)
    for other, _ in results:
        np.testing.assert_allclose(other, weights, rtol=0, atol=1e-12)


class ContinuousHole:
    """Text whose third batch has targets with a weight that is not finite."""

    def batches(self, size, rng, dtype):
        for number, batch in enumerate(CASES["continuous"][0]().batches(size, rng, dtype)):
            weights = np.ones(batch.targets.shape)
            weights[4, 1] = math.inf if number == 2 else 1
            yield batch._replace(weights=weights)

    def validation(self, *_):
        return None


@pytest.mark.parametrize("policy", ["raise", "restore_best_and_halve_lr"])
def test_divergence_is_found_at_the_same_update(policy):
    options = {"optimizer": gc.SGD(30.0), "clip_norm": None, "divergence_factor": 1.5, "on_failure": policy}

    def fit(comm):
        model = regressor()
        try:
            return gc.fit(model, weighted_data(), 150, comm=comm, **(ERROR | options))
        except TrainingError as error:
            return error

    with np.errstate(all="ignore"):
        if policy == "raise":
            alone, results = fit(None), run_ranks(2, fit, catch=True)
            assert isinstance(alone, TrainingError)
            assert [result.update for result in results] == [alone.update] * 2
            assert str(results[0]) == str(results[1])
            assert results[0].kind == alone.kind
        else:
            with pytest.warns(TrainingWarning):
                alone = fit(None)
            with pytest.warns(TrainingWarning):
                results = run_ranks(2, fit)
            updates = [[entry["update"] for entry in getattr(r, "history", r).failures] for r in (alone, *results)]
            assert updates[0] == updates[1] == updates[2] != []
