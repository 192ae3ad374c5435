"""Law: ids among features become rows of their tables, numbers stay, and gradients flow to tables and numbers."""

import json

import numpy as np
import pytest
from case_loops import loop_over

import glasscell as gc
from glasscell.layers import Conv1D, FeatureEmbedding

F, COLUMNS = 5, {0: (4, 2), 3: (6, 3)}
OUT = 3 + 2 + 3
B, T = 3, 7


def inputs(rng, *shape):
    x = rng.normal(size=(*shape, F))
    for column, (V, _) in COLUMNS.items():
        x[..., column] = rng.integers(V, size=shape)
    return x


@pytest.mark.parametrize("shape", [(B, T), (T,), ()])
def test_ids_become_rows_and_numbers_stay(shape, rng):
    layer, x = FeatureEmbedding(F, COLUMNS, dtype=np.float64, seed=1), inputs(rng, *shape)
    tables = {column: layer.parameters[f"table_{column}"] for column in COLUMNS}
    expected = np.concatenate(
        [tables[0][x[..., 0].astype(int)], x[..., 1:3], tables[3][x[..., 3].astype(int)], x[..., 4:]], axis=-1
    )
    np.testing.assert_array_equal(layer(x), expected)
    assert (layer.output_size, expected.shape[-1]) == (OUT, OUT)
    assert sum(target.stop - target.start for _, _, target in layer.segments()) == OUT


@pytest.mark.parametrize("columns", [{0: (4, 2)}, {4: (4, 2)}, {0: (4, 1), 1: (3, 2), 2: (2, 1), 3: (2, 2), 4: (5, 3)}])
def test_any_columns_may_hold_ids(columns, rng):
    layer = FeatureEmbedding(F, columns, dtype=np.float64)
    x = rng.integers(2, size=(B, T, F)).astype(float)
    y, tape = layer.forward(x)
    dx, gradients = layer.backward(tape, np.ones_like(y))
    assert (dx == [[[column not in columns for column in range(F)]] * T] * B).all()
    for column in columns:
        counts = gradients[f"table_{column}"][:, 0]
        np.testing.assert_array_equal(counts[:2], [(x[..., column] == k).sum() for k in range(2)])


@pytest.mark.parametrize("lengths", [None, [7, 2, 4]])
def test_gradients_are_those_of_finite_differences(lengths, rng):
    layers = [FeatureEmbedding(F, COLUMNS, dtype=np.float64), gc.LSTM(OUT, 4, dtype=np.float64)]
    model, x = gc.Sequential([*layers, gc.Linear(4, 2, dtype=np.float64)]), inputs(rng, B, T)
    model.parameters.vector[:] = rng.normal(scale=0.6, size=model.parameters.vector.size)
    y, _, tape = model.forward(x, lengths=lengths)
    dy = rng.normal(size=y.shape)
    dx, _, gradients = model.backward(tape, dy)
    assert not dx[..., list(COLUMNS)].any()
    numeric = [(b, t, k) for b in range(B) for t in range(T) for k in range(F) if k not in COLUMNS]
    vector = [(k,) for k in range(model.parameters.subset("0.").vector.size)]
    for array, gradient, indices in ((x, dx, numeric), (model.parameters.vector, gradients.vector, vector)):
        for index in indices:
            before, values = array[index], []
            for step in (1e-4, -1e-4, 2e-4, -2e-4):
                array[index] = before + step
                values.append((model(x, lengths=lengths) * dy).sum())
            array[index] = before
            a, b, c, d = values
            assert gradient[index] == pytest.approx((8 * (a - b) - (c - d)) / 12e-4, abs=1e-8)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("batch", [None, B])
def test_a_stream_equals_forward(first, batch, rng):
    before = [] if first else [Conv1D(F, F, 1, dtype=np.float64)]
    model = gc.Sequential([*before, FeatureEmbedding(F, COLUMNS, dtype=np.float64), gc.LSTM(OUT, 4, dtype=np.float64)])
    if not first:
        model.parameters["0.weight"][:, :, 0] = np.eye(F)
        model.parameters["0.bias"][:] = 0
    x = inputs(rng, B, T) if batch else inputs(rng, T)
    stream = model.stream(batch)
    outputs = [stream.push(step).copy() for step in np.moveaxis(x, -2, 0)]
    np.testing.assert_allclose(np.moveaxis(outputs, 0, -2), model(x), rtol=0, atol=1e-13)
    state = stream.state
    wrong = np.moveaxis(x, -2, 0)[0].copy()
    for value in (0.5, -1, 6):
        wrong[..., 3] = value
        with pytest.raises(ValueError, match="column 3 of x must hold ids from 0 to 5"):
            stream.push(wrong)
        np.testing.assert_array_equal(stream.state[0].h, state[0].h)


def test_it_trains_on_ids_and_numbers(rng):
    x = inputs(rng, 200, T)
    y = np.where(x[..., 3] > 2, x[..., 1], -x[..., 1])[..., None]  # the id decides the sign of a number
    model = gc.Sequential(
        [FeatureEmbedding(F, COLUMNS), gc.Linear(OUT, 24), gc.layers.Function("Tanh"), gc.Linear(24, 1)]
    )
    history = gc.fit(model, (x, y), epochs=60, batch_size=20, loss="squared_error", optimizer=gc.Adam(0.02))
    losses = [row["loss"] for row in history.rows]
    assert losses[-1] < 0.1 * losses[0]


def test_config_is_json_and_makes_an_equal_layer():
    layer = FeatureEmbedding(F, COLUMNS)
    config = json.loads(json.dumps(layer.config))
    again = FeatureEmbedding.from_config(config, np.dtype(np.float32), 100)
    assert (again.columns, again.shapes(**config)) == (layer.columns, layer.parameters.shapes)
    with pytest.raises(ValueError, match="more weights than there are"):
        FeatureEmbedding.from_config({"num_features": 5, "columns": [[0, 10**9, 10**9]]}, np.dtype(np.float32), 100)
    assert FeatureEmbedding.from_config({"num_features": 10**15, "columns": [[0, 1, 2]]}, layer.dtype, 2)


@pytest.mark.parametrize("ending", ["onnx", "keras"])
def test_formats_that_do_not_support_it_refuse_it(ending, tmp_path):
    pytest.importorskip({"onnx": "onnx", "keras": "h5py"}[ending])
    model = gc.Sequential([FeatureEmbedding(F, COLUMNS), gc.LSTM(OUT, 4)])
    with pytest.raises(ValueError, match="FeatureEmbedding"):
        gc.convert.save(model, tmp_path / f"m.{ending}")


@loop_over(
    ("make", "words"),
    [
        (lambda: FeatureEmbedding(3, {}), "at least one"),
        (lambda: FeatureEmbedding(3, {3: (2, 2)}), "from 0 to 2, got 3"),
        (lambda: FeatureEmbedding(3, [[1, 2, 2], [1, 2, 2]]), "different numbers"),
        (lambda: FeatureEmbedding(3, {0: (0, 2)}), "V must be"),
        (lambda: FeatureEmbedding(3, {0: (2**24 + 1, 1)}), "at most 16777216 in float32"),
        (lambda: FeatureEmbedding(3, {0: (2, 2)})(np.ones((2, 4))), "F = 3"),
        (lambda: FeatureEmbedding(3, {0: (2, 2)})(np.full((2, 3), np.nan)), "ids from 0 to 1, got nan"),
        (lambda: FeatureEmbedding(3, {0: (2, 2)})(np.full((2, 3), 2)), "got 2.0"),
    ],
)
def test_errors_state_the_rule_and_the_value(make, words):
    with pytest.raises(ValueError, match=words):
        make()
