"""Laws: flips equal recomputation, the Jacobian equals finite differences, and the latch depends on one input alone."""

from copy import deepcopy

import numpy as np
import pytest
from case_loops import loop_over
from known_models import LATCHED, T

import glasscell as gc
from glasscell.data import TextData
from glasscell.explain import dependency

STEP = 1e-6  # of finite differences


def randomized(model, rng, scale=0.6):
    model.parameters.vector[:] = rng.normal(size=model.parameters.vector.size) * scale
    return model


def test_the_latch_depends_on_exactly_one_input(latch):
    bits = [(t, 0) for t in range(T)]
    result = dependency(latch.model, latch.x, inputs=bits, outputs=[(5, 0), 1], replacement="flip")
    c = np.tanh(1)
    expected = np.zeros((2, T))
    expected[0, LATCHED] = 6 * np.tanh(c)
    np.testing.assert_allclose(result.exact, expected, rtol=1e-12, atol=1e-12)
    expected[0, LATCHED] = 6 * (1 - np.tanh(c) ** 2) * (1 - c**2)  # 3 · dh/dc · dg/dx · 2
    np.testing.assert_allclose(result.linear, expected, rtol=1e-12, atol=1e-12)
    assert result.strongest()[0] == LATCHED
    assert result.outputs == ("step 5, output 0", "step 1")
    assert result.inputs[LATCHED] == "step 2, feature 0"
    assert (result.count == 64).all()


def test_flips_equal_recomputation(trained):
    bits = gc.tasks.binary.encode(np.arange(16), 4)
    result = dependency(trained, trained.task)
    integers = trained.task.make_batch([bits]).inputs.astype(int)
    halved = integers.astype(np.float32)
    halved[:, 1] = 0.5
    change = np.abs(trained(halved) - trained(integers)).mean(axis=0)
    np.testing.assert_allclose(dependency(trained, integers, replacement=0.5).exact[:, 1], change[:, 0], rtol=1e-5)
    clean = trained(trained.task.make_batch([bits]).inputs)
    for k in range(4):
        flipped = bits.copy()
        flipped[:, k] ^= 1
        change = np.abs(trained(trained.task.make_batch([flipped]).inputs) - clean).mean(axis=0)
        np.testing.assert_allclose(result.exact[:, k], change[5:, 0], rtol=1e-5)
    assert result.replacement == "flip"
    assert result.exact.shape == (4, 4)
    assert (result.strongest() == np.arange(4)).all()


def test_the_jacobian_equals_finite_differences(rng):
    model = gc.Sequential([gc.LSTM(2, 3, 2, bidirectional=True, dtype=np.float64), gc.Linear(6, 2, dtype=np.float64)])
    randomized(model, rng)
    x, lengths = rng.normal(size=(3, 4, 2)), np.array([4, 2, 3])
    places = [(t, i) for t in range(4) for i in range(2)]
    result = dependency(model, x, inputs=places, outputs=[(1, 0), 3], replacement=x + 1, lengths=lengths)
    for k, (t, i) in enumerate(places):
        up, down = x.copy(), x.copy()
        up[:, t, i] += STEP
        down[:, t, i] -= STEP
        slope = np.abs(model(up, lengths=lengths) - model(down, lengths=lengths)) / (2 * STEP)
        for j, (step, values) in enumerate(((1, slope[:, 1, 0]), (3, slope[:, 3].mean(axis=-1)))):
            present = (lengths > t) & (lengths > step)
            assert result.count[j, k] == present.sum()
            np.testing.assert_allclose(result.linear[j, k], values[present].mean(), rtol=0, atol=1e-7)
            moved = x.copy()
            moved[:, t, i] += 1
            change = np.abs(model(moved, lengths=lengths) - model(x, lengths=lengths))
            change = change[:, 1, 0] if j == 0 else change[:, 3].mean(axis=-1)
            np.testing.assert_allclose(result.exact[j, k], change[present].mean(), rtol=1e-12)


def test_the_jacobian_of_ids_is_along_the_difference_of_their_vectors(rng):
    layers = [gc.Embedding(5, 3, dtype=np.float64), gc.LSTM(3, 4, dtype=np.float64), gc.Linear(4, 5, dtype=np.float64)]
    model = randomized(gc.Sequential(layers, seed=None), rng)
    ids = rng.integers(5, size=(6, 4))
    result = dependency(model, ids, outputs=[(3, 1), (1, 4)], replacement=2)
    vectors = model.layers[0].parameters["weight"]
    behind = gc.Sequential([deepcopy(layer) for layer in layers[1:]], seed=None)
    for t in range(4):
        replaced = ids.copy()
        replaced[:, t] = 2
        change = vectors[replaced] - vectors[ids]
        up, down = (behind(vectors[ids] + sign * STEP * change) for sign in (1, -1))
        slope, exact = np.abs(up - down) / (2 * STEP), np.abs(model(replaced) - model(ids))
        for j, (step, o) in enumerate(((3, 1), (1, 4))):
            assert result.linear[j, t] == pytest.approx(slope[:, step, o].mean(), abs=1e-7)
            assert result.exact[j, t] == pytest.approx(exact[:, step, o].mean(), abs=1e-12)
    assert result.exact[1, 2:].max() == 0  # later inputs


def test_another_symbol_is_never_the_same_one(rng):
    from glasscell.explain.places import Input, Replacer  # noqa: PLC0415
    from glasscell.explain.samples import read_samples  # noqa: PLC0415

    data = TextData("hello world. " * 20, steps=10, streams=4)
    model = gc.LanguageModel(data.vocabulary, 4, 6)
    ids = rng.integers(len(data.vocabulary), size=(50, 3))
    samples = read_samples(model, ids, None, None, None, needs_labels=False)
    replaced = Replacer(samples, None, len(data.vocabulary), 0)(Input(1))
    assert (replaced[:, 1] != ids[:, 1]).all()
    np.testing.assert_array_equal(replaced[:, [0, 2]], ids[:, [0, 2]])
    assert len(set(zip(ids[:, 1], replaced[:, 1], strict=True))) == len(set(ids[:, 1]))
    assert dependency(model, ids).exact.shape == (3, 3)
    assert dependency(model, ids).replacement == "other"


def test_results_do_not_depend_on_the_order_of_the_sequences(rng):
    model = randomized(gc.LSTM(2, 3, dtype=np.float64), rng)
    x, order = rng.normal(size=(11, 4, 2)), rng.permutation(11)
    first = dependency(model, x, replacement="mean")
    second = dependency(model, x[order], replacement="mean", batch_size=3)
    np.testing.assert_allclose(second.exact, first.exact, rtol=1e-12)
    np.testing.assert_allclose(second.linear, first.linear, rtol=1e-12)
    mean = x.copy()
    mean[:, 1] = x[:, 1].mean(axis=0)
    change = np.abs(model(mean) - model(x)).mean(axis=(0, 2))
    np.testing.assert_allclose(first.exact[:, 1], change, rtol=1e-12, atol=1e-15)


def test_models_with_one_vector_or_one_number(rng):
    classifier = randomized(gc.SequenceClassifier(2, 3, 4, dtype=np.float64), rng)
    x = rng.normal(size=(5, 4, 2))
    result = dependency(classifier, x, replacement=0.0)
    assert result.outputs == ("output 0", "output 1", "output 2")
    zero = x.copy()
    zero[:, 2] = 0
    np.testing.assert_allclose(
        result.exact[:, 2], np.abs(classifier(zero) - classifier(x)).mean(axis=0), rtol=0, atol=1e-12
    )
    assert dependency(classifier, x, replacement=0.0, outputs=[-1]).exact.shape == (1, 4)


def test_outputs_that_no_sequence_has_with_an_input_do_not_count(rng):
    model = gc.LSTM(2, 3, dtype=np.float64, seed=0)
    x = rng.normal(size=(4, 5, 2))
    result = dependency(model, x, replacement="mean", lengths=[3, 3, 2, 3], outputs=[1, 2, 4])
    assert result.inputs == ("step 0", "step 1", "step 2")  # those that a sequence has
    assert np.isnan(result.exact[2]).all()
    assert np.isnan(result.linear[2]).all()
    assert (result.count == [[4, 4, 3], [3, 3, 3], [0, 0, 0]]).all()
    np.testing.assert_array_equal(result.strongest()[:2], result.exact[:2].argmax(axis=1))
    with pytest.raises(ValueError, match="x must have at least one sequence with a step, got none"):
        dependency(model, x, replacement="mean", lengths=[0] * 4)


def test_models_of_numbers(rng):
    """Inputs (N, T) without features, and outputs (N, T)."""
    layers = [gc.layers.Unsqueeze(), gc.LSTM(1, 3, dtype=np.float64), gc.Linear(3, 1, dtype=np.float64)]
    model = randomized(gc.Sequential([*layers, gc.layers.Squeeze()], seed=None), rng)
    x = rng.normal(size=(5, 4))
    result = dependency(model, x, replacement=x + 1)
    assert result.exact.shape == (4, 4)
    moved, up, down = x.copy(), x.copy(), x.copy()
    moved[:, 1] += 1
    up[:, 1] += STEP
    down[:, 1] -= STEP
    np.testing.assert_allclose(result.exact[:, 1], np.abs(model(moved) - model(x)).mean(axis=0), rtol=0, atol=1e-12)
    slope = np.abs(model(up) - model(down)).mean(axis=0) / (2 * STEP)
    np.testing.assert_allclose(result.linear[:, 1], slope, rtol=0, atol=1e-7)


def test_both_parts_are_those_of_a_model_under_interventions(rng):
    model = gc.Sequential([gc.LSTM(2, 3, dtype=np.float64), gc.Linear(3, 1, dtype=np.float64)])
    randomized(model, rng)
    x = rng.normal(size=(4, 5, 2))
    free = dependency(model, x, inputs=[(1, 0)], outputs=[4], replacement=x + 1)
    with model.intervene("f", scale=0.3, units=[1], steps=slice(2, None)):
        held = dependency(model, x, inputs=[(1, 0)], outputs=[4], replacement=x + 1)
        moved, up, down = x.copy(), x.copy(), x.copy()
        moved[:, 1, 0] += 1
        up[:, 1, 0] += STEP
        down[:, 1, 0] -= STEP
        exact = np.abs(model(moved) - model(x))[:, 4].mean()
        linear = np.abs(model(up) - model(down))[:, 4].mean() / (2 * STEP)
    assert held.exact[0, 0] == pytest.approx(exact, abs=1e-12)
    assert held.linear[0, 0] == pytest.approx(linear, abs=1e-7)
    assert abs(held.exact[0, 0] - free.exact[0, 0]) > 1e-4


@loop_over(
    ("arguments", "message"),
    [
        ({"replacement": None}, "replacement must be passed for inputs that are numbers"),
        ({"replacement": "other"}, "replacement must be one of 'flip', 'mean', got 'other'"),
        ({"replacement": np.zeros(3)}, r"must broadcast to the inputs \(64, 6, 2\), got shape \(3,\)"),
        ({"replacement": np.nan}, "replacement must be finite"),
        ({"inputs": [(0, 1)]}, "a data set with one class at step 0, feature 1"),
        ({"inputs": [6]}, "inputs must exist: from -6 to 5, got 6"),
        ({"inputs": []}, "inputs must be a sequence of at least one step or pair"),
        ({"outputs": [(0, 1)]}, "outputs must exist: from -1 to 0, got 1"),
        ({"lengths": np.zeros(64, int)}, "x must have sequences with step 0, feature 0, got none"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
    ],
)
def test_values_that_do_not_fit_are_one_clear_error(latch, arguments, message):
    options = {"replacement": "flip", "inputs": [(0, 0)]} | arguments
    with pytest.raises(ValueError, match=message):
        dependency(latch.model, latch.x, **options)


def test_flips_need_two_values_and_ids_must_exist(rng):
    with pytest.raises(ValueError, match="two values to be flipped, got more at step 0"):
        dependency(gc.LSTM(2, 3), rng.normal(size=(5, 4, 2)), replacement="flip")
    model = gc.Sequential([gc.Embedding(5, 3), gc.LSTM(3, 4)])
    with pytest.raises(ValueError, match="replacement must be ids from 0 to V - 1 = 4, got 5"):
        dependency(model, np.zeros((4, 3), int), replacement=5)
    with pytest.raises(ValueError, match="x must be ids from 0 to V - 1 = 4, got 7"):
        dependency(model, np.full((4, 3), 7))
    with pytest.raises(TypeError, match="inputs must be integers, got 'a'"):
        dependency(model, np.zeros((4, 3), int), inputs=["a"])
    with pytest.raises(ValueError, match="outputs must be at most 4096 numbers, one backward pass each, got 8192"):
        dependency(gc.LSTM(1, 64), np.zeros((1, 128, 1)), replacement=1.0)
