"""Laws: a linear readout tells a label at exactly the steps at which cells hold it, and no shuffled labels."""

import numpy as np
import pytest
from case_loops import loop_over
from known_models import LATCHED, T

import glasscell as gc
from glasscell.explain import decodability
from glasscell.explain.samples import read_samples, split_halves


def test_bits_are_decodable_at_exactly_the_steps_at_which_a_cell_holds_them(latch):
    result = decodability(latch.model, latch.x, latch.bits)
    held = np.eye(T, dtype=bool)
    held[LATCHED, LATCHED:] = True
    assert result.r2.shape == (T, T)
    np.testing.assert_allclose(result.r2[held], 1, rtol=0, atol=1e-5)
    assert (result.accuracy[held] == 1).all()
    assert result.r2[~held].max() < 0.05
    assert result.accuracy[~held].max() < 0.75
    assert result.labels == tuple(f"label {k}" for k in range(T))
    assert (result.symbol, result.layer, result.source) == ("c", "l0", "64 sequences that were passed")


def test_halves_are_disjoint_and_scores_are_those_of_each_half(latch):
    result = decodability(latch.model, latch.x, latch.bits, ridge=1e-9)
    assert sorted([*result.fitted, *result.scored]) == list(range(64))
    assert abs(len(result.fitted) - len(result.scored)) <= 1
    cells = latch.model.trace(latch.x).layer[0].c[:, 3]
    y = latch.bits[:, 4].astype(float)
    design = np.column_stack([cells, np.ones(64)])
    fitted, scored = result.fitted, result.scored
    weights = np.linalg.lstsq(design[fitted], y[fitted], rcond=None)[0]
    for half, r2, accuracy in (
        (scored, result.r2, result.accuracy),
        (fitted, result.fitted_r2, result.fitted_accuracy),
    ):
        predicted = design[half] @ weights
        expected = 1 - ((y[half] - predicted) ** 2).sum() / ((y[half] - y[fitted].mean()) ** 2).sum()
        assert r2[4, 3] == pytest.approx(expected, abs=1e-7)
        assert accuracy[4, 3] == ((predicted > 0.5) == y[half]).mean()
    assert result.chance[4, 3] == max(y[scored].mean(), 1 - y[scored].mean())


@pytest.mark.parametrize(("k", "t"), [(0, 7), (1, 6), (2, 4), (3, 8)])
def test_the_penalty_is_chosen_by_fits_without_one_sequence_each(trained, k, t):
    """The largest one whose mean error is within one standard error of the smallest."""
    result = decodability(trained, trained.task)
    samples = read_samples(trained, trained.task, None, None, None, needs_labels=True)
    cells = trained.trace(samples.inputs).layer[0].c[result.fitted, t].astype(float)
    y = samples.labels[k].values[result.fitted].astype(float)
    n, H = cells.shape
    X = np.column_stack([cells - cells.mean(axis=0), np.ones(n)])  # of all: one centre for the readouts and the penalty
    scale, errors = np.square(X[:, :-1]).sum() / H, {}
    for ridge in (1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1000.0, np.inf):
        errors[ridge] = np.zeros(n)
        for left_out in range(n):
            others = np.arange(n) != left_out
            predicted = y[others].mean()
            if np.isfinite(ridge):
                penalty = np.diag([ridge * scale] * H + [0.0])
                weights = np.linalg.solve(X[others].T @ X[others] + penalty, X[others].T @ y[others])
                predicted = X[left_out] @ weights
            errors[ridge][left_out] = (y[left_out] - predicted) ** 2
    best = min(errors, key=lambda ridge: errors[ridge].mean())
    excess = {ridge: each - errors[best] for ridge, each in errors.items()}
    near = [ridge for ridge, each in excess.items() if each.mean() <= each.std() / np.sqrt(n)]
    assert result.ridge[k, t] == pytest.approx(max(near))


def test_shuffled_labels_are_not_decodable(trained, rng):
    labels = np.stack([rng.permutation(np.arange(16) % 2) for _ in range(40)], axis=1)
    result = decodability(trained, trained.task, labels)
    assert result.r2.mean() < 0.02
    assert abs(result.accuracy.mean() - 0.5) < 0.1


def test_results_do_not_depend_on_the_order_of_the_sequences(trained, rng):
    samples = read_samples(trained, trained.task, None, None, None, needs_labels=True)
    bits = np.stack([label.values for label in samples.labels], axis=1)
    order = rng.permutation(16)
    first = decodability(trained, samples.inputs, bits, seed=3)
    second = decodability(trained, samples.inputs[order], bits[order], seed=3)
    np.testing.assert_array_equal(order[second.fitted].tolist(), order[second.fitted])
    assert set(order[second.fitted]) == set(first.fitted)
    np.testing.assert_allclose(second.r2, first.r2, atol=1e-4)
    np.testing.assert_array_equal(second.accuracy, first.accuracy)


def test_equal_sequences_are_in_one_half(latch):
    twice = np.concatenate([latch.x, latch.x])
    samples = read_samples(latch.model, twice, np.tile(latch.bits[:, 0], 2), None, None, needs_labels=True)
    halves = split_halves(samples, 0)
    assert set(halves.fitted % 64).isdisjoint(halves.scored % 64)
    others = split_halves(samples, 1)
    assert set(others.fitted) != set(halves.fitted)


def test_numbers_and_many_classes(latch):
    value = latch.x[:, LATCHED, 0] * 0.3 + 5
    kind = np.array(["low", "high"])[latch.bits[:, LATCHED]] + np.array(["", "er"], object)[latch.bits[:, 3]]
    result = decodability(latch.model, latch.x, {"value": value, "kind": kind})
    assert result.labels == ("value", "kind")
    np.testing.assert_allclose(result.r2[0, LATCHED:], 1, atol=1e-5)
    assert np.isnan(result.accuracy[0]).all()
    assert np.isnan(result.chance[0]).all()
    assert result.accuracy[1, 3] == 1  # unit 0 has one bit, and unit 1 the other
    assert result.r2[1, 3] > 0.6
    assert result.accuracy[1, 1] < 0.5


def test_labels_of_steps_are_decoded_at_their_step(latch):
    """Unit 1 holds the bit of the current step, and no unit that of the step before."""
    previous = np.roll(latch.bits, 1, axis=1)
    lengths = np.where(latch.bits[:, 0] + latch.bits[:, 3] == 2, 4, 6)
    padded = np.where(np.arange(T) < lengths[:, None], latch.bits, 9)  # not a third class
    result = decodability(latch.model, latch.x, {"now": padded, "before": previous}, lengths=lengths)
    np.testing.assert_allclose(result.r2[0], 1, atol=1e-5)
    assert (result.accuracy[0] == 1).all()
    assert result.r2[1, [1, 2, 4]].max() < 0.3
    assert result.r2[1, LATCHED + 1] > 0.999
    both = decodability(latch.model, latch.x, np.stack([latch.bits, previous], axis=2), lengths=lengths)
    np.testing.assert_array_equal(both.r2, result.r2)
    assert both.labels == ("label 0", "label 1")
    numbers = decodability(latch.model, latch.x, {"now": latch.x[..., 0] * 2.5})
    np.testing.assert_allclose(numbers.r2, 1, atol=1e-5)
    assert np.isnan(numbers.chance).all()


def test_steps_after_the_end_of_sequences_do_not_count(latch):
    lengths = np.where(latch.bits[:, 0] == 1, 6, 4)
    result = decodability(latch.model, latch.x, latch.bits[:, [0, LATCHED]], lengths=lengths)
    assert np.isnan(result.r2[0, 4:]).all()  # the sequences that are left are of one class
    assert not np.isnan(result.r2[0, :4]).any()
    np.testing.assert_allclose(result.r2[1, LATCHED:], 1, atol=1e-5)
    other = latch.x.copy()
    other[lengths == 4, 4:] = 7.0
    again = decodability(latch.model, [row[:n] for row, n in zip(other, lengths, strict=True)], latch.bits[:, [0, 2]])
    np.testing.assert_array_equal(again.r2, result.r2)


def test_any_symbol_layer_direction_and_model(rng):
    lstm = gc.LSTM(3, 4, 2, bidirectional=True, seed=1)
    x, labels = rng.normal(size=(20, 5, 3)), np.arange(20) % 2
    whole = decodability(lstm, x, labels, batch_size=7)
    assert whole.layer == "l1_reverse"
    assert decodability(lstm, x, labels, symbol="z_f", layer=0).symbol == "z_f"
    np.testing.assert_allclose(whole.r2, decodability(lstm, x, labels, layer=3).r2, atol=1e-5)
    two = gc.Sequential([gc.LSTM(3, 4), gc.LSTM(4, 2)], names=["first", "second"])
    assert [decodability(two, x, labels, layer=k).layer for k in (0, -1)] == ["first l0", "second l0"]
    for layer in (gc.GRU(3, 4, seed=0), gc.RNN(3, 4, seed=0)):
        assert decodability(layer, x, labels).symbol == "h"
    classifier = gc.SequenceClassifier(3, 2, 4)
    assert decodability(classifier, x, labels).r2.shape == (1, 5)


def test_tasks_never_provide_training_sequences_unless_all_are_asked_for(trained):
    held_out = decodability(gc.CopyLSTM(8), gc.tasks.Copy(width=8), which="held_out")
    assert held_out.source == "51 held-out inputs of Copy(width=8) that training never draws"
    assert decodability(trained, trained.task).source == "all 16 inputs of Copy(width=4), with those of training"
    largest = read_samples(trained, gc.tasks.Copy(width=12), None, None, None, needs_labels=True)
    assert largest.source == "all 4096 inputs of Copy(width=12), with those of training"
    assert len(np.unique(largest.inputs, axis=0)) == 4096
    wide = gc.tasks.Copy(width=20)
    samples = read_samples(trained, wide, None, None, None, needs_labels=True)
    assert len(samples) == 4096
    bits = (samples.inputs[:, :20, 0] > 0).astype(int)
    assert wide.is_held_out(bits @ (1 << np.arange(20)[::-1])).all()
    adding = gc.tasks.Adding(min_length=20)
    samples = read_samples(gc.LSTM(2, 3), adding, None, None, None, needs_labels=True)
    np.testing.assert_array_equal(samples.inputs, adding.test_batch().inputs)
    assert samples.labels[0].classes == ()
    order = read_samples(gc.LSTM(8, 3), gc.tasks.TemporalOrder(), None, None, None, needs_labels=True)
    assert order.labels[0].classes == (0, 1, 2, 3)


def test_bits_of_several_in_a_step_have_their_places(rng):
    task = gc.tasks.Copy(width=6, bits_per_step=2)
    samples = read_samples(gc.LSTM(3, 2), task, None, None, None, needs_labels=True)
    for k, (step, feature) in enumerate(samples.input_places):
        np.testing.assert_array_equal(samples.inputs[:, step, feature] > 0, samples.labels[k].values)
    batch = task.make_batch([gc.tasks.binary.encode(np.arange(64), 6)])
    for k, (step, feature) in enumerate(samples.output_places):
        np.testing.assert_array_equal(batch.targets[:, step, feature], samples.labels[k].values)


def test_bits_have_the_steps_of_their_inputs_and_answers(trained):
    for function in (decodability, gc.explain.unit_differences):
        result = function(trained, trained.task)
        assert (result.input_steps, result.output_steps) == ((0, 1, 2, 3), (5, 6, 7, 8))
        other = function(trained, trained.task, np.arange(16) % 2)
        assert (other.input_steps, other.output_steps) == ((), ())
    pairs = decodability(gc.LSTM(3, 4), gc.tasks.Copy(width=6, bits_per_step=2))
    assert (pairs.input_steps, pairs.output_steps) == ((0, 0, 1, 1, 2, 2), (4, 4, 5, 5, 6, 6))
    echo = decodability(gc.LSTM(2, 4), gc.tasks.Copy(width=4, mode="echo"))
    assert echo.output_steps == echo.input_steps == (0, 1, 2, 3)


def test_a_trained_model_holds_each_bit_until_it_is_read(trained):
    result = decodability(trained, trained.task)
    for k in range(4):
        assert result.accuracy[k, k] == 1
        assert result.accuracy[k, 5 + k] >= 0.75
        assert result.r2[k, :k].max(initial=0) < 0.2


@loop_over(
    ("arguments", "message"),
    [
        ({"labels": np.zeros(64, int)}, "at least two classes, got a data set with one class in 'label'"),
        ({"labels": np.full(64, 1.5)}, "different values, got 1.5 everywhere in 'label'"),
        (
            {"labels": np.arange(63)},
            r"shape \(N,\), \(N, K\) or \(N, T, K\) for N = 64 sequences of T = 6 steps, got \(63,\)",
        ),
        (
            {"labels": {"a": np.arange(3)}},
            r"shape \(N,\) or \(N, T\) for N = 64 sequences of T = 6 steps, got \(3,\) for 'a'",
        ),
        ({"labels": [[0], [1, 2]] * 32}, "labels must be an array, got rows of different lengths"),
        ({"labels": np.ma.masked_less(np.arange(64.0), 3)}, "labels must have no masked values, got 3"),
        ({"labels": {}}, "at least one, got none"),
        ({"labels": None}, "labels must be passed"),
        ({"labels": np.r_[np.nan, np.arange(63.0)]}, "must be finite"),
        ({"labels": np.r_[1, np.zeros(63, int)]}, "two classes or values in each half, got one in a half of 32"),
        ({"symbol": "q"}, "symbol must be one of .* got 'q'"),
        ({"layer": 1}, "layer must be from -1 to 0, the number of one of l0, got 1"),
        ({"ridge": 0}, "ridge must be finite and above 0, got 0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"which": "all"}, "which must be None unless x is a task, got 'all'"),
        ({"lengths": [3] * 5}, "lengths must be 64 integers from 0 to T = 6"),
        ({"x": np.arange(384.0).reshape(64, 6)}, "x must have shape"),
        ({"x": np.zeros((64, 0, 2))}, "at least one sequence, step and feature"),
        ({"x": np.zeros((64, 6, 2))}, "at least 4 different sequences, got 1"),
    ],
)
def test_values_that_do_not_fit_are_one_clear_error(latch, arguments, message):
    options = {"x": latch.x, "labels": latch.bits[:, 0]} | arguments
    with pytest.raises(ValueError, match=message):
        decodability(latch.model, options.pop("x"), **options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": np.array([None] * 64)}, "numbers, integers, truth values or text, got dtype object"),
        ({"symbol": 3}, "symbol must be a str, got 3"),
        ({"layer": "l0"}, "layer must be an integer, got 'l0'"),
        ({"x": "text"}, "x must be sequences, got a text"),
        ({"model": object()}, "model must be a layer or model with a forward pass, got an object"),
    ],
)
def test_types_that_do_not_fit_are_one_clear_error(latch, arguments, message):
    options = {"model": latch.model, "x": latch.x, "labels": latch.bits[:, 0]} | arguments
    with pytest.raises(TypeError, match=message):
        decodability(options.pop("model"), options.pop("x"), **options)


def test_tasks_and_models_that_do_not_fit_are_one_clear_error(trained):
    with pytest.raises(ValueError, match="'held_out' for more than 12 bits, got 'all' of 20"):
        decodability(trained, gc.tasks.Copy(width=20), which="all")
    with pytest.raises(ValueError, match="which must be one of None, 'held_out', got 'all'"):
        decodability(gc.LSTM(2, 3), gc.tasks.Adding(20), which="all")
    with pytest.raises(ValueError, match="labels must be passed: only tasks with one target per sequence, and Copy"):
        decodability(gc.LSTM(7, 3), gc.tasks.EmbeddedReber())
    with pytest.raises(ValueError, match="lengths must be None for a task"):
        decodability(trained, trained.task, lengths=[3])
    with pytest.raises(ValueError, match="must have a layer that can be traced"):
        decodability(gc.Sequential([gc.Linear(2, 2)]), np.arange(8.0).reshape(4, 1, 2), np.arange(4) * 0.5)
