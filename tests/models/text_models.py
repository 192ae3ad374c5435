"""Language models of every kind for tests, with weights that matter."""

import numpy as np

import glasscell as gc
from glasscell.data import Vocabulary

TEXT = "the cat sat on the mat, and the dog sat on the log.\n"
VOCABULARY = Vocabulary.from_text(TEXT)
MODELS = {
    "plain": {},
    "dropout": {"num_layers": 2, "dropout": 0.2, "output_dropout": 0.3},
    "tied": {"embedding_size": 7, "tied": True},
    "float64": {"dtype": np.float64, "initial_range": 0.4},
    "bytes": {"vocabulary": Vocabulary((), "bytes")},
    "words": {"vocabulary": Vocabulary.from_text(TEXT, "words")},
}


def model_of(kind, **options):
    """A model with weights that matter."""
    arguments = {
        "vocabulary": VOCABULARY,
        "embedding_size": 5,
        "hidden_size": 7,
        "num_layers": 1,
        **MODELS[kind],
        **options,
    }
    model = gc.LanguageModel(**arguments)
    model.parameters.vector[:] = np.random.default_rng(3).normal(scale=0.5, size=model.parameters.vector.size)
    return model


def losses_of(model, ids):
    """-log p of each symbol after the first, from one forward pass in float64."""
    logits = model(ids[:-1]).astype(np.float64)
    return np.log(np.exp(logits).sum(axis=-1)) - np.take_along_axis(logits, ids[1:, None], -1)[:, 0]
