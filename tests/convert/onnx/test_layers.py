"""Law: layers other than LSTMs are exported and imported with equal outputs, also from PyTorch's exports."""

import numpy as np
import pytest

from glasscell.layers import (
    LSTM,
    AveragePooling1D,
    BatchNorm,
    Conv1D,
    Dropout,
    FinalState,
    Flatten,
    Function,
    GaussianDropout,
    GaussianNoise,
    LayerNorm,
    Linear,
    MaxPooling1D,
    Normalization,
    RepeatVector,
    Rescaling,
    SpatialDropout1D,
)
from glasscell.layers.kinds import STATELESS, WITH_PARAMETERS
from glasscell.models import Sequential

ATOL = 2e-6
I, H, B, T = 3, 4, 3, 6


FEATURES = (1.0, -2.0, 0.5, 3.0)
BETWEEN = {
    "LayerNorm": [LayerNorm(H, epsilon=0.01)],
    "LayerNorm without shift": [LayerNorm(H, shift=False)],
    "BatchNorm": [BatchNorm(H, epsilon=0.01)],
    "Rescaling": [Rescaling(FEATURES, FEATURES[::-1])],
    "Rescaling without offset": [Rescaling(FEATURES)],
    "Conv1D": [Conv1D(H, H, 3, padding="causal", dilation=2), Function("Relu")],
    "Conv1D in groups": [Conv1D(H, 6, 2, stride=2, groups=2, bias=False), Linear(6, H)],
    "Conv1D, same": [Conv1D(H, H, 3, stride=2, padding="same")],
    "Conv1D, padded": [Conv1D(H, H, 3, padding=(1, 2))],
    "MaxPooling1D": [MaxPooling1D(2)],
    "MaxPooling1D, same": [MaxPooling1D(3, 2, "same")],
    "AveragePooling1D": [AveragePooling1D(3, 2, (1, 1))],
    "AveragePooling1D, counted": [AveragePooling1D(3, 2, (1, 1), count_padding=True)],
    "RepeatVector": [FinalState(), RepeatVector(5)],
    "Dropout": [Dropout(0.5)],
    **{name: [Function(name)] for name in ("Silu", "Gelu", "GeluTanh", "Selu")},
}


def exportable_config(model):
    """Return a model's configuration as far as a graph represents it."""
    config = model.config
    for entry in config["layers"]:
        entry.pop("masked_outputs", None)
    return config


@pytest.mark.parametrize("name", BETWEEN)
def test_layer_is_equal_in_onnxruntime_and_reimported(name, exporter, importer, run, rng, randomize):
    model = randomize(Sequential([LSTM(I, H), *BETWEEN[name], LSTM(H, 2), LayerNorm(2), Linear(2, 2)]))
    exported_model = exporter.to_model(model)
    reimported = importer.from_model(exported_model)
    for batch, steps in ((B, T), (1, 9)):
        x = rng.standard_normal((batch, steps, I)).astype(np.float32)
        np.testing.assert_allclose(run(exported_model, x)[0], model(x), rtol=0, atol=ATOL)
        np.testing.assert_array_equal(reimported(x), model(x))
    assert exportable_config(reimported) == exportable_config(model)


def test_flatten_has_a_fixed_number_of_steps(exporter, importer, run, rng, randomize):
    x = rng.standard_normal((B, T, I)).astype(np.float32)
    for layers, size in (([LSTM(I, H)], T * H), ([LSTM(I, H), MaxPooling1D(2)], T // 2 * H)):
        model = randomize(Sequential([*layers, Flatten(), Linear(size, 2)]))
        exported_model = exporter.to_model(model)
        np.testing.assert_allclose(run(exported_model, x)[0], model(x), rtol=0, atol=ATOL)
        reimported = importer.from_model(exported_model)
        np.testing.assert_array_equal(reimported(x), model(x))
        assert exportable_config(reimported) == exportable_config(model)


def test_normalization_is_exported_as_arithmetic(exporter, importer, run, rng):
    """As a difference and a product; the importer reads scalars as two functions."""
    x = rng.standard_normal((B, T, I)).astype(np.float32)
    for layer in (
        Normalization(FEATURES[:I], (1.0, 2.0, 3.0)),
        Normalization(FEATURES[:I], (1.0, 2.0, 3.0), invert=True),
        Normalization(0.5, 4.0),
        Rescaling(0.1, 0.5),
        Rescaling(1.0, FEATURES[:I]),
    ):
        model = Sequential([layer, LSTM(I, H, seed=1)])
        exported_model = exporter.to_model(model)
        np.testing.assert_allclose(run(exported_model, x)[0], model(x), rtol=0, atol=ATOL)
        np.testing.assert_allclose(importer.from_model(exported_model)(x), model(x), rtol=0, atol=ATOL)


def test_noise_is_not_exported(exporter, importer, run, rng):
    x = rng.standard_normal((B, T, I)).astype(np.float32)
    noisy = [SpatialDropout1D(0.5), GaussianNoise(1.0), GaussianDropout(0.5)]
    model = Sequential([LSTM(I, H, input_dropout=0.5, recurrent_dropout=0.3, seed=1), *noisy, Linear(H, 2)])
    exported_model = exporter.to_model(model)
    np.testing.assert_allclose(run(exported_model, x)[0], model(x), rtol=0, atol=ATOL)
    assert [type(layer).__name__ for layer in importer.from_model(exported_model).layers] == ["LSTM", "Linear"]


def test_lengths_end_at_a_repeat_vector(exporter, onnxruntime, rng, randomize):
    """All steps of the decoder are valid."""
    model = randomize(Sequential([LSTM(I, H), FinalState(), RepeatVector(4), LSTM(H, 2)]))
    exported_model = exporter.to_model(model, lengths=True)
    x, lengths = rng.standard_normal((B, T, I)).astype(np.float32), np.array([1, 3, 6], np.int32)
    session = onnxruntime.InferenceSession(exported_model.SerializeToString())
    [y] = session.run(None, {"x": x, "lengths": lengths})
    np.testing.assert_allclose(y, model(x, lengths=lengths), rtol=0, atol=ATOL)
    for layer in (Conv1D(H, H, 2), MaxPooling1D(2), Flatten()):
        with pytest.raises(ValueError, match="the layer '1' combines steps, and ONNX ignores lengths there"):
            exporter.to_model(Sequential([LSTM(I, H), layer]), lengths=True)


def test_every_layer_type_is_exported_or_an_error(exporter):
    between = {type(layer).__name__ for layers in BETWEEN.values() for layer in layers}
    exported = {layer_type.__name__ for layer_type in exporter.EXPORTERS}
    assert exported == {*STATELESS, *WITH_PARAMETERS} - {"FeatureEmbedding", "GRU", "Masking", "RNN"}
    assert between < exported
