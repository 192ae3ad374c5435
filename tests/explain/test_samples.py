"""Laws: a data set is the same as an array, a list or a batch; one error states what does not fit."""

import numpy as np
import pytest
from case_loops import loop_over

import glasscell as gc
from glasscell.data import Batch
from glasscell.explain import decodability, dependency, extreme_inputs, unit_differences
from glasscell.explain.quantiles import StreamedQuantiles


def test_a_batch_a_list_and_an_array_are_the_same(latch):
    lengths = 3 + latch.bits[:, 0] * 3
    labels = latch.bits[:, 1]
    array = unit_differences(latch.model, latch.x, labels, lengths=lengths)
    batch = unit_differences(latch.model, Batch(latch.x, latch.bits, None, lengths), labels)
    ragged = unit_differences(latch.model, [x[:n] for x, n in zip(latch.x, lengths, strict=True)], labels)
    for other in (batch, ragged):
        np.testing.assert_array_equal(other.p, array.p)
        np.testing.assert_array_equal(other.difference, array.difference)
    full = unit_differences(latch.model, latch.x, labels)
    np.testing.assert_array_equal(unit_differences(latch.model, list(latch.x), labels).p, full.p)
    np.testing.assert_array_equal(unit_differences(latch.model, latch.x, labels, lengths=[6] * 64).p, full.p)


@pytest.mark.parametrize("exponent", [-1000, -600, 600, 1000])
def test_numbers_of_any_size_are_labels(latch, rng, exponent):
    labels = latch.bits[:, 0] + rng.normal(size=64)
    huge = np.ldexp(labels, exponent)
    for function, names in ((decodability, ("r2", "ridge")), (unit_differences, ("difference", "share", "p"))):
        expected, result = (function(latch.model, latch.x, values) for values in (labels, huge))
        for name in names:
            np.testing.assert_array_equal(getattr(result, name), getattr(expected, name))


@pytest.mark.parametrize("batch_size", [1, 7, 64, 1000])
def test_results_do_not_depend_on_the_size_of_the_passes(latch, batch_size):
    whole = decodability(latch.model, latch.x, latch.bits)
    parts = decodability(latch.model, latch.x, latch.bits, batch_size=batch_size)
    np.testing.assert_allclose(parts.r2, whole.r2, rtol=0, atol=1e-9)


def test_steps_that_one_sequence_of_a_half_has_are_not_scored(latch):
    lengths = np.full(64, 4)
    lengths[:2] = 6
    result = decodability(latch.model, latch.x, latch.bits[:, 1], lengths=lengths)
    assert np.isnan(result.r2[0, 4:]).all()
    assert not np.isnan(result.r2[0, :4]).any()


def test_cells_that_do_not_vary_have_constant_readouts(latch):
    """Before the latched step its unit is 0, and the other one is left out by a symbol of its gate."""
    result = decodability(latch.model, latch.x, latch.bits, symbol="o")
    np.testing.assert_array_equal(result.r2, 0)
    assert np.isinf(result.ridge).all()


def test_the_representations_are_short(latch):
    result = dependency(latch.model, latch.x, inputs=[(0, 0)], replacement="flip")
    assert repr(result) == "Dependency(6 outputs × 1 inputs, replacement 'flip': 64 sequences that were passed)"
    assert len(repr(extreme_inputs(latch.model, latch.x, 0, levels=[]))) < 120
    assert repr(extreme_inputs(latch.model, latch.x, 0)).startswith("ExtremeInputs(c of unit 0 of l0: 384 values, -0.7")


def test_no_values_change_no_quantiles():
    stream = StreamedQuantiles()
    stream.add(np.array([]))
    stream.add(np.array([2.0]))
    assert (stream.count, stream.quantiles(np.array([0.5]))) == (1, 2.0)


def test_models_that_change_the_number_of_steps_are_refused(rng):
    model = gc.Sequential([gc.layers.MaxPooling1D(2), gc.LSTM(2, 3)])
    with pytest.raises(ValueError, match="one step for each of the 6 steps of x, and '1' takes 3"):
        decodability(model, rng.normal(size=(8, 6, 2)), np.arange(8) % 2)
    behind = gc.Sequential([gc.LSTM(2, 3), gc.layers.MaxPooling1D(2)])
    x = rng.normal(size=(8, 6, 2))
    result = dependency(behind, x, replacement=0.0)
    assert result.exact.shape == (3, 6)
    zero = x.copy()
    zero[:, 3] = 0
    change = np.abs(behind(zero) - behind(x)).mean(axis=(0, 2))
    np.testing.assert_allclose(result.exact[:, 3], change, rtol=1e-5, atol=1e-7)


class WithoutTest(gc.tasks.generated.EndlessTask):
    """A task that raises if training sequences are drawn."""

    batch = validation_batch = None


@loop_over(
    ("x", "options", "error", "message"),
    [
        (WithoutTest(), {}, TypeError, "x must be a task with a test_batch, or arrays, got WithoutTest"),
        (Batch(np.zeros((5, 3, 2)), None), {"lengths": [3]}, ValueError, "lengths must be None for a batch"),
        ([np.zeros((3, 2)), np.zeros((4, 2))], {"lengths": [3, 4]}, ValueError, "None for a list of sequences"),
        ([np.zeros((3, 2)), np.zeros((4, 3))], {}, ValueError, "x must be sequences .* got several shapes"),
        (np.zeros((2, 3, 4, 5)), {}, ValueError, r"x must have shape \(N, T, I\), or \(N, T\) for ids or numbers, got"),
        (object(), {}, TypeError, "x must be an array or a list of arrays"),
    ],
)
def test_data_that_do_not_fit_are_one_clear_error(x, options, error, message):
    with pytest.raises(error, match=message):
        dependency(gc.LSTM(2, 3), x, replacement=0.0, **options)


def test_ids_that_do_not_fit_are_one_clear_error(rng):
    model = gc.Sequential([gc.Embedding(5, 3), gc.LSTM(3, 4)])
    ids = rng.integers(5, size=(4, 3))
    with pytest.raises(TypeError, match="x must be ids, integers from 0 to V - 1 = 4, got dtype float64"):
        dependency(model, ids * 1.0)
    with pytest.raises(TypeError, match="replacement must be ids, integers from 0 to V - 1 = 4, got dtype float64"):
        dependency(model, ids, replacement=0.5)
    with pytest.raises(ValueError, match="replacement must be one of 'other', got 'flip'"):
        dependency(model, ids, replacement="flip")
