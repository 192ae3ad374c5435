"""Trainings of every kind, for laws on their states: data, model, and arguments of `fit`."""

import numpy as np

import glasscell as gc
from glasscell.data import ArrayData, ContinuousData, TextData
from glasscell.layers import Dropout, FinalState
from glasscell.training import schedules

CLASSES = "categorical_cross_entropy"


def array_data():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(22, 6, 3))
    return ArrayData(x, np.cumsum(x, axis=1)[..., :2], validation=0.3)


def regressor():
    return gc.Sequential([gc.LSTM(3, 5), Dropout(0.3), gc.Linear(5, 2)])


def ragged_data():
    rng = np.random.default_rng(2)
    x = [rng.normal(size=(int(T), 3)) for T in rng.integers(1, 9, 30)]
    return ArrayData(x, np.arange(30) % 2, validation=(x[:9], np.arange(9) % 2))


def classifier():
    return gc.Sequential([gc.LSTM(3, 4, bidirectional=True), FinalState(), gc.Linear(8, 2)])


def continuous_data():
    return ContinuousData(np.random.default_rng(3).integers(0, 7, 230), steps=6)


def language_model():
    layers = [gc.Embedding(7, 4), gc.LSTM(4, 6, num_layers=2, dropout=0.2, zoneout=0.1), gc.Linear(6, 7)]
    return gc.Sequential(layers)


def copy_task():
    return gc.tasks.Copy(4, min_width=2)


def copy_model():
    return gc.CopyLSTM(6, task=copy_task(), learn_initial_state=True)


def batches():
    x, y = array_data().x, array_data().y
    return [(x[k : k + 4], y[k : k + 4]) for k in (0, 4, 8)]


ERROR, TASK = {"loss": "squared_error", "batch_size": 4}, {"batch_size": 8}
GROUPS = {"trainable": ["0.*"], "learning_rates": {"0.*": 2.0}}
CASES = {
    "arrays": (array_data, regressor, ERROR),
    "early stopping": (array_data, regressor, ERROR | {"evaluate_every": 2, "patience": 3}),
    "windows of arrays": (array_data, regressor, ERROR | {"tbptt_steps": 4}),
    "ragged": (ragged_data, classifier, {"loss": CLASSES, "batch_size": 4, "accumulate": 2, "keep": "best"}),
    "parameter groups": (ragged_data, classifier, {"loss": CLASSES, "batch_size": 8} | GROUPS),
    "continuous": (continuous_data, language_model, {"loss": CLASSES, "batch_size": 4}),
    "iterable": (batches, regressor, ERROR | {"optimizer": gc.SGD(0.1, momentum=0.9)}),
    "copy task": (copy_task, copy_model, TASK | {"evaluate_every": 3}),
    "windows of the copy task": (copy_task, copy_model, TASK | {"tbptt_steps": 4}),
}

TEXT = "the cat sat on the mat, and the dog lay on the log; " * 12


def text_data():
    return TextData(TEXT, steps=7, streams=4, validation=0.2)


def text_model():
    vocabulary = TextData(TEXT, steps=7, streams=4).vocabulary
    return gc.LanguageModel(vocabulary, embedding_size=5, hidden_size=6, dropout=0.2, output_dropout=0.1)


def labels():
    data = ragged_data()
    return data.x, np.array(["no", "yes"])[data.y]


def label_model():
    return gc.SequenceClassifier(3, ["no", "yes"], hidden_size=4, bidirectional=True, dropout=0.2, seed=1)


def series():
    t = np.arange(90)
    return gc.Forecaster(horizon=2, hidden_size=4, seed=1).training_data(np.sin(0.7 * t) + 0.01 * t, held_out=20)


def forecaster():
    return gc.Forecaster(horizon=2, hidden_size=4, seed=1)


def gru():
    return gc.GRU(3, 2)


OPTIMIZERS = {
    "SGD": gc.SGD(0.1),
    "momentum": gc.SGD(0.1, momentum=0.9, nesterov=True),
    "RMSProp": gc.RMSProp(0.01, momentum=0.5, centered=True),
    "AdamW": gc.AdamW(0.01),
    "AMSGrad": gc.AMSGrad(0.01),
    "NAdam": gc.NAdam(0.01),
    "Adagrad": gc.Adagrad(0.01, learning_rate_decay=0.1),
    "Adadelta": gc.Adadelta(1.0),
}
SCHEDULE = schedules.warmup(3, schedules.cosine(17))
ALL_CASES = (
    CASES
    | {"text": (text_data, text_model, {"keep": "best", "evaluate_every": 4})}
    | {"labels": (labels, label_model, {"batch_size": 8, "validation": 0.2, "patience": 30, "evaluate_every": 2})}
    | {"series": (series, forecaster, {"evaluate_every": 3, "batch_size": 4})}
    | {"layer": (array_data, gru, ERROR | {"clip_value": 0.1})}
    | {name: (array_data, regressor, ERROR | {"optimizer": optimizer}) for name, optimizer in OPTIMIZERS.items()}
    | {"schedule": (array_data, regressor, ERROR | {"schedule": SCHEDULE, "tbptt_steps": 4, "accumulate": 2})}
)
