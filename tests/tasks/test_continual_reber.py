"""Law: ContinualReber draws streams of embedded Reber strings, and measures what Gers et al. (2000) measured."""

import re
from itertools import islice

import numpy as np
import pytest
from case_loops import loop_over

import glasscell as gc
from glasscell.tasks import ContinualReber, EmbeddedReber, continual_reber, embedded_reber
from glasscell.tasks.embedded_reber import GRAMMAR, SYMBOLS


def windows_of(task, size, count, seed=0):
    return list(islice(task.batches(size, np.random.default_rng(seed)), count))


def test_windows_continue_one_another_and_streams_are_strings_of_the_grammar():
    task = ContinualReber(7, 700)
    batches = windows_of(task, 5, 100)
    assert len(batches) == task.num_batches == 100
    assert [batch.continues for batch in batches] == [False] + [True] * 99
    assert len({batch.inputs.tobytes() for batch in batches}) == 100
    num_strings = 0
    for stream in map("".join, zip(*map(task.strings, batches), strict=True)):
        assert len(stream) == 700
        rest = stream
        while "E" in rest:  # an embedded string has two E: of the inner string, and its own
            inner = rest.index("E")
            end = inner + 3
            if end > len(rest):
                break
            assert EmbeddedReber.is_string(rest[:end])
            rest, num_strings = rest[end:], num_strings + 1
    assert num_strings > 200


def test_targets_are_the_symbols_that_may_follow(rng):
    task = ContinualReber(60, 600)
    batch = task.batch(50, rng)
    reference = EmbeddedReber()
    for stream, targets in zip(task.strings(batch), batch.targets, strict=True):
        start = 0
        while (inner := stream.find("E", start)) >= 0 and inner + 3 <= len(stream):
            string = stream[start : inner + 3]
            allowed = embedded_reber.allowed_symbols(reference.make_batch([string]))[0]
            np.testing.assert_array_equal(targets[start : inner + 2], allowed)
            assert np.flatnonzero(targets[inner + 2]).tolist() == [SYMBOLS.index("B")]  # after E the next string begins
            start = inner + 3
    following = np.take_along_axis(batch.targets[:, :-1], batch.inputs[:, 1:].argmax(axis=-1)[..., None], axis=2)
    assert (following == 1).all()


def automaton(use_outer_symbol=True):
    """A `push` that knows the grammar, with or without the memory of the second symbol of the string."""
    state = 0

    def push(symbol):
        nonlocal state
        state = GRAMMAR[state][SYMBOLS[int(symbol.argmax())]] % 19
        allowed = set(GRAMMAR[state])
        if not use_outer_symbol and state in (10, 17):  # before the last T or P
            allowed = {"T", "P"}
        return np.array([9.0 if symbol in allowed else -9.0 for symbol in SYMBOLS])

    return push


def test_an_automaton_is_perfect_and_one_without_long_memory_is_not():
    task = ContinualReber(50, 2500)
    perfect = task.test_stream_lengths(automaton, 3)
    assert perfect == (2500, 2500, 2500)
    assert continual_reber.rating(perfect, 2500) == "perfect"
    short = task.test_stream_lengths(lambda: automaton(use_outer_symbol=False), 20)
    assert (
        6 <= min(short) < max(short) < 100
    )  # the first string ends it: at the earliest the prediction after 7 symbols
    assert continual_reber.rating(short, 2500) == "failed"
    uncertain = task.test_stream_lengths(lambda: lambda symbol: np.zeros(7), 2)
    assert uncertain == (0, 0)
    assert task.test_stream_lengths(lambda: lambda symbol: np.zeros(7), 1, tolerance=0.51) == (2500,)


def test_ratings_of_the_paper():
    assert continual_reber.rating([100_000] * 10) == "perfect"
    assert continual_reber.rating([100_000] * 9 + [99_999]) == "good"
    assert continual_reber.rating([1000, 1002]) == "good"
    assert continual_reber.rating([1000, 1000]) == "failed"
    with pytest.raises(ValueError, match="lengths must have at least one stream, got none"):
        continual_reber.rating([])


def test_the_online_test_resets_nothing_and_agrees_with_a_batch():
    """A trained model: the length of its test stream is the position of its first error in one long batch."""
    task = ContinualReber(25, 1000, seed=3)
    model = gc.Sequential([gc.LSTM(7, 12, seed=1), gc.Linear(12, 7)])
    gc.fit(model, task, 100, batch_size=16, optimizer=gc.Adam(0.03), evaluate_every=100)
    for tolerance in (0.8, 0.97):
        lengths = task.test_stream_lengths(lambda: model.stream().push, 3, tolerance)
        for k, length in enumerate(lengths):
            long = ContinualReber(1000, 1000)
            batch = long.batch(1, np.random.default_rng([3, 2, k]))
            correct = continual_reber.correct_steps(model(batch.inputs), batch, tolerance)[0]
            assert length == (1000 if correct.all() else correct.argmin())
    assert max(lengths) > 3


def test_errors_are_those_of_probabilities(rng):
    batch = ContinualReber(30, 30).batch(4, rng, np.float64)
    outputs = np.where(batch.targets > 0, 3.0, -3.0)
    assert continual_reber.is_correct(outputs, batch).all()
    outputs[2, 5, 3] = np.log(0.49 / 0.51) * (1 if batch.targets[2, 5, 3] == 0 else -1) * 0.999  # an error above 0.49
    assert np.flatnonzero(~continual_reber.is_correct(outputs, batch)).tolist() == [2]
    assert tuple(continual_reber.symbol_accuracy(outputs, batch)) == (119, 120)


def test_baseline_by_exact_enumeration_and_by_a_large_sample():
    # Frequencies of states after many symbols, by following all paths; the start is state 0.
    frequency, pairs = {0: 1.0}, {}
    for step in range(4000):
        after = {}
        for state, p in frequency.items():
            for symbol, k in GRAMMAR[state].items():
                q = p / len(GRAMMAR[state])
                after[k % 19] = after.get(k % 19, 0) + q
                if step >= 2000:  # averaged, because strings of equal length keep streams in step
                    pairs[symbol, k % 19] = pairs.get((symbol, k % 19), 0) + q / 2000
        frequency = after
    expected = 0.0
    for symbol in SYMBOLS:
        states = {k: p for (s, k), p in pairs.items() if s == symbol}
        total = sum(states.values())
        for following in SYMBOLS:
            p = sum(q for k, q in states.items() if following in GRAMMAR[k]) / total
            if 0 < p < 1:
                expected -= total * (p * np.log(p) + (1 - p) * np.log(1 - p)) / 7
    task = ContinualReber(1000, 3000)
    batches = windows_of(task, 40, 3)
    losses = [task.memoryless_baseline_loss(batch) for batch in batches]
    assert np.mean(losses) == pytest.approx(expected, rel=0.01)
    frequencies = continual_reber.next_symbol_frequencies()
    exact = -sum(
        share * (p * np.log(p) + (1 - p) * np.log(1 - p)) / 7
        for share, row in zip(symbol_shares(pairs), frequencies, strict=True)
        for p in row
        if 1e-12 < p < 1 - 1e-12
    )
    assert exact == pytest.approx(expected, rel=1e-6)
    assert exact == pytest.approx(0.315, abs=5e-4)  # in docs/tasks.md
    logits = np.log(np.clip(frequencies, 1e-12, 1 - 1e-12) / (1 - np.clip(frequencies, 1e-12, 1 - 1e-12)))
    outputs = logits[batches[0].inputs.argmax(axis=-1)]
    loss = gc.core.losses.binary_cross_entropy(outputs, batches[0].targets.astype(np.float64))[0]
    assert losses[0] == pytest.approx(loss, rel=1e-6)


def symbol_shares(pairs):
    return [sum(p for (s, _), p in pairs.items() if s == symbol) for symbol in SYMBOLS]


def test_a_resumed_training_continues_the_same_streams(tmp_path):
    """State of the model and position in the streams: the same weights, bit for bit, as without interruption."""
    task = ContinualReber(5, 40)

    def train(updates, **options):
        model = gc.Sequential([gc.LSTM(7, 4, seed=0), gc.Linear(4, 7)])
        gc.fit(model, task, updates, batch_size=3, schedule=lambda k: 1.0, evaluate_every=7, **options)
        return model.parameters.vector

    whole = train(21)  # 8 batches in an epoch
    train(13, checkpoint=tmp_path, checkpoint_every=1)
    np.testing.assert_array_equal(train(21, checkpoint=tmp_path, resume=True), whole)


@loop_over(
    ("make", "error", "message"),
    [
        (lambda: ContinualReber(0), ValueError, "steps must be at least 1, got 0"),
        (lambda: ContinualReber(7), ValueError, "stream_length must be a multiple of steps = 7, got 100000"),
        (lambda: ContinualReber(7, 7.0), TypeError, "stream_length must be an integer, got 7.0"),
        (
            lambda: continual_reber.error_free_length(automaton(), np.random.default_rng(), limit=0),
            ValueError,
            "limit must be at least 1",
        ),
        (lambda: continual_reber.error_free_length(automaton(), 0), TypeError, "rng must be a numpy.random.Generator"),
        (
            lambda: continual_reber.error_free_length(lambda x: x[:3], np.random.default_rng(0)),
            ValueError,
            "push must return 7 logits, got an array of shape (3,)",
        ),
    ],
)
def test_options_are_checked(make, error, message):
    with pytest.raises(error, match=re.escape(message)):
        make()
