"""Law: how an LSTM is run, with or without a tape, whole or in segments, changes nothing of what it computes."""

import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from case_loops import loop_over

from glasscell import LSTM, LSTMState
from glasscell.core.buffers import BufferPool
from glasscell.layers import Linear
from glasscell.models import Sequential

KINDS = {
    "plain": {},
    "stacked": {"num_layers": 3, "dropout": 0.3},
    "both directions": {"bidirectional": True, "num_layers": 2},
    "reverse": {"reverse": True},
    "in the order of processing": {"reverse": True, "outputs_in": "processing"},
    "no bias": {"bias": False},
    "learned start": {"learn_initial_state": True},
    "peepholes": {"peepholes": True, "clip": 0.8},
    "projection": {"proj_size": 2, "layer_norm": "tflite"},
    "haste": {"layer_norm": "haste", "zoneout": 0.3, "recurrent_dropout": 0.2},
    "no bounds": {"candidate_activation": "Relu", "coupled": "input", "input_dropout": 0.2},
    "repeated": {"masked_outputs": "repeat", "bidirectional": True},
}
B, T, I, H = 3, 11, 2, 4


def made(name, rng, **more):
    lstm = LSTM(I, H, **KINDS[name], **more, dtype=np.float64)
    lstm.parameters.vector[:] = rng.uniform(-0.7, 0.7, lstm.parameters.vector.size)
    return lstm


def given(lstm, rng, which):
    """Sequences, where they start, and which steps they have."""
    n = len(lstm.options.directions)
    state = LSTMState(rng.normal(size=(n, B, lstm.options.state_size)), rng.normal(size=(n, B, H)))
    own = {"whole": {}, "lengths": {"lengths": [T, 0, 4]}, "gaps": {"mask": rng.random((B, T)) < 0.6}}[which]
    return rng.normal(size=(B, T, I)), state, own


WHICH = pytest.mark.parametrize("which", ["whole", "lengths", "gaps"])


@WHICH
@loop_over("name", KINDS)
def test_inference_equals_a_forward_pass(name, which, rng):
    lstm = made(name, rng)
    x, state, own = given(lstm, rng, which)
    for start in (None, state):
        y, final, _ = lstm.forward(x, start, **own)
        inferred, end = lstm.infer(x, start, **own)
        for a, b in zip((inferred, *end), (y, *final), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-14)


def test_inference_of_long_sequences_with_the_general_layer(rng):
    """More steps than one block has, with sequences that end in each block."""
    lstm = made("haste", rng)
    x, lengths = rng.normal(size=(5, 150, I)), [150, 149, 64, 65, 0]
    y, final, _ = lstm.forward(x, lengths=lengths)
    inferred, end = lstm.infer(x, lengths=lengths)
    for a, b in zip((inferred, *end), (y, *final), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-13)


@loop_over("every", [1, 3, 4, 10, "auto"])
@WHICH
@loop_over("name", KINDS)
def test_segments_have_the_same_gradients(name, which, every, rng):
    whole = made(name, rng)
    parts = made(name, rng, recompute_every=every)
    parts.parameters.vector[:] = whole.parameters.vector
    x, state, own = given(whole, rng, which)
    dy, d_state = rng.normal(size=(B, T, whole.output_size)), given(whole, rng, which)[1]
    seed = int(rng.integers(1 << 30))
    results = []
    for lstm in (whole, parts):
        y, final, tape = lstm.forward(x, state, **own, rng=np.random.default_rng(seed))
        lstm.parameters.vector[:] += 1  # what was computed is with the weights of then
        dx, d_start, gradients = lstm.backward(tape, dy, d_state)
        results.append([y, *final, dx, *d_start, gradients.vector])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-10, atol=1e-11)


def test_segments_keep_no_gates(rng):
    _, _, tape = made("plain", rng, recompute_every=4).forward(np.zeros((B, T, I)))
    with pytest.raises(ValueError, match="gates are not kept with recompute_every or memory_limit"):
        _ = tape.layers


def kept(tape):
    """Bytes that a pass keeps besides its inputs and outputs, with one segment."""
    one = tape.directions[0].tape
    states = sum(np.asarray(part).nbytes for start in one.initial_states[1:] for part in start)
    return states + one.segment_steps * (9 * H + I + 1) * B * 8


@pytest.mark.parametrize("limit", [20_000, 30_000, 60_000])
def test_a_memory_limit_is_observed(limit, rng):
    lstm = made("plain", rng, memory_limit=limit)
    x, dy = rng.normal(size=(B, 500, I)), rng.normal(size=(B, 500, H))
    _, _, tape = lstm.forward(x)
    assert limit / 3 < kept(tape) <= limit
    whole = LSTM(I, H, dtype=np.float64)
    whole.parameters.vector[:] = lstm.parameters.vector
    expected = whole.backward(whole.forward(x)[2], dy)[2].vector
    np.testing.assert_allclose(lstm.backward(tape, dy)[2].vector, expected, rtol=1e-9, atol=1e-10)


def test_a_memory_limit_that_is_too_small_is_refused_with_the_required_size(rng):
    x = rng.normal(size=(B, 500, I))
    words = r"memory_limit=10000 is too small for 3 sequences of 500 steps: they need (\d+) bytes at least"
    with pytest.raises(ValueError, match=words) as caught:
        made("both directions", rng, memory_limit=10_000).forward(x)
    needed = int(re.search(words, str(caught.value))[1])
    with pytest.raises(ValueError, match="too small"):
        made("both directions", rng, memory_limit=needed - 1).forward(x)
    made("both directions", rng, memory_limit=needed).forward(x)


def test_a_large_memory_limit_keeps_the_whole_tape(rng):
    """Sequences that are no longer than a segment have a tape as always."""
    for options in ({"recompute_every": T}, {"memory_limit": 1e9}):
        assert made("plain", rng, **options).forward(np.zeros((B, T, I)))[2].layers[0].f.shape == (T, H, B)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"engine": "cuda"}, ValueError, "engine must be one of 'numpy', 'numba' or None, the faster one, got 'cuda'"),
        ({"recompute_every": 0}, ValueError, "recompute_every must be at least 1"),
        ({"recompute_every": "often"}, TypeError, "recompute_every must be an integer, got 'often'"),
        ({"memory_limit": -1}, ValueError, "memory_limit must be finite and above 0"),
        ({"memory_limit": 1e9, "recompute_every": 3}, ValueError, "memory_limit must be None with recompute_every"),
    ],
)
def test_bad_options_are_refused(options, error, words):
    with pytest.raises(error, match=words):
        LSTM(I, H, **options)


def test_threads_may_run_one_model_concurrently(rng):
    """Weights are read, and everything else belongs to the call."""
    lstm = LSTM(I, 32, 2, bidirectional=True)
    model = Sequential([lstm, Linear(64, 3)])
    inputs = [rng.normal(size=(4, 50, I)) for _ in range(32)]
    expected = [(model(x), lstm.forward(x)[0]) for x in inputs]
    with ThreadPoolExecutor(8) as threads:
        for _ in range(3):
            found = list(threads.map(lambda x: (model(x), lstm.infer(x)[0]), inputs))
            for inferred, reference in zip(found, expected, strict=True):
                np.testing.assert_array_equal(inferred[0], reference[0])
                np.testing.assert_allclose(inferred[1], reference[1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("engine", ["numpy", "numba"])
@pytest.mark.parametrize("keep_tape", [True, False])
@pytest.mark.parametrize("sizes", [(4, 2, 1), (1, 3, 3), (3, 0, 4), (0, 5, 2)])
def test_a_state_in_the_same_buffers_survives_passes_of_other_lengths(sizes, keep_tape, engine, rng):
    if engine == "numba":
        pytest.importorskip("numba")
    lstm = LSTM(I, H, 2, bidirectional=True, seed=3, engine=engine)
    x = rng.normal(size=(sum(sizes), I, B)).astype(np.float32)
    buffers, shared, fresh, start = BufferPool(), None, None, 0
    for size in sizes:
        part = x[start : start + size]
        one = lstm.forward_feature_major(part, None, shared, buffers=buffers, keep_tape=keep_tape)
        other = lstm.forward_feature_major(part, None, fresh, keep_tape=keep_tape)
        np.testing.assert_array_equal(one.outputs, other.outputs)
        shared, fresh, start = one.state, other.state, start + size
    for a, b in zip([*shared.h, *shared.c], [*fresh.h, *fresh.c], strict=True):
        np.testing.assert_array_equal(a, b)
