"""Law: a summary has one row per layer, its numbers are those of the model, and it prints as a table."""

import numpy as np
import pytest

import glasscell as gc
from glasscell.layers import BatchNorm, Conv1D, FinalState, Flatten, Function, Pool, RepeatVector, Squeeze, Unsqueeze

MODELS = {
    "classifier": lambda: gc.Sequential(
        [gc.LSTM(3, 16, 2, bidirectional=True, dropout=0.5), FinalState(), gc.Linear(32, 2, dtype=np.float32)]
    ),
    "numbers": lambda: gc.Sequential([Unsqueeze(), gc.LSTM(1, 4), gc.Linear(4, 1), Squeeze()]),
    "ids": lambda: gc.Sequential([gc.Embedding(7, 4, mask_zero=True), gc.layers.GRU(4, 5), Pool("max")], seed=3),
    "windows": lambda: gc.Sequential([Conv1D(3, 4, 2), BatchNorm(4), Function("Relu"), Flatten()]),
    "decoder": lambda: gc.Sequential([FinalState(), RepeatVector(3), gc.layers.RNN(3, 4)]),
    "copy": lambda: gc.CopyLSTM(8),
    "LSTM": lambda: gc.LSTM(3, 5, proj_size=2, dtype=np.float64),
}
INPUTS = {"numbers": (2, 6), "copy": (2, 6, 2)}


@pytest.mark.parametrize("name", MODELS)
def test_the_numbers_are_those_of_the_model(name, rng):
    model = MODELS[name]()
    summary = model.summary()
    layers = getattr(model, "layers", [model])
    x = rng.integers(1, 7, (2, 6)) if name == "ids" else rng.normal(size=INPUTS.get(name, (2, 6, 3)))
    outputs = model(x)
    assert summary.rows[-1].outputs.count(",") == outputs.ndim - 1
    last = summary.rows[-1].outputs.strip("()").split(", ")[-1]
    assert last in ("?", "T") or int(last) == outputs.shape[-1]
    assert [row.name for row in summary.rows] == list(getattr(model, "names", ["lstm"]))
    counts = [layer.parameters.vector.size if hasattr(layer, "parameters") else 0 for layer in layers]
    assert [row.parameters for row in summary.rows] == counts
    assert summary.parameters == sum(counts) == model.parameters.vector.size
    assert summary.bytes == model.parameters.vector.nbytes
    lines = str(summary).splitlines()
    assert len(lines) == len(layers) + 4
    assert len({len(line) for line in lines[:-1]}) == 1


def test_the_table():
    assert str(MODELS["classifier"]().summary()) == (
        "layer  type                                                        outputs     parameters\n"
        "-----------------------------------------------------------------------------------------\n"
        "0      LSTM(3, 16, num_layers=2, bidirectional=True, dropout=0.5)  (B, T, 32)       8,832\n"
        "1      FinalState(directions='both')                               (B, 32)              0\n"
        "2      Linear(32, 2)                                               (B, 2)              66\n"
        "-----------------------------------------------------------------------------------------\n"
        "8,898 parameters, 35,592 bytes (float32)"
    )
    assert str(MODELS["LSTM"]().summary()).splitlines()[2:] == [
        "lstm   LSTM(3, 5, proj_size=2)  (B, T, 2)         130",
        "-----------------------------------------------------",
        "130 parameters, 1,040 bytes (float64)",
    ]


def test_shared_arrays_count_once():
    layers = [gc.Embedding(9, 4), gc.LSTM(4, 4), gc.Linear(4, 9)]
    tied = gc.Sequential(layers, ties={"2.weight": "0.weight"}).summary()
    assert [row.parameters for row in tied.rows] == [36, 144, 9]
    assert tied.parameters == 189


def test_the_numbers_of_many_features_are_shortened() -> None:
    normalization = gc.layers.Normalization([0.5, 1 / 3, 2, 7], [1, 1, 1, 4])
    assert repr(normalization) == "Normalization(mean=(0.5, 0.333333, 2, …), variance=(1, 1, 1, …))"
    assert repr(gc.layers.Normalization([1], 4, invert=True)) == "Normalization(mean=(1,), variance=4, invert=True)"
    assert repr(gc.layers.Rescaling(0.25)) == "Rescaling(scale=0.25, offset=0)"
