"""Laws of streams and samples of `gc.Ensemble`: a stream equals whole sequences, texts follow the mean probability."""

import copy
import pickle

import numpy as np
import pytest
from case_loops import loop_over
from text_models import MODELS, VOCABULARY, model_of

import glasscell as gc
from glasscell.layers import FinalState, Pool

SIZES = (3, 5, 4)
T = 9


def random_weights(model, rng):
    """Set all weights, biases included, to random numbers."""
    model.parameters.vector[:] = rng.normal(size=model.parameters.vector.shape)
    return model


def vector_per_sequence(H):
    layers = [gc.Linear(2, 3, dtype=float), gc.LSTM(3, H, 2, learn_initial_state=True, dtype=float), Pool("mean")]
    return gc.Sequential([*layers, gc.Linear(H, 3, dtype=float)])


MAKE = {
    "classifier": lambda H: gc.SequenceClassifier(2, 3, H, scale=False, dtype=float),
    "classifier of steps": lambda H: gc.SequenceClassifier(2, 3, H, per_step=True, dtype=float),
    "regressor": lambda H: gc.SequenceRegressor(2, 2, H, pooling="max", dtype=float),
    "copy": lambda H: gc.CopyLSTM(H, task=gc.tasks.Copy(4), dtype=float),
    "pooled": vector_per_sequence,
    "gru": lambda H: gc.Sequential([gc.GRU(2, H, dtype=float), FinalState(), gc.Linear(H, 3, dtype=float)]),
}


def ensemble_of(kind, rng, sizes=SIZES):
    members = [random_weights(MAKE[kind](H), rng) for H in sizes]
    return gc.Ensemble(members, outputs="classes" if kind in ("pooled", "gru") else None)


@pytest.fixture(params=MAKE)
def ensemble(request, rng):
    return ensemble_of(request.param, rng)


def prefix_predictions(ensemble, x):
    """Return what the ensemble predicts after each step of x (n, T, I): (T, n, O)."""
    values = [ensemble.predict(x[:, : t + 1]) for t in range(x.shape[1])]
    return np.stack([value[:, -1] if value.ndim == 3 else value for value in values])


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)


def test_a_stream_equals_the_whole_sequence(ensemble, rng):
    x = rng.normal(size=(4, T, 2))
    expected = prefix_predictions(ensemble, x)
    close([ensemble.stream(4).push(x[:, 0])], expected[:1])
    batch, single = ensemble.stream(4), ensemble.stream()
    close([batch.push(x[:, t]).copy() for t in range(T)], expected)
    close([single.push(x[0, t]) for t in range(T)], expected[:, 0])
    assert len(single.state) == len(ensemble)
    single.reset()
    close(single.push(x[1, 0]), expected[0, 1])


def test_results_are_independent_arrays_or_out(ensemble, rng):
    x, stream = rng.normal(size=(2, 2)), ensemble.stream()
    first = stream.push(x[0])
    kept = first.copy()
    out = np.empty_like(first)
    assert stream.push(x[1], out) is out
    assert np.array_equal(first, kept)
    assert not np.array_equal(first, out)
    with pytest.raises(ValueError, match=r"out must have shape \(O,\)"):
        stream.push(x[0], np.empty(99))
    with pytest.raises(TypeError, match="out must be an array of float64, got float32"):
        stream.push(x[0], np.empty(first.shape, np.float32))


def test_inactive_streams_keep_their_state_and_output_0(ensemble, rng):
    x, active = rng.normal(size=(3, 4, 2)), np.array([True, False, True, False])
    stream, expected = ensemble.stream(4), prefix_predictions(ensemble, x.swapaxes(0, 1))
    stream.push(x[0])
    result = stream.push(x[1], active=active)
    close(result[active], expected[1][active])
    assert not result[~active].any()
    close(stream.push(x[1])[~active], expected[1][~active])
    stream.reset(2)
    close(stream.push(x[0])[2], expected[0, 2])


def test_states_copies_and_pickles_go_on_alike(ensemble, rng):
    x, stream = rng.normal(size=(6, 2)), ensemble.stream()
    for step in x[:3]:
        stream.push(step)
    pickled = pickle.loads(pickle.dumps(stream))  # noqa: S301 - of this test
    others = [stream.copy(), copy.copy(stream), pickled, ensemble.stream(state=stream.state)]
    results = [stream.push(step) for step in x[3:]]
    for other in others:
        assert np.array_equal([other.push(step) for step in x[3:]], results)
        assert repr(other) == repr(stream)
    with pytest.raises(ValueError, match="state must have one entry per member, 3, got 2"):
        stream.state = stream.state[:2]
    with pytest.raises(ValueError, match="state must have one entry per member, 3, got a int"):
        stream.reset(state=5)
    with pytest.raises(ValueError, match="stream must be None with a state"):
        stream.reset(0, state=stream.state)


def test_an_error_leaves_the_states_of_all_members(rng):
    """Members of different inputs: the first one has taken the step when the second one raises."""
    members = [random_weights(gc.Sequential([gc.LSTM(I, 3), gc.Linear(3, 2)]), rng) for I in (2, 3)]
    stream = gc.Ensemble(members, outputs="values").stream()
    before = pickle.dumps(stream.state)
    with pytest.raises(ValueError, match=r"x must have shape \(I,\) = \(3,\)"):
        stream.push(np.ones(2, np.float32))
    assert pickle.dumps(stream.state) == before
    with pytest.raises(ValueError, match=r"must have shape \(L, H\)"):
        stream.state = ([[2 * np.ones((1, 3), "f")] * 2], [[np.ones((2, 2), "f")] * 2])
    assert pickle.dumps(stream.state) == before


def test_an_interrupt_leaves_the_states_of_all_members(rng, monkeypatch):
    stream = ensemble_of("classifier", rng).stream()
    stream.push([0.5, 1.0])
    before = pickle.dumps(stream.state)
    second = stream._streams[1]

    def interrupted(x, out=None, *, active=None):
        raise KeyboardInterrupt

    monkeypatch.setattr(second, "push", interrupted, raising=False)
    with pytest.raises(KeyboardInterrupt):
        stream.push([0.5, 1.0])
    assert pickle.dumps(stream.state) == before


def test_a_push_during_a_push_is_an_error(rng, monkeypatch):
    stream = ensemble_of("classifier", rng).stream()
    push = stream.push
    monkeypatch.setattr(stream._streams[1], "push", lambda x, **_: push(x), raising=False)
    with pytest.raises(RuntimeError, match="already entered"):
        stream.push([0.5, 1.0])


def test_weights_are_read_again_from_all_members_or_from_none(rng):
    ensemble = ensemble_of("regressor", rng)
    x, stream = rng.normal(size=(1, T, 2)), ensemble.stream(1)
    for t in range(4):
        stream.push(x[:, t])
    before = stream.copy()
    ensemble.members[0].parameters.vector[:] *= 0.5
    ensemble.members[2].parameters.vector[0] = np.nan
    with pytest.raises(ValueError, match="has NaN or infinite values"):
        stream.reload_weights()
    assert np.array_equal(stream.copy().push(x[:, 4]), before.push(x[:, 4]))
    ensemble.members[2].parameters.vector[0] = 1
    stream.reload_weights()
    fresh = ensemble.stream(1, state=stream.state)
    assert np.array_equal(stream.push(x[:, 4]), fresh.push(x[:, 4]))


def test_a_stream_of_one_member_has_the_bits_of_its_stream(rng):
    regressor, x = random_weights(MAKE["regressor"](4), rng), rng.normal(size=(T, 2))
    ours, member = gc.Ensemble([regressor]).stream(), regressor.stream()
    for step in x:
        assert np.array_equal(ours.push(step), member.push(step))


def test_members_without_streams_are_an_error(rng):
    members = [gc.SequenceClassifier(2, 3, H, bidirectional=True) for H in SIZES]
    with pytest.raises(ValueError, match="cannot be streamed"):
        gc.Ensemble(members).stream()


# Texts


@loop_over("name", MODELS)
@loop_over("options", [{}, {"temperature": 0.5, "top_k": 3}, {"temperature": 0.0}], ids=str)
def test_one_member_samples_its_own_text(name, options):
    model = model_of(name)
    text = "".join(model.sample("the cat", 60, seed=3, **options))
    assert "".join(gc.Ensemble([model]).sample("the cat", 60, seed=3, **options)) == text


def test_the_likeliest_symbols_have_the_largest_mean_probability(rng):
    members = [random_weights(gc.LanguageModel(VOCABULARY, 4, H, 1, dtype=float), rng) for H in SIZES]
    ensemble, ids = gc.Ensemble(members), VOCABULARY.encode("the cat").tolist()
    for _ in range(30):
        mean = ensemble.predict_proba(np.array(ids)[None])[0, -1].copy()
        if VOCABULARY.unknown_id is not None:
            mean[VOCABULARY.unknown_id] = 0
        ids.append(int(mean.argmax()))
    expected = VOCABULARY.decode(np.array(ids[len("the cat") :]))
    assert "".join(ensemble.sample("the cat", 30, temperature=0)) == expected
    drawn = "".join(ensemble.sample("the cat", 200, seed=1))
    assert drawn == "".join(ensemble.sample("the cat", 200, seed=1))
    assert drawn != "".join(members[0].sample("the cat", 200, seed=1))


def test_symbols_are_drawn_with_the_mean_probability(rng):
    """500 symbols: each frequency is within 5 standard deviations of the mean probability."""
    members = [random_weights(gc.LanguageModel(VOCABULARY, 4, H, 1, dtype=float), rng) for H in (3, 5)]
    ensemble, n = gc.Ensemble(members), 500
    logits = ensemble.stream().push_outputs(VOCABULARY.encode("t").item())
    p = ensemble.predict_proba(VOCABULARY.encode("t")[None])[0, -1]
    close(np.exp(logits), p)
    symbols = [VOCABULARY.decode(np.array([k])) for k in range(len(p))]
    generator = np.random.default_rng(7)
    first = [next(iter(ensemble.sample("t", 1, seed=generator))) for _ in range(n)]
    counts = np.array([sum(text == name for text in first) for name in symbols])
    expected = np.where(np.arange(len(p)) == VOCABULARY.unknown_id, 0, p)
    expected = expected / expected.sum()
    deviation = np.sqrt(n * expected * (1 - expected))
    assert (np.abs(counts - n * expected) <= 5 * deviation).all()


def test_mistakes_of_sampling_are_raised_at_the_call(rng):
    ensemble = gc.Ensemble([gc.LanguageModel(VOCABULARY, 4, H, 1) for H in SIZES])
    with pytest.raises(ValueError, match="temperature must be"):
        ensemble.sample("t", temperature=-1.0)
    with pytest.raises(TypeError, match="prompt must be a str, got a int"):
        ensemble.sample(5)
