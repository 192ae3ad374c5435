"""Property: settings of Keras's LSTM are converted to options, or refused by name."""

import numpy as np
import pytest
from case_loops import loop_over
from keras_lstms import ACTIVATIONS, lstm_of

from glasscell import LSTM
from glasscell.weight_layouts.keras import KERAS_MERGES, activation_from_keras

# Keras asks PyTorch's tensors for an array in a way that NumPy 2 finds old.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")


def weights_of(I=3, H=4, bias=True, dtype=np.float32):
    rng = np.random.default_rng(1)
    shapes = [(I, 4 * H), (H, 4 * H), *([(4 * H,)] if bias else [])]
    return [rng.normal(size=shape).astype(dtype) for shape in shapes]


def test_keras_settings_are_converted_to_options():
    lstm = LSTM.from_keras(weights_of(), dropout=0.25, recurrent_dropout=0.5, units=4, use_bias=True)
    assert (lstm.options.input_dropout, lstm.options.recurrent_dropout, lstm.options.dropout) == (0.25, 0.5, 0)
    assert (lstm.options.masked_outputs, lstm.options.outputs_in) == ("repeat", "time")
    back = LSTM.from_keras(weights_of(), go_backwards=True, zero_output_for_mask=True)
    assert (back.options.masked_outputs, back.options.outputs_in, back.options.reverse) == ("zero", "processing", True)
    both = LSTM.from_keras(weights_of() * 2, merge_mode="ave")
    assert (both.options.bidirectional, both.options.merge) == (True, "average")
    assert LSTM.from_keras(weights_of() * 2, bidirectional=True).options.merge == "concat"


def test_weights_by_name():
    weights = weights_of()
    named = dict(zip(("kernel", "recurrent_kernel", "bias"), weights, strict=True))
    expected = LSTM.from_keras(weights).parameters.vector
    np.testing.assert_array_equal(LSTM.from_keras(named).parameters.vector, expected)
    both = LSTM.from_keras({"forward": named, "backward": named}, bidirectional="concat").parameters.vector
    np.testing.assert_array_equal(both, np.tile(expected, 2))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_dtype_is_that_of_the_weights_or_of_the_policy(dtype):
    policy = {"module": "keras", "class_name": "DTypePolicy", "config": {"name": dtype}, "registered_name": None}
    assert LSTM.from_keras(weights_of(dtype=dtype)).dtype == dtype
    assert LSTM.from_keras(weights_of(), dtype=dtype).dtype == dtype
    assert LSTM.from_keras(weights_of(), dtype=policy).dtype == dtype
    assert LSTM.from_keras(weights_of(dtype=np.float16)).dtype == np.float32


def test_activations_as_keras_serialises_them(keras):
    activations = keras.activations
    for name in ACTIVATIONS:
        function = getattr(activations, name)
        for given in (name, activations.serialize(function), keras.saving.serialize_keras_object(function)):
            lstm = LSTM.from_keras(weights_of(), activation=given, recurrent_activation=given)
            expected = activation_from_keras(name)
            options = lstm.options
            for got in (options.gate_activation, options.candidate_activation, options.output_activation):
                assert got[: len(expected)] == expected
    assert LSTM.from_keras(weights_of(), activation=None).options.candidate_activation[:3] == ("Affine", 1.0, 0.0)


def test_the_hard_sigmoid_of_keras_2_differs_from_keras_3(keras):
    """It was a fifth of z plus a half; now it is a sixth."""
    z = np.linspace(-4, 4, 33)
    of_3, of_2 = (
        LSTM.from_keras(weights_of(), recurrent_activation="hard_sigmoid", keras_version=version).options
        for version in ("3.15.1", "2.12.0")
    )
    assert of_3.gate_activation == ("HardSigmoid", 1 / 6, 0.5)
    assert of_2.gate_activation == ("HardSigmoid", 0.2, 0.5)
    keras_values = keras.ops.convert_to_numpy(keras.activations.hard_sigmoid(keras.ops.convert_to_tensor(z)))
    np.testing.assert_allclose(of_3.cell_config.gate.function(z), keras_values, rtol=0, atol=1e-15)


UNKNOWN = ["swish", "celu", "exponential", "relu6", "softmax", "mish", 3, "Tanh "]


@loop_over("name", UNKNOWN)
@loop_over("setting", ["activation", "recurrent_activation"])
def test_unknown_activations_are_refused_by_name(setting, name):
    with pytest.raises(ValueError, match=f"must be one of sigmoid, tanh, .*, got {name!r}"):
        LSTM.from_keras(weights_of(), **{setting: name})


def test_activations_with_parameters_are_refused(keras):
    layer = keras.layers.LSTM(4, activation=keras.layers.LeakyReLU(negative_slope=0.3))
    layer.build((2, 5, 3))
    with pytest.raises(ValueError, match=r"must be one of sigmoid, .*, got 'LeakyReLU"):
        lstm_of(layer)


@loop_over(
    ("weights", "config", "words"),
    [
        (weights_of(), {"time_major": True}, "time_major must be False, got True: arrays are batch first"),
        (weights_of(), {"time_major": True}, "time_major must be False, got True"),
        (weights_of(), {"return_everything": 1}, "the Keras setting return_everything=1 is not supported"),
        (weights_of(), {"unitz": 4}, "the Keras setting unitz=4 is not supported"),
        (weights_of(), {"name_": "lstm"}, "the Keras setting name_='lstm' is not supported"),
        (weights_of(), {"units": 5}, "units must be the number of rows of the recurrent kernel, 4, got 5"),
        (weights_of(), {"use_bias": False}, "use_bias must be True, since the weights contain a bias, got False"),
        (weights_of(bias=False), {"use_bias": True}, "use_bias must be False, since .* contain no bias, got True"),
        (weights_of() * 2, {"bidirectional": "max"}, "merge_mode must be one of concat, sum, ave, mul, got 'max'"),
        (weights_of(), {"dropout": 1.5}, r"input_dropout must be at least 0 and below 1, got 1\.5"),
        (weights_of()[:1], {}, "kernel, recurrent_kernel and optionally bias, got 1 weights"),
        (weights_of() + weights_of()[:1], {}, "optionally bias, got 4 weights"),
        ([], {}, "got 0 weights"),
        (weights_of() * 2, {}, "kernel, recurrent_kernel and optionally bias, got 6 weights"),
        (weights_of(), {"bidirectional": "concat"}, "for each direction, got 3 weights"),
        ([*weights_of(), *weights_of()[:2]], {"bidirectional": "sum"}, "for each direction, got 5 weights"),
        ([weights_of()[0][0], *weights_of()[1:]], {}, r"kernel must have shape \(I, 4H\) .*got \(16,\) and \(4, 16\)"),
        ([weights_of()[0], weights_of()[0]], {}, r"recurrent_kernel \(H, 4H\), got \(3, 16\) and \(3, 16\)"),
        ([weights_of()[1], weights_of(4, 3)[1]], {}, r"'kernel' must have shape \(4, 12\), got \(4, 16\)"),
        ([*weights_of()[:2], np.zeros((2, 16))], {}, r"'bias' must have shape \(16,\), got \(2, 16\)"),
        (weights_of() + weights_of(2), {"bidirectional": "sum"}, r"'kernel' must have shape \(3, 16\), got \(2, 16\)"),
        ([*weights_of()[:2], np.full(16, np.nan)], {}, "'weight 2' has NaN or infinite values"),
    ],
)
def test_contradictory_weights_and_settings_are_refused(weights, config, words):
    with pytest.raises(ValueError, match=words):
        LSTM.from_keras(weights, **config)


def test_a_reversed_first_layer_is_refused(keras):
    """Keras lets it be, with a second one that goes forwards, and then turns the outputs of the wrong one round."""
    backwards, forwards = (keras.layers.LSTM(4, return_sequences=True, go_backwards=way) for way in (True, False))
    layer = keras.layers.Bidirectional(backwards, backward_layer=forwards)
    layer.build((2, 5, 3))
    with pytest.raises(ValueError, match="go_backwards"):
        lstm_of(layer)


@pytest.mark.parametrize("merge", KERAS_MERGES)
def test_a_bidirectional_layer_is_read_by_its_configuration(keras, merge, rng):
    layer = keras.layers.Bidirectional(keras.layers.LSTM(4, "relu", return_sequences=True), merge_mode=merge)
    layer.build((2, 5, 3))
    glasscell_lstm = LSTM.from_keras(layer.get_weights(), **layer.get_config())
    x = rng.standard_normal((2, 5, 3)).astype(np.float32)
    np.testing.assert_allclose(glasscell_lstm.forward(x)[0], layer(x).detach().numpy(), rtol=0, atol=1e-6)


def test_a_bidirectional_layer_of_another_class_is_refused(keras):
    for wrapped, back, words in (
        (keras.layers.GRU(4), None, "'GRU'"),
        (keras.layers.LSTM(4), keras.layers.LSTM(4, "relu", go_backwards=True), "differ in activation"),
        (keras.layers.LSTM(4, go_backwards=True), keras.layers.LSTM(4), "go_backwards"),
    ):
        layer = keras.layers.Bidirectional(wrapped, backward_layer=back)
        layer.build((2, 5, 3))
        with pytest.raises(ValueError, match=words):
            LSTM.from_keras(layer.get_weights(), **layer.get_config())


def test_weights_with_unknown_names_are_refused():
    kernel, recurrent, bias = weights_of()
    with pytest.raises(ValueError, match="biases"):
        LSTM.from_keras({"kernel": kernel, "recurrent_kernel": recurrent, "biases": bias})
    with pytest.raises(ValueError, match="backward"):
        LSTM.from_keras({"forward": {"kernel": kernel, "recurrent_kernel": recurrent}}, bidirectional="sum")


def test_a_layer_with_unsupported_settings_is_refused(keras):
    """With the whole configuration, of which only one setting is at fault."""
    layer = keras.layers.LSTM(4, activation="mish")
    layer.build((2, 5, 3))
    with pytest.raises(ValueError, match="got 'mish'"):
        lstm_of(layer)


def test_a_stateful_layer_starts_from_0_and_continues_from_a_passed_state(keras, rng):
    """There its state stays in the layer; here it is an argument."""
    x = rng.normal(size=(2, 6, 3)).astype(np.float32)
    layer = keras.layers.LSTM(4, stateful=True, return_sequences=True)
    keras_outputs = [keras.ops.convert_to_numpy(layer(part)) for part in (x[:, :4], x[:, 4:])]
    outputs, state = [], None
    for part in (x[:, :4], x[:, 4:]):
        y, state = lstm_of(layer).infer(part, state)
        outputs.append(y)
    for a, b in zip(outputs, keras_outputs, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


def test_options_of_execution_are_not_keras_settings():
    lstm = LSTM.from_keras(weights_of(), engine="numpy", recompute_every=3)
    assert (lstm.execution.engine, lstm.execution.recompute_every) == ("numpy", 3)
