"""SequenceClassifier and SequenceRegressor: layers, scaling, labels, and training through `fit`."""

import numpy as np
import pytest

import glasscell as gc
from glasscell.layers import Normalization


def ragged(rng: np.random.Generator, count: int = 24, features: int = 2) -> list[np.ndarray]:
    return [rng.normal(3, 20, size=(int(length), features)) for length in rng.integers(2, 7, count)]


@pytest.mark.parametrize("pooling", ["last", "mean", "max"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_ragged_sequences_give_the_outputs_of_each_alone(pooling: str, bidirectional: bool) -> None:
    rng = np.random.default_rng(0)
    model = gc.SequenceClassifier(2, 3, 5, bidirectional=bidirectional, pooling=pooling, dtype=np.float64, seed=1)
    x = ragged(rng)
    gc.fit(model, (x, rng.integers(0, 3, len(x))), updates=2)
    together = model.predict(x)
    for sequence, outputs in zip(x, together, strict=True):
        np.testing.assert_allclose(model(sequence), outputs, atol=1e-12)


def test_the_scaling_is_that_of_the_training_part_and_is_estimated_once() -> None:
    rng = np.random.default_rng(1)
    x, labels = ragged(rng), ["a", "b"] * 12
    model = gc.SequenceClassifier(2, ["a", "b"], 4)
    gc.fit(model, (x, labels), updates=1, validation=0.25)
    steps = np.concatenate(x[:18])
    scaling = model.layers[0]
    assert isinstance(scaling, Normalization)
    np.testing.assert_allclose(scaling.mean, steps.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(scaling.variance, steps.var(axis=0), rtol=1e-12)
    gc.fit(model, ([2 * sequence for sequence in x], labels), updates=1)
    assert model.layers[0] == scaling
