"""Laws of the search for minima of the speed, on maps of known minima."""

import numpy as np

from glasscell.core.types import Array
from glasscell.explain.newton import minimize_speed


def test_a_minimum_without_a_root_ends_the_search() -> None:
    """F(s) - s = s² + 0.1 has its minimum at 0, where Newton's method does not converge."""
    calls = 0

    def jacobians(s: Array) -> Array:
        nonlocal calls
        calls += 1
        return 1 + 2 * s[:, :, None]

    search = minimize_speed(lambda s: s + s**2 + 0.1, jacobians, np.array([[0.7], [-3.0]]), 10_000)
    np.testing.assert_allclose(search.residuals, 0.1, rtol=1e-5)
    np.testing.assert_allclose(search.states, 0, atol=0.01)
    assert calls < 300


def test_a_linear_map_takes_one_step() -> None:
    A = np.array([[0.5, 0.2], [-0.1, 0.3]])
    steps = []

    def step(s: Array) -> Array:
        steps.append(len(s))
        return s @ A.T + 1

    search = minimize_speed(step, lambda s: np.tile(A, (len(s), 1, 1)), np.array([[5.0, -7.0]] * 3), 100)
    np.testing.assert_allclose(search.states, [np.linalg.solve(np.eye(2) - A, [1, 1])] * 3, rtol=1e-14)
    assert len(steps) <= 3


def test_the_step_of_a_singular_system_is_the_shortest() -> None:
    """Of a line of fixed points, s_0 + s_1 = 1, the one next to the start is found."""
    J = np.array([[0.5, -0.5], [-0.5, 0.5]])
    search = minimize_speed(lambda s: s @ J.T + 0.5, lambda s: np.tile(J, (len(s), 1, 1)), np.array([[3.0, 0.0]]), 5)
    np.testing.assert_allclose(search.states, [[2.0, -1.0]], rtol=0, atol=1e-14)


def test_values_that_are_not_finite_are_no_improvement() -> None:
    """1 / s has the fixed points ±1; the Newton step from 0.1 is good, that onto 0 is not taken."""
    with np.errstate(divide="ignore"):
        search = minimize_speed(lambda s: 1 / s, lambda s: -1 / s[:, :, None] ** 2, np.array([[0.1], [-5.0]]), 100)
    np.testing.assert_allclose(search.states[:, 0], [1, -1], rtol=1e-12)
