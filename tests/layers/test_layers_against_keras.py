"""Law: the layers of real chains compute what Keras's do, with and without masks, and have its gradients."""

import numpy as np
import pytest

import glasscell as gc
from glasscell.layers import (
    AveragePooling1D,
    BatchNorm,
    Conv1D,
    Flatten,
    Function,
    LayerNorm,
    MaxPooling1D,
    Normalization,
    RepeatVector,
    Rescaling,
)

# Keras asks PyTorch's tensors for an array in a way that NumPy 2 finds old.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword"),
    pytest.mark.filterwarnings("ignore:Layer '.*was passed an input with a mask"),
]
F = 6
D = {"dtype": "float64"}


def compare(keras, keras_layer, layer, x, parameters=(), atol=1e-12):
    """Values, and gradients on inputs and on those parameters, given as Keras's variables in our order and layout."""
    inputs = keras.ops.convert_to_tensor(x).requires_grad_()
    expected = keras_layer(inputs)
    y, tape = layer.forward(x)
    as_array = keras.ops.convert_to_numpy
    np.testing.assert_allclose(y, as_array(expected), rtol=0, atol=atol)
    dy = np.random.default_rng(3).normal(size=y.shape)
    (expected * keras.ops.convert_to_tensor(dy)).sum().backward()
    found = layer.backward(tape, dy)
    dx, gradients = found if isinstance(found, tuple) else (found, {})
    np.testing.assert_allclose(dx, as_array(inputs.grad), rtol=0, atol=10 * atol)
    for own, (variable, layout) in zip(gradients.values(), parameters, strict=True):
        np.testing.assert_allclose(own, layout(as_array(variable.value.grad)), rtol=0, atol=10 * atol)


def as_it_is(array):
    return array


CONVOLUTIONS = [
    {"padding": padding, **options}
    for padding in ("valid", "same", "causal")
    for options in ({}, {"strides": 2}, {"dilation_rate": 2}, {"groups": 2}, {"strides": 3, "use_bias": False})
]


@pytest.mark.parametrize("options", CONVOLUTIONS, ids=str)
def test_convolution(options, keras, rng):
    x = rng.normal(size=(3, 10, F))
    keras_layer = keras.layers.Conv1D(4, 3, **options, **D)
    keras_layer.build(x.shape)
    keras_layer.set_weights([rng.normal(size=weight.shape) for weight in keras_layer.get_weights()])
    named = {"strides": "stride", "dilation_rate": "dilation", "use_bias": "bias"}
    layer = Conv1D(F, 4, 3, dtype=np.float64, **{named.get(name, name): value for name, value in options.items()})
    weights = dict(zip(("weight", "bias"), keras_layer.get_weights(), strict=False))
    layer.load_torch(weights | {"weight": weights["weight"].transpose(2, 1, 0)})
    layouts = (lambda kernel: kernel.transpose(2, 1, 0), as_it_is)
    compare(keras, keras_layer, layer, x, list(zip(keras_layer.weights, layouts, strict=False)))


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("size", "stride"), [(2, None), (3, 1), (3, 2), (2, 3)])
@pytest.mark.parametrize("kind", [MaxPooling1D, AveragePooling1D])
def test_pooling(kind, size, stride, padding, keras, rng):
    keras_layer = getattr(keras.layers, kind.__name__)(size, stride, padding, **D)
    compare(keras, keras_layer, kind(size, stride, padding), rng.normal(size=(3, 11, F)))


@pytest.mark.parametrize("options", [{}, {"center": False}, {"scale": False}, {"epsilon": 0.2}], ids=str)
@pytest.mark.parametrize("kind", ["LayerNormalization", "BatchNormalization"])
def test_normalization_with_parameters(kind, options, keras, rng):
    x = rng.normal(size=(3, 7, F))
    keras_layer = getattr(keras.layers, kind)(**options, **D)
    keras_layer.build(x.shape)
    keras_layer.set_weights([rng.uniform(0.3, 2, weight.shape) for weight in keras_layer.get_weights()])
    layer_options = {"gain": options.get("scale", True), "shift": options.get("center", True)}
    make = LayerNorm if kind.startswith("Layer") else BatchNorm
    layer = make(F, epsilon=options.get("epsilon", 1e-3), dtype=np.float64, **layer_options)
    names = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
    layer.load_torch({names[weight.name]: keras.ops.convert_to_numpy(weight) for weight in keras_layer.weights})
    trained = [weight for weight in keras_layer.weights if weight.trainable]
    # Keras computes these in float32 whatever the type of its inputs; PyTorch has been asked for more digits.
    compare(keras, keras_layer, layer, x, [(weight, as_it_is) for weight in trained], atol=2e-6)


def test_layers_without_parameters(keras, rng):
    x, layers = rng.normal(size=(3, 7, F)), keras.layers
    mean, variance = rng.normal(size=F), rng.uniform(0.3, 3, F)
    for invert in (False, True):
        keras_layer = layers.Normalization(mean=mean, variance=variance, invert=invert, **D)
        keras_layer.build(x.shape)
        compare(keras, keras_layer, Normalization(mean, variance, invert), x, atol=2e-6)  # in float32 there
    compare(keras, layers.Rescaling(0.3, -2, **D), Rescaling(0.3, -2), x)
    compare(keras, layers.Flatten(**D), Flatten(), x)
    compare(keras, layers.RepeatVector(4, **D), RepeatVector(4), x[:, 0])
    for name, function in (("silu", "Silu"), ("gelu", "Gelu"), ("selu", "Selu")):
        compare(keras, layers.Activation(name, **D), Function(function), x)
    approximate = layers.Lambda(lambda x: keras.activations.gelu(x, approximate=True), **D)
    compare(keras, approximate, Function("GeluTanh"), x)


@pytest.mark.parametrize("invert", [False, True])
def test_the_smallest_deviation(invert, keras):
    keras_layer = keras.layers.Normalization(mean=1.0, variance=1e-20, invert=invert)
    y, _ = Normalization(1.0, 1e-20, invert).forward(np.ones((2, 3, F), np.float32) * 3)
    expected = keras.ops.convert_to_numpy(keras_layer(np.ones((2, 3, F)) * 3))
    np.testing.assert_allclose(y, expected, rtol=1e-6)


MASKED = {  # behind a Masking: theirs, ours
    "LayerNorm": lambda L: ([L.LayerNormalization()], [LayerNorm(F, epsilon=1e-3)]),
    "BatchNorm": lambda L: ([L.BatchNormalization()], [BatchNorm(F, epsilon=1e-3)]),
    "Rescaling": lambda L: ([L.Rescaling(2.0, 1.0)], [Rescaling(2.0, 1.0)]),
    "MaxPooling1D": lambda L: ([L.MaxPooling1D(2)], [MaxPooling1D(2, ignore_mask=True)]),
    "AveragePooling1D": lambda L: ([L.AveragePooling1D(2)], [AveragePooling1D(2, ignore_mask=True)]),
    "Conv1D": lambda L: ([L.Conv1D(F, 3, name="conv")], [Conv1D(F, F, 3, ignore_mask=True)]),
    "dropouts": lambda L: (
        [L.SpatialDropout1D(0.5), L.GaussianNoise(0.5), L.GaussianDropout(0.5)],
        [gc.layers.SpatialDropout1D(0.5), gc.layers.GaussianNoise(0.5), gc.layers.GaussianDropout(0.5)],
    ),
}


@pytest.mark.parametrize("name", MASKED)
def test_masks_are_passed_on_as_in_keras(name, keras, rng):
    """The LSTM behind the layer passes masked steps over where Keras's does, and only there."""
    x = rng.normal(size=(3, 8, F)).astype(np.float32)
    x[0, 5:] = 0
    x[2, :3] = 0
    keras_layers, glasscell_layers = MASKED[name](keras.layers)
    model = keras.Sequential([keras.Input((8, F)), keras.layers.Masking(), *keras_layers, keras.layers.LSTM(4)])
    lstm = gc.LSTM.from_keras(model.layers[-1].get_weights(), **model.layers[-1].get_config())
    if name == "Conv1D":
        kernel, bias = keras_layers[0].get_weights()
        glasscell_layers[0].load_torch({"weight": kernel.transpose(2, 1, 0), "bias": bias})
    own = gc.Sequential([gc.layers.Masking(), *glasscell_layers, lstm, gc.layers.FinalState()])
    np.testing.assert_allclose(own(x), keras.ops.convert_to_numpy(model(x)), rtol=0, atol=2e-6)
    if name not in ("MaxPooling1D", "AveragePooling1D", "Conv1D"):
        shorter = own(x[:1, :5])
        np.testing.assert_allclose(own(x)[:1], shorter, rtol=0, atol=1e-6)
