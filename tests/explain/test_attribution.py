"""Laws: attributions equal integrals computed by hand, add up to the difference of outputs, and end with sequences."""

import math
import warnings
from copy import deepcopy

import numpy as np
import pytest
from case_loops import loop_over
from explained_models import ALL_MODELS, FEATURE_MODELS, VOCABULARY, B, I, T, inputs_of, model_of, with_random_weights

import glasscell as gc
from glasscell import explain, layers
from glasscell.core import cell
from glasscell.explain.model_inputs import ModelInputs
from glasscell.explain.quadrature import path_quadrature

TOLERANCE = {"rtol": 1e-12, "atol": 1e-12}


def value_of(model, x, output, step=None, **options):
    """The quantity at x, in the plain way."""
    y = model(x, **options)
    return y[..., output] if y.ndim == 2 else y[:, step, output]


def slope_of(function, x, epsilon=1e-6):
    """Central differences of a function (B,) of x (B, ...): sequences do not depend on each other."""
    slopes = np.empty_like(x)
    for index in np.ndindex(*x.shape[1:]):
        higher, lower = x.copy(), x.copy()
        higher[:, *index] += epsilon
        lower[:, *index] -= epsilon
        slopes[:, *index] = (function(higher) - function(lower)) / (2 * epsilon)
    return slopes


@pytest.mark.parametrize("steps", [1, 5, 8, 9, 64, 100])
def test_the_quadrature_is_exact_for_polynomials_up_to_the_degree_of_its_panels(steps, rng):
    inputs = ModelInputs(model_of("stacked"), rng.normal(size=(B, T, I)))
    alphas, weights = path_quadrature(inputs, np.zeros_like(inputs.values), steps)
    assert alphas.shape == weights.shape == (steps, B)
    assert (np.diff(alphas, axis=0) > 0).all()
    assert (alphas > 0).all()
    assert (alphas < 1).all()
    degree = 2 * (steps // math.ceil(steps / 8)) - 1
    np.testing.assert_allclose((weights * alphas**degree).sum(axis=0), 1 / (degree + 1), rtol=1e-12)


def test_the_panels_of_a_path_in_parts_are_those_of_the_whole(rng, monkeypatch):
    inputs = ModelInputs(model_of("stacked"), rng.normal(size=(B, T, I)))
    start = np.zeros_like(inputs.values)
    whole = path_quadrature(inputs, start, 32)
    monkeypatch.setattr("glasscell.explain.model_inputs.MAX_SEQUENCE_STEPS", 7 * B * T)
    for array, expected in zip(path_quadrature(inputs, start, 32), whole, strict=True):
        np.testing.assert_allclose(array, expected, rtol=1e-9)
    unit = path_quadrature(ModelInputs(model_of("stacked"), inputs.x[1]), start[..., 1:2], 32)
    for array, expected in zip(unit, whole, strict=True):
        np.testing.assert_allclose(array[:, 0], expected[:, 1], rtol=1e-9)


def test_points_are_dense_where_the_outputs_bend():
    """Two units that switch at a third and at two thirds of the line, within a hundredth of it."""
    model = gc.Sequential(
        [gc.Linear(1, 2, dtype=np.float64), layers.Function("Sigmoid"), gc.Linear(2, 1, dtype=np.float64)]
    )
    for view, values in zip(
        model.parameters.values(), ([[200], [200]], [-200 / 3, -400 / 3], [[3, -5]], [0]), strict=True
    ):
        view[...] = values
    x = np.ones((1, 1))
    inputs = ModelInputs(model, x)
    alphas, _ = path_quadrature(inputs, np.zeros_like(inputs.values), 64)
    for switch in (1 / 3, 2 / 3):
        assert (np.abs(alphas - switch) < 0.05).sum() >= 16  # ten times as many as of equal distances
    result = explain.integrated_gradients(model, x, output=0)
    np.testing.assert_allclose(result.values, [[-2.0]], atol=1e-3)
    nodes, weights = np.polynomial.legendre.leggauss(64)
    slopes = explain.gradient_times_input(model, (nodes[:, None, None] + 1) / 2, output=0).values[:, 0, 0]
    assert abs(weights @ (slopes / (nodes + 1)) + 2) > 0.1  # one rule on the whole line


@pytest.mark.filterwarnings("ignore:the completeness error is")
def test_integrated_gradients_equal_those_of_the_cell_by_hand(rng):
    """A sum over the quadrature of gradients of `core.cell`, step by step."""
    lstm = with_random_weights(gc.LSTM(I, 4, dtype=np.float64))
    x, baseline = rng.normal(size=(2, T, I))
    W, unit, last = lstm.parameters["kernel_l0"], 2, 4

    def gradient(x):
        h, c, steps = np.zeros((4, 1)), np.zeros((4, 1)), []
        for row in x:
            steps.append(cell.step(W, row[:, None], h, c))
            h, c = steps[-1].h, steps[-1].c
        d_h, d_c, d_x = np.zeros((4, 1)), np.zeros((4, 1)), np.zeros_like(x)
        d_h[unit] = 1.0
        for t in reversed(range(last + 1)):
            d = cell.step_backward(W, steps[t], d_h, d_c)
            d_h, d_c, d_x[t] = d.dh_prev, d.dc_prev, d.dx[:, 0]
        return d_x, steps[last].h[unit, 0]

    nodes, weights = (array / 2 for array in np.polynomial.legendre.leggauss(8))
    total = sum(w * gradient(baseline + (a + 0.5) * (x - baseline))[0] for a, w in zip(nodes, weights, strict=True))
    result = explain.integrated_gradients(lstm, x, output=unit, step=last, baseline=baseline, steps=8)
    np.testing.assert_allclose(result.values, (x - baseline) * total, **TOLERANCE)
    np.testing.assert_allclose(result.output, gradient(x)[1], **TOLERANCE)
    np.testing.assert_allclose(result.baseline_output, gradient(baseline)[1], **TOLERANCE)
    assert not result.values[last + 1 :].any()
    product = explain.gradient_times_input(lstm, x, output=unit, step=last, baseline=baseline)
    np.testing.assert_allclose(product.values, (x - baseline) * gradient(x)[0], **TOLERANCE)


@pytest.mark.filterwarnings("ignore:the completeness error is")
def test_integrated_gradients_equal_those_of_autograd(rng, torch):
    """PyTorch's LSTM with both directions and two layers, differentiated by PyTorch."""
    lstm = with_random_weights(gc.LSTM(I, 4, 2, bidirectional=True, recurrent_bias=True, dtype=np.float64))
    reference = torch.nn.LSTM(I, 4, 2, bidirectional=True, batch_first=True, dtype=torch.float64)
    reference.load_state_dict({name: torch.tensor(array) for name, array in lstm.to_torch().items()})
    x, baseline = rng.normal(size=(2, B, T, I))
    nodes, weights = (array / 2 for array in np.polynomial.legendre.leggauss(8))
    total = np.zeros_like(x)
    for alpha, weight in zip(nodes, weights, strict=True):
        point = torch.tensor(baseline + (alpha + 0.5) * (x - baseline), requires_grad=True)
        reference(point)[0][:, 3, 5].sum().backward()
        total += weight * point.grad.numpy()
    result = explain.integrated_gradients(lstm, x, output=5, step=3, baseline=baseline, steps=8)
    np.testing.assert_allclose(result.values, (x - baseline) * total, rtol=1e-10, atol=1e-12)


@loop_over("kind", FEATURE_MODELS)
def test_gradients_equal_finite_differences(kind, rng):
    model, x = model_of(kind), inputs_of(kind, rng)
    step = None if kind in ("final", "mean", "classifier") else 4
    result = explain.gradient_times_input(model, x, output=1, step=step, baseline=x - 1)
    expected = slope_of(lambda x: value_of(model, x, 1, step), x)
    np.testing.assert_allclose(result.values, expected, atol=1e-7)
    assert np.abs(expected).max() > 1e-3


@loop_over("kind", ALL_MODELS)
def test_attributions_add_up_to_the_difference_of_the_outputs(kind, rng):
    model, x = model_of(kind), inputs_of(kind, rng)
    result = explain.integrated_gradients(model, x, output="sum")
    assert result.values.shape[:2] == (B, T)
    np.testing.assert_allclose(result.by_step, result.values.sum(axis=-1))
    difference = result.output - result.baseline_output
    np.testing.assert_allclose(result.values.sum(axis=(1, 2)), difference, atol=1e-9)
    np.testing.assert_allclose(
        result.completeness_error, np.abs(result.values.sum(axis=(1, 2)) - difference), atol=1e-15
    )
    np.testing.assert_allclose(result.output, model(x).reshape(B, -1).sum(axis=1), **TOLERANCE)
    assert np.abs(difference).max() > 0.01
    assert result.is_complete
    assert (result.method, result.steps) == ("integrated gradients", 64)
    assert explain.gradient_times_input(model, x, output="sum").steps == 1
    assert f"completeness error {result.completeness_error.max():.2g}" in repr(result)


@loop_over("kind", ALL_MODELS)
def test_one_sequence_has_the_attributions_that_it_has_in_a_batch(kind, rng):
    model, x = model_of(kind), inputs_of(kind, rng)
    for function in (explain.integrated_gradients, explain.gradient_times_input):
        batch, single = function(model, x, output="sum"), function(model, x[1], output="sum")
        assert single.values.shape == batch.values.shape[1:]
        for name in ("values", "output", "baseline_output", "by_step", "completeness_error"):
            np.testing.assert_allclose(getattr(single, name), getattr(batch, name)[1], atol=1e-12)


@loop_over("kind", [kind for kind in ALL_MODELS if kind != "convolution"])
def test_a_sequence_in_a_padded_batch_has_the_attributions_that_it_has_alone(kind, rng):
    model, x = model_of(kind), inputs_of(kind, rng)
    lengths = np.array([T, 2, 4, 1 if kind == "mean" else 0])  # no steps have no mean
    result = explain.integrated_gradients(model, x, output="sum", steps=32, lengths=lengths)
    for b, length in enumerate(lengths):
        if not length:
            np.testing.assert_array_equal(result.values[b], 0)
            assert result.completeness_error[b] == 0
            continue
        alone = explain.integrated_gradients(model, x[b, :length], output="sum", steps=32)
        np.testing.assert_allclose(result.values[b, :length], alone.values, atol=1e-12)
        np.testing.assert_array_equal(result.values[b, length:], 0)
        np.testing.assert_allclose(result.output[b], alone.output, atol=1e-12)


def test_values_after_the_end_may_be_anything(rng):
    model, x = model_of("steps"), inputs_of("steps", rng)
    lengths, padded = [3, 6, 1, 4], x.copy()
    for b, length in enumerate(lengths):
        padded[b, length:] = np.nan
    results = [explain.integrated_gradients(model, each, output=0, lengths=lengths) for each in (x, padded)]
    np.testing.assert_array_equal(results[0].values, results[1].values)


def test_the_length_of_a_single_sequence(rng):
    model, x = model_of("steps"), inputs_of("steps", rng, None)
    result = explain.integrated_gradients(model, x, output=0, step=-1, lengths=4)
    alone = explain.integrated_gradients(model, x[:4], output=0, step=-1)
    np.testing.assert_allclose(result.values[:4], alone.values, atol=1e-12)
    assert not result.values[4:].any()


def test_masks_with_gaps_leave_steps_out(rng):
    model, x = model_of("steps"), inputs_of("steps", rng, None)
    mask = np.array([True, False, True, True, False, True])
    result = explain.integrated_gradients(model, x, output=1, step=-2, mask=mask)
    alone = explain.integrated_gradients(model, x[mask], output=1, step=-2)
    np.testing.assert_allclose(result.values[mask], alone.values, atol=1e-12)
    np.testing.assert_array_equal(result.values[~mask], 0)
    same = explain.integrated_gradients(model, x, output=1, step=3, mask=mask)  # the last but one of the valid steps
    np.testing.assert_array_equal(same.values, result.values)


def test_negative_steps_count_from_the_end_of_each_sequence(rng):
    model, x = model_of("steps"), inputs_of("steps", rng)
    lengths = np.array([T, 3, 5, 2])
    last = explain.integrated_gradients(model, x, output=0, step=-1, lengths=lengths)
    each = explain.integrated_gradients(model, x, output=0, step=lengths - 1, lengths=lengths)
    np.testing.assert_array_equal(last.values, each.values)
    np.testing.assert_allclose(last.output, model(x, lengths=lengths)[np.arange(B), lengths - 1, 0], **TOLERANCE)


def test_a_masking_layer_keeps_the_mask_of_x_at_a_baseline_of_zeros(rng):
    """The baseline 0 alone would have no step at all."""
    model, x = model_of("masking"), inputs_of("masking", rng, None)
    x[2] = 0
    result = explain.integrated_gradients(model, x, output=0, step=-1)
    unmasked = gc.Sequential([*map(deepcopy, model.layers[1:])], seed=None)
    expected = explain.integrated_gradients(unmasked, x, output=0, step=-1, mask=(x != 0).any(axis=1))
    np.testing.assert_allclose(result.values, expected.values, **TOLERANCE)
    np.testing.assert_array_equal(result.values[2], 0)


def test_the_difference_is_attributed_within_rounding_if_the_model_is_linear(rng):
    model = gc.Sequential([gc.Linear(I, 2, dtype=np.float64)])
    with_random_weights(model)
    x, baseline = rng.normal(size=(2, B, T, I))
    weight = model.layers[0].parameters["weight"][1]
    expected = np.zeros((B, T, I))
    expected[:, 2] = weight * (x - baseline)[:, 2]
    options = {"output": 1, "step": 2, "baseline": baseline}
    results = [explain.integrated_gradients(model, x, steps=1, **options)]
    results += [explain.gradient_times_input(model, x, **options)]
    results += [explain.occlusion(model, x, replace="value", **options)]
    for result in results:
        np.testing.assert_allclose(result.values, expected, atol=1e-14)
        assert result.completeness_error.max() < 1e-14


# Symbols


@pytest.mark.parametrize("kind", ["ids", "text"])
def test_symbols_have_the_attributions_of_their_vectors(kind, rng):
    model, ids = model_of(kind), inputs_of(kind, rng)
    table = model.layers[0].parameters["weight"].copy()
    rest = gc.Sequential([*map(deepcopy, model.layers[1:])], seed=None)
    other, vectors = rng.integers(0, 7, size=(B, T)), rng.normal(size=3)
    cases = [("zeros", 0.0), (4, table[4]), (other[0], table[other[0]]), (other, table[other]), (vectors, vectors)]
    cases += [("e", table[4]), ("abcdef", table[:6])] if kind == "text" else []
    for baseline, in_vectors in cases:
        result = explain.integrated_gradients(model, ids, output=1, step=-1, baseline=baseline, steps=32)
        expected = explain.integrated_gradients(rest, table[ids], output=1, step=-1, baseline=in_vectors, steps=32)
        np.testing.assert_allclose(result.values, expected.values, **TOLERANCE)


def test_text_is_a_sequence_of_symbols():
    model = model_of("text")
    text = explain.integrated_gradients(model, "badcafe", output=2, step=3)
    ids = explain.integrated_gradients(model, VOCABULARY.encode("badcafe"), output=2, step=3)
    np.testing.assert_array_equal(text.values, ids.values)
    assert text.by_step.shape == (7,)


def test_padding_of_a_mask_zero_embedding_has_no_attribution(rng):
    model = gc.Sequential([gc.Embedding(7, 3, mask_zero=True, dtype=np.float64), gc.LSTM(3, 5, dtype=np.float64)])
    with_random_weights(model)
    ids = np.array([3, 0, 5, 2, 0, 0])
    result = explain.integrated_gradients(model, ids, output=0, step=-1, baseline=1)
    alone = explain.integrated_gradients(model, ids[ids > 0], output=0, step=-1, baseline=1)
    np.testing.assert_allclose(result.values[ids > 0], alone.values, **TOLERANCE)
    np.testing.assert_array_equal(result.values[ids == 0], 0)


def test_bits_of_a_copy_model_are_the_inputs_of_its_task():
    model = with_random_weights(gc.CopyLSTM(5, task=gc.tasks.Copy(3), dtype=np.float64))
    inputs = model.task.make_batch([[[1, 0, 1], [0, 0, 1]]], np.float64).inputs
    bits = explain.integrated_gradients(model, [1, 0, 1], output=0, step=4, baseline=[0, 0, 1])
    expected = explain.integrated_gradients(model, inputs[0], output=0, step=4, baseline=inputs[1])
    np.testing.assert_array_equal(bits.values, expected.values)
    assert not bits.values[1:].any()  # the other bits are equal
    assert bits.values[0, 0]


def test_ids_among_numbers_have_the_attributions_of_their_vectors(rng):
    embedding = layers.FeatureEmbedding(4, {1: (5, 3), 3: (6, 2)}, dtype=np.float64)
    model = gc.Sequential([embedding, gc.LSTM(7, 5, dtype=np.float64), gc.Linear(5, 2, dtype=np.float64)])
    with_random_weights(model)
    rest = gc.Sequential([*map(deepcopy, model.layers[1:])], seed=None)

    def draw(*shape):
        x = rng.normal(size=(*shape, 4))
        x[..., 1], x[..., 3] = rng.integers(0, 5, size=shape), rng.integers(0, 6, size=shape)
        return x

    def by_column(values):
        ends = np.cumsum([1, 3, 1, 2])[:-1]
        return np.stack([part.sum(axis=-1) for part in np.split(values, ends, axis=-1)], axis=-1)

    x, lengths = draw(B, T), np.array([T, 2, 4, 3])
    for baseline in (draw(), draw(T), draw(B, T), "zeros"):
        vectors = 0.0 if isinstance(baseline, str) else embedding(baseline)
        options = {"output": 1, "step": -1, "lengths": lengths}
        result = explain.integrated_gradients(model, x, baseline=baseline, **options)
        expected = explain.integrated_gradients(rest, embedding(x), baseline=vectors, **options)
        assert result.values.shape == x.shape
        np.testing.assert_allclose(result.values, by_column(expected.values), atol=1e-12)
    baseline = draw(B, T)
    effects = explain.occlusion(model, x, output=1, step=4, replace="value", baseline=baseline)
    for t in range(T):
        for column in range(4):
            changed = x.copy()
            changed[:, t, column] = baseline[:, t, column]
            difference = model(x)[:, 4, 1] - model(changed)[:, 4, 1]
            np.testing.assert_allclose(effects.values[:, t, column], difference, atol=1e-12)


# Quantities


def log_softmax(y):
    return y - np.log(np.exp(y).sum(axis=-1, keepdims=True))


def check_quantity(model, x, expected, **options):
    """The value at x, and the gradient by finite differences."""
    result = explain.gradient_times_input(model, x, baseline=x - 1, **options)
    np.testing.assert_allclose(result.output, expected(x), **TOLERANCE)
    np.testing.assert_allclose(result.values, slope_of(expected, x), atol=1e-7)


def test_quantities_of_outputs(rng):
    model, x = model_of("steps"), inputs_of("steps", rng)
    lengths = np.array([T, 2, 4, 3])
    valid = (np.arange(T) < lengths[:, None])[..., None]
    each = np.array([0, 1, 1, 0])
    check_quantity(model, x, lambda x: model(x)[:, 3].sum(axis=-1), output="sum", step=3)
    check_quantity(model, x, lambda x: model(x)[:, :, 1].sum(axis=-1), output=1)
    check_quantity(model, x, lambda x: model(x)[np.arange(B), 3, each], output=each, step=3)
    check_quantity(
        *(model, x, lambda x: (model(x, lengths=lengths) * valid).sum(axis=(1, 2))), output="sum", lengths=lengths
    )
    target = explain.LogProbability(1)
    check_quantity(model, x, lambda x: log_softmax(model(x))[:, 4, 1], output=target, step=4)


def test_the_score_and_the_probability_of_a_label(rng):
    model, x = model_of("classifier"), inputs_of("classifier", rng)
    labels, numbers = ["flat", "up", "up", "down"], [2, 0, 0, 1]
    check_quantity(model, x, lambda x: model(x)[:, 1], output=explain.ClassScore("down"))
    check_quantity(model, x, lambda x: model(x)[np.arange(B), numbers], output=explain.ClassScore(labels))
    check_quantity(model, x, lambda x: log_softmax(model(x))[:, 2], output=explain.LogProbability("flat"))
    per_step = with_random_weights(gc.SequenceClassifier(I, ["up", "down"], 5, per_step=True, dtype=np.float64))
    check_quantity(per_step, x, lambda x: per_step(x)[:, 2, 1], output=explain.ClassScore("down"), step=2)


def test_the_log_probability_of_the_next_symbol(rng):
    model, ids = model_of("text"), inputs_of("text", rng)
    expected = log_softmax(model(ids))
    result = explain.integrated_gradients(model, ids, output=explain.LogProbability(), step=3)
    np.testing.assert_allclose(result.output, expected[np.arange(B), 3, ids[:, 4]], **TOLERANCE)
    np.testing.assert_array_equal(result.values[:, 4:], 0)  # the next symbol itself is not read
    symbol = explain.integrated_gradients(model, ids, output=explain.LogProbability("e"), step=-1)
    np.testing.assert_allclose(symbol.output, expected[:, -1, 4], **TOLERANCE)
    same = explain.integrated_gradients(model, ids, output=explain.LogProbability([4] * B), step=-1)
    np.testing.assert_array_equal(same.values, symbol.values)
    lengths = np.array([6, 3, 1, 5])
    total = explain.integrated_gradients(model, ids, output=explain.LogProbability(), lengths=lengths)
    for b, n in enumerate(lengths):
        np.testing.assert_allclose(total.output[b], expected[b, np.arange(n - 1), ids[b, 1:n]].sum(), **TOLERANCE)
    assert total.completeness_error.max() < 1e-9


def test_a_function_with_its_gradient(rng):
    model, x = model_of("steps"), inputs_of("steps", rng)

    def energy(y):
        return (y**2).sum(axis=(-2, -1)), 2 * y

    check_quantity(model, x, lambda x: energy(model(x))[0], output=energy)
    single = explain.integrated_gradients(model, x[2], output=energy)
    batch = explain.integrated_gradients(model, x, output=energy)
    np.testing.assert_allclose(single.values, batch.values[2], atol=1e-12)
    assert batch.completeness_error.max() < 1e-8


# Baselines


def test_baselines_of_all_shapes_are_the_sequences_that_they_stand_for(rng):
    model, x = model_of("steps"), inputs_of("steps", rng)
    for baseline in (0.0, 0.7, rng.normal(size=I), rng.normal(size=(T, I)), rng.normal(size=(B, T, I))):
        result = explain.integrated_gradients(model, x, output=0, step=2, baseline=baseline)
        full = explain.integrated_gradients(model, x, output=0, step=2, baseline=np.broadcast_to(baseline, x.shape))
        np.testing.assert_array_equal(result.values, full.values)
        expected = model(np.broadcast_to(baseline, x.shape))[:, 2, 0]
        np.testing.assert_allclose(result.baseline_output, expected, **TOLERANCE)
    numbers, x = model_of("numbers"), inputs_of("numbers", rng)
    for baseline in (0.7, rng.normal(size=T), rng.normal(size=(B, T))):
        result = explain.integrated_gradients(numbers, x, output=0, step=2, baseline=baseline)
        expected = numbers(np.broadcast_to(baseline, x.shape))[:, 2]
        np.testing.assert_allclose(result.baseline_output, expected, **TOLERANCE)


def test_the_mean_of_the_data_is_over_valid_steps(rng):
    x, lengths = rng.normal(size=(B, T, I)), np.array([T, 2, 0, 3])
    expected = np.concatenate([x[b, :n] for b, n in enumerate(lengths)]).mean(axis=0)
    padded = np.where((np.arange(T) < lengths[:, None])[..., None], x, 99.0)
    np.testing.assert_allclose(explain.mean_input(padded, lengths=lengths), expected)
    np.testing.assert_allclose(explain.mean_input([x[b, :n] for b, n in enumerate(lengths)]), expected)
    np.testing.assert_allclose(explain.mean_input(x), x.mean(axis=(0, 1)))


# Completeness on trained models, in float32


def assert_complete(result):
    print(result)
    assert result.completeness_error.max() <= 1e-3
    assert np.abs(result.output - result.baseline_output).max() > 0.5


def test_completeness_on_a_trained_copy_model():
    task = gc.tasks.Copy(width=4)
    model = gc.CopyLSTM(hidden_size=8, task=task, seed=0)
    gc.fit(model, task, updates=150, seed=0, progress=False)
    inputs = task.validation_batch().inputs[:16]
    assert_complete(explain.integrated_gradients(model, inputs, output=0, step=6))
    assert_complete(explain.integrated_gradients(model, inputs, output="sum"))


def test_completeness_on_a_trained_bidirectional_classifier_with_lengths(rng):
    lengths = rng.integers(3, 9, 60)
    x = [rng.normal(size=(n, 2)) for n in lengths]
    labels = ["up" if entry.sum() > 0 else "down" for entry in x]
    model = gc.SequenceClassifier(2, ["down", "up"], hidden_size=8, bidirectional=True, seed=0)
    gc.fit(model, (x, labels), updates=100, seed=0, progress=False)
    padded = np.stack([np.pad(entry, [(0, 8 - len(entry)), (0, 0)]) for entry in x])
    options = {"lengths": lengths, "baseline": explain.mean_input(x)}
    assert_complete(explain.integrated_gradients(model, padded, output=explain.ClassScore("up"), **options))
    assert_complete(explain.integrated_gradients(model, padded, output=explain.LogProbability(labels), **options))


def test_completeness_on_a_trained_text_model():
    data = gc.data.TextData("the cat sat on the mat, and the dog sat on the log.\n" * 40, steps=8, streams=8)
    model = gc.LanguageModel(data.vocabulary, embedding_size=8, hidden_size=16, num_layers=1, seed=0)
    gc.fit(model, data, epochs=6, seed=0, progress=False)
    text = "the dog sat on the mat"
    assert_complete(explain.integrated_gradients(model, text, output=explain.LogProbability(), step=-2))
    assert_complete(explain.integrated_gradients(model, text, output=explain.LogProbability(), baseline=" "))


def test_the_bound_of_the_error_is_relative_to_large_differences():
    def attribution(total, output, baseline):
        ends = np.array([output]), np.array([baseline])
        return explain.Attribution(np.full((1, 1, 1), total), *ends, "integrated gradients", 64)

    assert attribution(999.5, 500.0, -500.0).is_complete
    assert not attribution(998.5, 500.0, -500.0).is_complete
    assert not attribution(0.5, 500.0, 500.0).is_complete
    assert attribution(0.0009, 500.0, 500.0).is_complete
    assert not attribution(0.0011, 500.0, 500.0).is_complete


def test_too_few_points_raise_a_warning():
    model, x = model_of("steps"), np.full((T, I), 30.0)
    with pytest.warns(RuntimeWarning, match=r"completeness error is [\d.e-]+ with steps=2: pass more steps"):
        result = explain.integrated_gradients(model, x, output="sum", steps=2)
    assert not result.is_complete
    assert "above 1e-3" in repr(result)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not explain.gradient_times_input(model, x, output="sum").is_complete


def test_attributions_under_an_intervention_are_those_of_the_changed_model(rng):
    model, x = model_of("stacked"), inputs_of("stacked", rng)
    plain = explain.integrated_gradients(model, x, output=0, step=-1)
    with explain.intervene(model, explain.Intervention("f", scale=0.5)):
        result = explain.integrated_gradients(model, x, output=0, step=-1)
        np.testing.assert_allclose(result.output, model(x)[:, -1, 0], **TOLERANCE)
        effects = explain.occlusion(model, x, output=0, step=-1)
        np.testing.assert_allclose(effects.baseline_output, model(np.zeros_like(x))[:, -1, 0], **TOLERANCE)
    assert result.completeness_error.max() < 1e-9
    assert np.abs(result.values - plain.values).max() > 1e-3
