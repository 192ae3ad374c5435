"""Fixed points of systems whose fixed points are known: places, number, eigenvalues and stability."""

from typing import Any

import numpy as np
import pytest
from case_loops import loop_over
from known_systems import bisect, constant_gates, flip_flop, leaky_gru, relu_rnn, rotation, tanh_rnn

import glasscell as gc
from glasscell.explain import fixed_points, rest_state

ZERO = [0.0]


def check_points(points: Any, states: Any, eigenvalues: Any) -> None:
    """The points are these, in any order, each with its eigenvalues."""
    assert len(points) == len(states)
    for state, values in zip(states, eigenvalues, strict=True):
        k = int(np.argmin(np.linalg.norm(points.states - state, axis=1)))
        np.testing.assert_allclose(points.states[k], state, rtol=0, atol=1e-12)
        np.testing.assert_allclose(np.sort_complex(points.eigenvalues[k]), np.sort_complex(values), rtol=0, atol=1e-9)
        assert points.is_stable[k] == (np.abs(values).max() < 1)
        assert points.num_unstable[k] == np.count_nonzero(np.abs(values) > 1)


@pytest.mark.parametrize("w", [1.1, 2.0, 5.0])
def test_one_tanh_unit_above_1_has_three(w: float) -> None:
    """h = tanh(w h): 0 is not stable, ±h* is. The slope is w (1 - h²)."""
    h = bisect(lambda h: np.tanh(w * h) - h, 1e-3, 1.0)
    points = fixed_points(tanh_rnn(w), ZERO)
    check_points(points, [[0], [h], [-h]], [[w], [w * (1 - h**2)], [w * (1 - h**2)]])
    assert points.is_stable.sum() == 2
    assert points.residuals.max() < 1e-14
    assert len(points.slow) == points.num_failed == 0


def test_one_tanh_unit_below_1_has_one() -> None:
    points = fixed_points(tanh_rnn(0.5), ZERO)
    check_points(points, [[0]], [[0.5]])
    assert points.num_starts.tolist() == [64 + 34 + 1]


def test_the_degenerate_root_at_1_is_one_point() -> None:
    """h = tanh(h) has a root of order three, where Newton's method converges slowly."""
    points = fixed_points(tanh_rnn(1.0), ZERO)
    assert len(points) == 1
    assert not points.is_stable.any()
    np.testing.assert_allclose(points.states, 0, atol=1e-4)


def test_a_linear_layer_has_the_solution_of_its_equations(rng: np.random.Generator) -> None:
    A = rng.uniform(0, 0.3, (4, 4))
    b = rng.uniform(0.5, 1, 4)
    h = np.linalg.solve(np.eye(4) - A, b)
    check_points(fixed_points(relu_rnn(A, b), ZERO), [h], [np.linalg.eigvals(A)])


def test_constant_gates_have_i_g_over_1_minus_f() -> None:
    """∂h/∂c counts for no eigenvalue: they are f, and 0 for h."""
    f = np.array([0.3, 0.9, 0.99])
    c = 0.5 * 0.3 / (1 - f)
    points = fixed_points(constant_gates(f), ZERO)
    check_points(points, [np.concatenate([np.tanh(c) / 2, c])], [[*f, 0, 0, 0]])


@pytest.mark.parametrize("f", [0.3, 0.5, 0.9])
def test_a_flip_flop_has_two_stable_states(f: float) -> None:
    """c (1 - f) = tanh(w tanh c), solved by bisection; the slope of c is f + w (1 - g²)(1 - tanh² c)."""
    w = 2.0

    def g(c: float) -> float:
        return float(np.tanh(w * np.tanh(c)))

    c = bisect(lambda c: g(c) - (1 - f) * c, 1e-3, 1 / (1 - f))
    slope = f + w * (1 - g(c) ** 2) * (1 - np.tanh(c) ** 2)
    points = fixed_points(flip_flop(f, w), ZERO, radius=2 / (1 - f))
    states = [[0, 0], [np.tanh(c), c], [-np.tanh(c), -c]]
    check_points(points, states, [[0, f + w], [0, slope], [0, slope]])
    assert points.is_stable.sum() == 2


def test_the_input_of_a_flip_flop_leaves_one_state() -> None:
    lstm = flip_flop()
    points = fixed_points(lstm, [1.0])
    assert points.is_stable.tolist() == [True]
    lstm_state = lstm.infer(np.ones((200, 1)))[1]
    np.testing.assert_allclose(points.states[0], np.concatenate([*lstm_state.h, *lstm_state.c]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("z", [0.1, 0.9, 0.999])
def test_a_leaky_gru_has_the_fixed_points_of_its_network(z: float) -> None:
    """Z changes the eigenvalues, z + (1 - z) μ with μ those of the tanh RNN, and not the fixed points."""
    W = np.array([[1.5, -0.5], [0.5, 1.5]])
    expected = fixed_points(tanh_rnn(W), ZERO)
    points = fixed_points(leaky_gru(W, z), ZERO)
    check_points(points, expected.states, z + (1 - z) * expected.eigenvalues)


def test_an_integrator_has_a_line_of_fixed_points() -> None:
    """With f = 1 and g = 0 every start is a fixed point with an eigenvalue of 1, and none is merged."""
    lstm = constant_gates([0.5], g=0.0)
    lstm.parameters["kernel_l0"][1, -1] = 60
    c = np.array([0.2, 0.4])
    starts = np.stack([np.tanh(c) / 2, c], axis=1)
    points = fixed_points(lstm, ZERO, starts=starts, num_random=0)
    assert len(points) == 3
    np.testing.assert_allclose(np.sort(points.states[:, 1]), [0, 0.2, 0.4], atol=1e-12)
    np.testing.assert_allclose(points.spectral_radii, 1, rtol=1e-12)
    assert not points.is_stable.any()


def test_interventions_count() -> None:
    """With forget gates times 0.9, c rests at i g / (1 - 0.9 f); after the block all is as before."""
    f = np.array([0.3, 0.9])
    lstm = constant_gates(f)
    with lstm.intervene("f", scale=0.9), lstm.intervene("i", set=0.25, units=[1]):
        points = fixed_points(lstm, ZERO)
        state = rest_state(lstm, ZERO)
        np.testing.assert_allclose(lstm(np.zeros((3, 1)), state), np.tile(state.h, (3, 1)), rtol=0, atol=1e-12)
    c = 0.3 * np.array([0.5, 0.25]) / (1 - 0.9 * f)
    check_points(points, [np.concatenate([np.tanh(c) / 2, c])], [[*(0.9 * f), 0, 0]])
    np.testing.assert_allclose(state.c[0], c, rtol=0, atol=1e-12)
    np.testing.assert_allclose(rest_state(lstm, ZERO).c[0], 0.15 / (1 - f), rtol=1e-12)


@pytest.mark.parametrize("intervention", [{"scale": 0.9, "steps": [0]}, {"freeze": True}, {"patch": np.ones((3, 2))}])
def test_an_intervention_that_is_not_the_same_at_all_steps_is_an_error(intervention: Any) -> None:
    lstm = gc.LSTM(1, 2)
    message = "interventions must act at all steps, by scale, set, clamp, add or cut, got f"
    with lstm.intervene("f", **intervention), pytest.raises(ValueError, match=message):
        fixed_points(lstm, ZERO)


def test_a_slow_point_is_reported_apart() -> None:
    """After a saddle-node bifurcation: h = tanh(2 h + b) lost two of its fixed points, and a slow point is left."""
    rnn = tanh_rnn(2.0)
    h_fold = np.sqrt(0.5)  # the slope 2 (1 - h²) is 1 at -h_fold
    b = 2 * h_fold - np.arctanh(h_fold)  # the bias for which -h_fold is a fixed point
    rnn.parameters["kernel_l0"][0, -1] = b + 0.01
    points = fixed_points(rnn, ZERO)
    assert len(points) == len(points.slow) == 1
    assert points.is_stable.all()
    slow = points.slow
    h = np.linspace(-0.9, -0.5, 100_001)
    speed = np.abs(np.tanh(2 * h + b + 0.01) - h)
    np.testing.assert_allclose(slow.states[0, 0], h[speed.argmin()], atol=1e-3)
    np.testing.assert_allclose(slow.residuals[0], speed.min(), rtol=1e-6)
    np.testing.assert_array_equal(slow.speeds, 0.5 * slow.residuals**2)
    assert not len(fixed_points(rnn, ZERO, slow_tolerance=1e-3).slow)
    assert fixed_points(rnn, ZERO, slow_tolerance=1e-3).num_failed == slow.num_starts[0]


def test_the_fixed_point_of_a_stack_is_one_of_each_layer(rng: np.random.Generator) -> None:
    """The second layer rests under the resting output of the first one."""
    lstm = gc.LSTM(2, 3, 2, dtype=np.float64)
    x = rng.normal(size=2)
    points = fixed_points(lstm, x, num_random=4)
    state = points.state(0)
    assert points.is_stable[0]
    y, final = lstm.infer(x[None], state)
    for array, other in zip(state, final, strict=True):
        np.testing.assert_allclose(array, other, rtol=0, atol=1e-12)
    upper = gc.LSTM(3, 3, dtype=np.float64)
    upper.parameters["kernel_l0"][:] = lstm.parameters["kernel_l1"]
    alone = fixed_points(upper, state.h[0], num_random=4)
    np.testing.assert_allclose(alone.state(0).c[0], state.c[1], rtol=0, atol=1e-12)
    np.testing.assert_allclose(y[0], state.h[1], rtol=0, atol=1e-12)
    assert list(points.parts) == ["l0.h", "l0.c", "l1.h", "l1.c"]
    np.testing.assert_allclose(points.states[0, points.parts["l1.c"]], state.c[1], rtol=0, atol=1e-15)


def test_states_of_a_model_are_in_its_form_and_dtype() -> None:
    model = gc.CopyLSTM(8, seed=1)
    state = fixed_points(model, [0, 0], num_random=0).state(0)
    assert type(state) is gc.layers.LSTMState
    assert state.h.dtype == np.float32
    model.stream(state=state).push([0, 0])
    chain = gc.Sequential([gc.Embedding(5, 3), gc.GRU(3, 4), gc.Linear(4, 5)])
    (state,) = fixed_points(chain, 2, num_random=0).state(0)
    chain.forward([2], (state,))


def test_starts_are_states_of_a_trace_states_or_vectors(rng: np.random.Generator) -> None:
    """All are used: each finds the point next to it in a system with many."""
    W = 3 * np.eye(3)  # 27 fixed points
    rnn = tanh_rnn(W)
    h = bisect(lambda h: np.tanh(3 * h) - h, 1e-3, 1.0)
    corners = np.array([[h, h, -h], [h, -h, h]])
    trace = rnn.trace(np.zeros((2, 3, 1)), state=(corners[None],), lengths=[3, 2])
    state = rnn.infer(np.zeros((2, 3, 1)), (corners[None],))[1]
    single = rnn.infer(np.zeros((3, 1)), (corners[:1],))[1]
    for starts, count in (
        (trace, 5),
        (state, 2),
        (single, 1),
        (corners, 2),
        (corners.tolist(), 2),
        (trace.sequence(1), 2),
    ):
        points = fixed_points(rnn, ZERO, starts=starts, num_random=0)
        counts = points.num_starts[np.abs(points.states).max(axis=1) > h / 2]
        assert counts.sum() == count
    both = fixed_points(rnn, ZERO, starts=corners, num_random=0)
    check_points(both, [[0, 0, 0], *corners], [[3] * 3] + [[3 * (1 - h**2)] * 3] * 2)
    every = fixed_points(rnn, ZERO, num_random=500)
    assert len(every) == 27
    assert (np.diff(every.num_starts) <= 0).all()
    assert every.num_starts[0] > every.num_starts[-1]


def test_random_starts_fill_the_range_of_the_states_that_are_passed() -> None:
    """Nine points, of which two are passed, and radius 1e-6 reaches the one at 0 alone."""
    rnn = tanh_rnn(3 * np.eye(2))
    h = bisect(lambda h: np.tanh(3 * h) - h, 1e-3, 1.0)
    corners = np.array([[h, h], [-h, -h]])
    assert len(fixed_points(rnn, ZERO, radius=1e-6, num_random=200)) == 1
    assert len(fixed_points(rnn, ZERO, starts=corners, radius=1e-6, num_random=200)) == 9


@pytest.mark.parametrize("angle", [0.1, 0.5, 1.0, 2.0, 3.0])
def test_rounding_makes_a_rotation_neither_stable_nor_unstable(angle: float) -> None:
    points = fixed_points(rotation(angle), ZERO, starts=[[9.0, 10.0]])
    np.testing.assert_allclose(points.states, [[10, 10]], rtol=1e-12)
    np.testing.assert_allclose(points.spectral_radii, 1, rtol=1e-12)
    assert points.is_stable.tolist() == [False]
    assert points.num_unstable.tolist() == [0]


def test_a_trajectory_that_diverges_is_no_start() -> None:
    """h = max(0, 10 h + 1) has no fixed point, and reaches 1e308 from 0."""
    assert len(fixed_points(relu_rnn([[10.0]], [1.0]), ZERO)) == 0


def test_points_are_merged_relative_to_their_size() -> None:
    """c of a drift of 1e-7 per step is close to a fixed point everywhere: 1e5 and 1e5 + 1 are one, 1 and 2 are not."""
    lstm = constant_gates([0.5], g=2e-7)
    lstm.parameters["kernel_l0"][1, -1] = 60
    c = np.array([1.0, 2.0, 1e5, 1e5 + 1])
    starts = np.stack([np.tanh(c) / 2, c], axis=1)
    points = fixed_points(lstm, ZERO, starts=starts, num_random=0, tolerance=1e-6)
    np.testing.assert_allclose(np.sort(points.states[points.states[:, 1] > 0.5, 1]), [1, 2, 1e5], atol=1.5)
    assert points.num_starts.max() >= 2


def test_a_chain_of_two_recurrent_layers_starts_from_its_states() -> None:
    model = gc.Sequential([gc.LSTM(2, 3), gc.RNN(3, 2)], seed=0)
    x = np.zeros((4, 5, 2))
    for starts in (model.trace(x), model.forward(x)[1], list(model.forward(x)[1])):
        assert len(fixed_points(model, [0, 0], starts=starts, num_random=0)) >= 1


def test_random_starts_depend_on_the_seed_and_radius_alone() -> None:
    lstm = gc.LSTM(2, 4)
    one, same = (fixed_points(lstm, [0.5, 0.5], seed=3) for _ in range(2))
    np.testing.assert_array_equal(one.states, same.states)
    rnn = tanh_rnn(np.diag([1.5, 1.5, 1.5]))
    near = fixed_points(rnn, ZERO, radius=1e-3, num_random=20)
    assert near.num_starts[0] == len(near.num_starts[:1]) * near.num_starts.sum()  # all led to 0


def test_starts_are_searched_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rnn = tanh_rnn(np.diag([2.0, 3.0]))
    expected = fixed_points(rnn, ZERO)
    monkeypatch.setattr("glasscell.explain.newton.MAX_VALUES", 40)
    points = fixed_points(rnn, ZERO)
    np.testing.assert_allclose(points.states, expected.states, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(points.num_starts, expected.num_starts)


def test_text_and_numbers_are_inputs() -> None:
    model = gc.Sequential([gc.Embedding(5, 3), gc.LSTM(3, 4), gc.Linear(4, 5)])
    vectors = model.layers[0].parameters["weight"]
    alone = gc.LSTM(3, 4)
    alone.parameters.vector[:] = model.layers[1].parameters.vector
    for token in (0, 3):
        points = fixed_points(model, token, num_random=2)
        expected = fixed_points(alone, vectors[token], num_random=2)
        np.testing.assert_allclose(points.states, expected.states, rtol=0, atol=1e-12)


def test_a_repr_is_one_line() -> None:
    points = fixed_points(tanh_rnn(2.0), ZERO)
    assert repr(points) == "FixedPoints(2 stable, 1 not stable; 0 slow points; 0 starts failed; 1 components)"
    assert repr(points.slow) == "SlowPoints(0 of 1 components; spectral radii )"


def traced(model: gc.LSTM | gc.RNN) -> Any:
    return model.trace(np.zeros((3, 1)))


@loop_over(
    ("arguments", "error", "message"),
    [
        ({"starts": np.zeros((3, 2))}, ValueError, r"starts must have shape \(N, n\) with n = 4, got \(3, 2\)"),
        ({"starts": np.zeros(4)}, ValueError, r"starts must have shape \(N, n\) with n = 4, got \(4,\)"),
        ({"starts": np.full((1, 4), np.inf)}, ValueError, "starts must be finite"),
        ({"starts": "zero"}, TypeError, "starts must be an array of real numbers"),
        (
            {"starts": lambda: traced(gc.LSTM(1, 3))},
            ValueError,
            "starts must be a trace of the model with h of 2 units",
        ),
        ({"starts": lambda: traced(gc.LSTM(1, 2, 2))}, ValueError, "trace of the model with 1 layers, got 2"),
        (
            {"starts": lambda: traced(gc.LSTM(1, 2)).layer[0]},
            TypeError,
            "starts must be an array of real numbers, got dtype object",
        ),
        ({"starts": lambda: traced(gc.RNN(1, 2))}, ValueError, "c"),
        ({"starts": lambda: gc.LSTM(1, 3).infer(np.zeros((3, 1)))[1]}, ValueError, r"starts\.h must have shape"),
        ({"num_random": -1}, ValueError, "num_random must be at least 0, got -1"),
        ({"radius": 0}, ValueError, "radius must be finite and above 0, got 0"),
        ({"tolerance": 0}, ValueError, "tolerance must be finite and above 0, got 0"),
        ({"slow_tolerance": 1e-12}, ValueError, "slow_tolerance must be at least tolerance = 1e-10, got 1e-12"),
        ({"merge_distance": -1}, ValueError, "merge_distance must be finite and at least 0, got -1"),
        ({"max_iterations": 0}, ValueError, "max_iterations must be at least 1, got 0"),
        ({"seed": -1}, ValueError, "seed must be an integer of 0 or more"),
    ],
)
def test_an_argument_that_does_not_fit_is_an_error(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    values = {name: value() if callable(value) else value for name, value in arguments.items()}
    with pytest.raises(error, match=message):
        fixed_points(gc.LSTM(1, 2), ZERO, **values)


def test_a_model_takes_one_state_for_each_recurrent_layer() -> None:
    model = gc.Sequential([gc.LSTM(1, 2), gc.RNN(2, 2)])
    state = model.forward(np.zeros((2, 1)))[1]
    with pytest.raises(ValueError, match="starts must have one entry per recurrent layer, 2, got 1"):
        fixed_points(model, ZERO, starts=state[:1])
