"""Law: a model is called, saved and loaded in one way, whatever it is; ``glasscell.load`` opens any file of ours."""

import numpy as np
import pytest
from case_loops import loop_over

import glasscell as gc
from glasscell import checkpoint, layers
from glasscell.layers import FinalState
from glasscell.layers.kinds import WITH_PARAMETERS
from glasscell.models import Sequential

TASK = gc.tasks.Copy(4)
MODELS = {
    "LSTM": lambda dtype: gc.LSTM(3, 4, 2, peepholes=True, bidirectional=True, dtype=dtype),
    "RNN": lambda dtype: layers.RNN(3, 4, 2, nonlinearity="relu", dtype=dtype),
    "GRU": lambda dtype: layers.GRU(3, 4, 2, bidirectional=True, dtype=dtype),
    "Linear": lambda dtype: gc.Linear(3, 4, bias=False, dtype=dtype),
    "Embedding": lambda dtype: gc.Embedding(3, 4, mask_zero=True, dtype=dtype),
    "FeatureEmbedding": lambda dtype: layers.FeatureEmbedding(3, {1: (4, 2)}, dtype=dtype),
    "LayerNorm": lambda dtype: layers.LayerNorm(3, epsilon=1e-3, dtype=dtype),
    "BatchNorm": lambda dtype: layers.BatchNorm(3, shift=False, dtype=dtype),
    "Conv1D": lambda dtype: layers.Conv1D(3, 2, 2, padding="causal", dtype=dtype),
    "Sequential": lambda dtype: Sequential([gc.LSTM(3, 4, dtype=dtype), FinalState(), gc.Linear(4, 2, dtype=dtype)]),
    "CopyLSTM": lambda dtype: gc.CopyLSTM(5, task=TASK, dtype=dtype),
}


def inputs(kind, rng):
    if kind == "Embedding":
        return rng.integers(3, size=(2, 5))
    x = rng.normal(size=(2, 5, 2 if kind == "CopyLSTM" else 3))
    if kind == "FeatureEmbedding":
        x[..., 1] = rng.integers(4, size=(2, 5))
    return x


@loop_over("dtype", [np.float32, np.float64])
@loop_over("kind", MODELS)
def test_a_saved_model_is_loaded_by_its_class_and_by_load(kind, dtype, tmp_path, rng):
    model, path = MODELS[kind](dtype), tmp_path / "model.safetensors"
    model.parameters.vector[:] = rng.normal(size=model.parameters.vector.size)
    if kind == "BatchNorm":
        model.statistics["running_mean"][:] = rng.normal(size=3)
    model.save(path)
    x = inputs(kind, rng)
    for other in (type(model).load(path), gc.load(path), gc.load(str(tmp_path))):
        assert type(other) is type(model)
        assert repr(other) == repr(model)
        assert (other.dtype, other(x).dtype) == (dtype, dtype)
        np.testing.assert_array_equal(other.parameters.vector, model.parameters.vector)
        np.testing.assert_array_equal(other(x), model(x))


def test_every_layer_with_parameters_is_tested_here():
    assert set(WITH_PARAMETERS) == set(MODELS) - {"Sequential", "CopyLSTM"}


@loop_over("kind", MODELS)
def test_a_call_gives_the_outputs_of_forward(kind, rng):
    model, x = MODELS[kind](np.float64), inputs(kind, rng)
    model.parameters.vector[:] = rng.normal(size=model.parameters.vector.size)
    np.testing.assert_allclose(model(x), model.forward(x)[0], rtol=0, atol=1e-14)
    np.testing.assert_allclose(model(x[0]), model(x)[0], rtol=0, atol=1e-14)


def test_an_lstm_is_called_with_states_lengths_and_masks(rng):
    model, x = MODELS["LSTM"](np.float64), rng.normal(size=(2, 5, 3))
    state = gc.LSTMState(*rng.normal(size=(2, 4, 2, 4)))
    for given in ({"lengths": [5, 2]}, {"mask": rng.random((2, 5)) < 0.6}, {}):
        np.testing.assert_array_equal(model(x, state, **given), model.infer(x, state, **given)[0])
    copying = MODELS["CopyLSTM"](np.float64)
    x, state = rng.normal(size=(2, 5, 2)), gc.LSTMState(*rng.normal(size=(2, 1, 2, 5)))
    np.testing.assert_allclose(copying(x, state), copying.forward(x, state)[0], rtol=0, atol=1e-14)


def test_convert_load_of_a_lone_lstm_is_called_like_any_model(tmp_path, rng):
    lstm, x = gc.LSTM(3, 4, seed=2), rng.normal(size=(2, 5, 3))
    for name in ("m.onnx", "m.pt", "m.safetensors", "m.keras"):
        pytest.importorskip({".onnx": "onnx", ".keras": "h5py"}.get(name[1:], "numpy"))
        gc.convert.save(lstm, tmp_path / name)
        model = gc.convert.load(tmp_path / name)
        np.testing.assert_allclose(model(x), lstm(x), rtol=0, atol=1e-6)
        if isinstance(model, gc.LSTM):  # and is a layer like any other
            gc.Sequential([model, gc.Linear(4, 1)])


def test_load_opens_a_trace(tmp_path, rng):
    trace = gc.LSTM(3, 4).trace(rng.normal(size=(5, 3)))
    trace.save(tmp_path / "trace.safetensors")
    other = gc.load(tmp_path / "trace.safetensors")
    np.testing.assert_array_equal(other.layer[0].f, trace.layer[0].f)


def test_what_load_does_not_open_is_refused(tmp_path):
    lstm = gc.LSTM(3, 4)
    lstm.stream().save(tmp_path / "state.safetensors")
    with pytest.raises(ValueError, match=r"state\.safetensors holds the state of a stream.*model\.stream\(\)\.load"):
        gc.load(tmp_path / "state.safetensors")
    from safetensors.numpy import save_file  # noqa: PLC0415

    save_file(lstm.to_torch(), tmp_path / "torch.safetensors")
    with pytest.raises(ValueError, match=r"Glasscell did not save.*glasscell\.convert\.load"):
        gc.load(tmp_path / "torch.safetensors")
    weights = {"a": np.ones(2, np.float32)}
    checkpoint.save(checkpoint.Checkpoint("Quantum", {}, weights), tmp_path / "q.safetensors")
    with pytest.raises(ValueError, match=r"holds a 'Quantum'; known are LSTM, .*Sequential, CopyLSTM, .*Trace"):
        gc.load(tmp_path / "q.safetensors")
    (tmp_path / "m.onnx").touch()
    for error, name in ((ValueError, "m.onnx"), (FileNotFoundError, "none.safetensors"), (FileNotFoundError, "")):
        with pytest.raises(
            error, match=r"glasscell\.convert\.load reads others" if error is ValueError else "no model"
        ):
            gc.load(tmp_path / name)
    (tmp_path / "half.safetensors").write_bytes((tmp_path / "state.safetensors").read_bytes()[:40])
    with pytest.raises(ValueError, match="not a complete safetensors file"):
        gc.load(tmp_path / "half.safetensors")
    lstm.save(tmp_path / "lstm.safetensors")
    with pytest.raises(ValueError, match="holds a 'LSTM'; expected a 'Linear'"):
        gc.Linear.load(tmp_path / "lstm.safetensors")


@pytest.mark.parametrize("kind", ["Linear", "LayerNorm", "Conv1D", "LSTM"])
def test_a_file_that_does_not_fit_together_is_refused(kind, tmp_path):
    model = MODELS[kind](np.float32)
    weights = model.named_weights()
    name = next(iter(weights))
    files = {
        "is missing": (
            model.config,
            {other: weights[other] for other in weights if other != name} | {"x": weights[name]},
        ),
        "must have shape": (model.config, weights | {name: np.concatenate([weights[name]] * 2)}),
        "more weights than there are": (model.config | {next(iter(model.config)): 10**9}, weights),
        "does not fit together": (model.config | {"colour": 1}, weights),
    }
    for words, (config, held) in files.items():
        checkpoint.save(checkpoint.Checkpoint(kind, config, held), tmp_path / "m.safetensors")
        with pytest.raises(ValueError, match=words):
            gc.load(tmp_path / "m.safetensors")
