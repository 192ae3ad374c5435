"""Laws of the step as a map: its Jacobian is the derivative, its trajectory the model's; other layers are refused."""

from typing import Any

import numpy as np
import pytest
from case_loops import loop_over
from layer_examples import layers_of, lstm_options

import glasscell as gc
from glasscell.core import cell
from glasscell.explain.step_inputs import at_each_step, repeat_columns
from glasscell.explain.step_maps import StepMap
from glasscell.layers import Function, LayerNorm, LSTMConfig
from glasscell.recurrent.config import option
from glasscell.trace import diagnostics
from glasscell.validation import probability

EPSILON = 1e-6
I, H = 3, 4
BACKWARD = {"bidirectional", "reverse", "merge", "outputs_in"}
OPTIONS = {name: options for name, options in lstm_options(proj_size=2).items() if name not in BACKWARD}
CELLS = {
    "GRU": lambda: gc.GRU(I, H, 2, dtype=np.float64),
    "GRU, reset before": lambda: gc.GRU(I, H, reset_after=False, bias=False, dtype=np.float64),
    "RNN": lambda: gc.RNN(I, H, 2, dtype=np.float64),
    "RNN, relu": lambda: gc.RNN(I, H, nonlinearity="relu", dtype=np.float64),
}
# Layers that compute each step from that step alone; Embedding masks the id 0.
STEPWISE = {"Linear", "Embedding", "FeatureEmbedding", "LayerNorm", "BatchNorm", "Function", "Dropout", "SwapHalves"}
STEPWISE |= {"Masking", "Normalization", "Rescaling", "Unsqueeze", "SpatialDropout1D", "GaussianNoise", "RNN"}
STEPWISE |= {"GaussianDropout", "Squeeze"}  # a Squeeze can be the last layer only: here it is left out


def randomize(model: Any, rng: np.random.Generator) -> Any:
    model.parameters.vector[:] = rng.normal(size=model.parameters.vector.size) * 0.7
    return model


def chain(dtype: Any) -> gc.Sequential:
    """Return a model of two recurrent layers, one of them stacked, and layers between them."""
    layers = [gc.Linear(I, 5, dtype=dtype), gc.LSTM(5, H, 2, dtype=dtype, engine="numpy"), LayerNorm(H, dtype=dtype)]
    return gc.Sequential([*layers, gc.Linear(H, 2, dtype=dtype), Function("Tanh"), gc.GRU(2, 3, dtype=dtype)])


def check_jacobians(model: Any, x: Any, rng: np.random.Generator) -> None:
    """Central differences of F equal the Jacobians, at three states and several inputs at once."""
    step_map = StepMap(model)
    states = rng.normal(size=(3, step_map.size)) / 2
    columns = repeat_columns(step_map.inputs.constant("x", x), 3)
    steps = EPSILON * np.eye(step_map.size)
    differences = [step_map.step(states + d, columns) - step_map.step(states - d, columns) for d in steps]
    expected = np.stack(differences, axis=-1) / (2 * EPSILON)
    np.testing.assert_allclose(step_map.jacobians(states, columns), expected, rtol=0, atol=1e-7)


@loop_over("name", OPTIONS)
def test_the_jacobian_of_every_option_is_the_derivative(name: str, rng: np.random.Generator) -> None:
    options = {"input_size": I, "hidden_size": H, **OPTIONS[name]}
    check_jacobians(randomize(gc.LSTM(**options, dtype=np.float64), rng), rng.normal(size=I), rng)


@pytest.mark.parametrize("kind", CELLS)
def test_the_jacobian_of_every_cell_is_the_derivative(kind: str, rng: np.random.Generator) -> None:
    check_jacobians(randomize(CELLS[kind](), rng), rng.normal(size=I), rng)


@pytest.mark.parametrize(
    "arguments",
    [
        ("f", {"scale": 0.7}),
        ("i", {"set": 0.2, "units": [1]}),
        ("c", {"clamp": (-0.3, 0.3)}),
        ("z_g", {"add": 0.5}),
        ("W_h", {"cut": True, "layer": 1, "units": [0, 2]}),
        ("x", {"scale": -2.0}),
    ],
    ids=lambda arguments: arguments[0],
)
def test_the_jacobian_under_an_intervention_is_the_derivative(arguments: Any, rng: np.random.Generator) -> None:
    symbol, operation = arguments
    lstm = randomize(gc.LSTM(I, H, 2, dtype=np.float64), rng)
    x = rng.normal(size=(4, I))
    with lstm.intervene(symbol, **operation):
        check_jacobians(lstm, x[0], rng)
        step_map = StepMap(lstm)
        state = lstm.infer(x)[1]
    found = step_map.to_user(step_map.trajectory(step_map.initial, step_map.inputs.sequence(x, None))[-1])
    np.testing.assert_allclose(found.c, state.c, rtol=0, atol=1e-12)
    assert np.abs(state.c - lstm.infer(x)[1].c).max() > 1e-3


@pytest.mark.parametrize("kind", ["LSTM", *CELLS, "chain"])
def test_jacobians_unit_by_unit_are_those_column_by_column(
    kind: str, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    made = {"LSTM": lambda: gc.LSTM(I, H, 3, dtype=np.float64), **CELLS, "chain": lambda: chain(np.float64)}[kind]()
    step_map = StepMap(randomize(made, rng))
    states, inputs = rng.normal(size=(5, step_map.size)), step_map.inputs.sequence(rng.normal(size=(5, I)), None)
    found = step_map.jacobians(states, at_each_step(inputs))
    monkeypatch.setattr("glasscell.explain.layer_jacobians.by_unit", lambda _: None)
    expected = step_map.jacobians(states, at_each_step(inputs))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13)


def test_jacobians_of_many_states_are_computed_in_blocks(
    monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    step_map = StepMap(gc.LSTM(I, H))
    states, inputs = rng.normal(size=(7, step_map.size)), step_map.inputs.sequence(rng.normal(size=(7, I)), None)
    expected = step_map.jacobians(states, at_each_step(inputs))
    monkeypatch.setattr("glasscell.explain.step_maps.MAX_VALUES", 2 * 16 * step_map.size**2)
    np.testing.assert_allclose(step_map.jacobians(states, at_each_step(inputs)), expected, rtol=0, atol=1e-14)


def test_the_jacobian_of_a_chain_in_float32_is_the_derivative_in_float64(rng: np.random.Generator) -> None:
    check_jacobians(randomize(chain(np.float32), rng), rng.normal(size=I), rng)


def test_the_jacobian_of_a_step_is_that_of_a_trace(rng: np.random.Generator) -> None:
    lstm = randomize(gc.LSTM(I, H, peepholes=True, proj_size=2, dtype=np.float64), rng)
    x = rng.normal(size=(5, I))
    step_map = StepMap(lstm)
    inputs = step_map.inputs.sequence(x, None)
    jacobians = step_map.jacobians(step_map.trajectory(step_map.initial, inputs)[:-1], at_each_step(inputs))
    trace = lstm.trace(x).layer[0]
    np.testing.assert_allclose(jacobians, [diagnostics.jacobian(trace, t) for t in range(5)], rtol=0, atol=1e-12)


def test_a_step_is_that_of_the_textbook(rng: np.random.Generator) -> None:
    lstm = randomize(gc.LSTM(I, H, dtype=np.float64), rng)
    step_map = StepMap(lstm)
    states, x = rng.normal(size=(2, 2 * H)), rng.normal(size=I)
    steps = cell.step(lstm.parameters["kernel_l0"], np.stack([x, x], axis=1), states[:, :H].T, states[:, H:].T)
    expected = np.concatenate([steps.h, steps.c]).T
    result = step_map.step(states, repeat_columns(step_map.inputs.constant("x", x), 2))
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-12)


def test_a_trajectory_is_that_of_forward(rng: np.random.Generator) -> None:
    """Longer than one block of steps; of two recurrent layers, one of them stacked."""
    model = randomize(chain(np.float64), rng)
    x = rng.normal(size=(300, I))
    step_map = StepMap(model)
    states = step_map.trajectory(step_map.initial, step_map.inputs.sequence(x, None))
    for T in (0, 1, 256, 257, 300):
        for expected, found in zip(model.forward(x[:T])[1], step_map.to_user(states[T]), strict=True):
            for array, other in zip(expected, found, strict=True):
                np.testing.assert_allclose(array, other, rtol=0, atol=1e-12)
    assert list(step_map.parts) == ["1 l0.h", "1 l0.c", "1 l1.h", "1 l1.c", "5 l0.h"]


def test_states_of_users_and_vectors_convert_into_each_other(rng: np.random.Generator) -> None:
    model = randomize(chain(np.float32), rng)
    step_map = StepMap(model)
    for x, B in ((rng.normal(size=(6, I)), None), (rng.normal(size=(2, 6, I)), 2)):
        states = model.forward(x)[1]
        vectors = step_map.from_user("state", states, B)
        assert vectors.shape == ((2,) if B else ()) + (step_map.size,)
        for state, again in zip(states, step_map.to_user(vectors), strict=True):
            for array, other in zip(state, again, strict=True):
                assert other.dtype == np.float32
                np.testing.assert_array_equal(array, other)


def test_layers_are_run_by_numpy_whatever_is_installed() -> None:
    assert StepMap(gc.LSTM(I, H, recompute_every=2)).layers[0].execution.engine == "numpy"


def test_the_initial_state_is_the_learned_one(rng: np.random.Generator) -> None:
    lstm = randomize(gc.LSTM(I, H, learn_initial_state=True, dtype=np.float64), rng)
    learned = [lstm.parameters["initial_h_l0"], lstm.parameters["initial_c_l0"]]
    np.testing.assert_array_equal(StepMap(lstm).initial, np.concatenate(learned))


@loop_over("kind", layers_of(I, H, 5))
def test_every_kind_of_layer_before_a_recurrent_one_is_computed_or_refused(kind: str, rng: np.random.Generator) -> None:
    def layers() -> list[Any]:
        made = layers_of(I, H, 5)[kind](np.float64)
        return [layer for layer in made if layer.position != "last"]

    x: Any = {"Embedding": 3, "Unsqueeze": 0.5, "FeatureEmbedding": [0.3, 2, 0.1]}.get(kind, [0.3, -0.2, 0.5])
    y = gc.Sequential(layers(), seed=0)(np.array([[x] * 5]))
    repeat = [gc.layers.RepeatVector(2)] * (y.ndim == 2)
    model = gc.Sequential([*layers(), *repeat, gc.LSTM(y.shape[-1], H, dtype=np.float64)], seed=0)
    if kind in STEPWISE:
        check_jacobians(model, x, rng)
    else:
        with pytest.raises(ValueError, match=r"must (run forward in time only|compute each step from that step alone)"):
            StepMap(model)


def test_a_masked_input_is_an_error() -> None:
    model = gc.Sequential([gc.layers.Masking(), gc.LSTM(I, H)])
    with pytest.raises(ValueError, match=r"x must have no masked step: it does not change the state"):
        gc.explain.fixed_points(model, np.zeros(I))
    model = gc.Sequential([gc.Embedding(5, I, mask_zero=True), gc.LSTM(I, H)])
    with pytest.raises(ValueError, match="masked"):
        gc.explain.rest_state(model, 0)


def test_an_option_that_traces_do_not_support_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Options(LSTMConfig):
        leak: float = option(probability, 0.0, supported=("general",))

    monkeypatch.setattr("glasscell.layers.lstm.LSTMConfig", Options)
    with pytest.raises(ValueError, match=r"model must have no leak=0\.5: its Jacobian is not supported"):
        StepMap(gc.LSTM(I, H, leak=0.5))


@loop_over(
    ("model", "error", "message"),
    [
        (gc.LSTM(I, H, bidirectional=True), ValueError, "model must run forward in time only"),
        (gc.GRU(I, H, bidirectional=True), ValueError, "model must run forward in time only"),
        (gc.LSTM(I, H, reverse=True), ValueError, "model must run forward in time only"),
        (gc.Sequential([gc.RNN(I, H, bidirectional=True)]), ValueError, "layer '0' must run forward in time only"),
        (gc.Sequential([gc.Linear(I, H)]), ValueError, "model must have a recurrent layer, got none"),
        (gc.Linear(I, H), TypeError, "model must be a recurrent layer or a Sequential, got Linear"),
        (None, TypeError, "model must be a recurrent layer or a Sequential, got NoneType"),
    ],
)
def test_a_model_that_is_no_map_is_an_error(model: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        StepMap(model)


def test_weights_that_are_not_finite_are_an_error() -> None:
    lstm = gc.LSTM(I, H)
    lstm.parameters.vector[3] = np.nan
    with pytest.raises(ValueError, match="weights must be finite, got "):
        StepMap(lstm)


TEXT = gc.Sequential([gc.Embedding(5, I), gc.LSTM(I, H)])


@loop_over(
    ("model", "x", "error", "message"),
    [
        (gc.LSTM(I, H), np.zeros(2), ValueError, r"x must have shape \(I,\) with I = 3, got \(2,\)"),
        (gc.LSTM(I, H), np.zeros((2, I)), ValueError, r"x must have shape \(I,\) with I = 3, got \(2, 3\)"),
        (gc.LSTM(I, H), 0.0, ValueError, r"x must have shape \(I,\) with I = 3, got \(\)"),
        (gc.LSTM(I, H), [0, np.nan, 0], ValueError, "x must be finite"),
        (gc.LSTM(I, H), "abc", TypeError, "x must be an array of real numbers"),
        (TEXT, [1], ValueError, r"x must be one id, got shape \(1,\)"),
        (TEXT, 7, ValueError, "7"),
        (TEXT, 0.5, TypeError, "float"),
        (gc.Sequential([gc.layers.Unsqueeze(), gc.LSTM(1, H)]), [1.0], ValueError, "x must be one number, got shape"),
    ],
)
def test_an_input_that_does_not_fit_is_an_error(model: Any, x: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        gc.explain.fixed_points(model, x, num_random=0)


@loop_over(
    ("x", "steps", "error", "message"),
    [
        (np.zeros(I), None, ValueError, "steps must be passed with a constant x, got None"),
        (np.zeros(I), 0, ValueError, "steps must be at least 1, got 0"),
        (np.zeros(I), 2.5, TypeError, "steps must be an integer, got 2.5"),
        (np.zeros((4, I)), 4, ValueError, "steps must be None for a sequence x, got 4"),
        (np.zeros((0, I)), None, ValueError, "x must have at least one step, got none"),
        (np.zeros((2, 4, I + 1)), None, ValueError, r"x must have shape \(T, I\) with I = 3, got \(4, 4\)"),
        (np.zeros((2, 2, 4, I)), None, ValueError, r"x must have shape \(T, I\) with I = 3, got \(2, 2, 4, 3\)"),
        (np.zeros((2, 4, I)), 4, ValueError, "steps must be None for sequences x, got 4"),
        (np.zeros((0, 4, I)), None, ValueError, "x must have at least one sequence, got none"),
        (np.zeros((2, 0, I)), None, ValueError, "x must have at least one step, got none"),
    ],
)
@loop_over("function", [gc.explain.lyapunov_spectrum, gc.explain.effective_memory])
def test_a_sequence_that_does_not_fit_is_an_error(
    function: Any, x: Any, steps: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        function(gc.LSTM(I, H), x, steps=steps)
