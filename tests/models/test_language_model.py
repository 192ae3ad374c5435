"""Laws of language models: construction, training, traces, streams, copies, files, and other formats."""

import copy
import math
import pickle
import re

import numpy as np
import pytest
from case_loops import loop_over
from text_models import MODELS, TEXT, VOCABULARY, model_of

import glasscell as gc
from glasscell import checkpoint, convert
from glasscell.core.losses import categorical_cross_entropy
from glasscell.data import TextData
from glasscell.layers import Dropout
from glasscell.training import Training, TrainingOptions


@pytest.fixture(params=MODELS)
def model(request):
    return model_of(request.param)


# Construction


def test_layers_are_named_and_exist_as_needed():
    assert model_of("plain").names == ("embedding", "lstm", "readout")
    dropped = model_of("dropout")
    assert dropped.names == ("embedding", "lstm", "dropout", "readout")
    assert dropped.layers[2] == Dropout(0.3)
    assert dropped.lstm.options.dropout == 0.2
    assert gc.LanguageModel(VOCABULARY, dropout=0.1).output_dropout == 0.1
    assert gc.LanguageModel(VOCABULARY, dropout=0.1, output_dropout=0.0).names == ("embedding", "lstm", "readout")


def test_a_tied_model_has_one_matrix_and_learns_with_it():
    model = model_of("tied")
    assert model.readout.parameters["weight"] is not None
    assert np.shares_memory(model.readout.parameters["weight"], model.embedding.parameters["weight"])
    data = TextData(TEXT * 20, VOCABULARY, steps=10, streams=4)
    tied = gc.LanguageModel(VOCABULARY, 16, 16, 1, tied=True, seed=0)
    history = gc.fit(tied, data, epochs=8, optimizer=gc.Adam(0.02))
    assert history["loss"][-1] < 0.7 * history["loss"][0]


def test_an_initial_range_holds_for_all_weights():
    vector = gc.LanguageModel(VOCABULARY, 8, 32, initial_range=0.1, seed=1).parameters.vector
    assert np.abs(vector).max() <= 0.1
    assert vector.std() == pytest.approx(0.2 / math.sqrt(12), rel=0.02)


def test_the_seed_decides_the_weights():
    first, again, other = (gc.LanguageModel(VOCABULARY, 4, 4, seed=seed).parameters.vector for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not gc.LanguageModel(VOCABULARY, 4, 4, seed=None).parameters.vector.any()


@loop_over(
    ("arguments", "error", "message"),
    [
        ({"vocabulary": "abc"}, TypeError, "vocabulary must be a glasscell.data.Vocabulary, got a str"),
        ({"tied": True}, ValueError, "embedding_size must be hidden_size for tied=True, got 64 and 128"),
        ({"hidden_size": 0}, ValueError, "hidden_size must be at least 1, got 0"),
        ({"output_dropout": 1}, ValueError, "output_dropout must be at least 0 and below 1, got 1"),
        ({"initial_range": 0}, ValueError, "initial_range must be finite and above 0, got 0"),
        ({"tied": 1}, TypeError, "tied must be True or False, got 1"),
    ],
)
def test_wrong_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        gc.LanguageModel(**{"vocabulary": VOCABULARY, **arguments})


# Traces, streams, copies, files, other formats


def test_a_trace_of_a_text_has_its_symbols_and_the_loss_of_the_next_ones():
    model = model_of("plain")
    trace = model.trace("the cat\n")
    ids = VOCABULARY.encode("the cat\n")
    loss, _ = categorical_cross_entropy(model(ids[None, :-1]), ids[None, 1:])
    assert trace.loss == pytest.approx(loss, rel=1e-5)
    assert trace.about["step_names"] == list("the␣cat")
    assert trace.about["output_names"] == ["↵", "␣", *VOCABULARY.symbols[2:]]
    assert trace.layer[0].d_c.shape == (7, 7)
    assert trace.about["title"] == "A language model of 7 units reads “the cat↵”"
    assert model.trace(ids).loss is None
    assert model.trace(ids[:-1], ids[1:]).loss == trace.loss
    with pytest.raises(ValueError, match="x must have at least two characters, got 1"):
        model.trace("t")
    with pytest.raises(ValueError, match="y must be left out for a text"):
        model.trace("the", ids)


def test_a_stream_gives_the_outputs_of_the_forward_pass(model):
    ids = model.vocabulary.encode(TEXT)
    stream = model.stream()
    outputs = np.array([stream.push(int(k)).copy() for k in ids])
    np.testing.assert_allclose(outputs, model(ids), rtol=1e-4, atol=1e-5)


def test_copies_are_equal_and_independent(model):
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):  # noqa: S301 - written by this test
        assert type(other) is gc.LanguageModel
        assert other.vocabulary == model.vocabulary
        np.testing.assert_array_equal(other.parameters.vector, model.parameters.vector)
        other.parameters.vector[:] = 0
        assert model.parameters.vector.any()
        assert not other.readout.parameters["weight"].any()


def test_a_file_holds_model_and_vocabulary(model, tmp_path):
    path = tmp_path / "model.safetensors"
    model.save(path)
    for other in (gc.load(path), gc.load(tmp_path), gc.LanguageModel.load(path), convert.load(path)):
        assert type(other) is gc.LanguageModel
        assert repr(other) == repr(model)
        assert other.vocabulary == model.vocabulary
        assert (other.output_dropout, other.tied, other.dtype) == (model.output_dropout, model.tied, model.dtype)
        np.testing.assert_array_equal(other.parameters.vector, model.parameters.vector)
        assert "".join(other.sample("the", 20)) == "".join(model.sample("the", 20))


@loop_over(
    "changes",
    [
        {"hidden_size": 10**9},
        {"num_layers": 10**9},
        {"embedding_size": 3},
        {"vocabulary": {"symbols": ["a"], "unit": "characters"}},
        {"vocabulary": {"symbols": "ab", "unit": "letters"}},
        {"vocabulary": None},
        {"tied": "yes"},
        {"tied": True},
        {"dropout": 2.0},
        {"unknown_option": 1},
        {"hidden_size": None},
    ],
)
def test_files_that_do_not_fit_together_are_errors(changes, tmp_path):
    model, path = model_of("plain"), tmp_path / "model.safetensors"
    checkpoint.save(checkpoint.Checkpoint("LanguageModel", model.config | changes, model.to_torch()), path)
    with pytest.raises(ValueError, match="does not fit together"):
        gc.load(path)
    config = {name: value for name, value in model.config.items() if name != next(iter(changes))}
    if len(config) < len(model.config):
        checkpoint.save(checkpoint.Checkpoint("LanguageModel", config, model.to_torch()), path)
        if {*changes} & {"hidden_size", "num_layers", "embedding_size", "vocabulary"}:
            with pytest.raises(ValueError, match="does not fit together"):
                gc.load(path)


@pytest.mark.parametrize("ending", [".pt", ".onnx", ".keras"])
def test_other_formats_hold_the_layers(model, ending, tmp_path):
    if ending != ".pt":
        pytest.importorskip({".onnx": "onnx", ".keras": "h5py"}[ending])
    ids, path = model.vocabulary.encode(TEXT)[None], tmp_path / f"model{ending}"
    convert.save(model, path, **({"weights_only": True} if ending == ".pt" else {}))
    options = {"architecture": ["embedding", "lstm", "readout"]} if ending == ".pt" else {}
    other = convert.load(path, **options)
    np.testing.assert_allclose(other(ids), model(ids), rtol=1e-4, atol=1e-5)


def test_a_summary_and_a_sequential_have_the_layers():
    model = model_of("dropout")
    assert "Embedding(16, 5" in str(model.summary())
    assert model.as_sequential().names == model.names
    assert type(model.as_sequential()) is gc.Sequential


# Training


def test_defaults_train_a_text_and_keep_the_best_model():
    data = TextData(TEXT * 40, VOCABULARY, steps=10, streams=4)
    model = gc.LanguageModel(VOCABULARY, 8, 24, 1)
    history = gc.fit(model, data, keep="best")
    assert history.updates == model.training_defaults["epochs"] * data.num_batches
    assert history["learning_rate"][0] == pytest.approx(0.005, rel=1e-3)
    assert history["learning_rate"][-1] < 1e-5
    assert np.nanmin(history["validation_loss"]) < 0.6 * history["loss"][0]
    scores = [row["validation_loss"] for row in history.rows if "validation_loss" in row]
    assert len(scores) == 10
    assert history.best_update


def test_zaremba_s_training_is_that_of_pytorch(torch):
    """Uniform weights, SGD with learning rate 1 on the loss summed over the steps, clipped to norm 5, then halved."""
    T, B, epochs = 10, 4, 2
    data = TextData(TEXT * 12, "words", steps=T, streams=B)
    model = gc.LanguageModel(data.vocabulary, 12, 12, initial_range=0.1, dtype=np.float64)
    V, start = len(data.vocabulary), model.to_torch()
    embedding, lstm, readout = torch.nn.Embedding(V, 12), torch.nn.LSTM(12, 12, 2), torch.nn.Linear(12, V)
    modules = torch.nn.ModuleDict({"embedding": embedding, "lstm": lstm, "readout": readout}).double()
    modules.load_state_dict({name: torch.from_numpy(array) for name, array in start.items()})
    for name, parameter in lstm.named_parameters():
        parameter.requires_grad_("bias_hh" not in name)  # the second bias is 0, and is not trained
    trained = [parameter for parameter in modules.parameters() if parameter.requires_grad]
    rng, losses = np.random.default_rng(3), []
    for epoch in range(epochs):
        optimizer, states = torch.optim.SGD(trained, lr=0.5**epoch), None
        for batch in data.batches(B, rng, np.float64):
            x, y = (torch.from_numpy(np.ascontiguousarray(ids.T)) for ids in (batch.inputs, batch.targets))
            hidden, states = lstm(embedding(x), states)
            states = tuple(state.detach() for state in states)
            loss = torch.nn.functional.cross_entropy(readout(hidden).flatten(0, 1), y.flatten(), reduction="sum") / B
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 5.0)
            optimizer.step()
            losses.append(loss.item() / T)
    schedule = gc.schedules.exponential(0.5, data.num_batches)
    history = gc.fit(model, data, epochs=epochs, optimizer=gc.SGD(float(T)), clip_norm=5 / T, schedule=schedule, seed=3)
    np.testing.assert_allclose(history["loss"], losses, rtol=1e-6)
    expected = modules.state_dict()["readout.weight"].numpy()
    np.testing.assert_allclose(model.readout.parameters["weight"], expected, rtol=1e-5, atol=1e-8)
    assert losses[-1] < losses[0]


def test_a_training_continues_from_its_state_within_an_epoch():
    data = TextData(TEXT * 12, VOCABULARY, steps=10, streams=4)
    options = TrainingOptions(epochs=2, seed=5)
    first = Training(model_of("dropout"), data, options)
    for _ in range(data.num_batches + 3):
        first.step()
    state = first.state()
    history = first.run()
    second = Training(model_of("dropout"), data, options)
    second.restore(state)
    assert second.run() == history
    np.testing.assert_array_equal(second.model.parameters.vector, first.model.parameters.vector)


def test_a_recorder_follows_a_text_through_training():
    recorder = gc.TraceRecorder("the cat", every=5)
    gc.fit(model_of("plain"), TextData(TEXT * 12, VOCABULARY, steps=10, streams=4), updates=10, callbacks=[recorder])
    assert [frame.update for frame in recorder.frames] == [1, 5, 10]


def test_a_text_with_another_vocabulary_is_an_error():
    data = TextData("abd" * 100, steps=5, streams=2)
    for symbols in ("abx", "abdx"):
        model = gc.LanguageModel(gc.data.Vocabulary(symbols), 2, 3, 1)
        before = model.parameters.vector.copy()
        for validation in (None, ([[0, 1]], [[1, 2]])):
            with pytest.raises(ValueError, match="data must have the vocabulary of the model, Vocabulary"):
                gc.fit(model, data, updates=1, validation=validation)
        assert np.array_equal(model.parameters.vector, before)
    gc.fit(gc.LanguageModel(gc.data.Vocabulary("abd"), 2, 3, 1), data, updates=1)
