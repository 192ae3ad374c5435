"""Laws: a list of sequences of different lengths has the attributions of each sequence alone, and 0 behind its end."""

import numpy as np
import pytest

import glasscell as gc
from glasscell import explain

LENGTHS = (4, 6, 1)


def randomize(model, seed):
    rng = np.random.default_rng(seed)
    model.parameters.vector[:] = rng.normal(scale=0.7, size=model.parameters.vector.size)
    return model


def methods():
    return explain.integrated_gradients, explain.gradient_times_input, explain.occlusion


def check_like_single_sequences(model, sequences, output):
    for method in methods():
        result = method(model, sequences, output=output, step=-1)
        for k, sequence in enumerate(sequences):
            alone = method(model, sequence, output=output, step=-1)
            length = len(sequence)
            np.testing.assert_allclose(result.by_step[k, :length], alone.by_step, atol=1e-9)
            assert not result.by_step[k, length:].any()
            np.testing.assert_allclose(result.output[k], alone.output, atol=1e-12)
        assert np.abs(result.values[0]).max() > 1e-3


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_list_of_features_has_the_attributions_of_each_sequence(bidirectional):
    lstm = gc.LSTM(2, 5, bidirectional=bidirectional, dtype=np.float64)
    model = randomize(gc.Sequential([lstm, gc.Linear(10 if bidirectional else 5, 3, dtype=np.float64)]), 2)
    rng = np.random.default_rng(3)
    check_like_single_sequences(model, [rng.normal(size=(length, 2)) for length in LENGTHS], 1)


def test_a_list_of_ids_has_the_attributions_of_each_sequence():
    model = randomize(gc.LanguageModel(gc.data.Vocabulary("abcd"), 3, 5, num_layers=1, dtype=np.float64), 4)
    rng = np.random.default_rng(5)
    check_like_single_sequences(model, [rng.integers(0, 4, length) for length in LENGTHS], explain.LogProbability("b"))


def test_lengths_and_mask_do_not_go_with_a_list():
    lstm = gc.LSTM(2, 5)
    x = [np.ones((3, 2)), np.ones((2, 2))]
    with pytest.raises(ValueError, match=r"^lengths must be None for a list of sequences$"):
        explain.integrated_gradients(lstm, x, output="sum", lengths=[3, 2])
    with pytest.raises(ValueError, match=r"^mask must be None for a list of sequences of different lengths$"):
        explain.integrated_gradients(lstm, x, output="sum", mask=np.ones((2, 3), bool))
    with pytest.raises(ValueError, match="x must be sequences"):
        explain.integrated_gradients(lstm, [np.ones((3, 2)), np.ones((2, 3))], output="sum")
