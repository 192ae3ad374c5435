"""Laws of `gc.Ensemble`: means of probabilities or values, their spread, files, and members that do not fit."""

import numpy as np
import pytest

import glasscell as gc
from glasscell.data.metrics import loss_function
from glasscell.layers import FinalState
from glasscell.models import averaging


def random_weights(model, rng):
    """Set all weights, biases included, to random numbers."""
    model.parameters.vector[:] = rng.normal(size=model.parameters.vector.shape)
    return model


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.fixture
def classifiers(rng):
    labels = ["a", "b", "c"]
    sizes = (3, 5, 4)
    return [random_weights(gc.SequenceClassifier(2, labels, H, scale=False, dtype=float), rng) for H in sizes]


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-14)


def test_classes_are_means_of_probabilities(classifiers, rng):
    x = rng.normal(size=(6, 7, 2))
    ensemble = gc.Ensemble(classifiers)
    expected = np.stack([softmax(member.predict(x)) for member in classifiers])
    close(ensemble.predict_proba(x), expected.mean(0))
    close(ensemble.predict(x), expected.mean(0))
    close(ensemble.spread(x), expected.std(0, ddof=1))
    close(ensemble.predict_proba(x).sum(-1), 1)
    assert ensemble.classify(x) == [classifiers[0].classes[k] for k in expected.mean(0).argmax(-1)]
    assert len(ensemble) == 3


def test_ragged_and_single_sequences(classifiers, rng):
    x = [rng.normal(size=(length, 2)) for length in (4, 1, 9)]
    ensemble = gc.Ensemble(classifiers)
    close(ensemble.predict_proba(x), np.mean([member.predict_proba(x) for member in classifiers], 0))
    assert ensemble.predict_proba(x[0]).shape == (3,)
    close(ensemble.predict_proba(x[0]), ensemble.predict_proba(x)[0])
    close(ensemble.spread(x[0]), ensemble.spread(x)[0])
    assert ensemble.classify(x[2]) == ensemble.classify(x)[2]


def test_labels_of_steps(rng):
    members = [
        random_weights(gc.SequenceClassifier(2, 3, 4, per_step=True, scale=False, dtype=float), rng) for _ in range(2)
    ]
    x, ensemble = [rng.normal(size=(length, 2)) for length in (4, 1, 9)], gc.Ensemble(members)
    mean = [np.mean([member.predict_proba(entry) for member in members], 0) for entry in x]
    for actual, expected in zip(ensemble.predict_proba(x), mean, strict=True):
        close(actual, expected)
    assert ensemble.classify(x) == [entry.argmax(-1).tolist() for entry in mean]
    assert ensemble.classify(x[0]) == mean[0].argmax(-1).tolist()
    padded = np.stack([np.pad(entry, ((0, 9 - len(entry)), (0, 0))) for entry in x])
    assert ensemble.classify(padded, lengths=[4, 1, 9]) == ensemble.classify(x)


def test_regressors_are_means_of_values(rng):
    members = [random_weights(gc.SequenceRegressor(2, 2, 4, scale=False, dtype=float), rng) for _ in range(4)]
    x, ensemble = rng.normal(size=(5, 6, 2)), gc.Ensemble(members)
    values = np.stack([member.predict(x) for member in members])
    close(ensemble.predict(x), values.mean(0))
    close(ensemble.spread(x), values.std(0, ddof=1))
    with pytest.raises(TypeError, match='predict_proba needs outputs that are "classes" or "bits", got "values"'):
        ensemble.predict_proba(x)


def test_copies_are_bits_of_mean_probability(rng):
    members = [random_weights(gc.CopyLSTM(H, task=gc.tasks.Copy(4), dtype=float), rng) for H in (3, 6, 5)]
    bits, ensemble = rng.integers(0, 2, (20, 4)), gc.Ensemble(members)
    task = members[0].task
    inputs = task.make_batch([bits], np.float64).inputs
    mean = np.mean([1 / (1 + np.exp(-member(inputs))) for member in members], 0)
    close(ensemble.predict_proba(inputs), mean)
    assert np.array_equal(ensemble.copy(bits), (mean[:, 5:, 0] > 0.5).astype(int))
    assert np.array_equal(ensemble.copy(bits[0]), ensemble.copy(bits)[0])


def test_language_models_score_the_mean_probability(rng):
    text = "abracadabra, " * 40
    data = gc.data.TextData(text, steps=5, streams=2)
    sizes = ((4, 5), (3, 7))
    members = [random_weights(gc.LanguageModel(data.vocabulary, E, H, 1, dtype=float), rng) for E, H in sizes]
    ids = data.vocabulary.encode(text)
    mean = np.mean([softmax(member(ids[None, :-1]))[0] for member in members], 0)
    expected = -np.log(mean[np.arange(len(ids) - 1), ids[1:]]).mean()
    ensemble = gc.Ensemble(members)
    score = ensemble.score(text)
    close(score.nats, expected)
    assert score.symbols == len(ids) - 1
    members_mean = np.mean([member.score(text).nats for member in members])
    assert score.nats < members_mean  # Jensen's inequality
    assert score.passages[0].nats >= score.passages[-1].nats


def test_logarithms_of_means_are_exact_near_0_and_1():
    """Where probabilities are 0 or 1 in float64, too: log mean(exp(z)), and of bits log p - log(1 - p)."""
    logits = [np.array([[0.0, -900.0]]), np.array([[0.0, -1000.0]])]
    expected = [[0.0, -900 - np.log(2)]]
    np.testing.assert_allclose(averaging.mean_as_outputs(logits, "classes"), expected, rtol=1e-14)
    bits = [np.array([60.0, -900.0, 3e38, 0.5]), np.array([80.0, -1000.0, 3e38, -0.5])]
    expected = [-np.log((np.exp(-60.0) + np.exp(-80.0)) / 2), -900 - np.log(2), 3e38, 0.0]
    np.testing.assert_allclose(averaging.mean_as_outputs(bits, "bits"), expected, rtol=1e-14, atol=1e-16)
    loss, gradient = loss_function("binary_cross_entropy")(
        averaging.mean_as_outputs(bits[:2], "bits")[None], np.array([[1.0, 0.0, 1.0, 1.0]]), None
    )
    assert np.isfinite(loss)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("kind", ["classes", "bits", "values"])
def test_underflow_is_ignored(kind, rng):
    scale = 1e-42 if kind == "values" else 300
    outputs = [(scale * rng.normal(size=(5, 4))).astype(np.float32) for _ in range(3)]
    with np.errstate(all="raise"):
        for average in (averaging.mean, averaging.deviation, averaging.mean_as_outputs):
            assert np.isfinite(average(outputs, kind)).all()


def test_a_logarithm_beyond_the_dtype_is_infinite():
    logits = [np.array([3e38, -3e38], np.float32)] * 2
    with np.errstate(all="raise"):
        assert averaging.mean_as_outputs(logits, "classes").tolist() == [0, -np.inf]
        infinite = [np.array([np.inf, -np.inf, 1e308])] * 2
        assert averaging.mean_as_outputs(infinite, "bits").tolist() == [np.inf, -np.inf, 1e308]


def test_outputs_of_infer_are_those_of_a_model_for_losses(classifiers, rng):
    x, y = rng.normal(size=(4, 5, 2)), np.array([0, 2, 1, 1])
    batch = gc.data.Batch(x, y)
    loss, _ = loss_function("categorical_cross_entropy")(gc.Ensemble(classifiers).infer(batch).outputs, y, None)
    mean = gc.Ensemble(classifiers).predict_proba(x)
    close(loss, -np.log(mean[np.arange(4), y]).mean())


@pytest.mark.parametrize("outputs", ["classes", "bits", "values"])
def test_sequential_models_need_the_kind_of_outputs(rng, outputs):
    make = [
        lambda H=H: gc.Sequential([gc.GRU(2, H, dtype=float), FinalState(), gc.Linear(H, 3, dtype=float)])
        for H in (4, 6)
    ]
    members = [random_weights(one(), rng) for one in make]
    with pytest.raises(
        ValueError, match='outputs must be "classes", "bits" or "values" for Sequential models, got None'
    ):
        gc.Ensemble(members)
    x = rng.normal(size=(3, 5, 2))
    logits = np.stack([member(x) for member in members])
    expected = {"classes": softmax(logits), "bits": 1 / (1 + np.exp(-logits)), "values": logits}[outputs].mean(0)
    close(gc.Ensemble(members, outputs=outputs).predict(x), expected)


@pytest.mark.parametrize("kind", ["classifier", "regressor", "copy", "language", "sequential"])
def test_files_hold_the_ensemble(tmp_path, rng, kind):
    data = gc.data.TextData("hello world. " * 20, steps=5, streams=2)
    make = {
        "classifier": lambda: gc.SequenceClassifier(2, ["x", None, 3], 4),
        "regressor": lambda: gc.SequenceRegressor(2, 1, 4),
        "copy": lambda: gc.CopyLSTM(4, task=gc.tasks.Copy(3)),
        "language": lambda: gc.LanguageModel(data.vocabulary, 3, 4, 1),
        "sequential": lambda: gc.Sequential([gc.LSTM(2, 4), gc.Linear(4, 2)]),
    }[kind]
    members = [random_weights(make(), rng) for _ in range(3)]
    if kind in ("classifier", "regressor"):
        for member in members:
            y = [["x", None, 3][k % 3] for k in range(9)] if kind == "classifier" else rng.normal(size=9)
            gc.fit(member, (rng.normal(2, 3, size=(9, 4, 2)), y), updates=1)  # with scaling
    ensemble = gc.Ensemble(members, outputs="values" if kind == "sequential" else None)
    ensemble.save(tmp_path / "ensemble.safetensors")
    loaded = gc.load(tmp_path / "ensemble.safetensors")
    assert type(loaded) is gc.Ensemble
    x = data.vocabulary.encode("hello")[None] if kind == "language" else rng.normal(size=(2, 6, 2)).astype("f")
    assert np.array_equal(loaded.predict(x), ensemble.predict(x))
    assert loaded.outputs == ensemble.outputs
    assert loaded.predict(x).dtype == np.float32
    assert repr(loaded) == repr(ensemble)


def test_a_file_with_another_number_of_members_is_refused(tmp_path, classifiers):
    ensemble = gc.Ensemble(classifiers)
    config = {"kind": "SequenceClassifier", "outputs": "classes", "members": [member.config for member in classifiers]}
    weights = {f"{k}.{n}": a for k, m in enumerate(classifiers[:2]) for n, a in m.to_torch().items()}
    with pytest.raises(ValueError, match="there are weights for 2 members; the configuration has 3"):
        gc.Ensemble.from_weights(config, weights)
    with pytest.raises(ValueError, match=r"members must be Sequential, .*, got 'Path'"):
        gc.Ensemble.from_weights({**config, "kind": "Path"}, weights)
    ensemble.save(tmp_path / "e.safetensors")
    for load in (gc.convert.load, gc.LanguageModel.load):
        with pytest.raises(
            ValueError, match=r"holds an Ensemble of several models: save one of them by glasscell\.load"
        ):
            load(tmp_path / "e.safetensors")


def test_members_that_do_not_fit_together():
    classifier = gc.SequenceClassifier(2, ["a", "b"], 3)
    copy = gc.CopyLSTM(4, task=gc.tasks.Copy(4))
    vocabularies = [gc.data.TextData(text * 50, steps=5, streams=2).vocabulary for text in ("abc", "abd")]
    for members, error, message in (
        (3, TypeError, "members must be a list of models, got an int"),
        ([], ValueError, "members must be one to 1000 models, got 0"),
        ([classifier, copy], TypeError, "members must be of one class, got SequenceClassifier and CopyLSTM"),
        ([gc.LSTM(2, 3)] * 2, TypeError, "members must be Sequential, CopyLSTM, .*, got LSTM"),
        ([gc.Forecaster(3)] * 2, TypeError, "members must not be Forecasters: pass them to gc.ForecasterEnsemble"),
        (
            [classifier, gc.SequenceClassifier(2, ["b", "a"], 3)],
            ValueError,
            "members must have equal inputs, classes and per_step",
        ),
        ([classifier, gc.SequenceClassifier(3, ["a", "b"], 3)], ValueError, "equal inputs, classes"),
        ([classifier, gc.SequenceClassifier(2, ["a", "b"], 3, dtype=float)], ValueError, "equal dtypes"),
        ([gc.SequenceRegressor(2, 1, 3), gc.SequenceRegressor(2, 2, 3)], ValueError, "equal inputs, outputs"),
        ([copy, gc.CopyLSTM(4, task=gc.tasks.Copy(4, mode="echo"))], ValueError, "equal bits per step and mode"),
        ([gc.LanguageModel(v, 2, 2, 1) for v in vocabularies], ValueError, "equal vocabularies"),
    ):
        with pytest.raises(error, match=message):
            gc.Ensemble(members)
    with pytest.raises(ValueError, match="outputs must be \"classes\" for a SequenceClassifier, got 'values'"):
        gc.Ensemble([classifier] * 2, outputs="values")
    with pytest.raises(ValueError, match=r"outputs must be .*, got 'softmax'"):
        gc.Ensemble([classifier] * 2, outputs="softmax")
    for method, argument in (("copy", [1]), ("score", "text"), ("sample", "text")):
        with pytest.raises(TypeError, match=f"{method} needs members that are .*, got SequenceClassifier"):
            getattr(gc.Ensemble([classifier] * 2), method)(argument)


def test_outputs_of_different_shapes_are_an_error(rng):
    members = [gc.Sequential([gc.LSTM(2, 3), gc.Linear(3, O)]) for O in (1, 2)]
    with pytest.raises(ValueError, match=r"members must have outputs of one shape, got \(4, 5, 1\) and others"):
        gc.Ensemble(members, outputs="values").predict(rng.normal(size=(4, 5, 2)).astype("f"))
    batch = gc.data.Batch(rng.normal(size=(4, 5, 2)).astype("f"), np.zeros((4, 5)))
    with pytest.raises(ValueError, match=r"members must have outputs of one shape, got \(4, 5, 1\) and others"):
        gc.Ensemble(members, outputs="values").infer(batch)


@pytest.mark.parametrize(
    ("x", "name"), [(None, "a NoneType"), (5, "an int"), (iter([1]), "a list_iterator"), (np.array(1.0), "a ndarray")]
)
def test_inputs_without_a_length_are_refused_as_by_a_member(x, name):
    members = [gc.SequenceRegressor(2, 1, hidden_size=2, seed=seed) for seed in range(2)]
    for model in (members[0], gc.Ensemble(members)):
        with pytest.raises(TypeError, match=f"x must be an array or a list of arrays, got {name}"):
            model.predict(x)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_ensemble_of_one_has_the_bits_of_its_member(rng, dtype):
    x = rng.normal(size=(5, 6, 2)).astype(dtype)
    classifier = random_weights(gc.SequenceClassifier(2, 3, 4, scale=False, dtype=dtype), rng)
    ensemble = gc.Ensemble([classifier])
    assert np.array_equal(ensemble.predict_proba(x), classifier.predict_proba(x))
    assert np.array_equal(ensemble.infer(gc.data.Batch(x, None)).outputs, classifier.predict(x))
    assert ensemble.classify(x) == classifier.classify(x)
    regressor = random_weights(gc.SequenceRegressor(2, 2, 4, scale=False, dtype=dtype), rng)
    assert np.array_equal(gc.Ensemble([regressor]).predict(x), regressor.predict(x))
    copy = random_weights(gc.CopyLSTM(5, task=gc.tasks.Copy(4), dtype=dtype), rng)
    bits = rng.integers(0, 2, (20, 4))
    assert np.array_equal(gc.Ensemble([copy]).copy(bits), copy.copy(bits))
    with pytest.raises(ValueError, match="spread needs at least two members, got 1"):
        ensemble.spread(x)
