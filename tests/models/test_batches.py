"""Law: integer features are numbers as all others, in training and predictions, and other batches are refused."""

import numpy as np
import pytest
from case_loops import loop_over

import glasscell as gc
from glasscell.data import ArrayData, Batch

N, T, I, O = 7, 5, 3, 4
LOSS = "squared_error"
MODELS = {
    "LSTM": lambda: gc.LSTM(I, O),
    "GRU": lambda: gc.GRU(I, O),
    "RNN": lambda: gc.RNN(I, O, nonlinearity="relu"),
    "Sequential": lambda: gc.Sequential(
        [gc.layers.Conv1D(I, 4, 3, padding="causal", ignore_mask=True), gc.GRU(4, 2), gc.Linear(2, O)]
    ),
    "Masking": lambda: gc.Sequential([gc.layers.Masking(0), gc.LSTM(I, O, bidirectional=True, merge="sum")]),
    "numbers": lambda: gc.Sequential([gc.layers.Unsqueeze(), gc.LSTM(1, O)]),
}


@loop_over("kind", ["int64", "uint8", "list of int64"])
@loop_over("name", MODELS)
def test_integers_are_numbers(name, kind, rng):
    shape = (N, T) if name == "numbers" else (N, T, I)
    x, y = rng.integers(0, 4, shape), rng.normal(size=(N, T, O))
    if kind == "list of int64":
        x, y = ([a[: 2 + n % 4] for n, a in enumerate(array)] for array in (x, y))
        floats = [a.astype(np.float32) for a in x]
    else:
        x, floats = x.astype(kind), x.astype(np.float32)
    one, other = MODELS[name](), MODELS[name]()
    assert gc.fit(one, (x, y), 3, loss=LOSS, batch_size=4) == gc.fit(other, (floats, y), 3, loss=LOSS, batch_size=4)
    assert one.parameters.vector.tobytes() == other.parameters.vector.tobytes()
    if isinstance(one, gc.Sequential):
        for integer, real in zip(one.predict(x), other.predict(floats), strict=True):
            np.testing.assert_array_equal(integer, real)


@loop_over("name", ["LSTM", "GRU", "RNN", "Sequential"])
@loop_over(
    ("x", "error", "words"),
    [
        (np.ones((N, T, I + 1)), ValueError, r"\(B, T, I\) with I = 3, got \(7, 5, 4\)"),
        (np.ones((N, T), np.int64), ValueError, r"\(B, T, I\) with I = 3, got \(7, 5\)"),
    ],
)
def test_a_batch_of_another_shape_is_refused(name, x, error, words):
    model = MODELS[name]()
    before = model.parameters.vector.tobytes()
    with pytest.raises(error, match=words):
        gc.fit(model, (x, np.ones((N, T, O))), 1, loss=LOSS)
    assert model.parameters.vector.tobytes() == before


@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN", "Sequential"])
def test_a_batch_of_another_floating_point_dtype_is_refused(name):
    class Doubles:
        def batches(self, *_):
            yield Batch(np.ones((N, T, I)), np.ones((N, T, O)))

        def validation(self, *_):
            return None

    with pytest.raises(TypeError, match="x must have dtype float32, got float64"):
        gc.fit(MODELS[name](), Doubles(), 1, loss=LOSS)


def test_a_batch_without_steps_makes_no_update(rng):
    x, y = rng.normal(size=(N, T, I)), rng.normal(size=(N, T, O))
    with pytest.raises(ValueError, match="at least one batch with targets"):
        gc.fit(MODELS["LSTM"](), ArrayData(x, y, lengths=[0] * N), 1, loss=LOSS)
    history = gc.fit(
        MODELS["LSTM"](), ArrayData(x, y, lengths=[0, 0, 0, 5, 5, 0, 5]), epochs=2, loss=LOSS, batch_size=1
    )
    np.testing.assert_array_equal(history["epoch"], [1, 1, 1, 2, 2, 2])
    assert (history["loss"] > 0).all()
