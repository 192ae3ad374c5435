"""Law: values and all gradients of RNN and GRU are Keras's, and weights go there and back."""

import numpy as np
import pytest
from case_loops import loop_over

import glasscell as gc

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
B, T, I, H = 3, 6, 2, 4
VALUES, GRADIENTS = 2e-6, 1e-5  # tolerances: on PyTorch, Keras multiplies in float32 inside its loop
KINDS = {
    "tanh": (gc.RNN, "SimpleRNN", {}),
    "relu": (gc.RNN, "SimpleRNN", {"activation": "relu"}),
    "gru": (gc.GRU, "GRU", {}),
    "gru of the paper": (gc.GRU, "GRU", {"reset_after": False}),
}


def layer_of_keras(keras, name, *, bidirectional, bias, rng):
    _, kind, options = KINDS[name]
    layer = getattr(keras.layers, kind)(H, return_sequences=True, use_bias=bias, dtype="float64", **options)
    if bidirectional:
        layer = keras.layers.Bidirectional(layer, dtype="float64")
    layer.build((B, T, I))
    layer.set_weights([rng.normal(size=array.shape) / 2 for array in layer.get_weights()])
    return layer


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["", "both directions"])
@pytest.mark.parametrize("name", KINDS)
def test_values_gradients_and_weights(name, bidirectional, bias, keras, rng):
    keras_layer = layer_of_keras(keras, name, bidirectional=bidirectional, bias=bias, rng=rng)
    layer = KINDS[name][0].from_keras(keras_layer.get_weights(), **keras_layer.get_config())
    x, numpy = rng.normal(size=(B, T, I)), keras.ops.convert_to_numpy
    inputs = keras.ops.convert_to_tensor(x).requires_grad_()
    expected = keras_layer(inputs)
    y, _, tape = layer.forward(x)
    np.testing.assert_allclose(y, numpy(expected), rtol=0, atol=VALUES)
    dy = rng.normal(size=y.shape)
    (expected * keras.ops.convert_to_tensor(dy)).sum().backward()
    dx, _, gradients = layer.backward(tape, dy)
    np.testing.assert_allclose(dx, numpy(inputs.grad), rtol=0, atol=GRADIENTS)
    for found, before in zip(layer.to_keras(), keras_layer.get_weights(), strict=True):
        assert found.shape == before.shape
    there = layer_of_keras(keras, name, bidirectional=bidirectional, bias=bias, rng=rng)
    there.set_weights(layer.to_keras())
    np.testing.assert_allclose(numpy(there(inputs)), y, rtol=0, atol=VALUES)
    # The gradients on weights, in Keras's layout: of two biases that add up both are the same.
    as_weights = KINDS[name][0](**layer.config, dtype=np.float64, seed=None)
    as_weights.parameters.vector[:] = gradients.vector
    for found, variable in zip(as_weights.to_keras(), keras_layer.trainable_variables, strict=True):
        grad = numpy(variable.value.grad)
        if found.ndim == 2 and found.shape[0] == 2 and "bias" in variable.path:
            found[1, : 2 * H] = found[0, : 2 * H]
        np.testing.assert_allclose(found, grad, rtol=0, atol=GRADIENTS)


@loop_over(
    ("kind", "config", "message"),
    [
        (gc.GRU, {"activation": "relu"}, "activation must be 'tanh', got 'relu'"),
        (gc.GRU, {"recurrent_activation": "hard_sigmoid"}, "recurrent_activation must be 'sigmoid'"),
        (gc.RNN, {"activation": "sigmoid"}, "activation must be 'tanh' or 'relu', got 'sigmoid'"),
        (gc.RNN, {"dropout": 0.5}, "dropout must be 0.0, got 0.5"),
        (gc.GRU, {"recurrent_dropout": 0.5}, "recurrent_dropout must be 0.0, got 0.5"),
        (gc.GRU, {"go_backwards": True}, "go_backwards must be False, got True"),
        (gc.GRU, {"reset_after": False}, "reset_after must be True, as the weights have it, got False"),
        (gc.GRU, {"units": 3}, "units must be 4, as the weights have it, got 3"),
        (gc.GRU, {"use_bias": False}, "use_bias must be True, as the weights have it, got False"),
        (gc.GRU, {"bidirectional": "sum"}, "merge_mode must be 'concat', got 'sum'"),
        (gc.RNN, {"gates": 2}, "the setting gates=2 of Keras cannot be represented"),
    ],
)
def test_settings_that_cannot_be_represented_are_refused_by_name(kind, config, message):
    weights = kind(I, H).to_keras()
    with pytest.raises(ValueError, match=message):
        kind.from_keras(weights, **config)


def test_weights_that_do_not_fit_are_refused(rng):
    weights = gc.GRU(I, H).to_keras()
    with pytest.raises(ValueError, match=r"the shapes \(I, 1H\) and \(H, 1H\) of an RNN, got \(2, 12\) and \(4, 12\)"):
        gc.RNN.from_keras(weights)
    with pytest.raises(ValueError, match="there are 1 weights; expected kernel, recurrent_kernel and perhaps bias"):
        gc.GRU.from_keras(weights[:1])
    with pytest.raises(ValueError, match="weight 0"):
        gc.GRU.from_keras([weights[0][:, :9], *weights[1:]])
    with pytest.raises(ValueError, match="one layer for each level, and this one has num_layers=2"):
        gc.GRU(I, H, 2).to_keras()
