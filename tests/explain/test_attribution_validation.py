"""Law: wrong arguments of attributions raise one clear error."""

import numpy as np
import pytest
from case_loops import loop_over
from explained_models import B, I, T, model_of

import glasscell as gc
from glasscell import explain, layers


class Opaque(layers.Masking):
    """A layer whose backward pass returns no gradient."""

    def backward_feature_major(self, *_, **__):
        return None


X = np.zeros((B, T, I))
MEAN_OF = {"output": 0, "step": 2}
WRONG = [
    ({"x": X, "output": 2, "step": 1}, IndexError, "output must be from 0 to 1, got 2"),
    ({"x": X, "output": -1, "step": 1}, IndexError, "output must be from 0 to 1, got -1"),
    ({"x": X, "output": 0.5}, TypeError, "output must be an integer"),
    ({"x": X, "output": "all"}, TypeError, "'sum', a ClassScore, a LogProbability or a function, got 'all'"),
    ({"x": X, "output": None}, TypeError, "output must be an integer"),
    ({"x": X, "output": [0, 1]}, ValueError, r"output must have shape \(\) or \(B,\) = \(4,\), got \(2,\)"),
    ({"x": X, "output": 0, "step": T}, IndexError, "step must be from -6 to 5, got 6"),
    ({"x": X, "output": 0, "step": 1.0}, TypeError, "step must be an integer"),
    (
        {"x": X, "output": 0, "step": 3, "lengths": [6, 6, 3, 6]},
        IndexError,
        "one of the 3 valid steps of sequence 2, got 3",
    ),
    ({"x": X, "output": 0, "step": -1, "lengths": [6, 0, 3, 6]}, IndexError, "one of the 0 valid steps of sequence 1"),
    (dict(x=X, baseline=np.zeros(I + 1), **MEAN_OF), ValueError, r"baseline must have shape .* got \(4,\)"),
    (dict(x=X[0], baseline=X, **MEAN_OF), ValueError, "baseline must have shape"),
    (dict(x=X, baseline=np.full(I, np.nan), **MEAN_OF), ValueError, "baseline must be finite"),
    (dict(x=X, baseline="mean", **MEAN_OF), ValueError, "baseline must be 'zeros' or numbers .* got 'mean'"),
    (dict(x=X, steps=0, **MEAN_OF), ValueError, "steps must be at least 1, got 0"),
    (dict(x=X, steps=1.5, **MEAN_OF), TypeError, "steps must be an integer"),
    ({"x": X[:, :0], "output": "sum"}, ValueError, "x must have at least one step"),
    ({"x": X[:0], "output": "sum"}, ValueError, "x must have at least one step"),
    ({"x": np.full_like(X, np.nan), "output": "sum"}, ValueError, "x must be finite"),
    ({"x": X[..., :2], "output": "sum"}, ValueError, r"x must have shape .* got \(4, 6, 2\)"),
    ({"x": [X[0], X[0, :3, :2]], "output": "sum"}, ValueError, "x must be sequences .* of one I"),
    ({"x": [X[0].tolist(), [[1.0], [2.0, 3.0]]], "output": "sum"}, TypeError, "x must be an array or a list of arrays"),
    ({"x": "text", "output": "sum"}, TypeError, "x must be an array for a model without a vocabulary"),
    ({"x": X, "output": "sum", "lengths": [7, 1, 1, 1]}, ValueError, "lengths must be from 0 to T = 6"),
    ({"x": X, "output": explain.ClassScore("up")}, TypeError, "ClassScore needs a model with classes"),
    ({"x": X, "output": explain.LogProbability(2)}, IndexError, "target must be from 0 to 1, got 2"),
    ({"x": X, "output": explain.LogProbability()}, ValueError, "target must be stated"),
    ({"x": X, "output": lambda y: y.sum()}, TypeError, r"output must return \(value, gradient on the outputs\)"),
    ({"x": X, "output": lambda y: (y.sum(), y)}, ValueError, r"output must return a value of shape \(4,\)"),
    ({"x": X, "output": lambda y: (y.sum((1, 2)) * np.nan, y)}, ValueError, "output must return a finite value"),
    ({"x": X, "output": lambda y: (y.sum((1, 2)), y), "step": 1}, ValueError, "step must be None for a function"),
]


@loop_over(("arguments", "error", "message"), WRONG, ids=range(len(WRONG)))
def test_wrong_arguments_raise_one_clear_error(arguments, error, message):
    arguments = dict(arguments)
    with pytest.raises(error, match=message):
        explain.integrated_gradients(model_of("steps"), arguments.pop("x"), **arguments)


WRONG_SYMBOLS = [
    ({"x": [1, 7, 2], "output": 0}, ValueError, "x must be ids from 0 to 6, got 1 to 7"),
    ({"x": [1, -1, 2], "output": 0}, ValueError, "x must be ids from 0 to 6"),
    ({"x": [1.5, 2.0], "output": 0}, TypeError, "x must be ids, got dtype float64"),
    ({"x": "xyz", "output": 0}, ValueError, "x"),
    ({"x": "abc", "output": 0, "baseline": 9}, ValueError, "baseline must be ids from 0 to 6, got 9 to 9"),
    ({"x": "abc", "output": 0, "baseline": "ab"}, ValueError, r"baseline must have shape .* got \(2,\)"),
    ({"x": "abc", "output": 0, "baseline": "xyz"}, ValueError, "baseline"),
    ({"x": "abc", "output": 0, "baseline": np.zeros(4)}, ValueError, "baseline must have shape"),
    ({"x": "abc", "output": explain.LogProbability("ab")}, ValueError, "target must be one symbol .* got 'ab'"),
    ({"x": "abc", "output": explain.LogProbability("x")}, ValueError, "target"),
    (
        {"x": "abc", "output": explain.LogProbability(), "step": 2},
        ValueError,
        "target must be stated for the last step",
    ),
    ({"x": "", "output": 0}, ValueError, "x must have at least one step"),
]


@loop_over(("arguments", "error", "message"), WRONG_SYMBOLS, ids=range(len(WRONG_SYMBOLS)))
def test_wrong_symbols_raise_one_clear_error(arguments, error, message):
    arguments = dict(arguments)
    with pytest.raises(error, match=message):
        explain.integrated_gradients(model_of("text"), arguments.pop("x"), **arguments)


def test_models_that_cannot_be_explained_raise_one_clear_error():
    columns = gc.Sequential([layers.Rescaling(1.0), layers.FeatureEmbedding(I, {1: (4, 2)}), gc.LSTM(4, 3)])
    with pytest.raises(ValueError, match=r"columns \[1\] of layer '1' are ids"):
        explain.integrated_gradients(columns, X, output=0)
    columns = gc.Sequential([layers.FeatureEmbedding(I, {1: (4, 2)}), gc.LSTM(4, 3)])
    with pytest.raises(ValueError, match="column 1 of x must be ids from 0 to 3, got 0 to 4"):
        explain.integrated_gradients(columns, np.pad(X[0, 1:], [(0, 1), (0, 0)], constant_values=4), output=0)
    with pytest.raises(TypeError, match="column 1 of baseline must be ids"):
        explain.integrated_gradients(columns, X, output=0, baseline=0.5)
    without_gradient = gc.Sequential([Opaque(), gc.LSTM(I, 3)])
    with pytest.raises(ValueError, match="model must have a gradient on its inputs; layer '0' has none"):
        explain.integrated_gradients(without_gradient, X, output=0)
    with pytest.raises(ValueError, match="x must have no masked values, got 72"):
        explain.integrated_gradients(model_of("steps"), np.ma.masked_equal(X, 0), output=0)
    reverse = gc.LSTM(I, 3, reverse=True, outputs_in="processing")
    with pytest.raises(ValueError, match="lengths and mask must be None for outputs_in='processing'"):
        explain.integrated_gradients(reverse, X, output=0, lengths=[6, 3, 6, 6])
    with pytest.raises(TypeError, match="model must be a model of layers"):
        explain.integrated_gradients(gc.LSTM, X, output=0)
    with pytest.raises(TypeError, match="model must be a model of layers or a recurrent layer, got a type"):
        explain.integrated_gradients(np.ndarray, X, output=0)
    with pytest.raises(ValueError, match="step must be None for a model with one output per sequence"):
        explain.integrated_gradients(model_of("final"), X, output=0, step=1)
    with pytest.raises(ValueError, match="label must be labels of the classes 'up', 'down', 'flat', got 'left'"):
        explain.integrated_gradients(model_of("classifier"), X, output=explain.ClassScore("left"))
    with pytest.raises(ValueError, match="label must be one label, or one for each of 4 sequences, got 2"):
        explain.integrated_gradients(model_of("classifier"), X, output=explain.ClassScore(["up", "up"]))
    for data in ([], [np.zeros((0, 2))], np.zeros((2, 0, 3)), np.zeros((2, 3)), [np.zeros((2, 2)), np.zeros((2, 3))]):
        with pytest.raises(ValueError, match="x must"):
            explain.mean_input(data)
