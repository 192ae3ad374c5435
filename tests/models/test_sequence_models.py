"""SequenceClassifier and SequenceRegressor: layers, scaling, labels, and training through `fit`."""

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from case_loops import loop_over

import glasscell as gc
from glasscell.data.metrics import ScaledSquaredError
from glasscell.layers import Normalization
from glasscell.verify import verify


def ragged(rng: np.random.Generator, count: int = 24, features: int = 2) -> list[np.ndarray]:
    return [rng.normal(3, 20, size=(int(length), features)) for length in rng.integers(2, 7, count)]


@pytest.mark.parametrize("pooling", ["last", "mean", "max"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_ragged_sequences_give_the_outputs_of_each_alone(pooling: str, bidirectional: bool) -> None:
    rng = np.random.default_rng(0)
    model = gc.SequenceClassifier(2, 3, 5, bidirectional=bidirectional, pooling=pooling, dtype=np.float64, seed=1)
    x = ragged(rng)
    gc.fit(model, (x, rng.integers(0, 3, len(x))), updates=2)
    together = model.predict(x)
    for sequence, outputs in zip(x, together, strict=True):
        np.testing.assert_allclose(model(sequence), outputs, atol=1e-12)


def test_the_scaling_is_that_of_the_training_part_and_is_estimated_once() -> None:
    rng = np.random.default_rng(1)
    x, labels = ragged(rng), ["a", "b"] * 12
    model = gc.SequenceClassifier(2, ["a", "b"], 4)
    gc.fit(model, (x, labels), updates=1, validation=0.25)
    steps = np.concatenate(x[:18])
    scaling = model.layers[0]
    assert isinstance(scaling, Normalization)
    np.testing.assert_allclose(scaling.mean, steps.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(scaling.variance, steps.var(axis=0), rtol=1e-12)
    gc.fit(model, ([2 * sequence for sequence in x], labels), updates=1)
    assert model.layers[0] == scaling


MODELS = {
    "classifier": lambda **options: gc.SequenceClassifier(2, ["no", None, True], 4, seed=1, **options),
    "tagger": lambda **options: gc.SequenceClassifier(2, [1, 2.5, "x"], 4, seed=1, per_step=True, **options),
    "both": lambda **options: gc.SequenceClassifier(
        2, 3, 4, 2, bidirectional=True, pooling="max", dropout=0.5, noise=0.3, seed=1, **options
    ),
    "regressor": lambda **options: gc.SequenceRegressor(2, 3, 4, pooling="mean", seed=1, **options),
    "tracker": lambda **options: gc.SequenceRegressor(2, 3, 4, per_step=True, seed=1, **options),
}


def trained(kind: str, **options: Any) -> Any:
    """Return a model after two updates, whose weights and scalings are all different from those at the beginning."""
    model, rng = MODELS[kind](**options), np.random.default_rng(2)
    x = ragged(rng)
    if isinstance(model, gc.SequenceRegressor):
        y: Any = [rng.normal(50, 10, (len(sequence), 3) if model.per_step else 3) for sequence in x]
    else:
        y = [[model.classes[k] for k in rng.integers(0, 3, len(sequence))] for sequence in x]
        y = y if model.per_step else [entry[0] for entry in y]
    gc.fit(model, (x, y), updates=2)
    return model


@loop_over("kind", MODELS)
@loop_over("dtype", [np.float32, np.float64])
def test_files_and_copies_hold_the_whole_model(kind: str, dtype: type, tmp_path: Path) -> None:
    model, x = trained(kind, dtype=dtype), ragged(np.random.default_rng(3), 5)
    model.save(tmp_path / "m.safetensors")
    copies = [gc.load(tmp_path / "m.safetensors"), type(model).load(tmp_path / "m.safetensors")]
    copies += [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]  # noqa: S301 - our own
    for other in copies:
        assert type(other) is type(model)
        assert other.dtype == model.dtype == dtype
        assert (other.config, repr(other), other.is_adapted) == (model.config, repr(model), True)
        for a, b in zip(model.predict(x), other.predict(x), strict=True):
            np.testing.assert_array_equal(a, b)
    if isinstance(model, gc.SequenceClassifier):
        assert json.dumps(copies[0].classes) == json.dumps(model.classes)


def test_an_untrained_model_is_saved_without_a_scaling(tmp_path: Path) -> None:
    model = MODELS["regressor"]()
    model.save(tmp_path / "m.safetensors")
    loaded = gc.load(tmp_path / "m.safetensors")
    assert isinstance(loaded, gc.SequenceRegressor)
    assert not loaded.is_adapted
    gc.fit(loaded, (np.ones((4, 3, 2)), np.arange(12.0).reshape(4, 3)), updates=1)
    assert loaded.is_adapted


@pytest.mark.parametrize("kind", MODELS)
def test_streams_equal_the_whole_sequence_or_are_refused(kind: str) -> None:
    model, (x,) = trained(kind, dtype=np.float64), ragged(np.random.default_rng(4), 1)
    if kind == "both":
        with pytest.raises(ValueError, match=r"lstm|direction"):
            model.stream()
        return
    stream = model.stream()
    for t, row in enumerate(x):
        outputs = stream.push(row)
        whole = model(x[: t + 1])
        np.testing.assert_allclose(outputs, whole[-1] if model.per_step else whole, atol=1e-9)


@pytest.mark.parametrize("kind", MODELS)
def test_traces_and_checks(kind: str) -> None:
    model, (x,) = trained(kind), ragged(np.random.default_rng(5), 1)
    trace = model.trace(x)
    np.testing.assert_allclose(np.squeeze(trace.outputs), np.squeeze(model(x)), rtol=1e-5, atol=1e-5)
    assert len(trace.layer) == 1 + 3 * (kind == "both")
    checks = verify(model, (2, 5))
    assert checks
    assert all(check.error is None or check.error <= check.bound for check in checks)


def test_traces_take_labels_and_name_the_outputs() -> None:
    model, (x,) = trained("classifier", dtype=np.float64), ragged(np.random.default_rng(5), 1)
    trace = model.trace(x)
    assert trace.about["output_names"] == ["no", "None", "True"]
    trace = model.trace(x, True)
    tape = model.forward(x)[2]
    dx, _, _ = model.backward(tape, model.predict_proba(x) - np.array([0, 0, 1]))
    np.testing.assert_allclose(trace.layer[0].d_x, dx * np.sqrt(model.layers[0].variance))  # of the scaled inputs
    with pytest.raises(ValueError, match="y must be labels of the classes"):
        model.trace(x, "yes")
    tagger = trained("tagger")
    tagger.trace(x, [1] * len(x))


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("suffix", [".onnx", ".keras"])
def test_exported_files_compute_the_same(kind: str, suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("h5py" if suffix == ".keras" else "onnx")
    model, x = trained(kind), np.random.default_rng(6).normal(3, 20, (4, 6, 2))
    gc.convert.save(model, tmp_path / f"m{suffix}")
    outputs = gc.convert.load(tmp_path / f"m{suffix}")(x)
    np.testing.assert_allclose(outputs, model(x), rtol=1e-4, atol=1e-4)


def test_pytorch_files_hold_the_weights_alone(tmp_path: Path) -> None:
    model = trained("classifier")
    with pytest.raises(ValueError, match=r"can only contain weights, without layer 'scaling' \(Normalization\)"):
        gc.convert.save(model, tmp_path / "m.pt")
    gc.convert.save(model, tmp_path / "m.pt", weights_only=True)
    lstm = gc.convert.lstms(tmp_path / "m.pt")["lstm"]
    np.testing.assert_array_equal(lstm.parameters.vector, model.lstm.parameters.vector)


@loop_over(
    ("changes", "message"),
    [
        ({"hidden_size": 10**12}, r"weight_hh_l0"),
        ({"hidden_size": -1}, "hidden_size must be at least 1"),
        ({"num_layers": 10**9}, "there are weights for 1 layers; the configuration says 1000000000"),
        ({"num_layers": None}, "num_layers must be"),
        ({"bidirectional": True}, "there are weights for 1 layers; the configuration says 2"),
        ({"bidirectional": "no"}, "bidirectional must be"),
        ({"input_size": 10**12}, r"input_size must be that of 'lstm.weight_ih_l0', got 1000000000000"),
        ({"output_size": 4}, r"output_size must be that of 'readout.weight', got 4"),
        ({"classes": ["a", "b"]}, r"classes must be a list of 3 labels, got \['a', 'b'\]"),
        ({"classes": ["a", "b", "a"]}, "classes must be different labels, got 'a' twice"),
        ({"classes": ["a", "b", {}]}, "labels must be text, numbers, truth values or None, got a dict"),
        ({"classes": 3}, "classes must be a list of 3 labels, got 3"),
        ({"pooling": "sum"}, "pooling must be one of"),
        ({"dropout": 2}, "dropout must be"),
        ({"scaling": {"mean": [0.0], "variance": [1.0]}}, "scaling must have 2 features, got 1"),
        ({"scaling": {"mean": [0.0, 1.0], "variance": [1.0, -1.0]}}, "variance must be at least 0, got -1.0"),
        ({"scaling": {"mean": [0.0, float("nan")], "variance": [1.0, 1.0]}}, "mean must be a finite number"),
        ({"scaling": [1, 2]}, "list indices"),
        ({"scale": False}, "scaling must be absent from the configuration of this model"),
        ({"output_scaling": {"mean": [0.0], "variance": [1.0]}}, "output_scaling must be absent"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_configurations_of_files_are_checked(changes: dict[str, Any], message: str) -> None:
    model = trained("classifier")
    with pytest.raises((ValueError, TypeError), match=message):
        gc.SequenceClassifier.from_weights(model.config | changes, model.to_torch())


@pytest.mark.parametrize("missing", ["scaling", "output_scaling"])
def test_a_regressor_has_both_scalings_or_none(missing: str) -> None:
    model = trained("regressor")
    config = {name: value for name, value in model.config.items() if name != missing}
    with pytest.raises(ValueError, match="the configuration must have output_scaling and scaling, or none of them"):
        gc.SequenceRegressor.from_weights(config, model.to_torch())


@loop_over(
    ("options", "error", "message"),
    [
        ({"classes": 1}, ValueError, "classes must be at least two, got 1"),
        ({"classes": []}, ValueError, r"classes must be at least two, got \[\]"),
        ({"classes": "ab"}, TypeError, "classes must be a number or a list of labels, got 'ab'"),
        ({"classes": {"a"}}, TypeError, r"classes must be a number or a list of labels, got {'a'}"),
        ({"classes": True}, TypeError, "classes must be a number or a list of labels, got True"),
        ({"classes": [0, float("inf")]}, ValueError, "labels must be finite, got inf"),
        ({"classes": [1, 1.0]}, ValueError, "classes must be different labels, got 1.0 twice"),
        ({"per_step": True, "pooling": "max"}, ValueError, "pooling must be left out for per_step=True"),
        ({"pooling": "first"}, ValueError, "pooling must be one of 'last', 'mean', 'max', got 'first'"),
        ({"dropout": 1.0}, ValueError, "dropout must be"),
        ({"scale": 1}, TypeError, "scale must be"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        gc.SequenceClassifier(**({"input_size": 2, "classes": 2} | options))


def test_labels_that_do_not_fit_are_refused() -> None:
    model, x = gc.SequenceClassifier(1, ["a", "b"], 2), np.zeros((3, 2, 1))
    cases: list[tuple[Any, str]] = [
        (["a", "b", "c"], "y must be labels of the classes 'a', 'b', got 'c'"),
        ([0, 1, 0], "y must be labels of the classes 'a', 'b', got 0"),
        (["a", "b"], "y must have one entry for each of the 3 sequences of x, got 2"),
        (["a", "b", float("nan")], "labels must be finite, got nan"),
    ]
    for labels, message in cases:
        with pytest.raises(ValueError, match=message):
            gc.fit(model, (x, labels), updates=1)
    with pytest.raises(ValueError, match="x must be finite"):
        gc.fit(model, (x * np.nan, ["a", "b", "a"]), updates=1)
    tagger = gc.SequenceClassifier(1, ["a", "b"], 2, per_step=True)
    with pytest.raises(ValueError, match="y must have one entry per step for per_step=True, got another"):
        gc.fit(tagger, ([np.zeros((3, 1)), np.zeros((2, 1))], [["a"] * 3, ["b"] * 3]), updates=1)


def test_features_that_cannot_be_scaled() -> None:
    x = np.random.default_rng(0).normal(size=(8, 3, 3))
    x[..., 1], x[..., 2] = 7.0, 1e-9 * x[..., 2]
    labels = [0, 1] * 4
    with pytest.raises(
        ValueError,
        match=r"x must have features whose standard deviation is at least 1e-07 or 0, got .*e-10 for feature 2",
    ):
        gc.fit(gc.SequenceClassifier(3, 2, 2), (x, labels), updates=1)
    model = gc.SequenceClassifier(2, 2, 2)
    gc.fit(model, (x[..., :2], labels), updates=1)
    changed = x[..., :2] + [0, 0.5]  # a constant feature is shifted, not divided by a deviation of 0
    assert np.abs(model.layers[0].forward(changed)[0][..., 1]).max() == pytest.approx(0.5)
    with pytest.raises(ValueError, match=r"x must have 2 features per step, got \(24, 3\)"):
        gc.fit(gc.SequenceClassifier(2, 2, 2), (x, labels), updates=1)
    with pytest.raises(
        TypeError, match=r"data must be \(x, y\) or ArrayData, from which the scaling is estimated, got a IterableData"
    ):
        gc.fit(gc.SequenceClassifier(3, 2, 2), [(x, np.zeros(8, int))], updates=1)


def test_training_of_a_regressor_does_not_depend_on_the_units_of_its_targets() -> None:
    rng = np.random.default_rng(0)
    x = ragged(rng, 40)
    y = np.array([[sequence[:, 0].mean(), sequence[-1, 1]] for sequence in x])
    predictions = []
    for factor, offset in ((1.0, 0.0), (1e6, 1e7), (1e-4, -3.0)):
        model = gc.SequenceRegressor(2, 2, 8, dtype=np.float64)
        history = gc.fit(model, (x, factor * y + offset), updates=30, validation=0.25)
        predictions.append((np.asarray(model.predict(x)) - offset) / factor)
        assert history["validation_mean_absolute_error"][-1] == pytest.approx(
            np.abs(np.asarray(model.predict(x[30:])) - (factor * y + offset)[30:]).mean()
        )
    np.testing.assert_allclose(predictions[1], predictions[0], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(predictions[2], predictions[0], rtol=1e-6, atol=1e-6)


def test_the_gradient_of_the_scaled_loss_is_that_of_its_values() -> None:
    rng = np.random.default_rng(1)
    loss = ScaledSquaredError((4.0, 0.25))
    outputs, targets, weights = rng.normal(size=(5, 2)), rng.normal(size=(5, 2)), rng.random((5, 1))
    value, gradient = loss(outputs, targets, weights)
    expected = (weights * (outputs - targets) ** 2 / [4.0, 0.25]).sum() / (2 * weights.sum())
    assert value == pytest.approx(expected)
    for k in np.ndindex(outputs.shape):
        step = np.zeros_like(outputs)
        step[k] = 1e-6
        difference = loss(outputs + step, targets, weights)[0] - loss(outputs - step, targets, weights)[0]
        assert gradient[k] == pytest.approx(difference / 2e-6, abs=1e-6)


def test_classify_takes_lists_arrays_and_one_sequence() -> None:
    model, rng = trained("classifier"), np.random.default_rng(7)
    x = rng.normal(size=(4, 5, 2))
    labels = model.classify(x)
    assert labels == model.classify(list(x)) == [model.classify(sequence) for sequence in x]
    proba = model.predict_proba(x)
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-6)
    assert [model.classes[k] for k in proba.argmax(axis=1)] == labels
    tagger = trained("tagger")
    tags = tagger.classify(x, lengths=[5, 3, 1, 2])
    assert [len(entry) for entry in tags] == [5, 3, 1, 2]
    assert tags[1] == tagger.classify(x[1, :3])
    ragged_tags = tagger.predict_proba([x[0], x[1, :3]])
    assert [entry.shape for entry in ragged_tags] == [(5, 3), (3, 3)]


def test_small_data_have_small_batches_and_the_schedule_ends_at_0() -> None:
    model = gc.SequenceClassifier(2, 2, 2)
    x, labels = np.zeros((40, 3, 2)), [0, 1] * 20
    assert gc.fit(model, (x, labels), epochs=2).updates == 10  # batches of 8
    history = gc.fit(model, (x, labels), updates=50)
    rates = history["learning_rate"]
    assert rates.argmax() in range(3, 7)
    assert rates[-1] < 1e-5
    assert 0.004 < rates.max() <= 0.005
