"""Law: who names an engine gets it; who does not, gets the one that the rule of sizes says."""

import numpy as np
import pytest

from glasscell.core import engines, lstm
from glasscell.core.lstm import halved

F4 = np.dtype(np.float32)


def test_an_engine_by_name_is_that_one():
    assert engines.chosen("numpy", 8, 32, 4, F4) is engines.NUMPY
    pytest.importorskip("numba")
    for H, B in ((32, 1), (256, 4)):  # where it is faster, and where it is not
        assert engines.chosen("numba", 8, H, B, F4) is not engines.NUMPY


def test_without_a_name_it_is_the_faster_one():
    pytest.importorskip("numba")
    assert engines.chosen(None, 8, 32, 4, F4) is not engines.NUMPY
    assert engines.chosen(None, 8, 256, 4, F4) is engines.NUMPY


def test_steps_of_large_weights_are_left_to_blas_unless_told_otherwise():
    pytest.importorskip("numba")
    weight = np.empty(engines.LARGE // 4, np.float32)
    assert engines.compiles_steps(None, weight)
    assert not engines.compiles_steps(None, np.empty(len(weight) + 1, np.float32))
    assert engines.compiles_steps("numba", np.empty(len(weight) + 1, np.float32))
    assert not engines.compiles_steps("numpy", weight)


@pytest.mark.parametrize(
    ("K", "T", "B", "by_columns"),
    [(8, 2, 1, True), (9, 2, 1, False), (7, 2, 1, True), (8, 2, 2, False), (8, 2, 0, False)],
)
def test_weights_are_turned_around_for_vectors_of_enough_steps(K, T, B, by_columns):
    W = halved(np.ones((4, K), np.float32), T, B)
    assert W.flags.f_contiguous == by_columns


def test_weights_that_reach_far_are_not_turned_around(monkeypatch):
    monkeypatch.setattr(lstm, "NEAR", 32)
    assert halved(np.ones((4, 8)), 9, 1).flags.f_contiguous
    assert not halved(np.ones((4, 9)), 9, 1).flags.f_contiguous
