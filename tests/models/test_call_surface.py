"""Law: models and layers have one call surface, one convention of results, and ``d_outputs`` everywhere.

``forward`` returns (outputs, tape), or (outputs, states, tape) of what has a state; ``backward(tape, d_outputs)`` the
gradients in the order of the arguments of ``forward``, and last those on the parameters, of what has parameters.
"""

import inspect

import numpy as np
import pytest
from case_loops import loop_over

import glasscell as gc
from glasscell import layers
from glasscell.layers.registry import MODULES, layer_class

CALLS = {"__call__", "forward", "backward"}
WEIGHTS = {"parameters", "save", "load", "summary", "config"}
STATES = {"infer", "trace", "stream"}
LAYER = {"config", "forward_feature_major", "backward_feature_major", "stream_stage", "output_features", "output_mask"}
SURFACE = {
    gc.Sequential: CALLS | WEIGHTS | {"trace", "stream", "to_torch", "predict", "from_weights"},
    gc.CopyLSTM: CALLS | WEIGHTS | {"trace", "stream", "to_torch", "predict", "from_weights", "copy", "copy_integers"},
    gc.LSTM: CALLS | WEIGHTS | STATES | LAYER | {"to_torch", "from_torch", "to_keras", "from_keras"},
    layers.RNN: CALLS | WEIGHTS | STATES | LAYER | {"to_torch", "from_torch"},
    layers.GRU: CALLS | WEIGHTS | STATES | LAYER | {"to_torch", "from_torch"},
    gc.Linear: CALLS | WEIGHTS | LAYER,
    gc.Embedding: CALLS | WEIGHTS | LAYER,
    layers.LayerNorm: CALLS | WEIGHTS | LAYER | {"to_torch", "load_torch"},
    layers.BatchNorm: CALLS | WEIGHTS | LAYER | {"to_torch", "load_torch"},
    layers.Conv1D: CALLS | WEIGHTS | LAYER | {"to_torch", "load_torch"},
    layers.FeatureEmbedding: CALLS | WEIGHTS | LAYER | {"to_torch", "load_torch"},
}


@loop_over("kind", SURFACE, ids=lambda kind: kind.__name__)
def test_the_surface_of_each_class(kind):
    assert {name for name in SURFACE[kind] if not hasattr(kind, name)} == set()


@loop_over("kind", [*SURFACE, *map(layer_class, MODULES)], ids=lambda kind: kind.__name__)
def test_backward_takes_tape_and_d_outputs(kind):
    names = list(inspect.signature(kind.backward).parameters)
    assert names[:3] == ["self", "tape", "d_outputs"]
    assert set(names[3:]) <= {"d_final_state", "d_final_states", "step_gradients"}


def test_every_layer_with_parameters_is_listed():
    with_parameters = {layer_class(name) for name in MODULES if hasattr(layer_class(name), "parameters")}
    assert with_parameters == set(SURFACE) - {gc.Sequential, gc.CopyLSTM}


D = {"dtype": np.float64}
MADE = {
    "LSTM": lambda: gc.LSTM(3, 4, **D),
    "RNN": lambda: layers.RNN(3, 4, **D),
    "GRU": lambda: layers.GRU(3, 4, **D),
    "Linear": lambda: gc.Linear(3, 4, **D),
    "Embedding": lambda: gc.Embedding(5, 4, **D),
    "LayerNorm": lambda: layers.LayerNorm(3, **D),
    "Conv1D": lambda: layers.Conv1D(3, 4, 2, **D),
    "Sequential": lambda: gc.Sequential([gc.LSTM(3, 4, **D), gc.Linear(4, 2, **D)]),
    "ids": lambda: gc.Sequential([gc.Embedding(5, 3, **D), gc.LSTM(3, 4, **D)]),
    "CopyLSTM": lambda: gc.CopyLSTM(4, **D),
}


@loop_over("shape", [(2, 6), (6,)])
@loop_over("name", MADE)
def test_results_come_in_one_order(name, shape, rng):
    model, ids = MADE[name](), name in ("Embedding", "ids")
    x = rng.integers(5, size=shape) if ids else rng.normal(size=(*shape, 2 if name == "CopyLSTM" else 3))
    outputs, *state, tape = model.forward(x)
    stateful = name in ("LSTM", "RNN", "GRU", "Sequential", "ids", "CopyLSTM")
    assert len(state) == stateful
    dx, *d_state, gradients = model.backward(tape, d_outputs=np.ones_like(outputs))
    assert len(d_state) == stateful
    assert dx is None if ids else dx.shape == x.shape
    assert gradients.shapes == model.parameters.shapes
    np.testing.assert_allclose(model(x), outputs, rtol=0, atol=1e-14)


def test_predict_takes_arrays_lists_and_lengths(rng):
    model = gc.Sequential([gc.LSTM(3, 4, **D), layers.FinalState(), gc.Linear(4, 2, **D)])
    steps = gc.Sequential([gc.LSTM(3, 4, bidirectional=True, **D), gc.Linear(8, 2, **D)])
    ragged = [rng.normal(size=(int(T), 3)) for T in rng.integers(1, 9, 23)]
    lengths = np.array([len(x) for x in ragged])
    padded = np.full((23, 8, 3), 0.5)
    for x, row in zip(ragged, padded, strict=True):
        row[: len(x)] = x
    for size in (1, 4, 100):
        found = model.predict(ragged, batch_size=size)
        np.testing.assert_allclose(found, [model(x) for x in ragged], rtol=0, atol=1e-13)
        np.testing.assert_allclose(model.predict(padded, batch_size=size, lengths=lengths), found, rtol=0, atol=1e-13)
        np.testing.assert_allclose(model.predict(padded, batch_size=size), model(padded), rtol=0, atol=1e-13)
        sequences = steps.predict(ragged, batch_size=size)
        for x, y in zip(ragged, sequences, strict=True):
            np.testing.assert_allclose(y, steps(x), rtol=0, atol=1e-13)
        whole = steps.predict(padded, batch_size=size, lengths=lengths)
        for y, row, length in zip(sequences, whole, lengths, strict=True):
            np.testing.assert_allclose(row[:length], y, rtol=0, atol=1e-13)
            assert not row[length:].any()
    ids = [rng.integers(5, size=int(T)) for T in (3, 1, 5)]
    of_ids = gc.Sequential([gc.Embedding(5, 3, **D), gc.LSTM(3, 4, **D), layers.Pool("max")])
    np.testing.assert_allclose(of_ids.predict(ids), [of_ids(x) for x in ids], rtol=0, atol=1e-13)
    with pytest.raises(ValueError, match="batch_size"):
        model.predict(ragged, batch_size=0)


@pytest.mark.parametrize(
    "chain",
    [
        [layers.Conv1D(2, 3, 2)],
        [layers.Conv1D(2, 3, 2, stride=2)],
        [layers.Conv1D(2, 3, 2, padding=(3, 3))],
        [gc.GRU(2, 3), layers.FinalState(), layers.RepeatVector(4)],
        [gc.GRU(2, 3), layers.FinalState(), layers.RepeatVector(9), gc.GRU(3, 1), layers.Squeeze()],
    ],
    ids=str,
)
def test_predict_keeps_outputs_of_another_number_of_steps(chain, rng):
    model, x = gc.Sequential(chain), rng.normal(size=(5, 6, 2))
    np.testing.assert_allclose(model.predict(x, batch_size=2), model(x), rtol=0, atol=1e-6)
    ragged = [x[0, :3], x[1], x[2, :4]]
    for y, sequence in zip(model.predict(ragged, batch_size=1), ragged, strict=True):
        np.testing.assert_allclose(y, model(sequence), rtol=0, atol=1e-6)
