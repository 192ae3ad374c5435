"""Laws of the estimators: forms of X, weights, seeds, continued training, copies, and the model inside."""

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import glasscell as gc
from glasscell.estimators import LSTMClassifier, LSTMRegressor, lstm_estimator

QUICK = {"hidden_size": 4, "updates": 6, "random_state": 0}


def data(rng, n=12, T=5, F=2):
    """Return sequences (n, T, F), labels of three classes and targets."""
    x = rng.normal(size=(n, T, F))
    return x, np.array(["a", "b", "c"])[np.arange(n) % 3], x[:, :, 0].sum(axis=1)


def ragged(rng, n=12, F=2):
    return [rng.normal(size=(int(T), F)) for T in rng.integers(1, 7, n)]


def weights_of(estimator):
    return estimator.model_.parameters.vector


# Forms of X


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_all_forms_of_the_same_sequences_give_the_same_model(dtype, rng):
    x, y, _ = data(rng, F=1)
    x = x.astype(dtype)
    objects = np.empty(len(x), object)
    objects[:] = list(x)
    forms = [x, x[:, :, 0], list(x), list(x[:, :, 0]), x[:, :, 0].tolist(), objects, np.asfortranarray(x)]
    fitted = [LSTMClassifier(**QUICK).fit(form, y) for form in forms]
    assert weights_of(fitted[0]).dtype == dtype
    for estimator, form in zip(fitted, forms, strict=True):
        same_dtype = not isinstance(form, list) or isinstance(form[0], np.ndarray)
        assert estimator.n_features_in_ == (5 if estimator.fitted_on_table_ else 1)
        if same_dtype:
            assert np.array_equal(weights_of(estimator), weights_of(fitted[0]))
        for other in forms:  # a model of one feature accepts all of them
            assert np.allclose(estimator.predict_proba(other), fitted[0].predict_proba(x), rtol=1e-4)


def test_outputs_of_ragged_sequences_do_not_depend_on_the_others(rng):
    x, y = ragged(rng), np.arange(12.0)
    regressor = LSTMRegressor(**QUICK, bidirectional=True).fit(x, y)
    together = regressor.predict(x)
    assert np.allclose(together, [regressor.predict([sequence])[0] for sequence in x], rtol=1e-6)
    order = rng.permutation(12)
    assert np.allclose(regressor.predict([x[k] for k in order]), together[order], rtol=1e-6)
    assert regressor.predict(np.stack([x[0]] * 2)).shape == (2,)  # another length, as an array


def test_a_model_of_two_features_refuses_other_numbers_of_features(rng):
    x, y, _ = data(rng)
    classifier = LSTMClassifier(**QUICK).fit(x, y)
    with pytest.raises(ValueError, match="X has 3 features, but LSTMClassifier is expecting 2 features as input"):
        classifier.predict(np.zeros((2, 5, 3)))
    with pytest.raises(ValueError, match=r"X must be an array \(n, T, 2\) or a list .*, as in fit, got shape \(2, 5\)"):
        classifier.predict(np.zeros((2, 5)))
    with pytest.raises(ValueError, match="X has 3 features, but LSTMClassifier is expecting 5 features as input"):
        LSTMClassifier(**QUICK).fit(x[:, :, 0], y).predict(np.zeros((2, 3)))


# Weights


@pytest.mark.parametrize("kind", [LSTMClassifier, LSTMRegressor])
@pytest.mark.parametrize("is_ragged", [False, True])
def test_a_weight_of_two_is_the_sequence_twice_and_of_zero_none(kind, is_ragged, rng):
    x, labels, targets = data(rng)
    x, y = ragged(rng) if is_ragged else list(x), labels if kind is LSTMClassifier else targets
    weights = np.array([0, 1, 2, 1] * 3)
    repeated = np.repeat(np.arange(12), weights)
    with_weights = kind(**QUICK).fit(x, y, sample_weight=weights)
    without = kind(**QUICK).fit([x[k] for k in repeated], y[repeated])
    method = "predict_proba" if kind is LSTMClassifier else "predict"
    a, b = getattr(with_weights, method)(x), getattr(without, method)(x)
    assert np.allclose(a, b, rtol=1e-7)
    assert not np.allclose(a, getattr(kind(**QUICK).fit(x, y), method)(x), rtol=1e-3)


def test_class_weights_multiply_the_weights_of_sequences(rng):
    x, y, _ = data(rng, n=14)
    sample_weight = rng.uniform(0.5, 2, size=14)
    factors = {"a": 3.0, "b": 0.5, "c": 1.0}
    by_class = LSTMClassifier(**QUICK, class_weight=factors).fit(x, y, sample_weight)
    by_sequence = LSTMClassifier(**QUICK).fit(x, y, sample_weight * [factors[label] for label in y])
    # Both enter the scaling of the features.
    assert by_class.model_.layers[0] != LSTMClassifier(**QUICK).fit(x, y).model_.layers[0]
    assert np.allclose(by_class.predict_proba(x), by_sequence.predict_proba(x), rtol=1e-7)
    total = {label: sample_weight[y == label].sum() for label in "abc"}
    balanced = {label: sample_weight.sum() / (3 * total[label]) for label in "abc"}
    assert np.allclose(
        LSTMClassifier(**QUICK, class_weight="balanced").fit(x, y, sample_weight).predict_proba(x),
        LSTMClassifier(**QUICK, class_weight=balanced).fit(x, y, sample_weight).predict_proba(x),
        rtol=1e-7,
    )


# Seeds


def test_random_state_determines_the_model(rng):
    x, y, _ = data(rng)
    options = {**QUICK, "dropout": 0.3, "batch_size": 4, "early_stopping": True, "validation_fraction": 0.3}

    def fitted(seed):
        return weights_of(LSTMClassifier(**options | {"random_state": seed}).fit(x, y))

    assert np.array_equal(fitted(3), fitted(3))
    assert np.array_equal(fitted(3), fitted(np.random.RandomState(3)))
    assert not np.array_equal(fitted(3), fitted(4))
    np.random.seed(5)  # noqa: NPY002 - scikit-learn's default is the global state
    a = fitted(None)
    np.random.seed(5)  # noqa: NPY002
    assert np.array_equal(a, fitted(None))
    assert not np.array_equal(a, fitted(None))


# Continued training


def test_partial_fit_continues_the_optimiser_and_the_random_numbers(rng):
    """As many calls as epochs are one training with a constant learning rate, bit for bit."""
    x, y, _ = data(rng)
    steps = LSTMClassifier(4, batch_size=5, dropout=0.2, random_state=1)
    for _ in range(3):
        steps.partial_fit(x, y, classes=["c", "b", "a"])
    assert steps.n_iter_ == 9
    generator = np.random.default_rng(np.random.RandomState(1).randint(2**31 - 1))
    whole = gc.SequenceClassifier(2, ["a", "b", "c"], 4, dropout=0.2, dtype=np.float64, seed=generator)
    gc.fit(whole, (x, y), epochs=3, batch_size=5, schedule=gc.schedules.constant(), seed=generator)
    assert np.array_equal(weights_of(steps), whole.parameters.vector)


def test_partial_fit_accepts_parts_with_some_of_the_classes(rng):
    x, y, _ = data(rng)
    classifier = LSTMClassifier(4, random_state=0).partial_fit(x[:1], y[:1], classes=["a", "b", "c"])
    classifier.partial_fit(x[1:5], y[1:5])
    assert classifier.predict_proba(x).shape == (12, 3)
    regressor = LSTMRegressor(4, random_state=0)
    for part in (x[:6], x[6:]):
        regressor.partial_fit(part, part[:, :, 0])
    assert regressor.predict(x).shape == (12, 5)


def test_warm_start_continues_with_the_model(rng):
    x, y, targets = data(rng)
    cold = LSTMRegressor(**QUICK).fit(x, targets)
    before, scaling = weights_of(cold).copy(), cold.model_.layers[0]
    cold.fit(x, targets)
    assert np.array_equal(weights_of(cold), before)
    warm = LSTMRegressor(**QUICK, warm_start=True).fit(x, targets)
    assert np.array_equal(weights_of(warm), before)
    model, loss = warm.model_, warm.history_["loss"]
    warm.set_params(updates=100).fit(x + 1, targets)
    assert warm.model_ is model
    assert warm.model_.layers[0] == scaling
    assert warm.history_["loss"][-1] < loss[-1]
    classifier = LSTMClassifier(**QUICK, warm_start=True).fit(x, y)
    with pytest.raises(ValueError, match=r"y must have labels of the classes \['a', 'b', 'c'\], got .*'d'"):
        classifier.fit(x, np.where(y == "a", "d", y))


def test_early_stopping_keeps_the_best_weights(rng):
    x, _, _ = data(rng, n=40)
    y = rng.integers(0, 2, 40)  # nothing to learn: the validation loss soon increases
    options = {"hidden_size": 16, "learning_rate": 0.05, "updates": 2000, "random_state": 0}
    classifier = LSTMClassifier(**options, early_stopping=True, patience=3, validation_fraction=0.25).fit(x, y)
    history = classifier.history_
    assert history.stopped_early
    assert classifier.n_iter_ == history.updates < 2000
    losses = history["validation_loss"]
    assert np.nanargmin(losses) + 1 == history.best_update
    assert losses[-1] > np.nanmin(losses)
    repeated = LSTMClassifier(**options | {"updates": 5}, early_stopping=True, validation_fraction=0.25).fit(x, y)
    assert repeated.n_iter_ == 5


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_an_error_leaves_the_estimator_as_it_was(method, rng):
    x, y, _ = data(rng)
    classifier = LSTMClassifier(**QUICK)
    wrong = {"fit": ("updates", 0), "partial_fit": ("batch_size", 0)}[method]
    arguments = {"classes": ["a", "b", "c"]} if method == "partial_fit" else {}
    failed = clone(classifier).set_params(**dict([wrong]))
    with pytest.raises(ValueError, match=wrong[0]):
        getattr(failed, method)(x, y, **arguments)
    with pytest.raises(NotFittedError):
        failed.predict(x)
    classifier.fit(x, y)
    before, probabilities = dict(vars(classifier)), classifier.predict_proba(x)
    with pytest.raises(ValueError, match="NaN"):
        getattr(classifier, method)(np.full((12, 9), np.nan), y)
    with pytest.raises(ValueError, match=wrong[0]):
        classifier.set_params(**dict([wrong])).fit(x[:, :, :1], np.arange(12) % 2)
    classifier.set_params(**{wrong[0]: before[wrong[0]]})
    assert vars(classifier).keys() == before.keys()
    assert all(value is before[name] for name, value in vars(classifier).items())
    assert np.array_equal(classifier.predict_proba(x), probabilities)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_an_error_during_the_training_of_a_fitted_estimator_changes_no_weight(method, rng):
    x, _, y = data(rng)
    regressor = LSTMRegressor(**QUICK | {"updates": 12}, batch_size=1, warm_start=True).partial_fit(x, y)
    other = copy.deepcopy(regressor)
    with pytest.raises(FloatingPointError, match=r"at update [2-9]"):  # after some updates
        getattr(regressor, method)(x, np.where(np.arange(12) == 5, 1e300, y))
    assert np.array_equal(regressor.predict(x), other.predict(x))
    assert regressor.n_iter_ == other.n_iter_ == 12
    for estimator in (regressor, other):
        estimator.partial_fit(x, y)
    assert np.array_equal(weights_of(regressor), weights_of(other))


def test_an_interrupt_keeps_the_model(rng, monkeypatch):
    x, y, _ = data(rng)

    def interrupt(state):
        if state.history.updates == 4:
            raise KeyboardInterrupt

    def interrupted(*arguments, **options):
        return gc.fit(*arguments, **options, callbacks=[interrupt])

    monkeypatch.setattr(lstm_estimator, "fit", interrupted)
    classifier = LSTMClassifier(**QUICK)
    with pytest.raises(KeyboardInterrupt):
        classifier.fit(x, y)
    monkeypatch.undo()
    untrained = gc.SequenceClassifier(2, ["a", "b", "c"], 4, dtype=np.float64, seed=0)
    assert classifier.predict_proba(x).shape == (12, 3)
    assert not np.array_equal(classifier.predict_proba(x), untrained.predict_proba(x))


# scikit-learn around them


def test_grid_search_in_processes_on_a_list_of_sequences(rng):
    x, y = ragged(rng, n=18), np.arange(18) % 2
    grid = {"hidden_size": [2, 4], "class_weight": [None, "balanced"]}
    searches = [
        GridSearchCV(LSTMClassifier(updates=3, random_state=0), grid, cv=2, n_jobs=jobs).fit(x, y) for jobs in (1, 2)
    ]
    one, two = (search.cv_results_["mean_test_score"] for search in searches)
    assert np.array_equal(one, two)
    assert np.array_equal(searches[0].predict(x), searches[1].predict(x))


def test_pipelines_and_names_of_columns(rng):
    pandas = pytest.importorskip("pandas")
    x, y, _ = data(rng, F=1)
    frame = pandas.DataFrame(x[:, :, 0], columns=[f"t{k}" for k in range(5)])
    pipeline = make_pipeline(StandardScaler().set_output(transform="pandas"), LSTMClassifier(**QUICK)).fit(frame, y)
    assert list(pipeline[-1].feature_names_in_) == list(frame.columns)
    assert set(pipeline.predict(frame)) <= {"a", "b", "c"}
    with pytest.raises(ValueError, match="feature names should match"):
        pipeline[-1].predict(frame.rename(columns={"t0": "other"}))
    refitted = pipeline[-1].fit(x, y)
    assert not hasattr(refitted, "feature_names_in_")


def test_copies(rng):
    x, y, _ = data(rng)
    classifier = LSTMClassifier(**QUICK).partial_fit(x, y, classes=["a", "b", "c"])
    for twin in (pickle.loads(pickle.dumps(classifier)), copy.deepcopy(classifier)):  # noqa: S301 - made here
        assert np.array_equal(twin.predict_proba(x), classifier.predict_proba(x))
        weights = weights_of(classifier).copy()
        twin.partial_fit(x, y)
        assert np.array_equal(weights_of(classifier), weights)
        assert not np.array_equal(weights_of(twin), weights)
    fresh = clone(classifier)
    assert fresh.get_params() == classifier.get_params()
    with pytest.raises(NotFittedError):
        fresh.predict(x)


# The model inside


def test_the_model_is_one_of_the_library(rng, tmp_path):
    x, y, targets = data(rng)
    classifier = LSTMClassifier(**QUICK).fit(x, y)
    model = classifier.model_
    assert model.classify(x) == classifier.predict(x).tolist()
    assert np.allclose(model.predict_proba(x), classifier.predict_proba(x), rtol=1e-12)
    model.save(tmp_path / "model.safetensors")
    assert gc.load(tmp_path / "model.safetensors").classify(x) == classifier.predict(x).tolist()
    stream = model.stream()
    outputs = [stream.push(step) for step in x[0]]
    assert np.allclose(outputs[-1], model.predict(x[:1])[0], rtol=1e-6)
    assert model.trace(x[0]).layer[0].c.shape == (5, 4)
    pytest.importorskip("onnx")
    gc.convert.save(LSTMRegressor(**QUICK).fit(x.astype(np.float32), targets).model_, tmp_path / "model.onnx")
    assert gc.convert.load(tmp_path / "model.onnx").predict(x.astype(np.float32)).shape == (12, 1)


def test_targets_are_in_their_units(rng):
    x, _, y = data(rng, n=30)
    units = np.stack([y, 1e6 + 1e3 * y], axis=1)
    regressor = LSTMRegressor(8, updates=40, learning_rate=0.05, random_state=0).fit(x, units)
    a, b = regressor.predict(x).T
    assert np.allclose(1e6 + 1e3 * a, b, rtol=0, atol=700)
    assert regressor.score(x, units) > 0.5
    single = LSTMRegressor(8, updates=3, random_state=0).fit(x, units[:, :1])
    assert single.predict(x).shape == (30, 1)


def test_the_classes_keep_their_type(rng):
    x, _, _ = data(rng)
    for labels in ([3, 7], [0.5, 1.0], [False, True], ["no", "yes"], [np.int8(1), np.int8(2)]):
        y = np.array(labels)[np.arange(12) % 2]
        if y.dtype.kind == "f" and (y % 1).any():
            with pytest.raises(ValueError, match="continuous"):
                LSTMClassifier(**QUICK).fit(x, y)
            continue
        classifier = LSTMClassifier(**QUICK).fit(x, y)
        assert classifier.predict(x).dtype == y.dtype
        assert classifier.model_.classes == np.unique(y).tolist()


# Bad input

WRONG_X = {
    "NaN": (lambda x: np.where(np.arange(24).reshape(12, 2, 1) == 5, np.nan, x[:, :2]), "Input X contains NaN"),
    "NaN in a list": (
        lambda x: [*x[:11, :2], np.full((3, 2), np.nan)],
        "X must be finite, got nan at sequence 11, step 0, feature 0",
    ),
    "widths": (
        lambda x: [*x[:11], np.zeros((3, 4))],
        "X must have the same number of features in all sequences, got 2 in sequence 0 and 4 in sequence 11",
    ),
    "no sequences": (lambda x: [], "X must have at least one sequence, got none"),
    "no sequences in an array": (lambda x: x[:0], r"Found array with 0 sample\(s\)"),
    "no steps": (lambda x: [*x[:11], np.zeros((0, 2))], "X must have at least one step in each sequence"),
    "no features": (lambda x: np.zeros((12, 3, 0)), "X must have at least one feature"),
    "one axis": (lambda x: x[:, 0, 0], "Expected 2D array, got 1D array instead"),
    "four axes": (lambda x: x[None], "Found array with dim 4"),
    "text": (lambda x: [["a", "b"]] * 12, "could not convert string to float"),
    "nested": (lambda x: [*x[:11], np.zeros((3, 2, 2))], r"got shape \(3, 2, 2\) in sequence 11"),
}


@pytest.mark.parametrize("name", WRONG_X)
def test_wrong_sequences(name, rng):
    make, message = WRONG_X[name]
    x, y, _ = data(rng)
    with pytest.raises(ValueError, match=message):
        LSTMClassifier(**QUICK).fit(make(x), y)


def test_wrong_targets(rng):
    x, y, targets = data(rng)
    cases = {
        "y must have at least 2 classes, got 1 class: .*'a'": (LSTMClassifier, np.full(12, "a"), None),
        "inconsistent numbers of samples": (LSTMClassifier, y[:11], None),
        "Unknown label type: continuous": (LSTMClassifier, targets, None),
        "Input y contains NaN": (LSTMRegressor, np.where(np.arange(12) == 3, np.nan, targets), None),
        "requires y to be passed, but the target y is None": (LSTMRegressor, None, None),
        r"sample_weight must be 12 finite numbers of 0 or more, got shape \(11,\)": (
            LSTMRegressor,
            targets,
            np.ones(11),
        ),
        "sample_weight must be 12 finite numbers of 0 or more, got -1.0": (LSTMRegressor, targets, np.arange(12) - 1),
        "sample_weight must have at least one above zero, got zero for all": (LSTMRegressor, targets, np.zeros(12)),
    }
    for message, (kind, wrong, weights) in cases.items():
        with pytest.raises(ValueError, match=message):
            kind(**QUICK).fit(x, wrong, weights)
    with pytest.raises(ValueError, match=r"got 1 class: .*'b'"):  # the others have weight 0
        LSTMClassifier(**QUICK).fit(x, y, sample_weight=(y == "b"))


ARGUMENTS = {
    "hidden_size": (0, ValueError, "hidden_size must be at least 1, got 0"),
    "num_layers": (1.5, TypeError, "num_layers must be an integer, got 1.5"),
    "pooling": ("first", ValueError, "pooling must be one of 'last', 'mean', 'max', got 'first'"),
    "dropout": (1.0, ValueError, "dropout must be at least 0 and below 1, got 1.0"),
    "updates": (0, ValueError, "updates must be at least 1, got 0"),
    "batch_size": (-1, ValueError, "batch_size must be at least 1, got -1"),
    "learning_rate": (-1.0, ValueError, r"learning_rate must be in \[0, inf\), got -1.0"),
    "warm_start": ("no", TypeError, "warm_start must be True or False, got 'no'"),
    "random_state": ("x", ValueError, "'x' cannot be used to seed"),
    "class_weight": ("even", ValueError, "class_weight"),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_are_checked_by_fit(name, rng):
    value, error, message = ARGUMENTS[name]
    x, y, _ = data(rng)
    classifier = LSTMClassifier(**QUICK | {name: value})  # not by the constructor
    with pytest.raises(error, match=message):
        classifier.fit(x, y)


def test_arguments_of_early_stopping_and_partial_fit(rng):
    x, y, _ = data(rng)
    for name, value, message in (
        ("validation_fraction", 1.0, "validation_fraction must be below 1, got 1.0"),
        ("patience", 0, "patience must be at least 1, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            LSTMClassifier(**QUICK, early_stopping=True, **{"validation_fraction": 0.4, name: value}).fit(x, y)
    with pytest.raises(ValueError, match="classes must be passed in the first call of partial_fit, got None"):
        LSTMClassifier(**QUICK).partial_fit(x, y)
    classifier = LSTMClassifier(**QUICK).partial_fit(x, y, classes=["a", "b", "c"])
    with pytest.raises(
        ValueError, match=r"classes must be those of the first call, \['a', 'b', 'c'\], got \['a', 'b'\]"
    ):
        classifier.partial_fit(x, y, classes=["a", "b"])
    with pytest.raises(ValueError, match="class_weight must be None or a dictionary for partial_fit"):
        LSTMClassifier(**QUICK, class_weight="balanced").partial_fit(x, y, classes=["a", "b", "c"])
    regressor = LSTMRegressor(**QUICK).partial_fit(x, x[:, 0])
    with pytest.raises(ValueError, match="y must have 2 targets, as in the previous call, got 1"):
        regressor.partial_fit(x, x[:, 0, 0])


# Imports


def test_scikit_learn_is_imported_with_the_estimators_alone(tmp_path):
    (tmp_path / "sklearn.py").write_text("raise ModuleNotFoundError('no sklearn', name='sklearn')\n")
    program = (
        "import sys, glasscell, glasscell.estimators\n"
        "assert 'sklearn' not in sys.modules and dir(glasscell.estimators)\n"
        "glasscell.estimators.LSTMClassifier\n"
    )
    root = str(Path(gc.__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), root])}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment)
    assert done.stderr.splitlines()[-1] == (
        "ImportError: glasscell.estimators requires scikit-learn: pip install 'glasscell[sklearn]'"
    )


def test_masked_values_are_refused(rng):
    x, y, _ = data(rng)
    masked, weights = np.ma.masked_greater(x, 0.5), np.ma.masked_array(np.ones(12), mask=np.arange(12) == 3)
    classifier = LSTMClassifier(**QUICK).fit(np.ma.masked_array(x), y)
    for name, call in (
        ("X", lambda: classifier.fit(masked, y)),
        ("X", lambda: classifier.fit(list(masked), y)),
        ("X", lambda: classifier.fit(masked[:, :, 0], y)),
        ("X", lambda: classifier.predict(masked)),
        ("y", lambda: LSTMRegressor(**QUICK).fit(x, weights)),
        ("sample_weight", lambda: classifier.fit(x, y, sample_weight=weights)),
    ):
        with pytest.raises(ValueError, match=f"^{name} must have no masked values, got [0-9]+"):
            call()
