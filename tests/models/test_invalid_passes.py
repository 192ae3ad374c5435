"""Property: inputs, gradients, tapes and layers that do not fit a model raise an error that names them."""

import numpy as np
import pytest

import glasscell as gc
from glasscell.layers import Function, Squeeze


def model(**options):
    return gc.Sequential([gc.LSTM(2, 3, seed=0), gc.Linear(3, 1, seed=1)], ["lstm", "head"], **options)


@pytest.mark.parametrize(
    ("run", "error", "text"),
    [
        (
            lambda: model().forward(np.ones((1, 4, 2), np.float32), rng=3),
            TypeError,
            r"rng must be a numpy\.random\.Generator",
        ),
        (lambda: gc.Sequential([gc.LSTM(2, 3), 7]), TypeError, "'1' is a int, which is no layer of a Sequential"),
        (
            lambda: gc.Embedding(4, 3).backward(gc.Embedding(4, 3).forward([[0, 1]])[-1], np.ones((1, 2, 2))),
            ValueError,
            r"d_outputs must have shape \(1, 2, 3\), got \(1, 2, 2\)",
        ),
    ],
)
def test_invalid_passes_are_refused(run, error, text):
    with pytest.raises(error, match=text):
        run()


def test_gradients_and_tapes_of_another_pass_are_refused():
    chain = model()
    y, _, tape = chain.forward(np.ones((2, 4, 2), np.float32))
    with pytest.raises(ValueError, match=r"d_outputs .*\(2, 3, 1\)"):
        chain.backward(tape, np.ones((2, 3, 1), np.float32))
    with pytest.raises(TypeError, match=r"tape must be what Sequential\.forward returned, got a int"):
        chain.backward(7, np.ones_like(y))


def test_infinite_inputs_of_a_layer_are_refused_by_its_name():
    chain = gc.Sequential(
        [gc.Linear(2, 2, seed=0), Function("Affine", 1e38), gc.LSTM(2, 3, seed=1)], ["a", "b", "lstm"]
    )
    chain.parameters["a.weight"][:] = 1e3
    with (
        np.errstate(over="ignore"),
        pytest.raises(ValueError, match="the inputs of layer 'lstm' must be finite, got inf"),
    ):
        chain.forward(np.ones((1, 4, 2), np.float32))


def test_squeeze_takes_sequences_of_one_feature():
    with pytest.raises(ValueError, match="x must have 1 feature, got 2"):
        Squeeze().forward(np.ones((1, 4, 2), np.float32))
