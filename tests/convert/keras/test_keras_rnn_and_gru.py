"""Property: Keras models with a SimpleRNN or a GRU have the same outputs, read and written."""

import re

import numpy as np
import pytest

import glasscell as gc

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
T, F, H = 6, 3, 4
WITHIN = 2e-6
KINDS = {
    "tanh": ("SimpleRNN", {}),
    "relu": ("SimpleRNN", {"activation": "relu"}),
    "gru": ("GRU", {}),
    "gru of the paper": ("GRU", {"reset_after": False}),
    "no bias": ("GRU", {"use_bias": False}),
}


def model_of(keras, name, rng, *, bidirectional=False, masked=False):
    L, (kind, options) = keras.layers, KINDS[name]

    def layer(**more):
        one = getattr(L, kind)(H, **options, **more)
        return L.Bidirectional(one) if bidirectional else one

    zero = {} if bidirectional else {"zero_output_for_mask": True}
    before = [L.Masking(0.0)] if masked else []
    model = keras.Sequential(
        [keras.Input((T, F)), *before, layer(return_sequences=True, **zero), layer(), L.Dense(2, "relu")]
    )
    for one in model.layers:
        one.set_weights([rng.normal(size=array.shape) / 2 for array in one.get_weights()])
    return model


@pytest.mark.parametrize(
    ("name", "bidirectional", "suffix"),
    [
        *((name, index % 2 == 1, ".keras") for index, name in enumerate(KINDS)),
        *((name, True, ".h5") for name in ("tanh", "gru")),
        ("gru", False, ".h5"),
    ],
)
def test_there_and_back(name, bidirectional, suffix, keras, rng, tmp_path):
    pytest.importorskip("h5py")
    keras_model = model_of(keras, name, rng, bidirectional=bidirectional)
    keras_model.save(tmp_path / f"m{suffix}")
    glasscell_model = gc.convert.load(tmp_path / f"m{suffix}")
    x = rng.normal(size=(5, T, F)).astype(np.float32)
    expected = keras_model.predict(x, verbose=0)
    np.testing.assert_allclose(glasscell_model(x), expected, rtol=0, atol=WITHIN)
    assert type(glasscell_model.layers[0]) is (gc.GRU if KINDS[name][0] == "GRU" else gc.RNN)
    gc.convert.save(glasscell_model, tmp_path / f"back{suffix}")
    back = keras.models.load_model(tmp_path / f"back{suffix}")
    np.testing.assert_allclose(back.predict(x, verbose=0), expected, rtol=0, atol=WITHIN)
    again = gc.convert.load(tmp_path / f"back{suffix}")
    np.testing.assert_array_equal(again.parameters.vector, glasscell_model.parameters.vector)


@pytest.mark.parametrize("name", ["tanh", "gru"])
def test_weights_alone(name, keras, rng, tmp_path):
    pytest.importorskip("h5py")
    keras_model = model_of(keras, name, rng)
    keras_model.save_weights(tmp_path / "m.weights.h5")
    names = sorted(gc.convert.weights(tmp_path / "m.weights.h5"), key=lambda name: ("dense" in name, len(name), name))
    first, second, dense = names
    architecture = f"{first},{second},final,{dense},relu"
    glasscell_model = gc.convert.load(tmp_path / "m.weights.h5", architecture=architecture)
    x = rng.normal(size=(5, T, F)).astype(np.float32)
    np.testing.assert_allclose(glasscell_model(x), keras_model.predict(x, verbose=0), rtol=0, atol=WITHIN)


@pytest.mark.parametrize(("name", "bidirectional"), [("relu", True), ("gru", False)])
def test_masked_steps(name, bidirectional, keras, rng, tmp_path):
    pytest.importorskip("h5py")
    L, (kind, options) = keras.layers, KINDS[name]
    zero = {} if bidirectional else {"zero_output_for_mask": True}
    one = getattr(L, kind)(H, return_sequences=True, **zero, **options)
    keras_model = keras.Sequential(
        [keras.Input((T, F)), L.Masking(0.0), L.Bidirectional(one) if bidirectional else one]
    )
    keras_model.save(tmp_path / "m.keras")
    glasscell_model = gc.convert.load(tmp_path / "m.keras")
    x = rng.normal(size=(5, T, F)).astype(np.float32)
    for b, length in enumerate((6, 4, 1, 3, 5)):
        x[b, length:] = 0
    x[0, 2] = 0
    np.testing.assert_allclose(glasscell_model(x), keras_model.predict(x, verbose=0), rtol=0, atol=WITHIN)
    gc.convert.save(glasscell_model, tmp_path / "back.keras")
    back = keras.models.load_model(tmp_path / "back.keras")
    np.testing.assert_allclose(back.predict(x, verbose=0), glasscell_model(x), rtol=0, atol=WITHIN)


@pytest.mark.parametrize(("kind", "bidirectional"), [(gc.RNN, False), (gc.GRU, True)])
def test_a_stack_becomes_as_many_layers(kind, bidirectional, keras, rng, tmp_path):
    pytest.importorskip("h5py")
    layer = kind(F, H, 3, bidirectional=bidirectional, dropout=0.2, initializer="uniform", seed=2)
    D = 2 if bidirectional else 1
    glasscell_model = gc.Sequential(
        [layer, gc.layers.FinalState(), gc.Linear(D * H, 2)], names=["stack", "final", "head"]
    )
    gc.convert.save(glasscell_model, tmp_path / "m.keras")
    keras_model = keras.models.load_model(tmp_path / "m.keras")
    x = rng.normal(size=(5, T, F)).astype(np.float32)
    np.testing.assert_allclose(keras_model.predict(x, verbose=0), glasscell_model(x), rtol=0, atol=WITHIN)
    assert [one.name for one in keras_model.layers][:5] == [
        "stack_l0",
        "stack_l0_dropout",
        "stack_l1",
        "stack_l1_dropout",
        "stack_l2",
    ]
    alone = kind(F, H, seed=1)
    gc.convert.save(alone, tmp_path / "alone.keras")
    np.testing.assert_allclose(
        keras.models.load_model(tmp_path / "alone.keras").predict(x, verbose=0), alone(x), rtol=0, atol=WITHIN
    )


def test_a_step_that_keras_does_not_give_is_refused(tmp_path):
    pytest.importorskip("h5py")
    for bidirectional, step, state in ((False, 0, "forward"), (True, -1, "both")):
        model = gc.Sequential([gc.GRU(F, H, bidirectional=bidirectional), gc.layers.Step(step)], names=["gru", "step"])
        advice = f"all outputs or the final state, {gc.layers.FinalState(state)}, and not Step(index={step})"
        with pytest.raises(ValueError, match=re.escape(f"the layer 'gru': of this GRU Keras gives {advice}")):
            gc.convert.save(model, tmp_path / "m.keras")
