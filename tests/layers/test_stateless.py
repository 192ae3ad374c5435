"""Law: layers without parameters compute what they say, and their backward pass is the adjoint of that."""

import numpy as np
import pytest
from case_loops import loop_over

from glasscell.layers import FinalState, Function, Masking, Pool, Step, SwapHalves

MASK = np.array([[1, 1, 1, 1, 1], [0, 1, 0, 1, 0], [1, 0, 0, 0, 0], [0, 0, 1, 1, 1]], bool)
LAYERS = [
    *(Function(name) for name in ("Tanh", "Softplus", "Softmax", "LogSoftmax", "Elu", "Affine")),
    *(Step(index) for index in (0, 2, -1, -2)),
    *(FinalState("both", keep) for keep in ("both", "forward", "reverse")),
    *(FinalState("both", merge=merge) for merge in ("sum", "average", "multiply")),
    *(FinalState("forward"), FinalState("reverse"), Pool("mean"), Pool("max"), SwapHalves(), Masking(0.5)),
]


@loop_over("masked", [False, True])
@loop_over("layer", LAYERS, ids=repr)
def test_backward_is_the_adjoint(layer, masked, rng):
    x = rng.normal(size=(4, 5, 6))
    mask = MASK if masked else None
    y, tape = layer.forward(x, mask)
    dy, along, step = rng.normal(size=y.shape), rng.normal(size=x.shape), 1e-5
    ahead, behind = (layer.forward(x + s * along, mask)[0] for s in (step, -step))
    measured = (dy * (ahead - behind)).sum() / (2 * step)
    assert (layer.backward(tape, dy) * along).sum() == pytest.approx(measured, rel=1e-7, abs=1e-8)


@loop_over("layer", LAYERS, ids=repr)
def test_a_batch_equals_its_sequences(layer, rng):
    x = rng.normal(size=(4, 5, 6))
    together = layer.forward(x, None)[0]
    for b in range(4):
        np.testing.assert_array_equal(layer.forward(x[b], None)[0], together[b])


@loop_over("dtype", [np.float32, np.float64])
@loop_over("layer", LAYERS, ids=repr)
def test_dtype_is_preserved(layer, dtype, rng):
    y, tape = layer.forward(rng.normal(size=(4, 5, 6)).astype(dtype), MASK)
    assert y.dtype == dtype
    assert layer.backward(tape, np.ones_like(y)).dtype == dtype


def test_values_equal_those_computed_by_hand():
    x = np.arange(30.0).reshape(5, 6)
    mask = np.array([False, True, True, False, True])
    np.testing.assert_array_equal(Step(0).forward(x, mask)[0], x[1])
    np.testing.assert_array_equal(Step(-2).forward(x, mask)[0], x[2])
    np.testing.assert_array_equal(FinalState("both").forward(x, mask)[0], [*x[4, :3], *x[1, 3:]])
    np.testing.assert_array_equal(FinalState("both", "reverse").forward(x, mask)[0], x[1, 3:])
    for merge, of_two in (("sum", np.add), ("average", lambda a, b: (a + b) / 2), ("multiply", np.multiply)):
        expected = of_two(x[4, :3], x[1, 3:])
        np.testing.assert_array_equal(FinalState("both", merge=merge).forward(x, mask)[0], expected)
    np.testing.assert_allclose(Pool("mean").forward(x, mask)[0], x[mask].mean(axis=0), rtol=1e-14)
    np.testing.assert_array_equal(Pool("max").forward(-x, mask)[0], -x[1])
    np.testing.assert_array_equal(SwapHalves().forward(x)[0][0], [3, 4, 5, 0, 1, 2])
    np.testing.assert_array_equal(Masking(0.0).mask(np.array([[0.0, 0], [0, 1], [2, 3]])), [False, True, True])


@pytest.mark.parametrize("options", [{"directions": "forward"}, {"directions": "reverse"}, {"keep": "forward"}])
def test_one_direction_cannot_be_merged(options):
    with pytest.raises(ValueError, match="merge is 'sum', and there is one direction"):
        FinalState(**options, merge="sum")


@pytest.mark.parametrize("name", ["Softmax", "LogSoftmax"])
def test_softmax_of_huge_values_does_not_overflow(name):
    y, _ = Function(name).forward(np.array([[1e30, 0.0, -1e30]], np.float32))
    expected = [1, 0, 0] if name == "Softmax" else [0, -np.float32(1e30), -np.float32(2e30)]
    np.testing.assert_allclose(y[0], expected, rtol=1e-6)


def test_softmax_is_pytorchs(torch, rng):
    x = rng.normal(scale=3, size=(4, 5, 6))
    np.testing.assert_allclose(
        Function("Softmax").forward(x)[0], torch.softmax(torch.tensor(x), -1).numpy(), atol=1e-15
    )
