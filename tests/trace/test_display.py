"""Law: rows, names and colors of the views are those of the trace, also without targets."""

from dataclasses import replace

import numpy as np
import pytest

import glasscell as gc
from glasscell.trace import display

T, I, H = 5, 3, 4


def test_a_scale_of_one_number_has_its_middle_color():
    share = display.ColorScale(2.0, 2.0, "sequential").share(np.array([2.0, np.nan, 7.0]))
    np.testing.assert_array_equal(share, [0.5, 0.5, 0.5])


def test_a_symbol_without_a_name_is_its_own_name():
    assert display.symbol_name("q") == "q"
    assert display.symbol_name("d_q") == "gradient on the q"


def test_a_layer_of_a_batch_is_no_view(rng):
    trace = gc.LSTM(I, H, engine="numpy").trace(rng.normal(size=(2, T, I)))
    with pytest.raises(
        ValueError, match=r"all units and steps of one sequence: choose trace\.sequence\(0\) of a batch"
    ):
        display.resolve_layer(trace.layer[0])


def test_predictions_without_targets_are_neither_right_nor_wrong(rng):
    bits = replace(gc.CopyLSTM(H, seed=1).trace([1, 0, 1]), targets=None)
    expected = np.where(display.steps_with_target(bits), (bits.outputs[:, 0] > 0).astype(int).astype(str), "")
    [row] = display.output_rows(bits)
    assert (row.wrong, row.expected, row.bits) == (None, None, True)
    assert row.texts == tuple(expected)
    model = gc.Sequential([gc.LSTM(I, H, engine="numpy", seed=1), gc.Linear(H, 3, seed=2)])
    traced = model.trace(rng.normal(size=(T, I)), rng.integers(3, size=T), loss="categorical_cross_entropy")
    [row] = display.output_rows(replace(traced, targets=None))
    assert (row.wrong, row.expected) == (None, None)
    assert row.texts == tuple(map(str, traced.outputs.argmax(axis=1)))
    assert display.all_steps_correct(replace(traced, targets=None)) is None
