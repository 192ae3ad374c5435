"""Models of every kind for tests of attributions, with weights that matter, in float64."""

import numpy as np

import glasscell as gc
from glasscell import layers
from glasscell.data import Vocabulary

I, T, B = 3, 6, 4
VOCABULARY = Vocabulary(tuple("abcdefg"))


def with_random_weights(model, seed=5, scale=0.6):
    vector = model.parameters.vector
    vector[:] = np.random.default_rng(seed).normal(scale=scale, size=vector.size)
    return model


def sequential(*parts):
    return with_random_weights(gc.Sequential([*parts]))


def model_of(kind):
    """A model that takes 3 features per step, and numbers or ids where its name says so."""
    f64 = {"dtype": np.float64}
    models = {
        "layer": lambda: with_random_weights(gc.LSTM(I, 4, **f64)),
        "gru": lambda: with_random_weights(gc.GRU(I, 4, **f64)),
        "steps": lambda: sequential(gc.LSTM(I, 5, **f64), gc.Linear(5, 2, **f64)),
        "stacked": lambda: sequential(gc.LSTM(I, 5, 2, bidirectional=True, **f64), gc.Linear(10, 2, **f64)),
        "rnn": lambda: sequential(gc.RNN(I, 5, **f64), gc.Linear(5, 2, **f64)),
        "convolution": lambda: sequential(
            layers.Conv1D(I, 4, 3, padding="same", **f64), gc.LSTM(4, 5, **f64), gc.Linear(5, 2, **f64)
        ),
        "final": lambda: sequential(
            gc.LSTM(I, 5, bidirectional=True, **f64), layers.FinalState(), gc.Linear(10, 3, **f64)
        ),
        "mean": lambda: sequential(gc.LSTM(I, 5, **f64), layers.Pool("mean"), gc.Linear(5, 3, **f64)),
        "masking": lambda: sequential(layers.Masking(), gc.LSTM(I, 5, **f64), gc.Linear(5, 2, **f64)),
        "numbers": lambda: sequential(
            layers.Unsqueeze(), gc.LSTM(1, 5, **f64), gc.Linear(5, 1, **f64), layers.Squeeze()
        ),
        "ids": lambda: sequential(gc.Embedding(7, 3, **f64), gc.LSTM(3, 5, **f64), gc.Linear(5, 2, **f64)),
        "text": lambda: with_random_weights(
            gc.LanguageModel(VOCABULARY, embedding_size=3, hidden_size=5, num_layers=2, **f64)
        ),
        "classifier": lambda: with_random_weights(gc.SequenceClassifier(I, ["up", "down", "flat"], 5, **f64)),
    }
    return models[kind]()


def inputs_of(kind, rng, batch=B):
    shape = (T,) if batch is None else (batch, T)
    if kind in ("ids", "text"):
        return rng.integers(0, 7, size=shape)
    return rng.normal(size=shape if kind == "numbers" else (*shape, I))


FEATURE_MODELS = ("layer", "gru", "steps", "stacked", "rnn", "convolution", "final", "mean", "masking", "classifier")
ALL_MODELS = (*FEATURE_MODELS, "numbers", "ids", "text")
