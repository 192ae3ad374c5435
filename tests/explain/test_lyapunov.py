"""Lyapunov exponents of systems whose exponents are known, and of chaos against the separation of two trajectories."""

from typing import Any

import numpy as np
import pytest
from case_loops import loop_over
from known_systems import constant_gates, leaky_gru, random_matrix, relu_rnn, rotation, tanh_rnn

import glasscell as gc
from glasscell.explain import LyapunovSpectrum, fixed_points, lyapunov_spectrum, rest_state
from glasscell.explain.step_inputs import at_each_step
from glasscell.explain.step_maps import StepMap

ZERO = [0.0]


def separation_growth(step: Any, h: Any, steps: int, deviation: float = 1e-7) -> Any:
    """Return the ln growth of a small deviation at each step, after which it is scaled back, in plain NumPy."""
    other = h + deviation * np.eye(len(h))[0]
    growth = []
    for _ in range(steps):
        h, other = step(h), step(other)
        distance = np.linalg.norm(other - h)
        growth.append(np.log(distance / deviation))
        other = h + (other - h) * (deviation / distance)
    return np.array(growth)


def test_saturated_gates_have_ln_f() -> None:
    """h follows c: its exponents are -inf."""
    f = np.array([0.2, 0.9, 0.5])
    spectrum = lyapunov_spectrum(constant_gates(f), ZERO, steps=50)
    np.testing.assert_allclose(spectrum.exponents[:3], np.log([0.9, 0.5, 0.2]), rtol=0, atol=1e-12)
    assert np.isneginf(spectrum.exponents[3:]).all()
    np.testing.assert_allclose(spectrum.local_exponents.mean(axis=0), spectrum.exponents, rtol=1e-12)
    np.testing.assert_allclose(spectrum.standard_errors[:3], 0, atol=1e-12)
    assert spectrum.kaplan_yorke_dimension == 0


@pytest.mark.parametrize("z", [0.1, 0.999])
def test_a_gru_with_a_saturated_update_gate_has_ln_z(z: float) -> None:
    spectrum = lyapunov_spectrum(leaky_gru(np.zeros((3, 3)), z), np.ones((40, 1)))
    np.testing.assert_allclose(spectrum.exponents, np.log(z), rtol=0, atol=1e-12)


def test_a_linear_layer_has_the_logarithms_of_its_eigenvalues(rng: np.random.Generator) -> None:
    A = rng.uniform(0, 0.3, (4, 4))
    A += A.T  # orthogonal eigenvectors: QR iteration converges as the square of the ratios
    eigenvalues = np.sort(np.abs(np.linalg.eigvals(A)))[::-1]
    A *= 0.9 / eigenvalues[0]
    spectrum = lyapunov_spectrum(relu_rnn(A, np.ones(4) * 5), ZERO, steps=3000, transient=2000)
    np.testing.assert_allclose(spectrum.exponents, np.log(eigenvalues * 0.9 / eigenvalues[0]), rtol=0, atol=1e-10)


def test_a_rotation_has_0() -> None:
    spectrum = lyapunov_spectrum(rotation(1.0), ZERO, steps=500, state=(np.array([[9.0, 10.0]]),))
    np.testing.assert_allclose(spectrum.exponents, 0, atol=1e-12)
    np.testing.assert_allclose(spectrum.local_exponents, 0, atol=1e-12)


def test_a_stable_fixed_point_has_its_eigenvalues(rng: np.random.Generator) -> None:
    lstm = gc.LSTM(2, 3, dtype=np.float64)
    x = rng.normal(size=2)
    points = fixed_points(lstm, x)
    assert points.is_stable.tolist() == [True]
    spectrum = lyapunov_spectrum(lstm, x, steps=4000, transient=2000, state=rest_state(lstm, x))
    expected = np.log(np.abs(points.eigenvalues[0]))
    np.testing.assert_allclose(spectrum.exponents, expected, rtol=0, atol=1e-3)  # of complex pairs: 1/steps


@pytest.mark.parametrize("kind", ["RNN", "GRU"])
def test_chaos_separates_two_trajectories_at_the_largest_exponent(kind: str) -> None:
    """A tanh RNN, and Euler's method of a continuous-time one: both from the same state, over the same steps."""
    W, z = random_matrix(), 0.5
    rnn: Any = tanh_rnn(W) if kind == "RNN" else leaky_gru(W, z)
    h = np.full(16, 0.1)

    def step(h: Any) -> Any:
        return np.tanh(W @ h) if kind == "RNN" else z * h + (1 - z) * np.tanh(W @ h)

    # Each step agrees until rounding separates the two computations; after that the means agree.
    first = lyapunov_spectrum(rnn, ZERO, steps=70, transient=0, num_exponents=1, state=(h[None],))
    growth = separation_growth(step, h, 4000)
    np.testing.assert_allclose(first.local_exponents[:, 0], growth[:70], rtol=0, atol=1e-5)
    spectrum = lyapunov_spectrum(rnn, ZERO, steps=4000, state=(h[None],))
    assert spectrum.exponents[0] > 0.05
    assert spectrum.standard_errors[0] < 0.01
    np.testing.assert_allclose(spectrum.exponents[0], growth[400:].mean(), rtol=0, atol=0.02)
    assert (np.diff(spectrum.exponents) <= 0).all()
    assert 1 < spectrum.kaplan_yorke_dimension < 16


def test_the_sum_is_the_mean_logarithm_of_the_determinants(rng: np.random.Generator) -> None:
    """Of a whole model, under a changing input: volumes contract by abs(det J)."""
    model = gc.Sequential([gc.LSTM(2, 3, dtype=np.float64), gc.GRU(3, 2, dtype=np.float64)], seed=0)
    x = rng.normal(size=(150, 2))
    trace = model.trace(x)
    spectrum = lyapunov_spectrum(model, x, transient=0)
    step_map = StepMap(model)
    layers = [trace.layer[0].h, trace.layer[0].c, trace.layer[1].h]
    states = np.concatenate([np.zeros((1, 8)), np.concatenate(layers, axis=1)[:-1]])
    jacobians = step_map.jacobians(states, at_each_step(step_map.inputs.sequence(x, None)))
    expected = np.linalg.slogdet(jacobians)[1].mean()
    np.testing.assert_allclose(spectrum.exponents.sum(), expected, rtol=1e-10)


def test_some_exponents_are_the_first_of_all(rng: np.random.Generator) -> None:
    lstm, x = gc.LSTM(2, 4), rng.normal(size=(200, 2))
    every, some = lyapunov_spectrum(lstm, x), lyapunov_spectrum(lstm, x, num_exponents=3)
    np.testing.assert_allclose(some.local_exponents, every.local_exponents[:, :3], rtol=0, atol=1e-9)
    assert some.local_exponents.shape == (180, 3)
    np.testing.assert_allclose(some.running_means[-1], some.exponents, rtol=1e-10)


def test_standard_errors_are_those_of_means_of_blocks() -> None:
    """Independent local exponents: the error of their mean is σ/√T."""
    W = np.array([[1.0]])
    gru = leaky_gru(W * 0, 0.5, input_weights=1.0)
    gru.parameters["kernel_l0"][1, 1] = 1.0  # the update gate depends on the input
    gru.parameters["kernel_l0"][1, -1] = 0.0
    x = np.random.default_rng(0).normal(size=(4000, 1))
    spectrum = lyapunov_spectrum(gru, x, transient=0)
    local = -np.log1p(np.exp(-x[:, 0]))  # ln σ(x)
    np.testing.assert_allclose(spectrum.local_exponents[:, 0], local, rtol=1e-10)
    means = local.reshape(10, 400).mean(axis=1)
    np.testing.assert_allclose(spectrum.standard_errors[0], means.std(ddof=1) / np.sqrt(10), rtol=1e-8)
    assert 0.3 < spectrum.standard_errors[0] / (local.std() / np.sqrt(4000)) < 3


@pytest.mark.parametrize(
    ("exponents", "n", "dimension"),
    [
        ([-1.0, -2.0], 2, 0.0),
        ([0.5, -1.0, -3.0], 3, 1.5),
        ([0.5, 0.0, -1.0], 3, 2.5),
        ([0.1, 0.0], 2, 2.0),
        ([0.1, 0.0], 5, np.nan),
        ([0.0, -0.5], 5, 1.0),
    ],
)
def test_the_kaplan_yorke_dimension_is_that_of_its_definition(exponents: list[float], n: int, dimension: float) -> None:
    values = np.array(exponents)
    result = LyapunovSpectrum(values, values, values[None], n).kaplan_yorke_dimension
    np.testing.assert_allclose(result, dimension)


def test_a_single_step_has_no_standard_error() -> None:
    spectrum = lyapunov_spectrum(gc.RNN(1, 2), [[1.0]])
    assert np.isnan(spectrum.standard_errors).all()
    assert repr(spectrum).startswith("LyapunovSpectrum(")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"transient": 5}, ValueError, "transient must be below the number of steps, 5, got 5"),
        ({"transient": -1}, ValueError, "transient must be at least 0, got -1"),
        ({"num_exponents": 0}, ValueError, "num_exponents must be at least 1, got 0"),
        ({"num_exponents": 5}, ValueError, "num_exponents must be at most n = 4, got 5"),
        ({"state": np.zeros((2, 1, 3))}, ValueError, r"state\.h must have shape \(L, H\) = \(1, 2\), got \(1, 3\)"),
    ],
)
def test_an_argument_that_does_not_fit_is_an_error(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        lyapunov_spectrum(gc.LSTM(1, 2), np.zeros((5, 1)), **arguments)


def test_a_trajectory_that_diverges_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="the trajectory must stay finite, but diverges at step 1023"):
        lyapunov_spectrum(relu_rnn([[2.0]], [1.0]), ZERO, steps=2000)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "ids"])
def test_a_batch_has_the_spectrum_of_each_sequence(kind: str, rng: np.random.Generator) -> None:
    """With lengths, and an initial state of each."""
    if kind == "ids":
        model: Any = gc.Sequential([gc.Embedding(5, 3), gc.LSTM(3, 4)])
        x: Any = rng.integers(0, 5, (3, 12))
        states: Any = [None] * 3
        state = None
    else:
        model = getattr(gc, kind)(2, 4, dtype=np.float64)
        x, h = rng.normal(size=(3, 12, 2)), rng.normal(size=(3, 4))
        kind_of_state = type(model.forward(x)[1])
        parts = [h[None] / n for n in range(1, 1 + len(kind_of_state._fields))]
        state = kind_of_state(*parts)
        states = [kind_of_state(*(part[:, b] for part in parts)) for b in range(3)]
    lengths = [12, 1, 7]
    spectra = lyapunov_spectrum(model, x, lengths=lengths, state=state, num_exponents=3)
    assert len(spectra) == 3
    for b, (one, length) in enumerate(zip(spectra, lengths, strict=True)):
        alone = lyapunov_spectrum(model, x[b, :length], state=states[b], num_exponents=3)
        np.testing.assert_array_equal(one.exponents, alone.exponents)
        np.testing.assert_array_equal(one.local_exponents, alone.local_exponents)


@loop_over(
    ("arguments", "message"),
    [
        ({"x": np.ones((2, 5, 2)), "steps": 3}, "steps must be None for sequences x, got 3"),
        ({"x": np.ones((2, 5, 2)), "lengths": [5, 0]}, "lengths must be one from 1 to 5 for each of 2 sequences"),
        ({"x": np.ones((2, 5, 2)), "lengths": [5]}, "lengths must be one from 1 to 5 for each of 2 sequences"),
        ({"x": np.ones((5, 2)), "lengths": [5]}, "lengths must be None unless x has a batch axis"),
        ({"x": np.ones((0, 5, 2))}, "x must have at least one sequence, got none"),
        ({"x": np.ones((2, 5, 3))}, "x must have shape"),
        ({"x": np.ones((2, 2, 5, 2))}, "x must have shape"),
    ],
)
def test_wrong_batches_raise_one_clear_error(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lyapunov_spectrum(gc.LSTM(2, 4), **arguments)
