"""RNN and GRU in models: training, carried states, seeds, copies, errors."""

import copy
import pickle

import numpy as np
import pytest

import glasscell as gc
from glasscell.core.buffers import BufferPool
from glasscell.data.batch import Batch
from glasscell.layers import Dropout, Embedding, FinalState, SwapHalves

D64 = {"dtype": np.float64}
KINDS = [gc.RNN, gc.GRU]


def running_means(rng, count, T):
    """Noise, and at every step the mean of all steps so far: an answer needs the state."""
    x = rng.normal(size=(count, T, 1)).astype(np.float32)
    return x, np.cumsum(x, axis=1) / np.arange(1, T + 1)[:, None].astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_a_regressor_learns_with_a_carried_state(kind, rng):
    x, y = running_means(rng, 64, 24)
    model = gc.Sequential([kind(1, 16), gc.Linear(16, 1)], seed=3)
    history = gc.fit(
        model, (x, y), updates=300, loss="squared_error", batch_size=16, optimizer=gc.Adam(0.01), tbptt_steps=6,
        clip_norm=1.0, validation=running_means(rng, 32, 24), seed=1, progress=False,
    )  # fmt: skip
    first, last = history.rows[0]["loss"], history.rows[-1]["validation_loss"]
    assert last < 0.15 * first
    # The state is carried: a model that begins each window at 0 cannot know the mean so far.
    windows = np.concatenate([model(x[:, k : k + 6]) for k in range(0, 24, 6)], axis=1)
    assert ((windows - y)[:, 6:] ** 2).mean() > 2 * ((model(x) - y)[:, 6:] ** 2).mean()


@pytest.mark.parametrize("kind", KINDS)
def test_a_classifier_of_ragged_sequences_in_both_directions_learns(kind, rng):
    x = [rng.normal(size=(rng.integers(3, 12), 2)).astype(np.float32) for _ in range(96)]
    y = np.array([int(sequence[0, 0] + sequence[-1, 1] > 0) for sequence in x])
    layers = [kind(2, 12, 2, bidirectional=True, dropout=0.1), FinalState(), gc.Linear(24, 2)]
    model = gc.Sequential(layers, seed=0)
    gc.fit(
        model, (x, y), updates=200, loss="categorical_cross_entropy", optimizer=gc.Adam(0.01), seed=0, progress=False
    )
    assert (model.predict(x).argmax(axis=-1) == y).mean() > 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_alone_is_trained(kind, rng):
    x = rng.normal(size=(32, 8, 2)).astype(np.float32)
    layer, teacher = kind(2, 3, seed=0), kind(2, 3, initializer="uniform", seed=9)
    history = gc.fit(layer, (x, teacher(x)), updates=150, loss="squared_error", optimizer=gc.Adam(0.03), progress=False)
    assert history.rows[-1]["loss"] < 0.05 * history.rows[0]["loss"]


@pytest.mark.parametrize("kind", KINDS)
def test_windows_with_carried_states_are_one_pass(kind, rng):
    model = gc.Sequential([kind(2, 3, **D64), gc.LSTM(3, 4, **D64), kind(4, 2, 2, **D64)], seed=0)
    x, targets, buffers = rng.normal(size=(3, 10, 2)), np.zeros((3, 10, 2)), BufferPool()
    states, outputs = None, []
    for start in (0, 4, 8):
        batch = Batch(x[:, start : start + 4], targets[:, start : start + 4])
        result = model.train_forward(batch, states, buffers, None)
        states = result.states
        outputs.append(result.outputs.copy())
    expected, final, _ = model.forward(x)
    np.testing.assert_allclose(np.concatenate(outputs, axis=1), expected, atol=1e-13)
    for state, one in zip(states, final, strict=True):
        for a, b in zip(state, one, strict=True):
            np.testing.assert_allclose(np.swapaxes(a, 1, 2), b, atol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_a_model_are_those_of_finite_differences(kind, rng):
    layers = [
        kind(2, 3, bidirectional=True, **D64),
        SwapHalves(),
        Dropout(0.3),
        kind(6, 3, **D64),
        gc.Linear(3, 2, **D64),
    ]
    model = gc.Sequential(layers, seed=4)
    x, lengths = rng.normal(size=(3, 6, 2)), [6, 2, 4]
    start = [gc.RNNState(rng.normal(size=(n, 3, 3))) for n in (2, 1)]

    def run():
        return model.forward(x, start, lengths=lengths, rng=np.random.default_rng(0))

    dy = rng.normal(size=(3, 6, 2))
    dx, d_start, gradients = model.backward(run()[2], dy)
    pairs = [
        (model.parameters.vector, gradients.vector),
        (x, dx),
        *((s.h, d.h) for s, d in zip(start, d_start, strict=True)),
    ]
    for array, d in pairs:
        v, before, losses = rng.normal(size=array.shape), array.copy(), []
        for step in (1, -1, 2, -2):
            array[:] = before + step * 1e-4 * v
            losses.append((run()[0] * dy).sum())
        array[:] = before
        difference = (8 * (losses[0] - losses[1]) - (losses[2] - losses[3])) / 12e-4
        assert abs(difference - (d * v).sum()) <= 1e-8 * max(1, abs(difference))


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_draws_its_weights_from_its_seed(kind):
    def model(seed):
        return gc.Sequential([kind(3, 3), kind(3, 3), gc.Linear(3, 1)], seed=seed)

    one = model(5)
    np.testing.assert_array_equal(one.parameters.vector, model(5).parameters.vector)
    assert not np.array_equal(one.parameters["0.kernel_l0"], one.parameters["1.kernel_l0"])
    assert not np.array_equal(one.parameters.vector, model(6).parameters.vector)
    kept = gc.Sequential([kind(3, 3, seed=1)], seed=7)
    np.testing.assert_array_equal(kept.parameters.vector, kind(3, 3, seed=1).parameters.vector)


@pytest.mark.parametrize("kind", KINDS)
def test_files_copies_and_pickles(kind, rng, tmp_path):
    layers = [Embedding(7, 3, mask_zero=True), kind(3, 4, 2, bidirectional=True), FinalState(), gc.Linear(8, 2)]
    model = gc.Sequential(layers, names=["table", "cell", "final", "head"], seed=1)
    ids = rng.integers(0, 7, size=(5, 6))
    model.save(tmp_path / "model.safetensors")
    unpickled = pickle.loads(pickle.dumps(model))  # noqa: S301 - made here
    for other in (gc.load(tmp_path / "model.safetensors"), copy.deepcopy(model), unpickled):
        np.testing.assert_array_equal(other(ids), model(ids))
        other.parameters.vector[:] = 0
    assert model(ids).any()
    assert model.to_torch().keys() >= {"cell.weight_ih_l1_reverse", "cell.bias_hh_l0", "head.weight"}


@pytest.mark.parametrize("kind", KINDS)
def test_errors_are_raised_where_the_bad_value_enters(kind, rng):
    model = gc.Sequential([kind(2, 3), gc.Linear(3, 1)])
    x, y = rng.normal(size=(4, 5, 2)).astype(np.float32), np.zeros((4, 5, 1), np.float32)
    bad = x.copy()
    bad[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match=r"x .*NaN|x must be finite"):
        model(bad)
    with pytest.raises(ValueError, match="I = 2"):
        model(x[..., :1])
    with pytest.raises((TypeError, ValueError), match="state"):
        model.forward(x, [gc.LSTMState(np.zeros((1, 4, 3)), np.zeros((1, 4, 3)))])
    two = gc.Sequential([kind(2, 3, bidirectional=True), gc.Linear(6, 1)])
    with pytest.raises(ValueError, match=r"tbptt_steps"):
        gc.fit(two, (x, y), updates=1, loss="squared_error", tbptt_steps=2, progress=False)
    model.parameters["0.kernel_l0"][0, 0] = np.inf
    with pytest.raises((ValueError, FloatingPointError), match="kernel_l0"):
        gc.fit(model, (x, y), updates=1, loss="squared_error", progress=False)


@pytest.mark.parametrize("kind", KINDS)
def test_a_recorder_follows_training(kind, rng, tmp_path):
    x, y = running_means(rng, 16, 8)
    model = gc.Sequential([kind(1, 4), gc.Linear(4, 1)])
    recorder = gc.TraceRecorder(x[0], y[0], every=5, symbols=("z", "d_h", "h"))
    gc.fit(model, (x, y), updates=10, loss="squared_error", callbacks=[recorder], progress=False)
    assert [frame.update for frame in recorder.frames] == [1, 5, 10]
    np.testing.assert_allclose(recorder.frames[-1].values["h"], model.trace(x[0]).layer[0].h, atol=1e-6)
