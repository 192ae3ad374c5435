"""Laws: units differ where a cell holds the label, by the known amount; shuffled labels give no significant unit."""

import numpy as np
import pytest
from case_loops import loop_over
from known_models import LATCHED, T

import glasscell as gc
from glasscell.explain import unit_differences

HELD = 2 * np.tanh(1)  # the cell holds tanh(±1)


def test_differences_are_those_of_the_latch(latch):
    result = unit_differences(latch.model, latch.x, latch.bits)
    expected = np.zeros((T, T, 2))
    expected[LATCHED, LATCHED:, 0] = HELD
    expected[np.arange(T), np.arange(T), 1] = HELD
    np.testing.assert_allclose(result.difference, expected, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(result.is_significant, expected > 0)
    np.testing.assert_allclose(result.share, (expected > 0).astype(float), atol=1e-12)
    np.testing.assert_array_equal(result.p, (expected == 0).astype(float))
    assert result.tests == result.p.size
    assert result.holders(LATCHED, LATCHED).tolist() == [0, 1]
    assert result.holders(LATCHED, 5).tolist() == [0]
    assert result.holders(0, 5).tolist() == []


def cells_of(trained):
    integers = np.arange(16)
    bits = gc.tasks.binary.encode(integers, 4)
    return trained.trace(trained.task.make_batch([bits]).inputs).layer[0].c.astype(float), bits


def test_two_classes_equal_welchs_test(trained):
    stats = pytest.importorskip("scipy.stats")
    c, bits = cells_of(trained)
    result = unit_differences(trained, trained.task)
    for k, t in ((0, 4), (2, 6), (3, 8)):
        one, zero = c[bits[:, k] == 1, t], c[bits[:, k] == 0, t]
        np.testing.assert_allclose(result.difference[k, t], one.mean(0) - zero.mean(0), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(result.p[k, t], stats.ttest_ind(one, zero, equal_var=False).pvalue, rtol=1e-7)


def test_more_classes_and_numbers_equal_variance_analysis_and_regression(trained, rng):
    stats = pytest.importorskip("scipy.stats")
    c, _ = cells_of(trained)
    labels = {"class": np.arange(16) % 3, "number": rng.normal(size=16)}
    result = unit_differences(trained, trained.task, labels)
    for t, unit in ((2, 0), (5, 3), (8, 15)):
        values = c[:, t, unit]
        groups = [values[labels["class"] == k] for k in range(3)]
        assert result.p[0, t, unit] == pytest.approx(stats.f_oneway(*groups).pvalue, rel=1e-7)
        between = sum(len(group) * (group.mean() - values.mean()) ** 2 for group in groups)
        assert result.share[0, t, unit] == pytest.approx(between / ((values - values.mean()) ** 2).sum(), rel=1e-9)
        line = stats.linregress(labels["number"], values)
        assert result.p[1, t, unit] == pytest.approx(line.pvalue, rel=1e-7)
        assert result.share[1, t, unit] == pytest.approx(line.rvalue**2, rel=1e-7)
        assert result.difference[1, t, unit] == pytest.approx(line.slope * labels["number"].std(), rel=1e-7)
    assert np.isnan(result.difference[0]).all()


@pytest.mark.parametrize("correction", ["benjamini-hochberg", "bonferroni"])
def test_shuffled_labels_have_no_significant_units(latch, rng, correction):
    labels = {f"{k}": rng.permutation(np.arange(64) % 2) for k in range(20)}
    labels |= {"classes": rng.permutation(np.arange(64) % 4), "number": rng.normal(size=64)}
    result = unit_differences(latch.model, latch.x, labels, correction=correction)
    assert not result.is_significant.any()
    assert np.mean(result.p[:20, 3] < 0.05) < 0.2


def test_rounding_errors_of_a_batch_are_no_differences(trained):
    """The last bit alternates with the place in the batch, on which the order of a product's sums depends."""
    result = unit_differences(trained, trained.task)
    for k in range(4):
        assert not result.is_significant[k, :k].any()
        np.testing.assert_allclose(result.p[k, :k], 1)
        np.testing.assert_allclose(result.difference[k, :k], 0, atol=1e-6)


def test_results_do_not_depend_on_the_order_of_the_sequences(trained, rng):
    _, bits = cells_of(trained)
    x, order = trained.task.make_batch([bits]).inputs, rng.permutation(16)
    first, second = unit_differences(trained, x, bits), unit_differences(trained, x[order], bits[order])
    np.testing.assert_allclose(second.difference, first.difference, atol=1e-6)
    np.testing.assert_allclose(second.p, first.p, rtol=1e-3, atol=1e-9)


def test_steps_after_the_end_of_sequences_do_not_count(latch):
    lengths = np.where(latch.bits[:, 0] == 1, 6, 4)
    result = unit_differences(latch.model, latch.x, latch.bits[:, [0, 1, LATCHED]], lengths=lengths)
    assert np.isnan(result.p[0, 4:]).all()
    assert np.isnan(result.difference[0, 4:]).all()
    assert not result.is_significant[0, 4:].any()
    np.testing.assert_allclose(result.difference[2, 4:, 0], HELD)
    part = latch.bits[:, 0] == 1
    alone = unit_differences(latch.model, latch.x[part], latch.bits[part][:, [1, LATCHED]])
    np.testing.assert_allclose(result.difference[1:, 4:], alone.difference[:, 4:], atol=1e-12)
    np.testing.assert_allclose(result.p[1:, 4:], alone.p[:, 4:], atol=1e-12)


def test_labels_of_steps_are_compared_at_their_step(latch):
    previous = np.roll(latch.bits, 1, axis=1)
    result = unit_differences(latch.model, latch.x, {"now": latch.bits, "before": previous})
    held = np.zeros((T, 2))
    held[:, 1] = held[LATCHED, 0] = HELD
    np.testing.assert_allclose(result.difference[0], held, atol=1e-12)
    np.testing.assert_array_equal(result.is_significant[0], held > 0)
    assert result.is_significant[1].sum() == 1
    assert result.is_significant[1, LATCHED + 1, 0]


def test_classes_that_are_rare_or_absent_do_not_hide_the_others(latch):
    stats = pytest.importorskip("scipy.stats")
    labels = np.arange(64) % 4
    labels[7] = 9  # one sequence
    lengths = np.full(64, 6)
    lengths[labels == 2] = 3
    result = unit_differences(latch.model, latch.x, labels, lengths=lengths, symbol="h")
    h = latch.model.layers[0].trace(latch.x).layer[0].h
    for t, classes in ((2, (0, 1, 2, 3, 9)), (4, (0, 1, 3, 9))):
        groups = [h[labels == k, t, 1] for k in classes]
        assert result.p[0, t, 1] == pytest.approx(stats.f_oneway(*groups).pvalue, rel=1e-7)


def test_steps_of_too_few_sequences_have_no_test(latch):
    lengths = np.full(64, 3)
    lengths[[0, 1]] = 4  # two sequences have step 3
    lengths[[0, 1, 4]] += 1  # three have step 3, two step 4
    labels = {"number": latch.x[:, 0, 0] * (1 + np.arange(64)), "class": np.arange(64) % 3}
    result = unit_differences(latch.model, latch.x, labels, lengths=lengths)
    assert not np.isnan(result.p[:, :3]).any()
    assert not np.isnan(result.p[0, 3]).any()
    assert np.isnan(result.p[0, 4:]).all()
    assert np.isnan(result.difference[0, 4:]).all()
    assert not np.isnan(result.p[1, 3]).any()  # two classes: 0, 1 and 1
    assert np.isnan(result.p[1, 4:]).all()  # as many sequences as classes


def test_two_sequences_of_a_class_are_enough(latch):
    labels = np.zeros(64, int)
    labels[[3, 5]] = 1
    result = unit_differences(latch.model, latch.x, labels)
    assert not np.isnan(result.p).any()


def test_an_adjusted_value_at_the_level_is_significant(trained):
    values = np.unique(unit_differences(trained, trained.task).adjusted_p)
    level = float(values[(values > 0) & (values < 1)][0])
    result = unit_differences(trained, trained.task, level=level)
    assert (result.is_significant & (result.adjusted_p == level)).any()


def test_the_level_is_that_of_the_adjusted_values(trained):
    strict, loose = (unit_differences(trained, trained.task, level=level) for level in (1e-6, 0.2))
    np.testing.assert_array_equal(strict.p, loose.p)
    np.testing.assert_array_equal(loose.is_significant, loose.adjusted_p <= 0.2)
    assert strict.is_significant.sum() < loose.is_significant.sum()


@loop_over(
    ("arguments", "message"),
    [
        ({"labels": np.zeros(64, int)}, "a data set with one class"),
        ({"labels": np.r_[1, np.zeros(63, int)]}, "at least two sequences of each class, got one in 'label'"),
        ({"labels": np.arange(64)}, "x must have at least 65 sequences for the label 'label', got 64"),
        ({"correction": "none"}, "correction must be one of 'benjamini-hochberg', 'bonferroni', got 'none'"),
        ({"level": 0}, "level must be above 0 and below 1, got 0"),
        ({"level": 1}, "level must be at least 0 and below 1, got 1"),
        ({"symbol": "d_c"}, "d_c needs a target"),
    ],
)
def test_values_that_do_not_fit_are_one_clear_error(latch, arguments, message):
    with pytest.raises(ValueError, match=message):
        unit_differences(latch.model, latch.x, **({"labels": latch.bits[:, 0]} | arguments))
