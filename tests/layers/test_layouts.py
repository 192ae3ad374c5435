"""Layers that write another layout in memory compute the numbers of their definitions."""

import numpy as np
import pytest
from case_loops import loop_over

import glasscell as gc
from glasscell.core import losses
from glasscell.core.buffers import BufferPool
from glasscell.core.losses import categorical_cross_entropy
from glasscell.data import Batch
from glasscell.layers.embedding import add_rows


@loop_over("dtype", [np.float32, np.float64])
@loop_over("shape", [(4, 3, 5), (4, 3, 1), (1, 2, 5), (3, 5)])
@loop_over("layout", ["columns", "rows"])
def test_dropout_in_a_model_is_that_of_batches(layout, shape, dtype, rng):
    layer, x, d = gc.layers.Dropout(0.4), rng.normal(size=shape).astype(dtype), rng.normal(size=shape).astype(dtype)
    if layout == "rows":
        x, d = (np.ascontiguousarray(array.swapaxes(-1, -2)).swapaxes(-1, -2) for array in (x, d))
    expected, tape = layer.forward(np.moveaxis(x, -1, 0), rng=np.random.default_rng(3))
    result = layer.forward_feature_major(x, rng=np.random.default_rng(3))
    np.testing.assert_array_equal(result.outputs, np.moveaxis(expected, 0, -1))
    dx = layer.backward_feature_major(result.tape, d)
    np.testing.assert_array_equal(np.moveaxis(dx, -1, 0), layer.backward(tape, np.moveaxis(d, -1, 0)))
    assert {result.outputs.dtype, dx.dtype} == {np.dtype(dtype)}
    kept = result.outputs != 0
    np.testing.assert_allclose(result.outputs[kept], x[kept] / 0.6, rtol=1e-6)
    assert layer.forward_feature_major(x).outputs is x


@loop_over("dtype", [np.float32, np.float64])
@loop_over("width", [1, 3])
@loop_over("symbols", [[], [2], [0, 1, 2], [4, 4, 4, 4], [3, 0, 3, 4, 0, 3]])
def test_rows_are_added_to_those_of_their_symbols(symbols, width, dtype, rng):
    table, rows = rng.normal(size=(5, width)).astype(dtype), rng.normal(size=(len(symbols), width)).astype(dtype)
    expected = table.astype(np.float64)
    np.add.at(expected, np.array(symbols, int), rows)
    before = rows.copy()
    add_rows(table, np.array(symbols, int), rows)
    np.testing.assert_allclose(table, expected, rtol=0, atol=20 * float(np.finfo(dtype).eps))
    np.testing.assert_array_equal(rows, before)


def test_a_wide_softmax_in_training_has_the_gradients_of_finite_differences(rng):
    float64 = np.dtype(np.float64)
    model = gc.Sequential(
        [
            *(gc.layers.Embedding(70, 6, dtype=float64), gc.layers.Dropout(0.3), gc.LSTM(6, 5, dtype=float64)),
            *(gc.layers.Dropout(0.3), gc.Linear(5, 70, dtype=float64)),
        ]
    )
    weights, direction = rng.normal(scale=0.5, size=(2, model.parameters.vector.size))
    x = rng.integers(0, 70, (3, 4))
    batch = Batch(x, x[:, ::-1], rng.uniform(size=x.shape) * (x > 20))
    gradients, buffers = model.parameters.zeros_like(), BufferPool()

    def run(step=0.0):
        model.parameters.vector[:] = weights + step * direction
        outputs, _, tape = model.train_forward(batch, None, buffers, np.random.default_rng(1))
        assert not model.keeps_outputs
        value, d = categorical_cross_entropy(outputs, batch.targets, batch.weights, out=outputs)
        assert np.shares_memory(d, outputs)
        return value, d, tape

    for _ in range(2):
        h = 1e-4
        derivative = (8 * (run(h)[0] - run(-h)[0]) - (run(2 * h)[0] - run(-2 * h)[0])) / (12 * h)
        _, d, tape = run()
        model.train_backward(tape, d, gradients, buffers)
        found = np.vdot(gradients.vector, direction)
        assert abs(found - derivative) <= 1e-8 * np.linalg.norm(gradients.vector)
        direction = rng.normal(size=direction.size)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("V", [1, 64, 200])
def test_losses_and_gradients_of_a_language_model_are_pytorchs(V, weighted, torch, rng):
    float64 = np.dtype(np.float64)
    layers = [gc.layers.Embedding(V, 6, dtype=float64), gc.LSTM(6, 5, dtype=float64), gc.Linear(5, V, dtype=float64)]
    model = gc.Sequential(layers, ["embedding", "lstm", "readout"])
    model.parameters.vector[:] = rng.normal(scale=0.5, size=model.parameters.vector.size)
    theirs = {
        "embedding": torch.nn.Embedding(V, 6),
        "lstm": torch.nn.LSTM(6, 5, batch_first=True),
        "readout": torch.nn.Linear(5, V),
    }
    module = torch.nn.ModuleDict(theirs).double()
    module.load_state_dict({name: torch.from_numpy(array) for name, array in model.to_torch().items()})
    x, y = rng.integers(0, V, (2, 3, 4))
    weights = rng.uniform(size=x.shape) * (rng.uniform(size=x.shape) < 0.7) if weighted else None
    logits = module["readout"](module["lstm"](module["embedding"](torch.from_numpy(x)))[0])
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.from_numpy(y).flatten(), reduction="none")
    w = torch.ones(losses.shape).double() if weights is None else torch.from_numpy(weights).flatten()
    expected = (losses * w).sum() / w.sum()
    expected.backward()

    batch, buffers, gradients = Batch(x, y, weights), BufferPool(), model.parameters.zeros_like()
    outputs, _, tape = model.train_forward(batch, None, buffers, None)
    found, d = categorical_cross_entropy(outputs, batch.targets, batch.weights, out=outputs)
    model.train_backward(tape, d, gradients, buffers)
    assert found == pytest.approx(expected.item(), rel=1e-13, abs=1e-14)
    for name in ("embedding.weight", "readout.weight", "readout.bias"):
        theirs_of_name = module.get_parameter(name).grad.numpy()
        np.testing.assert_allclose(gradients[name], theirs_of_name, rtol=1e-10, atol=1e-14)
    W_hh = module.get_parameter("lstm.weight_hh_l0").grad.numpy()
    kernel = gradients["lstm.kernel_l0"][:, :5]
    np.testing.assert_allclose(np.sort(kernel, axis=None), np.sort(W_hh, axis=None), rtol=1e-10, atol=1e-14)


def test_an_interrupted_loss_changes_no_later_pass(monkeypatch, rng):
    model = gc.Sequential([gc.layers.Embedding(80, 6), gc.LSTM(6, 5), gc.Linear(5, 80)])
    x = rng.integers(0, 80, (3, 4))
    batch, buffers = Batch(x, x[:, ::-1]), BufferPool()
    gradients, weights = model.parameters.zeros_like(), model.parameters.vector.copy()

    def run():
        outputs, _, tape = model.train_forward(batch, None, buffers, None)
        value, d = categorical_cross_entropy(outputs, batch.targets, batch.weights, out=outputs)
        model.train_backward(tape, d, gradients, buffers)
        return value, gradients.vector.copy()

    expected = run()

    def interrupt(function, blocks):
        function(blocks[0])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(losses, "SOFTMAX_BLOCK", 100)
        patch.setattr(losses, "for_each", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run()
    np.testing.assert_array_equal(model.parameters.vector, weights)
    found = run()
    assert found[0] == expected[0]
    np.testing.assert_array_equal(found[1], expected[1])
