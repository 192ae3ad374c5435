"""Law: one loop trains every model on every source of data, as a loop by hand would."""

import copy

import numpy as np
import pytest
from case_loops import loop_over

import glasscell as gc
from glasscell.core.buffers import BufferPool
from glasscell.core.losses import categorical_cross_entropy, squared_error
from glasscell.data import ArrayData, Batch, ContinuousData
from glasscell.layers import Dropout, FinalState, Pool, Squeeze

LOSS, CLASSES = "squared_error", "categorical_cross_entropy"


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def regressor(seed=0, **options):
    return gc.Sequential([gc.LSTM(3, 8, dtype=np.float64), gc.Linear(8, 2, dtype=np.float64)], seed=seed, **options)


def regression(rng, N=12, T=6):
    """Running means of the inputs, at every step."""
    x = rng.normal(size=(N, T, 3))
    return x, np.cumsum(x, axis=1)[..., :2] / np.arange(1, T + 1)[:, None]


def ragged(rng, N=40):
    """Sequences of 3 to 9 steps; the class is the sign of the first feature's sum."""
    x = [rng.normal(size=(int(T), 2)) for T in rng.integers(3, 10, N)]
    return x, np.array([int(s[:, 0].sum() > 0) for s in x])


def classifier(hidden_size=8, dtype=np.float64):
    lstm = gc.LSTM(2, hidden_size, bidirectional=True, dtype=dtype)
    return gc.Sequential([lstm, FinalState(), gc.Linear(2 * hidden_size, 2, dtype=dtype)])


# It learns


def test_a_regressor_learns(rng):
    x, y = regression(rng, N=64)
    model = regressor()
    history = gc.fit(
        model, (x, y), epochs=60, loss=LOSS, metrics=["mean_absolute_error"], validation=0.25, optimizer=gc.Adam(0.02)
    )
    scores = history["validation_loss"]
    assert scores[-1] < 0.2 * scores[~np.isnan(scores)][0]
    assert np.abs(model.predict(x[-16:]) - y[-16:]).mean() == pytest.approx(
        history["validation_mean_absolute_error"][-1]
    )


def test_a_ragged_bidirectional_classifier_learns(rng):
    x, y = ragged(rng, 200)
    model = classifier(dtype=np.float32)
    history = gc.fit(
        model, (x, y), epochs=30, loss=CLASSES, metrics=["accuracy"], validation=0.2, optimizer=gc.Adam(0.02)
    )
    assert history["validation_accuracy"][-1] >= 0.85
    assert (model.predict(x[160:]).argmax(axis=-1) == y[160:]).mean() == pytest.approx(
        history["validation_accuracy"][-1]
    )


def test_a_language_model_learns_with_carried_state_and_dropout():
    """The text repeats after 12 symbols: windows of 4 know the next one only from the carried state."""
    text = np.tile([0, 1, 2, 0, 1, 3, 0, 2, 1, 0, 3, 3], 60)
    layers = [gc.Embedding(4, 8), gc.LSTM(8, 24, num_layers=2, dropout=0.1), Dropout(0.1), gc.Linear(24, 4)]
    model = gc.Sequential(layers)
    data = ContinuousData(text, steps=4, validation=text[:121])
    history = gc.fit(
        model, data, 500, loss=CLASSES, metrics=["accuracy"], batch_size=4, optimizer=gc.Adam(0.02), clip_norm=1.0
    )
    assert history["validation_accuracy"][-1] > 0.95
    logits = model(text[None, :24])
    assert (logits[0, 12:-1].argmax(axis=-1) == text[13:24]).mean() > 0.9


def test_a_lone_lstm_learns(rng):
    x, model = rng.normal(size=(16, 5, 3)), gc.LSTM(3, 4, dtype=np.float64)
    y = gc.LSTM(3, 4, dtype=np.float64, seed=5)(x)
    history = gc.fit(model, (x, y), 200, loss=LOSS, optimizer=gc.Adam(0.03))
    assert history["loss"][-1] < 0.1 * history["loss"][0]


# It is a loop by hand


@pytest.mark.parametrize("clip_norm", [None, 0.1])
def test_an_update_is_batch_gradient_clip_and_step(clip_norm, rng):
    x, y = regression(rng)
    model, by_hand, optimizer = regressor(), regressor(), gc.Adam(0.01)
    history = gc.fit(model, (x, y), epochs=3, loss=LOSS, batch_size=5, optimizer=optimizer, clip_norm=clip_norm, seed=3)
    order, vector = np.random.default_rng(3), by_hand.parameters.vector
    state, losses = optimizer.init_state(vector), []
    for _ in range(3):
        rows = order.permutation(12)
        for group in (rows[:5], rows[5:10], rows[10:]):
            outputs, _, tape = by_hand.forward(x[group])
            loss, d_outputs = squared_error(outputs, y[group])
            gradient = by_hand.backward(tape, d_outputs)[2].vector
            norm = np.linalg.norm(gradient)
            if clip_norm and norm > clip_norm:
                gradient *= clip_norm / (norm + 1e-6)
            optimizer.update(vector, gradient, state)
            losses.append(loss)
    np.testing.assert_allclose(history["loss"], losses, rtol=1e-12)
    np.testing.assert_allclose(model.parameters.vector, vector, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(history["epoch"], np.repeat([1, 2, 3], 3))


def test_dropout_is_active_in_training_only(rng):
    x, y = regression(rng)
    model = gc.Sequential([gc.LSTM(3, 8), Dropout(0.5), gc.Linear(8, 2)])
    history = gc.fit(model, (x, y), 4, loss=LOSS, validation=(x, y), batch_size=12, optimizer=gc.SGD(0.0))
    assert len(set(history["loss"])) == 4
    scores = history["validation_loss"]
    assert len(set(scores[~np.isnan(scores)])) == 1


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_windows_carry_the_state(steps, rng):
    """With a learning rate of 0, the windows of a batch have the loss of the whole."""
    x, y = regression(rng, T=4)
    model, count = regressor(), 4 // steps
    history = gc.fit(model, (x, y), count, loss=LOSS, batch_size=12, tbptt_steps=steps, optimizer=gc.SGD(0.0))
    assert history["loss"].mean() == pytest.approx(squared_error(model(x), y)[0], rel=1e-12)


def test_continuous_batches_carry_the_state(rng):
    x, y = rng.normal(size=(30, 3)), rng.normal(size=(30, 2))
    data, model = ContinuousData(x, y, steps=5, validation=(x, y)), regressor()
    history = gc.fit(model, data, 1, loss=LOSS, batch_size=3, optimizer=gc.SGD(0.0))
    outputs = model(x.reshape(3, 10, 3))
    assert history["validation_loss"][-1] == pytest.approx(squared_error(outputs, y.reshape(3, 10, 2))[0], rel=1e-12)


def test_accumulated_batches_are_one_large_batch(rng):
    x, y = ragged(rng, 24)
    small, large = classifier(), classifier()
    gc.fit(small, (x, y), 2, loss=CLASSES, batch_size=8, accumulate=3, optimizer=gc.SGD(0.3), clip_norm=None)
    gc.fit(large, (x, y), 2, loss=CLASSES, batch_size=24, optimizer=gc.SGD(0.3), clip_norm=None)
    np.testing.assert_allclose(small.parameters.vector, large.parameters.vector, rtol=1e-9, atol=1e-12)


# Data


def test_an_epoch_has_every_sequence_once_and_similar_lengths_together(rng):
    x = [np.full((int(T), 1), n) for n, T in enumerate(rng.integers(1, 50, 203))]
    data, padding, seen = ArrayData(x, np.arange(203)), 0, []
    for batch in data.batches(8, rng, np.float32):
        T = batch.inputs.shape[1]
        lengths = np.full(len(batch.inputs), T) if batch.lengths is None else batch.lengths
        padding += (T - lengths).sum()
        seen += list(batch.targets)
        assert (batch.inputs[np.arange(T) >= lengths[:, None]] == 0).all()
    assert sorted(seen) == list(range(203))
    assert padding < 0.1 * sum(map(len, x))


def test_ragged_targets_at_every_step_exclude_the_padding(rng):
    lengths = [2, 5, 3]
    x, y = ([rng.normal(size=(T, size)) for T in lengths] for size in (3, 2))
    model = regressor()
    history = gc.fit(model, (x, y), 1, loss=LOSS, validation=(x, y), optimizer=gc.SGD(0.0))
    errors = np.concatenate([(model(one) - target).ravel() for one, target in zip(x, y, strict=True)])
    assert history["loss"][0] == pytest.approx(np.square(errors).mean(), rel=1e-12)
    assert history["validation_loss"][0] == pytest.approx(np.square(errors).mean(), rel=1e-12)


def test_scores_are_averaged_exactly_over_batches(rng):
    x, y = ragged(rng, 23)
    scores = []
    for size in (4, 23):
        model = classifier()
        history = gc.fit(
            model, (x, y), 1, loss=CLASSES, metrics=["accuracy"], validation=(x, y), batch_size=size,
            optimizer=gc.SGD(0.0),
        )  # fmt: skip
        scores.append([history["validation_loss"][0], history["validation_accuracy"][0]])
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-12)


def test_sample_weights_count(rng):
    x, y = ragged(rng, 10)
    weights = rng.uniform(size=10)
    model = classifier()
    data = ArrayData(x, y, sample_weights=weights)
    history = gc.fit(model, data, 1, loss=CLASSES, batch_size=10, optimizer=gc.SGD(0.0))
    losses = [categorical_cross_entropy(model(one[None]), y[n : n + 1])[0] for n, one in enumerate(x)]
    assert history["loss"][0] == pytest.approx(np.average(losses, weights=weights), rel=1e-12)


def test_a_dataloader_of_pytorch_is_taken_as_it_is(rng, torch):
    x, y = regression(rng)
    loader = torch.utils.data.DataLoader(list(zip(x, y, strict=True)), batch_size=5)
    model, same = regressor(), regressor()
    history = gc.fit(model, loader, epochs=2, loss=LOSS)
    batches = [(x[k : k + 5], y[k : k + 5]) for k in (0, 5, 10)]
    assert gc.fit(same, batches, epochs=2, loss=LOSS) == history
    assert history.updates == 6
    np.testing.assert_array_equal(model.parameters.vector, same.parameters.vector)


def test_lengths_of_an_iterable_hide_the_padding(rng):
    x, y, lengths = rng.normal(size=(3, 6, 2)), np.array([0, 1, 1]), np.array([6, 2, 4])
    other = x.copy()
    other[1, 2:], other[2, 4:] = 9.0, -9.0
    histories = [gc.fit(classifier(), [(inputs, y, lengths)], 3, loss=CLASSES) for inputs in (x, other)]
    assert histories[0] == histories[1]


def test_padding_does_not_count_for_a_model_with_a_number_per_step(rng):
    x, y, lengths = rng.normal(size=(5, 6, 3)), rng.normal(size=(5, 6)), np.array([6, 1, 4, 2, 3])
    model = gc.Sequential([gc.GRU(3, 1, dtype=np.float64), Squeeze()])
    valid = np.arange(6) < lengths[:, None]
    expected = squared_error(model(x, lengths=lengths), y, valid.astype(float))[0]
    lists = [a[:T] for a, T in zip(x, lengths, strict=True)], [a[:T] for a, T in zip(y, lengths, strict=True)]
    weighted = ArrayData(x, y, lengths=lengths, sample_weights=np.full(5, 2.0))
    for data in ((x, y, lengths), [(x, y, lengths)], lists, weighted):
        options = {"loss": LOSS, "optimizer": gc.SGD(1e-12), "metrics": ["mean_squared_error"]}
        row = gc.fit(copy.deepcopy(model), data, 1, validation=(x, y, lengths), **options).rows[0]
        assert row["loss"] == pytest.approx(expected, rel=1e-9)
        assert row["validation_loss"] == pytest.approx(expected, rel=1e-9)
        assert row["validation_mean_squared_error"] == pytest.approx(
            ((model(x, lengths=lengths) - y)[valid] ** 2).mean(), rel=1e-9
        )


def test_predict_is_the_model_on_each_sequence(rng):
    x, _ = ragged(rng, 11)
    model = classifier()
    np.testing.assert_allclose(model.predict(x, batch_size=4), [model(one) for one in x], rtol=1e-12)
    at_every_step = regressor()
    sequences = [rng.normal(size=(T, 3)) for T in (4, 1, 6)]
    for y, one in zip(at_every_step.predict(sequences, batch_size=2), sequences, strict=True):
        np.testing.assert_allclose(y, at_every_step(one), rtol=1e-12)


# Ending, freezing, groups


def test_early_stopping_restores_the_best_weights(rng):
    x, y = regression(rng, N=6)
    noise = rng.normal(size=(6, 6, 2))
    model, seen = regressor(), {}
    history = gc.fit(
        model, (x, noise), 400, loss=LOSS, validation=(x, y), patience=3, evaluate_every=1, optimizer=gc.Adam(0.05),
        callbacks=[lambda state: seen.update({state.history.updates: model.parameters.vector.copy()})],
    )  # fmt: skip
    scores = history["validation_loss"]
    assert history.stopped_early
    assert history.best_update == scores.argmin() + 1 == history.updates - 3
    np.testing.assert_array_equal(model.parameters.vector, seen[history.best_update])


def test_frozen_parameters_stay_and_do_not_count_in_the_norm(rng):
    x, y = regression(rng)
    model, before = regressor(), regressor()
    gc.fit(model, (x, y), 3, loss=LOSS, trainable=["1.*"], optimizer=gc.AdamW(0.1))
    for name, array in model.parameters.items():
        assert (array != before.parameters[name]).any() == name.startswith("1.")


def test_groups_have_their_own_learning_rate(rng):
    x, y = regression(rng)
    model, plain, before = regressor(), regressor(), regressor().parameters.vector
    options = {"loss": LOSS, "optimizer": gc.SGD(0.1), "clip_norm": None}
    gc.fit(model, (x, y), 1, learning_rates={"0.*": 0.25}, **options)
    gc.fit(plain, (x, y), 1, **options)
    moved, whole = model.parameters.vector - before, plain.parameters.vector - before
    size = model.layers[0].parameters.vector.size
    np.testing.assert_allclose(moved[:size], whole[:size] / 4, rtol=1e-9, atol=1e-15)
    np.testing.assert_array_equal(moved[size:], whole[size:])


# Gradients of the protocol


NAMES = ("regressor", "classifier", "pooled", "ids", "masked ids")


def protocol_models():
    sizes = {"dtype": np.float64}
    yield "regressor", [gc.LSTM(3, 4, 2, **sizes), gc.Linear(4, 2, **sizes)]
    yield "classifier", [gc.LSTM(3, 4, bidirectional=True, **sizes), FinalState(), gc.Linear(8, 2, **sizes)]
    yield "pooled", [gc.Linear(3, 4, **sizes), gc.LSTM(4, 3, reverse=True, **sizes), Pool(), gc.Linear(3, 2, **sizes)]
    yield "ids", [gc.Embedding(5, 3, **sizes), gc.LSTM(3, 4, **sizes), Dropout(0.3), gc.Linear(4, 2, **sizes)]
    yield "masked ids", [gc.Embedding(5, 3, mask_zero=True, **sizes), gc.LSTM(3, 4, **sizes), gc.Linear(4, 2, **sizes)]


@loop_over(("name", "layers"), list(protocol_models()), ids=NAMES)
@loop_over("lengths", [None, [5, 2, 4]], ids=["whole", "ragged"])
def test_gradients_of_the_protocol_are_finite_differences(name, layers, lengths, rng):
    model = gc.Sequential(copy.deepcopy(layers))
    model.parameters.vector[:] = rng.normal(scale=0.5, size=model.parameters.vector.size)
    x = rng.integers(1, 5, (3, 5)) if "ids" in name else rng.normal(size=(3, 5, 3))
    batch = Batch(x, x, lengths=None if lengths is None else np.array(lengths))
    outputs, _, tape = model.train_forward(batch, None, BufferPool(), np.random.default_rng(1))
    d_outputs = rng.normal(size=outputs.shape)
    gradients = model.parameters.zeros_like()
    model.train_backward(tape, d_outputs, gradients, BufferPool())

    def loss():
        return np.vdot(d_outputs, model.train_forward(batch, None, BufferPool(), np.random.default_rng(1)).outputs)

    vector, found = model.parameters.vector, np.empty_like(gradients.vector)
    for k in range(len(vector)):
        value, losses = vector[k], []
        for step in (1e-3, -1e-3, 2e-3, -2e-3):
            vector[k] = value + step
            losses.append(loss())
        vector[k] = value
        found[k] = (8 * (losses[0] - losses[1]) - (losses[2] - losses[3])) / 12e-3
    assert np.linalg.norm(gradients.vector - found) <= 1e-8 * np.linalg.norm(found)
    np.testing.assert_allclose(
        model.infer(batch, None, BufferPool()).outputs, model(x, lengths=lengths), rtol=1e-12, atol=1e-14
    )


def test_a_mask_removes_steps_and_their_targets(rng):
    """Data with gaps train as the same sequences without them, which is how layers skip invalid steps."""
    x, y, mask = rng.normal(size=(4, 6, 3)), rng.normal(size=(4, 6, 2)), rng.random((4, 6)) < 0.6
    mask[:, 2] = True
    model, same = regressor(), regressor()
    history = gc.fit(model, ArrayData(x, y, mask=mask), 3, loss=LOSS)
    rows = [(sequence[valid], target[valid]) for sequence, target, valid in zip(x, y, mask, strict=True)]
    assert gc.fit(same, tuple(zip(*rows, strict=True)), 3, loss=LOSS) == history
    loss = squared_error(regressor()(x, mask=mask), y, mask[..., None].astype(float))[0]
    assert history["loss"][0] == pytest.approx(loss, rel=1e-12)


def test_lengths_are_the_third_entry_of_arrays(rng):
    x, y, lengths = rng.normal(size=(3, 6, 2)), np.array([0, 1, 1]), np.array([6, 2, 4])
    sequences = [sequence[:length] for sequence, length in zip(x, lengths, strict=True)]
    pairs = [(x, y, lengths), (sequences, y)]
    histories = [gc.fit(classifier(), data, 3, loss=CLASSES, validation=data) for data in pairs]
    assert histories[0] == histories[1]


def test_scores_are_averaged_exactly_over_batches_of_an_iterable(rng):
    """Five validation batches of different sizes and lengths have the scores of their sequences together."""
    x, y = ragged(rng, 15)
    batches = []
    for rows in np.split(np.arange(15), [1, 4, 6, 11]):
        T = max(len(x[n]) for n in rows)
        padded = np.array([np.pad(x[n], [(0, T - len(x[n])), (0, 0)]) for n in rows])
        batches.append((padded, y[rows], np.array([len(x[n]) for n in rows])))

    def half(outputs, batch):
        return 0.5

    metrics = {"confidence": lambda outputs, batch: (np.abs(outputs).sum(), outputs.size), "half": half}
    histories = [
        gc.fit(classifier(), (x, y), 1, loss=CLASSES, metrics=metrics, validation=data, optimizer=gc.SGD(0.0))
        for data in (batches, (x, y))
    ]
    for name in ("validation_loss", "validation_confidence", "validation_half"):
        assert histories[0][name][0] == pytest.approx(histories[1][name][0], rel=1e-12)


def test_a_loss_may_be_a_function(rng):
    x, y = regression(rng)
    named, function = regressor(), regressor()
    history = gc.fit(named, (x, y), 3, loss=LOSS)
    assert gc.fit(function, (x, y), 3, loss=lambda *arguments: squared_error(*arguments)) == history


def test_defaults_belong_to_the_model():
    task = gc.tasks.Copy(3)
    model, explicit = (gc.CopyLSTM(4, task=task) for _ in range(2))
    recipe = model.training_defaults | {"updates": 5}
    history = gc.fit(model, task, 5)
    schedule = gc.schedules.linear(5)
    assert gc.fit(explicit, task, **recipe | {"schedule": schedule}, clip_value=None) == history


def test_the_copy_task_is_learned():
    task = gc.tasks.Copy(4, "echo", noise=0.2)
    model = gc.CopyLSTM(8, task=task)
    assert gc.fit(model, task, 300, stop_at={"sequence_accuracy": 1.0}).target_reached
    assert model.copy([1, 0, 0, 1]).tolist() == [1, 0, 0, 1]


def test_batches_of_similar_lengths_are_in_random_order(rng):
    x, y = ragged(rng, 60)
    data = ArrayData(x, y)
    epochs = [[b.inputs.shape[1] for b in data.batches(4, rng, np.float64)] for _ in range(6)]
    assert len({steps[0] for steps in epochs}) > 1
    assert len({tuple(steps) for steps in epochs}) > 1
    assert {tuple(sorted(steps)) for steps in epochs} != {tuple(steps) for steps in epochs}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_batches_hold_the_values_of_each_sequence_also_of_empty_ones(dtype, rng):
    lengths = [0, 3, 5, 0, 1]
    x, y = ([rng.normal(size=(T, size)) for T in lengths] for size in (3, 2))
    for rows, batch in ArrayData(x, y).by_length(2, dtype):
        for k, inputs, targets in zip(rows, batch.inputs, batch.targets, strict=True):
            np.testing.assert_array_equal(inputs[: lengths[k]], x[k].astype(dtype))
            np.testing.assert_array_equal(targets[: lengths[k]], y[k].astype(dtype))
            assert not inputs[lengths[k] :].any()
            assert not targets[lengths[k] :].any()
