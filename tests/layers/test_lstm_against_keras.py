"""Law: LSTMs have the same outputs in Keras and Glasscell, converted in either direction."""

import functools
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from case_loops import loop_over
from keras_lstms import ACTIVATIONS, lstm_of

from glasscell import LSTM, LSTMState
from glasscell.weight_layouts import keras as keras_layers
from glasscell.weight_layouts.keras import KERAS_MERGES, activation_from_keras, keras_config

FOLDER = Path(__file__).parents[2].parent / "shared" / "conformance"

CONFIGURATIONS = 84

# Keras asks PyTorch's tensors for an array in a way that NumPy 2 finds old.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")


class Configuration(NamedTuple):
    I: int
    units: int
    activation: str
    recurrent_activation: str
    use_bias: bool
    go_backwards: bool
    merge_mode: str | None  # None: one direction
    mask: str  # "none", "lengths", "gaps"
    zero_output_for_mask: bool
    given_state: bool
    unroll: bool
    B: int
    T: int
    dtype: str
    seed: int

    @property
    def D(self):
        return 2 if self.merge_mode else 1

    @property
    def tolerance(self):
        """Keras on PyTorch has a loop in float64 for nothing but plain sequences; the others multiply in float32."""
        return 1e-12 if self.dtype == "float64" and self.mask == "none" and not self.unroll else 1e-6

    @property
    def gradient_tolerance(self):
        """PyTorch takes a sixth in float32 for the derivative of the hard sigmoid."""
        sixth = "hard_sigmoid" in (self.activation, self.recurrent_activation)
        return 5e-6 if self.tolerance == 1e-6 or sixth else 1e-12


class Problem(NamedTuple):
    weights: list
    x: np.ndarray
    mask: np.ndarray | None
    state: LSTMState | None  # (D, B, units)


def draw_configuration(index):
    """Every activation in turn in both places; the rest at random."""
    rng = np.random.default_rng([5, index])
    merge_mode = [*KERAS_MERGES, None, None, None][rng.integers(7)]
    mask = ["none", "none", "lengths", "gaps"][rng.integers(4)]
    go_backwards = bool(rng.random() < 0.5) and not merge_mode
    count = len(ACTIVATIONS)
    first, second = ACTIVATIONS[index % count], ACTIVATIONS[(index + index // count) % count]
    usual = rng.random() < 0.2
    drawn = Configuration(
        I=int(rng.integers(1, 5)),
        units=int(rng.integers(1, 6)),
        activation="tanh" if usual else first,
        recurrent_activation="sigmoid" if usual else second,
        use_bias=bool(rng.random() < 0.7),
        go_backwards=go_backwards,
        merge_mode=merge_mode,
        mask=mask,
        zero_output_for_mask=bool(rng.random() < 0.5) or merge_mode is not None,  # Bidirectional has it switched on
        given_state=bool(rng.random() < 0.5),
        unroll=bool(rng.random() < 0.2) and mask == "none",  # Keras fails at it with a mask, backwards
        B=int(rng.integers(1, 5)),
        T=int(rng.integers(1, 7)),
        dtype="float32" if index % 3 == 0 else "float64",
        seed=index,
    )
    print(drawn)
    return drawn


def draw_problem(config):
    """Weights small enough for gates without bounds."""
    rng = np.random.default_rng([6, config.seed])

    def normal(*shape, scale=1.0):
        return rng.normal(scale=scale, size=shape).astype(config.dtype)

    weights = []
    for _ in range(config.D):
        weights += [
            normal(config.I, 4 * config.units, scale=0.4),
            normal(config.units, 4 * config.units, scale=0.4 * config.units**-0.5),
        ]
        weights += [normal(4 * config.units, scale=0.5)] if config.use_bias else []
    mask = None
    if config.mask == "lengths":
        mask = np.arange(config.T) < rng.integers(0, config.T + 1, config.B)[:, None]
    elif config.mask == "gaps":
        mask = rng.random((config.B, config.T)) < 0.6
    if mask is not None and rng.random() < 0.5:
        mask[rng.integers(config.B)] = False
    state = LSTMState(*(normal(config.D, config.B, config.units) for _ in range(2))) if config.given_state else None
    return Problem(weights, normal(config.B, config.T, config.I), mask, state)


def layer_of(keras, config, weights, x, **changes):
    """The layer in Keras, with these weights."""
    settings = config._asdict()
    names = ("units", "activation", "recurrent_activation", "use_bias", "go_backwards", "unroll", "dtype")
    settings = {name: settings[name] for name in names} | {"return_sequences": True, "return_state": True} | changes
    layer = keras.layers.LSTM(zero_output_for_mask=config.zero_output_for_mask, **settings)
    if config.merge_mode:
        layer = keras.layers.Bidirectional(layer, merge_mode=config.merge_mode, dtype=config.dtype)
    layer.build(x.shape)
    layer.set_weights(weights)
    return layer


def call(keras, layer, x, mask, state):
    """Outputs and states of a Keras layer, as its tensors: h, c of one direction, then of the other."""
    states = None
    if state is not None:
        states = [keras.ops.convert_to_tensor(part[way]) for way in range(len(state.h)) for part in state]
    mask = None if mask is None else keras.ops.convert_to_tensor(mask)
    return layer(x, initial_state=states, mask=mask)


def assert_near(result, expected, tolerance, least=0.0):
    """Norm-wise: the largest difference against the largest value, which counts as at least `least`."""
    assert result.shape == expected.shape
    assert result.dtype == expected.dtype
    assert np.abs(result - expected).max(initial=0) <= tolerance * max(least, np.abs(expected).max(initial=0))


def test_the_grid_contains_all_options():
    drawn = [draw_configuration(index) for index in range(CONFIGURATIONS)]
    assert (
        {config.activation for config in drawn} == {config.recurrent_activation for config in drawn} == set(ACTIVATIONS)
    )
    assert {config.merge_mode for config in drawn} == {*KERAS_MERGES, None}
    one = [config for config in drawn if not config.merge_mode and config.mask != "none"]
    assert len({(config.go_backwards, config.zero_output_for_mask, config.given_state) for config in one}) == 8
    assert {config.unroll for config in drawn} == {config.use_bias for config in drawn} == {True, False}


@pytest.mark.parametrize("index", range(CONFIGURATIONS))
def test_outputs_states_and_gradients(index, keras):
    config = draw_configuration(index)
    problem = draw_problem(config)
    layer = layer_of(keras, config, problem.weights, problem.x)
    x = keras.ops.convert_to_tensor(problem.x).requires_grad_()
    y, *states = call(keras, layer, x, problem.mask, problem.state)

    lstm = lstm_of(layer)
    assert lstm.dtype == config.dtype
    got, state, tape = lstm.forward(problem.x, problem.state, mask=problem.mask)
    to_numpy = keras.ops.convert_to_numpy
    expected = LSTMState(*(np.stack([to_numpy(part) for part in states[k::2]]) for k in range(2)))
    for one, other in zip((got, *state), (to_numpy(y), *expected), strict=True):
        assert_near(one, other, config.tolerance, least=1)
    for array, weight in zip(lstm.to_keras(), problem.weights, strict=True):
        np.testing.assert_array_equal(array, weight)

    rng = np.random.default_rng([9, index])
    dy, dh, dc = (rng.normal(size=part.shape).astype(config.dtype) for part in (got, *state))
    upstream = [dy, *(part[way] for way in range(config.D) for part in (dh, dc))]
    outputs = zip(upstream, (y, *states), strict=True)
    sum((keras.ops.convert_to_tensor(d) * out).sum() for d, out in outputs).backward()
    dx, _, gradients = lstm.backward(tape, dy, LSTMState(dh, dc))
    keras_gradients = [to_numpy(part) for part in (x.grad, *(weight.value.grad for weight in layer.trainable_weights))]
    largest = max(np.abs(part).max(initial=0) for part in keras_gradients)
    for one, other in zip((dx, *keras_layers.to_keras(gradients, lstm.options)), keras_gradients, strict=True):
        assert_near(one, other, config.gradient_tolerance, least=1e-2 * largest)


@pytest.mark.parametrize("index", range(0, CONFIGURATIONS, 4))
def test_only_the_last_output(index, keras):
    """The output of return_sequences=False is the last step of each direction."""
    config = draw_configuration(index)
    config = config._replace(mask="none") if config.merge_mode else config
    problem = draw_problem(config)
    layer = layer_of(keras, config, problem.weights, problem.x, return_sequences=False, return_state=False)
    y = call(keras, layer, keras.ops.convert_to_tensor(problem.x), problem.mask, problem.state)
    outputs, state, _ = lstm_of(layer).forward(problem.x, problem.state, mask=problem.mask)
    if config.merge_mode:
        merge = {"sum": np.sum, "ave": np.mean, "mul": np.prod, "concat": lambda h, axis: np.concatenate(h, axis - 1)}
        last = merge[config.merge_mode](state.h, axis=0)
    else:
        last = outputs[:, -1]
    assert_near(last, keras.ops.convert_to_numpy(y), config.tolerance, least=1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("way", [{}, {"reverse": True, "outputs_in": "processing"}, {"bidirectional": True}], ids=str)
@pytest.mark.parametrize("repeat", [False, True], ids=["zero", "repeat"])
@pytest.mark.parametrize("bias", [False, True])
def test_weights_in_keras_layers_give_the_same_outputs(way, bias, repeat, dtype, keras, rng):
    """An LSTM made here, as a layer of Keras: the weights of to_keras and the settings of keras_config."""
    of_way = dict(way)
    names = rng.permutation(ACTIVATIONS)[:2]
    functions = dict(zip(("gate_activation", "candidate_activation"), map(activation_from_keras, names), strict=True))
    functions["output_activation"] = functions["candidate_activation"]
    if way == {"bidirectional": True}:
        of_way["merge"] = str(rng.choice(list(KERAS_MERGES.values())))
    elif repeat:
        of_way["masked_outputs"] = "repeat"
    lstm = LSTM(3, 4, bias=bias, dtype=dtype, seed=rng, **of_way, **functions)
    lstm.parameters.vector[:] = rng.normal(scale=0.3, size=lstm.parameters.vector.size)
    settings = keras_config(lstm.options) | {"go_backwards": lstm.options.reverse, "dtype": dtype}
    layer = keras.layers.LSTM(**settings, return_sequences=True)
    if lstm.options.bidirectional:
        merge = {glasscell_merge: keras_merge for keras_merge, glasscell_merge in KERAS_MERGES.items()}[
            lstm.options.merge
        ]
        layer = keras.layers.Bidirectional(layer, merge_mode=merge, dtype=dtype)
    x = rng.normal(size=(3, 5, 3)).astype(dtype)
    mask = rng.random((3, 5)) < 0.6 if dtype == "float32" else None  # Keras multiplies masked steps in float32
    layer.build(x.shape)
    layer.set_weights(lstm.to_keras())
    y = keras.ops.convert_to_numpy(call(keras, layer, keras.ops.convert_to_tensor(x), mask, None))
    assert_near(lstm.forward(x, mask=mask)[0], y, 1e-6 if dtype == "float32" else 1e-12, least=1)
    again = lstm_of(layer)
    np.testing.assert_array_equal(again.parameters.vector, lstm.parameters.vector)
    assert again.options == lstm.options


def test_to_keras_copies_the_weights(rng):
    lstm = LSTM(3, 4, bidirectional=True)
    before = lstm.parameters.vector.copy()
    weights = lstm.to_keras()
    again = LSTM.from_keras(weights, bidirectional="concat")
    for array in weights:
        assert array.dtype == np.float32
        array[:] = np.nan
    np.testing.assert_array_equal(lstm.parameters.vector, before)
    np.testing.assert_array_equal(again.parameters.vector, before)


@loop_over(
    ("options", "words"),
    [
        ({"num_layers": 2}, "a Keras LSTM does not support num_layers=2"),
        ({"proj_size": 2}, "a Keras LSTM does not support proj_size=2"),
        ({"peepholes": True}, "a Keras LSTM does not support peepholes=True"),
        ({"coupled": "input"}, "a Keras LSTM does not support coupled='input'"),
        ({"forget_gate": False}, "a Keras LSTM does not support forget_gate=False"),
        ({"clip": 3.0}, r"a Keras LSTM does not support clip=3\.0"),
        ({"layer_norm": "haste"}, "a Keras LSTM does not support layer_norm='haste'"),
        ({"zoneout": 0.1}, r"a Keras LSTM does not support zoneout=0\.1"),
        ({"zoneout_cell": 0.1}, r"a Keras LSTM does not support zoneout_cell=0\.1"),
        ({"dropout": 0.1, "num_layers": 2}, "a Keras LSTM does not support num_layers"),
        ({"learn_initial_state": True}, "a Keras LSTM does not support learn_initial_state=True"),
        ({"output_activation": "Relu"}, "must be the same for a Keras LSTM, got .*Tanh.* and .*Relu"),
        (
            {"gate_activation": ("HardSigmoid", 0.2, 0.5)},
            r"Keras does not support the activation \('HardSigmoid', 0\.2, 0\.5\)",
        ),
    ],
)
def test_options_that_keras_does_not_support_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        LSTM(3, 4, **options).to_keras()


@functools.cache
def golden():
    """The cases of the set by name: (attributes, arrays), and their tolerance; nothing where the set is not there."""
    if not (FOLDER / "keras_golden.npz").is_file():
        return {}, {}
    described = json.loads((FOLDER / "keras_golden.json").read_text(encoding="utf-8"))
    with np.load(FOLDER / "keras_golden.npz") as arrays:
        cases = {
            case["name"]: (case["attrs"], {name: arrays[f"{case['name']}/{name}"] for name in case["arrays"]})
            for case in described["cases"]
        }
    return cases, described["tolerance"]


CASES = list(golden()[0]) or [pytest.param("", marks=pytest.mark.skip("../shared/conformance is not there"))]


@pytest.mark.parametrize("name", CASES)
def test_golden_files_give_the_recorded_outputs(name):
    """As often as stateful_calls says, with the state handed on; Bidirectional has the same weights in both ways."""
    cases, tolerance = golden()
    assert len(cases) == 15
    attributes, arrays = dict(cases[name][0]), cases[name][1]
    calls, both = attributes.pop("stateful_calls", 1), "bidirectional" in attributes
    weights = [arrays[part] for part in ("kernel", "recurrent_kernel", "bias") if part in arrays]
    lstm = LSTM.from_keras(weights * (1 + both), **attributes)
    state = None
    if "h0" in arrays:
        of_ways = ("", "_bw")[: 1 + both]
        state = LSTMState(*(np.stack([arrays[f"{s}0{way}"] for way in of_ways]) for s in "hc"))
    for _ in range(calls):
        y, state, _ = lstm.forward(arrays["x"], state, mask=arrays.get("mask"))
    got = {"y": y, "y_last": np.concatenate(state.h, axis=-1) if both else y[:, -1]}
    if both:
        for s, part in zip("hc", state, strict=True):
            got[f"{s}_fw"], got[f"{s}_bw"] = part
    expected = {key.removeprefix("expected/"): array for key, array in arrays.items() if key.startswith("expected/")}
    assert expected
    for key, array in expected.items():
        np.testing.assert_allclose(got[key], array, **tolerance)
