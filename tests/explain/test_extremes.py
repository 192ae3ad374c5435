"""Laws: the extreme inputs of a corpus in blocks are those of all its values, and quantiles are within their error."""

import numpy as np
import pytest
from case_loops import loop_over
from known_models import LATCHED

import glasscell as gc
from glasscell.data import Vocabulary
from glasscell.explain import extreme_inputs
from glasscell.explain.quantiles import EXACT_VALUES, StreamedQuantiles

TEXT = "A unit may open\nat one symbol (in brackets) or close. " * 12


@pytest.fixture(scope="module")
def language_model():
    return gc.LanguageModel(Vocabulary.from_text(TEXT), 6, 8, num_layers=2, initial_range=0.8, dtype=np.float64)


def by_hand(values, number, separation, sign):
    """The first places in order of value that are more than `separation` apart."""
    places = []
    for t in np.lexsort((np.arange(len(values)), -sign * values)):
        if len(places) < number and all(abs(t - other) > separation for other in places):
            places.append(int(t))
    return places


@pytest.mark.parametrize("block_steps", [5, 64, 10_000])
def test_extremes_of_a_text_are_those_of_one_pass(language_model, block_steps):
    ids = language_model.vocabulary.encode(TEXT)
    values = language_model.trace(ids).layer[1].f[:, 3]
    result = extreme_inputs(language_model, TEXT, 3, "f", number=6, context=4, separation=7, block_steps=block_steps)
    for places, sign in ((result.largest, 1), (result.smallest, -1)):
        expected = by_hand(np.round(values, 12), 6, 7, sign)
        np.testing.assert_allclose([p.value for p in places], values[expected], rtol=0, atol=1e-12)
        for place in places:
            t = place.step
            assert place.value == pytest.approx(values[t], abs=1e-12)
            assert (place.sequence, place.input) == (0, TEXT[t])
            assert (place.before, place.after) == (TEXT[max(0, t - 4) : t], TEXT[t + 1 : t + 5])
        steps = sorted(place.step for place in places)
        assert min(np.diff(steps)) > 7
    assert result.count == len(TEXT)
    np.testing.assert_allclose(result.quantiles, np.quantile(values, result.levels), rtol=0, atol=1e-12)
    assert result.quantile_error == 0
    assert (result.symbol, result.layer, result.unit) == ("f", "l1", 3)
    assert "A unit" not in repr(result)
    assert len(result.lines()) == 12
    assert not any("\n" in line for line in result.lines())


def test_pieces_of_a_text_are_one_text(language_model, tmp_path):
    whole = extreme_inputs(language_model, TEXT, 1, block_steps=50)
    pieces = (TEXT[k : k + 13] for k in range(0, len(TEXT), 13))
    for corpus in (pieces, TEXT.splitlines(keepends=True)):
        result = extreme_inputs(language_model, corpus, 1, block_steps=50)
        assert result.largest == whole.largest
        np.testing.assert_array_equal(result.quantiles, whole.quantiles)
    (tmp_path / "text.txt").write_text(TEXT, "utf-8")
    with (tmp_path / "text.txt").open(encoding="utf-8") as file:
        assert extreme_inputs(language_model, file, 1, block_steps=50).smallest == whole.smallest
    ids = language_model.vocabulary.encode(TEXT)
    assert extreme_inputs(language_model, ids, 1, block_steps=50).largest == whole.largest


def test_several_units_share_the_passes(language_model):
    results = extreme_inputs(language_model, TEXT, [2, -1], "o", layer=0)
    assert [result.unit for result in results] == [2, 7]
    assert results[0].largest == extreme_inputs(language_model, TEXT, 2, "o", layer=0).largest


def test_a_series_carries_its_state_from_block_to_block(rng):
    lstm, x = gc.LSTM(2, 3, seed=1, dtype=np.float64), rng.normal(size=(100, 2))
    result = extreme_inputs(lstm, x, 0, number=3, context=2, block_steps=9)
    values = lstm.trace(x).layer[0].c[:, 0]
    assert [place.step for place in result.largest] == by_hand(values, 3, 2, 1)
    t = result.largest[0].step
    np.testing.assert_array_equal(result.largest[0].before, x[max(0, t - 2) : t])
    np.testing.assert_array_equal(result.largest[0].input, x[t : t + 1])
    assert result.source == "one sequence of 100 steps"
    steps = extreme_inputs(lstm, x[:20], 0, number=3, context=0, block_steps=1)
    np.testing.assert_allclose(steps.largest[0].value, values[:20].max(), rtol=0, atol=1e-12)
    assert [place.step for place in steps.largest] == by_hand(values[:20], 3, 0, 1)


def test_sets_of_sequences_and_bits(latch, trained):
    result = extreme_inputs(latch.model, latch.x, 0, number=40, context=3, batch_size=10)
    assert all(latch.bits[place.sequence, LATCHED] == 1 for place in result.largest[:32])
    assert all(place.step >= LATCHED for place in result.largest[:32])
    assert result.largest[0].value == pytest.approx(np.tanh(1))
    lengths = np.full(64, 6)
    lengths[:32] = 2
    short = extreme_inputs(latch.model, latch.x, 1, lengths=lengths, number=1, context=9)
    assert short.count == 32 * 6 + 32 * 2
    place = short.largest[0]
    assert len(place.before) + 1 + len(place.after) == lengths[place.sequence]
    copied = extreme_inputs(trained, trained.task, 0, "i", number=1, context=20)
    place = copied.largest[0]
    assert place.before + place.input + place.after == f"{place.sequence:04b}|...."
    assert copied.source.startswith("all 16 inputs")


def test_places_are_separate_in_each_sequence(rng):
    lstm, x = gc.LSTM(2, 3, seed=1, dtype=np.float64), rng.normal(size=(4, 12, 2))
    values = lstm.trace(x).layer[0].c[..., 0]
    result = extreme_inputs(lstm, x, 0, number=9, separation=3, context=1, batch_size=3)
    expected: list[tuple[int, int]] = []
    for n, t in sorted(np.ndindex(4, 12), key=lambda place: -values[place]):
        if len(expected) < 9 and all(m != n or abs(s - t) > 3 for m, s in expected):
            expected.append((n, t))
    assert [(place.sequence, place.step) for place in result.largest] == expected
    assert len({place.sequence for place in result.largest}) > 1


def test_masked_steps_are_no_values(rng):
    model = gc.Sequential([gc.Embedding(5, 3, mask_zero=True), gc.LSTM(3, 4)])
    ids = rng.integers(5, size=(6, 8))
    assert extreme_inputs(model, ids, 0).count == (ids > 0).sum()


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e6])
def test_streamed_quantiles_are_within_their_error(rng, scale):
    values = scale * np.concatenate([rng.normal(size=50_000), 5 * rng.normal(size=50_000), rng.normal(size=3000) - 40])
    stream = StreamedQuantiles()
    for block in np.array_split(values, 23):
        stream.add(block)
    levels = np.array([0, 0.001, 0.01, 0.3, 0.5, 0.9, 0.999, 1])
    assert stream.count == len(values)
    assert 0 < stream.error < scale * 40 * 4 / EXACT_VALUES
    np.testing.assert_allclose(stream.quantiles(levels), np.quantile(values, levels), rtol=0, atol=stream.error * 1.001)
    np.testing.assert_array_equal(stream.quantiles(levels)[[0, -1]], [values.min(), values.max()])


def test_quantiles_of_a_histogram_are_between_two_numbers():
    stream, N = StreamedQuantiles(), EXACT_VALUES + 5000
    stream.add(np.r_[np.zeros(N - 1), 1.0])
    levels = np.array([N - 2.5, N - 1.5, N - 1]) / (N - 1)  # half-way between the last zeros; to the one; the one
    np.testing.assert_allclose(stream.quantiles(levels), [0, 0.5, 1], rtol=0, atol=1.001 * stream.error + 1e-9)


def test_a_constant_has_one_quantile():
    for value in (0.0, 1.0, -3.0):
        stream = StreamedQuantiles()
        for _ in range(3):
            stream.add(np.full(EXACT_VALUES // 2, value))
        np.testing.assert_array_equal(stream.quantiles(np.array([0.0, 0.5, 1.0])), value)


@loop_over(
    ("arguments", "error", "message"),
    [
        ({"corpus": "what? ß"}, ValueError, r"corpus must consist of characters .* got 'w'"),
        ({"corpus": ["A unit", "ß"]}, ValueError, r"piece 1 of corpus must consist of characters .* got 'ß'"),
        ({"corpus": ["A unit", 3]}, TypeError, "corpus must be pieces of text, got an int as piece 1"),
        ({"corpus": ""}, ValueError, "at least one step, got none"),
        ({"corpus": []}, ValueError, "at least one step, got none"),
        ({"corpus": np.zeros(0, int)}, ValueError, "at least one step, got none"),
        ({"corpus": 3}, TypeError, "corpus must be a text, arrays, a batch or a task, got an int"),
        ({"unit": 8}, ValueError, "unit must be from -8 to 7, got 8"),
        ({"unit": "a"}, TypeError, "unit must be an integer, got 'a'"),
        ({"unit": []}, ValueError, "unit must be an integer, or at least one, got none"),
        ({"symbol": "q"}, ValueError, "symbol must be one of .* got 'q'"),
        ({"layer": 2}, ValueError, "layer must be from -2 to 1, the number of one of l0, l1, got 2"),
        ({"number": 0}, ValueError, "number must be at least 1, got 0"),
        ({"context": -1}, ValueError, "context must be at least 0"),
        ({"levels": [2]}, ValueError, r"levels must be from 0 to 1, got \[2\]"),
        ({"lengths": [3]}, ValueError, "lengths and which must be None for one sequence"),
    ],
)
def test_what_does_not_fit_is_one_clear_error(language_model, arguments, error, message):
    options = {"corpus": TEXT, "unit": 0} | arguments
    with pytest.raises(error, match=message):
        extreme_inputs(language_model, options.pop("corpus"), options.pop("unit"), **options)


def test_texts_need_a_vocabulary_and_one_direction(rng):
    with pytest.raises(TypeError, match="for a model without a vocabulary, got a text"):
        extreme_inputs(gc.LSTM(2, 3), "text", 0)
    both = gc.LSTM(2, 3, bidirectional=True)
    assert extreme_inputs(both, rng.normal(size=(50, 2)), 0, block_steps=50).count == 50
    with pytest.raises(ValueError, match="at most block_steps = 49 steps for a model that runs backward in time"):
        extreme_inputs(both, rng.normal(size=(50, 2)), 0, block_steps=49)
