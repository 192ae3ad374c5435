"""Law: one generator draws a model; its layers start with different weights, and the same seed gives the same bits.

A layer without a seed takes its weights from the model that contains it. One that has a seed, or weights
that were set, loaded or trained, keeps them.
"""

import copy

import numpy as np
import pytest

import glasscell as gc
from glasscell.layers import Conv1D, Function, LayerNorm
from glasscell.models import Sequential


def three(**options):
    return [gc.LSTM(4, 4, **options), gc.LSTM(4, 4, **options), gc.LSTM(4, 4, **options)]


def all_different(layers):
    vectors = [layer.parameters.vector for layer in layers]
    return all(not np.array_equal(a, b) for k, a in enumerate(vectors) for b in vectors[:k])


def test_equal_layers_start_with_different_weights():
    for layers in (
        three(),
        [gc.Linear(4, 4), Function("Relu"), gc.Linear(4, 4)],
        [Conv1D(4, 4, 2), Conv1D(4, 4, 2)],
        [copy.deepcopy(layer) for layer in [gc.LSTM(4, 4)] * 3],
    ):
        model = Sequential(layers)
        assert all_different([layer for layer in model.layers if hasattr(layer, "parameters")])
    deep = gc.LSTM(4, 4, 3)
    assert all_different_arrays([deep.parameters[f"kernel_l{k}"] for k in range(3)])
    both = gc.LSTM(4, 4, bidirectional=True)
    assert all_different_arrays([both.parameters["kernel_l0"], both.parameters["kernel_l0_reverse"]])


def all_different_arrays(arrays):
    return all(not np.array_equal(a, b) for k, a in enumerate(arrays) for b in arrays[:k])


def test_a_model_is_drawn_from_one_generator_in_the_order_of_its_layers():
    rng = np.random.default_rng(5)
    expected = [gc.Embedding(6, 4, seed=rng), gc.LSTM(4, 3, 2, seed=rng), LayerNorm(3), gc.Linear(3, 2, seed=rng)]
    for seed in (5, np.random.default_rng(5)):
        model = Sequential([gc.Embedding(6, 4), gc.LSTM(4, 3, 2), LayerNorm(3), gc.Linear(3, 2)], seed=seed)
        vectors = [layer.parameters.vector for layer in expected]
        np.testing.assert_array_equal(model.parameters.vector, np.concatenate(vectors))


def test_the_same_seed_gives_the_same_weights_and_another_one_others():
    vectors = [Sequential(three(), **given).parameters.vector for given in ({}, {"seed": 0}, {"seed": 1})]
    np.testing.assert_array_equal(vectors[0], vectors[1])
    assert not np.array_equal(vectors[0], vectors[2])


def test_a_lone_layer_is_drawn_from_seed_0():
    for kind in (gc.LSTM, gc.Linear, gc.Embedding):
        np.testing.assert_array_equal(kind(4, 4).parameters.vector, kind(4, 4, seed=0).parameters.vector)
        assert kind(4, 4).drawn_by_default
        assert not kind(4, 4, seed=0).drawn_by_default
        assert not kind(4, 4, seed=None).drawn_by_default


def kept():
    """Layers that must keep their weights, each made so that a default draw would not give them."""
    changed = gc.LSTM(4, 4)
    changed.parameters["kernel_l0"][2, 3] += 1e-3
    zero = gc.Linear(4, 4, seed=None)
    loaded = gc.LSTM.from_torch(gc.LSTM(4, 4).to_torch())  # the very weights that a default draws
    initialized = gc.LSTM(4, 4)
    initialized.initialize(0)
    return {"seed": gc.LSTM(4, 4, seed=0), "changed": changed, "zero": zero, "loaded": loaded, "set": initialized}


@pytest.mark.parametrize("name", kept())
def test_a_layer_with_a_seed_or_set_weights_keeps_them(name):
    layer = kept()[name]
    before = layer.parameters.vector.copy()
    first = gc.LSTM(4, 4)
    Sequential([first, layer], seed=3)
    np.testing.assert_array_equal(layer.parameters.vector, before)
    np.testing.assert_array_equal(first.parameters.vector, gc.LSTM(4, 4, seed=3).parameters.vector)


def test_without_a_seed_a_model_draws_nothing():
    layers = three()
    Sequential(layers, seed=None)
    for layer in layers:
        np.testing.assert_array_equal(layer.parameters.vector, gc.LSTM(4, 4).parameters.vector)


def test_a_model_in_a_model_is_drawn_by_the_outer_one():
    outer = Sequential([Sequential([gc.LSTM(4, 4)]), Sequential([gc.LSTM(4, 4), gc.LSTM(4, 4)]), gc.LSTM(4, 4)], seed=2)
    assert all_different(outer.layers)
    flat = Sequential([*three(), gc.LSTM(4, 4)], seed=2)
    np.testing.assert_array_equal(outer.parameters.vector, flat.parameters.vector)
    seeded = Sequential([gc.LSTM(4, 4)], seed=9)
    before = seeded.parameters.vector.copy()
    Sequential([gc.LSTM(4, 4), seeded])
    np.testing.assert_array_equal(seeded.parameters.vector, before)


def test_every_reader_of_files_keeps_the_weights_that_a_default_draws(tmp_path):
    """A saved model whose layers are as seed 0 draws them: no reader may take them for untouched."""
    model = Sequential([gc.LSTM(4, 4), gc.LSTM(4, 4), gc.Linear(4, 4)], ["a", "b", "fc"], seed=None)
    model.save(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(gc.load(tmp_path / "m.safetensors").parameters.vector, model.parameters.vector)
    for ending, module in {".onnx": "onnx", ".keras": "h5py", ".pt": "numpy", ".weights.h5": "h5py"}.items():
        pytest.importorskip(module)
        path = tmp_path / f"m{ending}"
        gc.convert.save(model, path)
        given = {"architecture": "a,b,fc"} if ending in (".pt", ".weights.h5") else {}
        other = gc.convert.load(path, **given)
        np.testing.assert_array_equal(other.parameters.vector, model.parameters.vector)
        again = Sequential([copy.deepcopy(layer) for layer in other.layers])
        np.testing.assert_array_equal(again.parameters.vector, model.parameters.vector)


def test_a_copy_remembers_that_it_was_drawn_by_default():
    lstm = copy.deepcopy(gc.LSTM(4, 4))
    assert lstm.drawn_by_default
    Sequential([gc.LSTM(4, 4), lstm])
    assert not np.array_equal(lstm.parameters.vector, gc.LSTM(4, 4).parameters.vector)


@pytest.mark.parametrize("seed", ["defaults", 1.5, -1, True])
def test_a_seed_that_is_none_is_refused(seed):
    for make in (lambda: gc.LSTM(2, 2, seed=seed), lambda: Sequential([gc.LSTM(2, 2)], seed=seed)):
        with pytest.raises(ValueError, match="seed must be an integer of 0 or more"):
            make()
