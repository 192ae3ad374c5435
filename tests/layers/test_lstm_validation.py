"""Law: an LSTM refuses invalid arguments, with messages that state the rule and the value."""

import re

import numpy as np
import pytest
from case_loops import loop_over

from glasscell import LSTM, LSTMState
from glasscell.layers import LSTMConfig

SWITCHES = ("bidirectional", "reverse", "bias", "projection_bias", "peepholes", "learn_initial_state")
RATES = ("dropout", "input_dropout", "recurrent_dropout", "zoneout", "zoneout_cell")
BOUNDS = (("clip", {}), ("epsilon", {"layer_norm": "haste"}))


def small(**options):
    return LSTM(2, 3, **options)


# Options


def test_an_unknown_option_is_refused_with_the_list_of_options():
    with pytest.raises(TypeError, match="an LSTM has no option 'bidirektional'; it has input_size, ") as caught:
        small(bidirektional=True)
    arguments = [
        "initializer",
        "forget_bias",
        "chrono_steps",
        "dtype",
        "seed",
        "engine",
        "recompute_every",
        "memory_limit",
    ]
    listed = str(caught.value).partition("it has ")[2].split(", ")
    assert listed[: len(LSTMConfig.declared)] == LSTMConfig.field_names()
    assert set(arguments) < set(listed)
    assert "options" not in listed
    assert len(set(listed)) == len(listed)


@loop_over("name", SWITCHES)
@loop_over("bad", [1, "yes", None])
def test_switches_must_be_bool(name, bad):
    with pytest.raises(TypeError, match=f"{name} must be True or False, got {bad!r}"):
        small(**{name: bad})


@pytest.mark.parametrize("name", RATES)
def test_rates_must_be_below_1(name):
    for bad in (1.0, -0.1, float("nan"), 2):
        with pytest.raises(ValueError, match=f"{name} must be at least 0 and below 1, got {bad}"):
            small(**{name: bad})
    for bad in (True, "0.5", None):
        with pytest.raises(TypeError, match=f"{name} must be a number, got {bad!r}"):
            small(**{name: bad})


@pytest.mark.parametrize(("name", "required_options"), BOUNDS)
def test_bounds_must_be_above_0(name, required_options):
    for bad in (0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=f"{name} must be finite and above 0, got {bad}"):
            small(**{name: bad} | required_options)
    for bad in (True, "3"):
        with pytest.raises(TypeError, match=f"{name} must be a number, got {bad!r}"):
            small(**{name: bad} | required_options)


@loop_over(
    ("options", "error", "message"),
    [
        ({"proj_size": -1}, ValueError, "proj_size must be at least 1, got -1"),
        ({"proj_size": 1.5}, TypeError, r"proj_size must be an integer, got 1\.5"),
        ({"proj_size": True}, TypeError, "proj_size must be an integer, got True"),
        ({"num_layers": 0}, ValueError, "num_layers must be at least 1, got 0"),
        ({"coupled": "output"}, ValueError, "coupled must be one of None, 'input', 'forget', got 'output'"),
        ({"coupled": True}, ValueError, "coupled must be one of None, 'input', 'forget', got True"),
        (
            {"coupled": "input", "forget_gate": False},
            ValueError,
            "coupled must be None for forget_gate=False, got 'inp",
        ),
        ({"forget_gate": None}, TypeError, "forget_gate must be True or False, "),
        ({"layer_norm": True}, ValueError, "layer_norm must be one of None, 'haste', 'tflite', 'contrib', got True"),
        ({"bidirectional": True, "merge": "ave"}, ValueError, "merge must be one of 'concat', 'sum', 'average', "),
        ({"masked_outputs": "nan"}, ValueError, "masked_outputs must be one of 'zero', 'repeat', got 'nan'"),
        (
            {"reverse": True, "outputs_in": "space"},
            ValueError,
            "outputs_in must be one of 'time', 'processing', got 'space'",
        ),
        ({"bidirectional": True, "reverse": True}, ValueError, "reverse is for one direction; bidirectional has both"),
        ({"merge": "sum"}, ValueError, "merge='sum' is for the two directions of bidirectional=True"),
        ({"outputs_in": "processing"}, ValueError, "outputs_in='processing' is for reverse=True"),
        ({"projection_bias": True}, ValueError, "projection_bias needs a proj_size"),
        ({"epsilon": 1e-3}, ValueError, "epsilon is for layer_norm"),
        ({"gate_activation": "Sigmoit"}, ValueError, "no activation 'Sigmoit'; known are Sigmoid, Tanh, "),
        ({"candidate_activation": ("Relu", 1.0)}, ValueError, "the activation Relu has no alpha"),
        ({"output_activation": ("Elu", 1.0, 2.0)}, ValueError, "the activation Elu has no beta"),
        ({"output_activation": ("Elu", np.inf)}, ValueError, "alpha of the activation Elu must be finite"),
        ({"output_activation": ("Elu", "1")}, TypeError, "output_activation has parameters that are no numbers"),
        ({"gate_activation": ()}, ValueError, "gate_activation must be a name such as 'Relu', or"),
        ({"gate_activation": (1.0, "Elu")}, ValueError, "gate_activation must be a name such as 'Relu', or"),
        ({"gate_activation": ("Affine", 1, 2, 3)}, ValueError, "gate_activation must be a name such as 'Relu', or"),
        ({"forget_bias": 1.0, "initializer": "zeros"}, ValueError, "initializer must be one of 'orthogonal', "),
    ],
)
def test_bad_options_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        small(**options)


def test_names_of_activations_are_case_insensitive():
    assert small(gate_activation="hardsigmoid").options == small(gate_activation=("HardSigmoid", 0.2, 0.5)).options


@pytest.mark.parametrize("bad", [3, None])
def test_an_activation_of_another_type_is_refused(bad):
    with pytest.raises((TypeError, ValueError), match="gate_activation must be a name such as 'Relu'"):
        small(gate_activation=bad)


# Sequences


@loop_over(
    ("steps", "error", "message"),
    [
        ({"lengths": [1, 2]}, ValueError, r"lengths must have shape \(B,\) = \(3,\), got \(2,\)"),
        ({"lengths": 2}, ValueError, r"lengths must have shape \(B,\) = \(3,\), got \(\)"),
        ({"lengths": [[1], [2], [3]]}, ValueError, r"lengths must have shape \(B,\) = \(3,\), got \(3, 1\)"),
        ({"lengths": [1.0, 2.0, 3.0]}, TypeError, "lengths must be integers, got dtype float64"),
        ({"lengths": [True, False, True]}, TypeError, "lengths must be integers, got dtype bool"),
        ({"lengths": [1, 2, 5]}, ValueError, r"lengths must be from 0 to T = 4, got \[1, 2, 5\]"),
        ({"lengths": [1, -1, 2]}, ValueError, r"lengths must be from 0 to T = 4, got \[1, -1, 2\]"),
        ({"mask": np.ones((3, 5), bool)}, ValueError, r"mask must have shape \(B, T\) = \(3, 4\), got \(3, 5\)"),
        ({"mask": np.ones((4, 3), bool)}, ValueError, r"mask must have shape \(B, T\) = \(3, 4\), got \(4, 3\)"),
        ({"mask": np.ones((3, 4, 1), bool)}, ValueError, r"mask must have shape \(B, T\) = \(3, 4\), got \(3, 4, 1\)"),
        ({"mask": np.ones((3, 4))}, TypeError, "mask must be an array of bool, got dtype float64"),
        ({"mask": np.ones((3, 4), int)}, TypeError, "mask must be an array of bool, got dtype int64"),
        (
            {"mask": np.ones((3, 4), bool), "lengths": [1, 2, 3]},
            ValueError,
            "lengths and mask must not be passed together",
        ),
    ],
)
def test_bad_lengths_and_masks_are_refused(steps, error, message):
    with pytest.raises(error, match=message):
        small().forward(np.zeros((3, 4, 2)), **steps)


@pytest.mark.parametrize(
    ("steps", "error", "message"),
    [
        ({"lengths": [2]}, ValueError, r"lengths must have shape \(\), got \(1,\)"),
        ({"lengths": 5}, ValueError, "lengths must be from 0 to T = 4, got 5"),
        ({"lengths": 2.0}, TypeError, "lengths must be integers, got dtype float64"),
        ({"mask": np.ones((1, 4), bool)}, ValueError, r"mask must have shape \(T,\) = \(4,\), got \(1, 4\)"),
    ],
)
def test_bad_lengths_and_masks_of_a_single_sequence_are_refused(steps, error, message):
    with pytest.raises(error, match=message):
        small().forward(np.zeros((4, 2)), **steps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_that_are_not_finite_are_refused_at_valid_steps(dtype):
    """The message contains the index in the argument and the original value; 1e39 is infinite in float32."""
    lstm, x = small(dtype=dtype), np.zeros((2, 4, 2))
    x[1, 2, 0] = bad = np.nan if dtype is np.float64 else 1e39
    for steps in ({}, {"lengths": [1, 3]}, {"mask": np.array([[False] * 4, [False, False, True, False]])}):
        with pytest.raises(
            ValueError, match=r"x must be finite in float\d\d, got .* at index \(1, 2, 0\), 1 such"
        ) as caught:
            lstm.forward(x, **steps)
        assert f"got {bad} at" in str(caught.value)
    expected = lstm.forward(np.zeros((2, 4, 2)), lengths=[4, 2])[0]
    np.testing.assert_array_equal(lstm.forward(x, lengths=[4, 2])[0], expected)
    lstm.forward(x, mask=np.array([[True] * 4, [True, True, False, True]]))
    with pytest.raises(ValueError, match=r"at index \(2, 0\)"):
        lstm.forward(x[1], lengths=3)
    lstm.forward(x[1], lengths=2)


@loop_over(
    ("options", "h", "c", "message"),
    [
        (
            {"bidirectional": True},
            (1, 4, 3),
            (2, 4, 3),
            "state.h must have shape (L·D, B, H) = (2, 4, 3), got (1, 4, 3)",
        ),
        (
            {"bidirectional": True},
            (2, 4, 3),
            (4, 4, 3),
            "state.c must have shape (L·D, B, H) = (2, 4, 3), got (4, 4, 3)",
        ),
        ({"proj_size": 2}, (1, 4, 3), (1, 4, 3), "state.h must have shape (L, B, P) = (1, 4, 2), got (1, 4, 3)"),
        ({"proj_size": 2}, (1, 4, 2), (1, 4, 2), "state.c must have shape (L, B, H) = (1, 4, 3), got (1, 4, 2)"),
        ({"reverse": True}, (1, 3), (1, 3), "state.h must have shape (L, B, H) = (1, 4, 3), got (1, 3)"),
        ({"num_layers": 2}, (2, 5, 3), (2, 5, 3), "state.h must have shape (L, B, H) = (2, 4, 3), got (2, 5, 3)"),
    ],
)
def test_states_of_another_shape_are_refused(options, h, c, message):
    lstm, x = small(**options), np.zeros((4, 5, 2))
    state = LSTMState(np.zeros(h), np.zeros(c))
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        lstm.forward(x, state)
    with pytest.raises(ValueError, match=f"^d_final_{re.escape(message)}"):
        lstm.backward(lstm.forward(x)[2], d_final_state=state)


@pytest.mark.parametrize(
    ("options", "features"),
    [
        ({"bidirectional": True}, 6),
        ({"bidirectional": True, "merge": "sum"}, 3),
        ({"proj_size": 2}, 2),
        ({"bidirectional": True, "proj_size": 2}, 4),
    ],
)
def test_gradients_on_outputs_must_have_the_shape_of_the_outputs(options, features):
    lstm = small(**options)
    y, _, tape = lstm.forward(np.zeros((4, 5, 2)))
    assert y.shape == (4, 5, features) == (4, 5, lstm.output_size)
    with pytest.raises(ValueError, match=rf"d_outputs must have shape .* = {features} features, got \(4, 5, 7\)"):
        lstm.backward(tape, np.zeros((4, 5, 7)))


@pytest.mark.parametrize(
    "options",
    [{"num_layers": 2}, {"bidirectional": True}, {"proj_size": 2}, {"coupled": "input"}, {"dtype": np.float64}],
    ids=str,
)
def test_the_tape_of_another_lstm_is_refused(options):
    other = small(**options)
    _, _, tape = other.forward(np.zeros((4, 5, 2)))
    with pytest.raises(ValueError, match=r"tape must be of LSTMConfig.* in float(32|64), got that of LSTMConfig"):
        small().backward(tape)
    of_layer = tape.layers[0]
    with pytest.raises(TypeError, match=rf"tape must be the tape of LSTM.forward, got {type(of_layer).__name__}$"):
        small().backward(of_layer)


@pytest.mark.parametrize(
    "options",
    [{"proj_size": 2}, {"peepholes": True}, {"layer_norm": "haste"}, {"clip": 1.0}, {"reverse": True}],
    ids=str,
)
def test_the_tape_of_an_lstm_with_other_options_and_equal_kernel_shapes_is_refused(options):
    other = small(**options)
    lstm = LSTM(2 + other.options.state_size - 3, 3)
    tapes = [layer.forward(np.zeros((4, 5, layer.input_size)))[2] for layer in (other, lstm)]
    with pytest.raises(ValueError, match="tape must be of LSTMConfig"):
        lstm.backward(tapes[0])
    with pytest.raises(ValueError, match="tape must be of LSTMConfig"):
        other.backward(tapes[1])


@pytest.mark.parametrize("bad", [0, 3, "seed"])
def test_rng_must_be_a_generator(bad):
    with pytest.raises(TypeError, match="rng"):
        small(dropout=0.5, num_layers=2).forward(np.zeros((4, 5, 2)), rng=bad)


def test_repr_lists_options_that_are_not_the_default():
    lstm = LSTM(2, 3, 2, bidirectional=True, merge="sum", proj_size=4, peepholes=True, clip=2, zoneout=0.25)
    options = "num_layers=2, bidirectional=True, proj_size=4, peepholes=True, clip=2.0, zoneout=0.25, merge='sum'"
    assert repr(lstm) == f"LSTM(2, 3, {options}, dtype=float32)"
    assert (lstm.input_size, lstm.hidden_size, lstm.num_layers, lstm.output_size) == (2, 3, 2, 4)
    assert LSTM.shapes(2, 3, 2, bidirectional=True, merge="sum", proj_size=4, peepholes=True) == lstm.parameters.shapes
