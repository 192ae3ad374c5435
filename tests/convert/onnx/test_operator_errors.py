"""Law: invalid attributes and inputs of the LSTM operator are errors that state the rule and the value."""

import numpy as np
import pytest
from case_loops import loop_over

from glasscell.convert.onnx import run_lstm


@loop_over(
    ("attributes", "error", "message"),
    [
        ({"output_sequence": 1}, ValueError, "attributes must be among activation_alpha, .*, got 'output_sequence'"),
        (
            {"direction": "backward"},
            ValueError,
            "direction must be one of 'forward', 'reverse', 'bidirectional', got 'backward'",
        ),
        ({"direction": b"\xff"}, ValueError, "direction must be one of 'forward'"),
        ({"direction": 1}, TypeError, "direction must be strings, got 1"),
        (
            {"activations": ["Sigmoid", "Cosh", "Tanh"]},
            ValueError,
            "activations: there is no activation 'Cosh'; known are",
        ),
        (
            {"activations": ["Sigmoid", "Tanh"]},
            ValueError,
            "activations must be 3D = 3 names, f, g and h of each direction, got 2",
        ),
        (
            {"activations": ["Sigmoid"] * 6},
            ValueError,
            "activations must be 3D = 3 names, f, g and h of each direction, got 6",
        ),
        (
            {"direction": "bidirectional", "activations": ["Tanh"] * 3},
            ValueError,
            "activations must be 3D = 6 names, f, g and h of each direction, got 3",
        ),
        ({"activations": "sigmoid"}, TypeError, "activations must be a list of strings, got 'sigmoid'"),
        ({"activations": ["Tanh", None, "Tanh"]}, TypeError, "activations must be strings, got None"),
        ({"activation_alpha": 0.3}, TypeError, "activation_alpha must be a list of numbers, got 0.3"),
        ({"activation_beta": ["x"]}, TypeError, "activation_beta must be numbers, got 'x'"),
        ({"activation_beta": [True]}, TypeError, "activation_beta must be numbers, got True"),
        (
            {"activations": ["Sigmoid", "Elu", "Tanh"], "activation_alpha": [np.nan]},
            ValueError,
            "activations: alpha of the activation Elu must be finite, and is nan",
        ),
        ({"clip": 0}, ValueError, "clip must be finite and above 0, got 0"),
        ({"clip": -1.0}, ValueError, "clip must be finite and above 0, got -1.0"),
        ({"clip": "1"}, TypeError, "clip must be a number, got '1'"),
        ({"input_forget": 2}, ValueError, "input_forget must be one of 0, 1, got 2"),
        ({"layout": -1}, ValueError, "layout must be one of 0, 1, got -1"),
        ({"hidden_size": 4.0}, TypeError, "hidden_size must be an integer, got 4.0"),
        ({"hidden_size": 0}, ValueError, "hidden_size must be at least 1, got 0"),
        ({"hidden_size": 5}, ValueError, r"R must have shape \(D, 4H, H\) with H = hidden_size = 5, got H = 4"),
        ([("clip", 1.0)], TypeError, "attributes must be a mapping"),
    ],
)
def test_invalid_attributes_are_errors(operands, attributes, error, message):
    with pytest.raises(error, match=message):
        run_lstm(attributes, operands(D=2 if "bidirectional" in dict(attributes).values() else 1))


def zeros(*shape, dtype=np.float64):
    return np.zeros(shape, dtype)


@loop_over(
    ("changed", "error", "message"),
    [
        (
            {"Q": zeros(3)},
            ValueError,
            "inputs must be among X, W, R, B, sequence_lens, initial_h, initial_c, P, got 'Q'",
        ),
        ({"X": None}, ValueError, "inputs must have X, W, R, got none named 'X'"),
        ({"R": None}, ValueError, "inputs must have X, W, R, got none named 'R'"),
        ({"X": zeros(0)}, ValueError, r"X must have shape \(T, N, I\), got \(0,\)$"),
        ({"X": zeros(5, 3)}, ValueError, r"X must have shape \(T, N, I\), got \(5, 3\)$"),
        ({"W": zeros(16, 2)}, ValueError, r"W must have shape \(D, 4H, I\), got \(16, 2\)$"),
        ({"R": zeros(16, 4)}, ValueError, r"R must have shape \(D, 4H, H\), got \(16, 4\)$"),
        ({"W": zeros(2, 16, 2)}, ValueError, r"W must have shape \(D, 4H, I\) = \(1, 16, 2\), got \(2, 16, 2\)"),
        ({"W": zeros(1, 16, 3)}, ValueError, r"W must have shape \(D, 4H, I\) = \(1, 16, 2\), got \(1, 16, 3\)"),
        ({"R": zeros(1, 12, 4)}, ValueError, r"R must have shape \(D, 4H, H\) = \(1, 16, 4\), got \(1, 12, 4\)"),
        ({"R": zeros(1, 0, 0)}, ValueError, "H, the last axis of R, must be at least 1, got 0"),
        ({"B": zeros(1, 16)}, ValueError, r"B must have shape \(D, 8H\) = \(1, 32\), got \(1, 16\)"),
        ({"P": zeros(1, 16)}, ValueError, r"P must have shape \(D, 3H\) = \(1, 12\), got \(1, 16\)"),
        ({"initial_h": zeros(3, 4)}, ValueError, r"initial_h must have shape \(D, N, H\) = \(1, 3, 4\), got \(3, 4\)"),
        (
            {"initial_c": zeros(1, 0, 4)},
            ValueError,
            r"initial_c must have shape \(D, N, H\) = \(1, 3, 4\), got \(1, 0, 4\)",
        ),
        ({"sequence_lens": [5, 5]}, ValueError, r"sequence_lens must have shape \(N,\) = \(3,\), got \(2,\)"),
        ({"sequence_lens": [6, 5, 5]}, ValueError, r"sequence_lens must be from 0 to T = 5, got \[6, 5, 5\]"),
        ({"sequence_lens": [5, -1, 5]}, ValueError, r"sequence_lens must be from 0 to T = 5, got \[5, -1, 5\]"),
        ({"sequence_lens": zeros(3)}, TypeError, "sequence_lens must be integers, got dtype float64"),
        (
            {"X": zeros(5, 3, 2, dtype=np.int64)},
            TypeError,
            "X must be float16, float32 or float64, got dtype int64",
        ),
        (
            {"W": zeros(1, 16, 2, dtype=complex)},
            TypeError,
            "W must be float16, float32 or float64, got dtype complex",
        ),
        ({"P": zeros(1, 12, dtype=np.float32)}, TypeError, "P must have the dtype of X, float64, got float32"),
        ({"W": [[1], [2, 3]]}, TypeError, "W must be an array"),
        ({"B": "bias"}, TypeError, "B must be float16, float32 or float64, got dtype <U4"),
    ],
)
def test_invalid_inputs_are_errors(operands, changed, error, message):
    with pytest.raises(error, match=message):
        run_lstm({}, operands() | changed)


def test_shapes_in_errors_follow_the_layout(operands):
    with pytest.raises(ValueError, match=r"initial_h must have shape \(N, D, H\) = \(5, 1, 4\), got \(1, 3, 4\)"):
        run_lstm({"layout": 1}, operands())
    with pytest.raises(ValueError, match=r"X must have shape \(N, T, I\), got \(5,\)"):
        run_lstm({"layout": 1}, operands() | {"X": zeros(5)})


def test_inputs_must_be_a_mapping(operands):
    with pytest.raises(TypeError, match="inputs must be a mapping of names to arrays"):
        run_lstm({}, list(operands().values()))
