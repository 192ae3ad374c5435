"""Laws of layers at the edges of their arguments: a feature too few, three layers of two directions, copies."""

import importlib
import inspect
import math
import pkgutil

import numpy as np
import pytest

import glasscell as gc
from glasscell import layers
from glasscell.layers import BatchNorm, Conv1D, Normalization, Rescaling
from glasscell.layers.step import _valid_step_index


@pytest.mark.parametrize(
    ("mean", "shown"),
    [(2, "2"), ([1], "(1,)"), ([1, 2], "(1, 2)"), ([1, 2, 3], "(1, 2, 3)"), ([1, 2, 3, 4], "(1, 2, 3, …)")],
)
def test_a_representation_has_the_first_three_numbers(mean, shown):
    assert repr(Normalization(mean, 1)) == f"Normalization(mean={shown}, variance=1)"
    assert repr(Rescaling(mean, 0.5)) == f"Rescaling(scale={shown}, offset=0.5)"


@pytest.mark.parametrize("features", [2, 4, 0])
def test_another_number_of_features_is_refused(features):
    for layer in (gc.Linear(3, 2), BatchNorm(3)):
        with pytest.raises(ValueError, match=r"= 3\b.*got \(2, 5, "):
            layer.forward(np.ones((2, 5, features)))


def test_exported_statistics_are_copies():
    layer = BatchNorm(3)
    for array in layer.to_torch().values():
        array[...] = 7
    for name, array in layer.statistics.items():
        np.testing.assert_array_equal(array, BatchNorm(3).statistics[name])


@pytest.mark.parametrize("kind", [gc.RNN, gc.GRU])
@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_the_gradient_of_stacked_directions_is_the_derivative(kind, num_layers, rng):
    layer = kind(3, 2, num_layers=num_layers, bidirectional=True, dtype=np.float64, seed=1)
    x, direction = rng.normal(size=(2, 2, 5, 3))
    y, *_, tape = layer.forward(x)
    d_y = rng.normal(size=y.shape)
    dx = layer.backward(tape, d_y)[0]
    step = 1e-5
    after, before = (np.sum(d_y * layer.forward(x + sign * step * direction)[0]) for sign in (1, -1))
    assert np.sum(dx * direction) == pytest.approx((after - before) / (2 * step), rel=1e-8)


@pytest.mark.parametrize("features", [1, 3, 5])
def test_fixed_numbers_of_each_feature_refuse_other_features(features):
    with pytest.raises(ValueError, match=f"x must have 2 features, got {features}$"):
        Rescaling([1, 2], 0).forward(np.ones((4, 6, features)))


@pytest.mark.parametrize("groups", [1, 2])
def test_weights_of_a_convolution_are_uniform_up_to_glorots_bound(groups):
    weight = Conv1D(32, 64, 3, groups=groups, seed=0).parameters["weight"]
    bound = math.sqrt(6 / ((32 + 64) // groups * 3))  # inputs and outputs of a group, at each place of the kernel
    assert 0.99 * bound < np.abs(weight).max() <= bound * (1 + 1e-6)
    assert np.std(weight) == pytest.approx(bound / math.sqrt(3), rel=0.03)


def test_symbols_may_be_whole_numbers_of_a_format_without_integers():
    layer = gc.Embedding(5, 3, seed=0)
    np.testing.assert_array_equal(layer.forward([[0.0, 4.0, 2.0]])[0], layer.forward([[0, 4, 2]])[0])
    with pytest.raises(TypeError, match="symbols must be integers, got dtype float64"):
        layer.forward([[0.0, 0.5]])


@pytest.mark.parametrize(("symbols", "shown"), [([[0, 5]], "0 to 5"), ([[-1, 3]], "-1 to 3"), ([[7]], "7")])
def test_symbols_outside_of_the_table_are_named(symbols, shown):
    with pytest.raises(ValueError, match=f"^symbols must be from 0 to 4, got {shown}$"):
        gc.Embedding(5, 3).forward(symbols)


def test_a_summary_is_as_wide_as_its_table():
    lines = repr(gc.Sequential([gc.LSTM(3, 7), gc.Linear(7, 12)]).summary()).splitlines()
    rules = [line for line in lines if set(line) == {"-"}]
    assert len(rules) == 2
    assert all(len(rule) == max(map(len, lines[:-1])) for rule in rules)


def test_named_weights_are_copies():
    layer = gc.Linear(3, 2, seed=0)
    for array in layer.named_weights().values():
        array[...] = 7
    np.testing.assert_array_equal(layer.parameters.vector, gc.Linear(3, 2, seed=0).parameters.vector)


@pytest.mark.parametrize("index", range(-4, 4))
def test_the_step_of_an_index_is_that_of_the_valid_ones(index, rng):
    mask = rng.random((40, 3)) < 0.6
    mask[mask.sum(axis=1) == 0, 1] = True
    expected = []
    for row in mask:
        times = np.flatnonzero(row)
        place = index if index >= 0 else len(times) + index
        expected.append(times[min(max(place, 0), len(times) - 1)])
    np.testing.assert_array_equal(_valid_step_index(mask, index), expected)


def test_flags_are_named_in_calls():
    """`stream_stage(True)` does not say what is true; nor are lengths, masks and generators told by their places."""
    names = [module.name for module in pkgutil.iter_modules(layers.__path__, "glasscell.layers.")]
    functions = set()
    for module in map(importlib.import_module, names):
        owners = [module, *(value for value in vars(module).values() if inspect.isclass(value))]
        for function in (getattr(f, "__func__", f) for owner in owners for f in vars(owner).values()):
            if inspect.isfunction(function) and function.__code__.co_filename.endswith(f"{module.__name__[17:]}.py"):
                functions.add(function)
    names = ("single", "bidirectional", "gain", "shift")
    flags = [p for f in functions for p in inspect.signature(f).parameters.values() if p.name in names]
    assert len(flags) > 10
    assert [flag for flag in flags if flag.kind != inspect.Parameter.KEYWORD_ONLY] == []
    for kind in (gc.LSTM, gc.RNN, gc.GRU):
        for function, options in (
            (kind.forward, ("lengths", "mask", "rng")),
            (gc.LSTM.from_torch, ("prefix", "biases")),
        ):
            parameters = inspect.signature(function).parameters
            assert {parameters[name].kind for name in options} == {inspect.Parameter.KEYWORD_ONLY}


def test_flatten_changes_the_number_of_features():
    assert layers.Flatten().keeps_feature_count is False


def test_symbols_are_valid_where_the_mask_and_they_are(rng):
    layer = layers.Embedding(4, 2, mask_zero=True)
    symbols, mask = rng.integers(0, 3, (5, 7)), rng.random((5, 7)) > 0.5
    np.testing.assert_array_equal(layer.output_mask(symbols, mask), mask & (symbols != 0))
    assert layer.output_mask(symbols, mask).dtype == bool


def test_layers_that_change_each_feature_keep_their_origin():
    origin = object()
    for layer in (layers.Dropout(0.5), layers.SpatialDropout1D(0.5), layers.GaussianNoise(0.5)):
        assert layer.output_origin(origin) is origin


def test_a_pass_keeps_its_tape_by_default():
    for kind in (gc.RNN, gc.GRU):
        assert kind(3, 2).forward_feature_major(np.zeros((4, 3, 1), np.float32)).tape is not None


def test_dropout_keeps_the_share_of_the_generators_numbers_that_it_states():
    """They are from 0 to below 1, here in equal distances."""

    class Evenly:
        def random(self, shape):
            return np.arange(np.prod(shape)).reshape(shape) / np.prod(shape)

    for rate in (0.125, 0.5, 0.75):
        y, _ = layers.Dropout(rate).forward(np.ones((4, 2, 8)), rng=Evenly())
        assert np.count_nonzero(y) == 64 * (1 - rate)


def test_outputs_of_one_direction_are_not_copied_from_its_tape(rng):
    for kind in (gc.RNN, gc.GRU):
        result = kind(3, 2, num_layers=2).forward_feature_major(rng.normal(size=(4, 3, 5)).astype(np.float32))
        assert np.shares_memory(result.outputs, result.tape.directions[-1].tape.h_with_initial)
