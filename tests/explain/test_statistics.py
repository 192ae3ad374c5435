"""Laws: p-values equal closed forms and those of SciPy; corrections reject what their papers reject."""

import numpy as np
import pytest

from glasscell.explain.statistics import adjust_p, regularized_beta, share_p, t_test_p

# Benjamini & Hochberg (1995), section 3.2: 15 p-values, of which their procedure rejects 4 at 0.05, Bonferroni 3.
PAPER = [
    0.0001,
    0.0004,
    0.0019,
    0.0095,
    0.0201,
    0.0278,
    0.0298,
    0.0344,
    0.0459,
    0.3240,
    0.4262,
    0.5719,
    0.6528,
    0.759,
    1,
]


def test_the_incomplete_beta_function_equals_its_closed_forms(rng):
    x, a = rng.uniform(0, 1, 200), 10 ** rng.uniform(-1, 3, 200)
    np.testing.assert_allclose(regularized_beta(x, a, 1), x**a, rtol=1e-11, atol=1e-300)
    np.testing.assert_allclose(regularized_beta(x, 1, a), -np.expm1(a * np.log1p(-x)), rtol=1e-11)
    np.testing.assert_allclose(regularized_beta(x, 0.5, 0.5), 2 / np.pi * np.arcsin(np.sqrt(x)), rtol=1e-12)
    np.testing.assert_allclose(regularized_beta(x, a, 3.5) + regularized_beta(1 - x, 3.5, a), 1, rtol=1e-12)
    np.testing.assert_array_equal(regularized_beta([0.0, 1.0], 2, 3), [0, 1])


def test_students_t_equals_its_closed_forms_and_tables():
    t = np.array([-7.0, 0.0, 0.3, 2.0, 40.0])
    np.testing.assert_allclose(t_test_p(t, 1), 1 - 2 / np.pi * np.arctan(np.abs(t)), rtol=1e-11)
    np.testing.assert_allclose(t_test_p(t, 2), 1 - np.abs(t) / np.sqrt(2 + t**2), rtol=1e-11)
    tables = [(12.706, 1), (2.2281, 10), (1.9840, 100), (1.96004, 1e6)]  # of t at 0.05, two-sided
    np.testing.assert_allclose([t_test_p(*pair) for pair in tables], 0.05, rtol=1e-3)


def test_p_values_equal_those_of_scipy(rng):
    special = pytest.importorskip("scipy.special")
    x, a, b = rng.uniform(0, 1, 2000), *10 ** rng.uniform(-1, 4, (2, 2000))
    expected = special.betainc(a, b, x)
    np.testing.assert_allclose(regularized_beta(x, a, b), expected, rtol=1e-8, atol=1e-11)
    share, classes, residual = rng.uniform(0, 1, 50), rng.integers(1, 9, 50), rng.integers(1, 500, 50)
    f = share / classes / ((1 - share) / residual)
    np.testing.assert_allclose(share_p(share, classes, residual), special.fdtrc(classes, residual, f), rtol=1e-9)


def test_corrections_reject_the_tests_that_the_paper_rejects():
    p = np.array(PAPER)
    assert (adjust_p(p, "benjamini-hochberg") <= 0.05).sum() == 4
    assert (adjust_p(p, "bonferroni") <= 0.05).sum() == 3


def test_adjusted_p_values_keep_order_and_place(rng):
    p = rng.uniform(0, 1, (3, 4, 5))
    p[1, 2] = np.nan
    for correction in ("benjamini-hochberg", "bonferroni"):
        adjusted = adjust_p(p, correction)
        np.testing.assert_array_equal(np.isnan(adjusted), np.isnan(p))
        tests, result = p[~np.isnan(p)], adjusted[~np.isnan(p)]
        assert (np.diff(result[np.argsort(tests)]) >= 0).all()
        assert (result >= tests).all()
        assert result.max() <= 1
        for level in (0.01, 0.05, 0.5):  # the step-up procedure, in the words of the paper
            ranks = np.arange(1, len(tests) + 1)
            passed = np.flatnonzero(np.sort(tests) <= ranks / len(tests) * level)
            expected = 0 if not len(passed) else passed[-1] + 1
            if correction == "bonferroni":
                expected = (tests <= level / len(tests)).sum()
            assert (result <= level).sum() == expected
    assert np.isnan(adjust_p(np.array([np.nan]), "benjamini-hochberg")).all()
