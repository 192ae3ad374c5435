"""Trainings that several ranks share, in float64: data, model, and arguments of `fit`."""

from functools import cache

import numpy as np

import glasscell as gc
from glasscell.data import ArrayData, ContinuousData, TextData
from glasscell.layers import Dropout, FinalState

TEXT = "the cat sat on the mat, and the dog lay on the log; " * 12
CLASSES = "categorical_cross_entropy"
DTYPE = {"dtype": np.float64}


def copy_task():
    return gc.tasks.Copy(4, min_width=2)


def copy_model():
    return gc.CopyLSTM(6, task=copy_task(), learn_initial_state=True, seed=3, **DTYPE)


def text_data():
    return TextData(TEXT, steps=7, streams=5, validation=0.2)


@cache
def num_symbols():
    return len(text_data().vocabulary)


def text_model():
    V = num_symbols()
    layers = [gc.Embedding(V, 4, **DTYPE), gc.LSTM(4, 6, num_layers=2, **DTYPE), gc.Linear(6, V, **DTYPE)]
    return gc.Sequential(layers)


def ragged_data():
    rng = np.random.default_rng(2)
    x = [rng.normal(size=(int(T), 3)) for T in rng.integers(1, 9, 31)]
    return ArrayData(x, np.arange(31) % 2, validation=(x[:9], np.arange(9) % 2))


def classifier():
    return gc.Sequential([gc.LSTM(3, 4, bidirectional=True, **DTYPE), FinalState(), gc.Linear(8, 2, **DTYPE)])


def weighted_data():
    """Sequences of different lengths with a target, and a weight, for each step."""
    rng = np.random.default_rng(5)
    lengths = rng.integers(1, 9, 25)
    x = [rng.normal(size=(int(T), 3)) for T in lengths]
    y = [np.cumsum(values, axis=0)[:, :2] for values in x]
    weights = [rng.integers(0, 3, len(values)).astype(float) for values in x]
    return ArrayData(x, y, sample_weights=weights)


def regressor():
    return gc.Sequential([gc.LSTM(3, 5, **DTYPE), gc.Linear(5, 2, **DTYPE)])


def noisy_regressor():
    return gc.Sequential([gc.LSTM(3, 5, zoneout=0.1, **DTYPE), Dropout(0.3), gc.Linear(5, 2, **DTYPE)])


def continuous_data():
    return ContinuousData(np.random.default_rng(3).integers(0, num_symbols(), 230), steps=6)


def batches():
    """Batches of an iterable, the last one smaller than four ranks."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=(18, 6, 3))
    y = np.cumsum(x, axis=1)[..., :2]
    return [(x[k : k + 5], y[k : k + 5]) for k in (0, 5, 10)] + [(x[15:], y[15:])]


ERROR = {"loss": "squared_error", "batch_size": 6}
MAIN_CASES = {
    "copy": (copy_task, copy_model, {"batch_size": 8}),
    "text": (text_data, text_model, {}),
    "ragged": (ragged_data, classifier, {"loss": CLASSES, "batch_size": 8, "metrics": ["accuracy"]}),
}
OTHER_CASES = {
    "weights": (weighted_data, regressor, ERROR),
    "windows": (weighted_data, regressor, ERROR | {"tbptt_steps": 3}),
    "accumulate": (weighted_data, regressor, ERROR | {"accumulate": 3, "clip_value": 0.05, "clip_norm": 0.2}),
    "continuous": (continuous_data, text_model, {"loss": CLASSES, "batch_size": 5}),
    "groups": (weighted_data, regressor, ERROR | {"trainable": ["1.*"], "learning_rates": {"1.bias": 2.0}}),
    "iterable": (batches, regressor, ERROR | {"optimizer": gc.SGD(0.1, momentum=0.9)}),
    "windows of the copy task": (copy_task, copy_model, {"batch_size": 8, "tbptt_steps": 4}),
}
CASES = MAIN_CASES | OTHER_CASES


def train(name, comm, updates=100, **options):
    """Return the weights and the history of a training."""
    make_data, make_model, arguments = CASES[name]
    model = make_model()
    history = gc.fit(model, make_data(), updates, comm=comm, **(arguments | options))
    return model.parameters.vector.copy(), history


def arrays(kind=ArrayData):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(24, 4, 3))
    return kind(x, np.cumsum(x, axis=1)[..., :2], validation=(x[:4], x[:4, :, :2]))
