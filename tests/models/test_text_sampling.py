"""Laws of sampling and scores: what a language model draws and measures is what its forward pass says."""

import itertools
import math
import re

import numpy as np
import pytest
from case_loops import loop_over
from text_models import MODELS, TEXT, VOCABULARY, losses_of, model_of

import glasscell as gc
from glasscell.data import TextData, Vocabulary
from glasscell.models.language_scores import PassageFinder
from glasscell.models.text_sampling import chooser


@pytest.fixture(params=MODELS)
def model(request):
    return model_of(request.param)


# Sampling


def test_the_likeliest_symbols_are_those_of_the_forward_pass(model):
    ids = model.vocabulary.encode("the cat").tolist()
    for _ in range(12):
        logits = model(np.array(ids))[-1]
        if model.vocabulary.unknown_id is not None:
            logits[model.vocabulary.unknown_id] = -np.inf
        ids.append(int(logits.argmax()))
    decoder = model.vocabulary.decoder()
    pieces = [decoder.decode(k) for k in ids] + [decoder.finish()]
    start = len(model.vocabulary.encode("the cat"))
    assert "".join(model.sample("the cat", 12, temperature=0)) == "".join(pieces[start:])


def test_samples_follow_the_seed():
    model = model_of("plain")
    first, again, other = ("".join(model.sample("t", 50, seed=seed)) for seed in (1, 1, 2))
    assert first == again != other
    assert len(first) == 50
    assert "".join(model.sample("t", 50, seed=None)) != "".join(model.sample("t", 50, seed=None))
    assert "".join(model.sample("t", 300, seed=1)).startswith(first)


def test_a_sample_is_drawn_while_it_is_read():
    assert len(list(itertools.islice(model_of("plain").sample("t", 10**9), 5))) == 5


@pytest.mark.parametrize("top_k", [None, 3])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_symbols_are_drawn_with_their_probabilities(temperature, top_k):
    """20,000 draws: each frequency is within 5 standard deviations."""
    logits, rng, n = np.array([0.3, -1.0, 2.0, 1.2, -4.0, 0.0], np.float32), np.random.default_rng(5), 20_000
    expected = np.exp(logits.astype(np.float64) / temperature)
    expected[3] = 0  # the excluded one
    if top_k is not None:
        expected[expected < np.sort(expected)[-top_k]] = 0
    expected /= expected.sum()
    choose = chooser(6, temperature, top_k, excluded=3)
    counts = np.bincount([choose(logits, number) for number in rng.random(n)], minlength=6)
    deviation = np.sqrt(n * expected * (1 - expected))
    assert (np.abs(counts - n * expected) <= 5 * deviation).all()


@pytest.mark.parametrize("temperature", [1e-300, 1e-31, 1e-20, 1e-3, 1e300])
def test_extreme_temperatures_draw_a_symbol(temperature):
    logits = np.array([1.0, 3.0, -1e30, 2.0], np.float32)
    drawn = {chooser(4, temperature, None, None)(logits, number) for number in (0.0, 0.5, 1 - 2**-53)}
    assert drawn == {1} if temperature < 1 else drawn == {0, 2, 3}


def test_rounding_never_draws_a_symbol_of_probability_0():
    choose = chooser(3, 1.0, None, 2)
    assert choose(np.array([0.0, 0.0, 0.0], np.float32), 1.0) == 1


def test_sampled_bytes_are_whole_characters():
    vocabulary = Vocabulary((), "bytes")
    model = gc.LanguageModel(vocabulary, 4, 16, 1, seed=0)
    gc.fit(model, TextData("€é😀" * 60, vocabulary, steps=9, streams=4), epochs=40, optimizer=gc.Adam(0.03))
    text = "".join(model.sample("€é", 90, temperature=0))
    assert text[:9] == "😀€é😀€é😀€é"
    assert not text[:-1].count("\ufffd")


def test_an_empty_prompt_begins_with_a_line_feed_or_the_first_symbol():
    model = model_of("plain")
    assert "".join(model.sample("", 20)) == "".join(model.sample("\n", 20))
    other = gc.LanguageModel(Vocabulary("abc"), 4, 4)
    assert "".join(other.sample("", 20)) == "".join(other.sample("a", 20))


@loop_over(
    ("arguments", "error", "message"),
    [
        (
            ("the cät",),
            ValueError,
            "prompt must consist of characters of the vocabulary, got 'ä' (U+00E4) at position 5",
        ),
        ((b"abc",), TypeError, "prompt must be a str for a vocabulary of characters, got a bytes"),
        ((3,), TypeError, "prompt must be a str, got a int"),
        (("t", 0), ValueError, "length must be at least 1, got 0"),
        (("t", 5, {"temperature": -1}), ValueError, "temperature must be finite and at least 0, got -1"),
        (("t", 5, {"temperature": math.nan}), ValueError, "temperature must be finite and at least 0, got nan"),
        (("t", 5, {"top_k": 100}), ValueError, "top_k must be at most the 16 symbols of the vocabulary, got 100"),
    ],
)
def test_wrong_sampling_arguments_are_named_at_the_call(arguments, error, message):
    options = arguments[-1] if isinstance(arguments[-1], dict) else {}
    with pytest.raises(error, match=re.escape(message)):
        model_of("plain").sample(*[a for a in arguments if not isinstance(a, dict)], **options)


# Scores


def test_the_score_is_that_of_the_forward_pass(model):
    text = TEXT * 15  # longer than a window
    ids = model.vocabulary.encode(text)
    losses, score = losses_of(model, ids), model.score(text, passages=3, width=9)
    assert score.symbols == len(ids) - 1
    assert score.nats == pytest.approx(losses.mean(), rel=1e-5)
    assert score.bits == pytest.approx(score.nats / math.log(2))
    assert score.perplexity == pytest.approx(math.exp(score.nats))
    means = np.convolve(losses, np.ones(9) / 9, "valid")
    assert score.passages[0].nats == pytest.approx(means.max(), rel=1e-5)
    for passage in score.passages:
        assert passage.nats == pytest.approx(means[passage.start - 1], rel=1e-5)
        assert passage.text == model.vocabulary.decode(ids[passage.start : passage.start + 9])
    starts = sorted(passage.start for passage in score.passages)
    assert all(b - a >= 9 for a, b in itertools.pairwise(starts))


def test_parallel_parts_begin_with_the_initial_state():
    model, text = model_of("plain"), TEXT * 8
    length = len(text) // 4
    parts = [losses_of(model, VOCABULARY.encode(text[b * length : (b + 1) * length])) for b in range(4)]
    score = model.score(text, streams=4)
    assert score.symbols == 4 * (length - 1)
    assert score.nats == pytest.approx(np.concatenate(parts).mean(), rel=1e-5)


def largest_windows(losses, count, width):
    """Return positions of the largest windows, one after the other, without overlaps."""
    means, positions = np.convolve(losses, np.ones(width) / width, "valid"), []
    while len(positions) < count and means.max() > -np.inf:
        positions.append(int(means.argmax()))
        means[max(0, positions[-1] - width + 1) : positions[-1] + width] = -np.inf
    return positions


@loop_over("block", [1, 4, 7, 30, 100])
@loop_over("width", [1, 5, 12])
@loop_over("count", [1, 4, 30])
def test_passages_do_not_depend_on_the_blocks(block, width, count):
    for seed in range(5):
        losses = np.random.default_rng(seed).random((1, 100))
        finder = PassageFinder(count, width, 1)
        for start in range(0, 100, block):
            finder.add(losses[:, start : start + block], [start])
        assert [start for _, start in finder.best()] == largest_windows(losses[0], count, width)
        means = np.convolve(losses[0], np.ones(width) / width, "valid")
        for mean, start in finder.best():
            assert mean == pytest.approx(means[start])


def test_passages_of_short_parts_end_with_their_part():
    model, text = model_of("plain"), TEXT[:24]
    score = model.score(text, streams=4, passages=3, width=60)
    parts = [losses_of(model, VOCABULARY.encode(text[b : b + 6])).mean() for b in range(0, 24, 6)]
    order = np.argsort(parts)[::-1][:3]
    assert [passage.start for passage in score.passages] == [6 * b + 1 for b in order]
    assert [passage.text for passage in score.passages] == [text[6 * b + 1 : 6 * b + 6] for b in order]
    assert [passage.nats for passage in score.passages] == pytest.approx([parts[b] for b in order], rel=1e-5)


def test_a_text_without_a_prediction_is_an_error():
    with pytest.raises(ValueError, match="text must have at least two characters for each of 1 streams, got 1"):
        model_of("plain").score("t")
    assert model_of("plain").score("the", width=60).passages[0].text == "he"


def test_the_number_of_passages_is_an_integer():
    assert model_of("plain").score("the cat", passages=0).passages == ()
    with pytest.raises(TypeError, match=re.escape("passages must be an integer, got 2.5")):
        model_of("plain").score("the cat", passages=2.5)
    with pytest.raises(ValueError, match="passages must be at least 0, got -1"):
        model_of("plain").score("the cat", passages=-1)


def test_an_infinite_perplexity_is_no_error():
    model = model_of("plain")
    model.readout.parameters["weight"][:] = 0
    model.readout.parameters["bias"][:] = np.where(np.array(VOCABULARY.symbols) == "x", 3000, 0)
    model.readout.parameters["bias"][0] = 3000
    assert model.score("the cat").perplexity == math.inf
