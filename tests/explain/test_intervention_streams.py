"""A stream that was made under interventions computes what a pass over the sequence computes."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from intervention_cases import SYMBOLS, B, H, I, T, cases

import glasscell as gc
from glasscell.data.text.vocabulary import Vocabulary
from glasscell.explain import Intervention, intervene
from glasscell.layers import Masking


def model(*before: Any, **options: Any) -> gc.Sequential:
    lstm = gc.LSTM(I, H, 2, dtype=np.float64, initializer="uniform", seed=1, **options)
    rng = np.random.default_rng(8)
    for name, weights in lstm.parameters.items():
        if not name.startswith("kernel"):
            weights[...] = rng.normal(size=weights.shape) * 0.4 + name.startswith("gain")
    return gc.Sequential([*before, lstm, gc.Linear(lstm.output_size, 2, dtype=np.float64, seed=2)])


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(5).normal(size=(B, T, I))


def pushed(stream: Any, x: np.ndarray) -> np.ndarray:
    """Return the outputs (B, T, O) of a stream of a batch, or (T, O) of a single one."""
    outputs = [stream.push(x_t).copy() for x_t in (x if x.ndim == 2 else x.swapaxes(0, 1))]
    return np.array(outputs) if x.ndim == 2 else np.array(outputs).swapaxes(0, 1)


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_streams_equal_sequences(symbol, x):
    one = model()
    for where in ({}, {"units": [0, 2], "steps": [1, 2, 4]}):
        for name, intervention in cases(symbol, **where).items():
            with intervene(one, intervention, Intervention("f", scale=0.8, layer=1)):
                expected = one(x)
                np.testing.assert_allclose(pushed(one.stream(B), x), expected, rtol=0, atol=1e-13, err_msg=name)
                if name != "patch each":
                    np.testing.assert_allclose(pushed(one.stream(), x[1]), expected[1], rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    "options",
    [
        {"peepholes": True, "coupled": "input"},
        {"zoneout": 0.2, "layer_norm": "haste"},
        {"proj_size": 3, "learn_initial_state": True, "recurrent_bias": True},
        {"engine": "numba"},
        {"clip": 0.4, "dropout": 0.5},
    ],
    ids=str,
)
def test_streams_equal_sequences_with_options(options, x):
    if "engine" in options:
        pytest.importorskip("numba")
    one = model(**options)
    interventions = [
        Intervention("z_g", freeze=True, steps=slice(2, 4)),
        Intervention("i", scale=1.2, units=[1]),
        Intervention("W_h", cut=True, units=[2], layer=1),
    ]
    with intervene(one, *interventions):
        np.testing.assert_allclose(pushed(one.stream(), x[0]), one(x[0]), rtol=0, atol=1e-13)
        np.testing.assert_allclose(pushed(one.stream(B), x), one(x), rtol=0, atol=1e-13)


FROZEN = [Intervention("f", freeze=True, steps=[2, 3]), Intervention("c", add=0.3, steps=[1, 4])]


def test_masked_steps_count_as_steps_of_time(x):
    one = model(Masking(0.0))
    x[0, [0, 2]] = 0.0
    x[1, [0, 3]] = 0.0
    # Step 3 of sequence 0 holds the value of step 1, and step 1 of sequence 1 its own: it is the first one.
    with intervene(one, *FROZEN[1:], Intervention("f", freeze=True, steps=[1, 3])):
        np.testing.assert_allclose(pushed(one.stream(B), x), one(x), rtol=0, atol=1e-13)
        np.testing.assert_allclose(pushed(one.stream(), x[0]), one(x[0]), rtol=0, atol=1e-13)


def test_inactive_streams_wait(x):
    one = model()
    with intervene(one, *FROZEN):
        expected, stream, outputs = one(x), one.stream(B), np.zeros((B, T, 2))
    done, rng = np.zeros(B, int), np.random.default_rng(0)
    while (done < T).any():
        active = (rng.random(B) < 0.6) & (done < T)
        y = stream.push(x[np.arange(B), np.minimum(done, T - 1)], active=active)
        outputs[active, done[active]] = y[active]
        done += active
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-13)


def test_a_stream_keeps_the_interventions_that_it_was_made_with(x):
    one = model()
    expected, before = one(x[0]), one.stream()
    with intervene(one, *FROZEN):
        under = one(x[0])
        np.testing.assert_allclose(pushed(before, x[0]), expected, rtol=0, atol=1e-13)
        stream = one.stream()
    np.testing.assert_allclose(pushed(stream, x[0]), under, rtol=0, atol=1e-13)
    np.testing.assert_allclose(pushed(one.stream(), x[0]), expected, rtol=0, atol=1e-13)
    stream.reset()
    np.testing.assert_allclose(pushed(stream, x[0]), under, rtol=0, atol=1e-13)


def test_copies_states_and_files_of_a_stream_continue_at_its_step(x, tmp_path):
    one = model()
    with intervene(one, *FROZEN):
        under, stream = one(x[0]), one.stream()
        pushed(stream, x[0, :3])
        stream.save(tmp_path / "state.safetensors")
        from_file, from_state = one.stream(), one.stream()
    from_file.load(tmp_path / "state.safetensors")
    from_state.state = stream.state
    for other in (copy.copy(stream), pickle.loads(pickle.dumps(stream)), from_file, from_state, stream):  # noqa: S301
        np.testing.assert_allclose(pushed(other, x[0, 3:]), under[3:], rtol=0, atol=1e-13)
    with pytest.raises(ValueError, match="must contain"):
        one.stream().load(tmp_path / "state.safetensors")


def test_one_stream_of_a_batch_starts_again(x):
    one = model()
    with intervene(one, *FROZEN):
        stream, expected = one.stream(B), one(x)
    pushed(stream, x[:, :3])
    stream.reset(1)
    restarted = np.concatenate([x[:1, 3:], x[1:2, :3], x[2:, 3:]])
    outputs = pushed(stream, restarted)
    np.testing.assert_allclose(outputs[1], expected[1, :3], rtol=0, atol=1e-13)
    np.testing.assert_allclose(outputs[[0, 2]], expected[[0, 2], 3:], rtol=0, atol=1e-13)


def test_errors_leave_the_state(x):
    one = model()
    with one.intervene("f", patch=np.ones((2, H))):
        stream = one.stream()
    pushed(stream, x[0, :2])
    before = stream.state
    with pytest.raises(ValueError, match="patch must have a value at each selected step, got 2 steps for step 2"):
        stream.push(x[0, 2])
    for a, b in zip(before[0], stream.state[0], strict=True):
        np.testing.assert_array_equal(a, b)
    with one.intervene("f", patch=np.ones((2, T, H))), pytest.raises(ValueError, match="patch must be of one sequence"):
        one.stream(B)
    with one.intervene("f", patch=np.full((T, H), np.nan)), pytest.raises(ValueError, match="patch must be finite"):
        one.stream().push(x[0, 0])


def test_text_is_sampled_under_interventions():
    """With h = 0 the next symbol depends on the biases alone."""
    text = gc.LanguageModel(Vocabulary.from_text("abcd"), hidden_size=8, seed=0)
    text.parameters.vector[:] = np.random.default_rng(1).normal(size=text.parameters.vector.size)
    free = "".join(text.sample("ab", 20, temperature=0))
    with text.intervene("h", set=0.0, layer=None):
        sampled = "".join(text.sample("ab", 20, temperature=0))
    assert len(set(sampled)) == 1
    assert len(set(free)) > 1
