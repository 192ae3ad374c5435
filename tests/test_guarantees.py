"""The five sentences of docs/guarantees.md on determinism, for every kind of layer, and for training and streams."""

import copy
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layer_examples import layers_of, lstm_options

import glasscell as gc
from glasscell.layers import Dropout, FinalState, LSTMConfig
from glasscell.layers.registry import MODULES

B, T, I, H = 20, 6, 8, 16  # more sequences than the columns that one call of a BLAS kernel computes
BATCH_SIZE_BOUND = 5e-7  # float32; float64: times EPSILON_RATIO
ROUNDING_BOUND = 2e-6  # the same, of gradients too, relative to the largest
EPSILON_RATIO = np.finfo(np.float64).eps / np.finfo(np.float32).eps
OTHER_BOUNDS = {"RNN": 1e-6, "GRU": 5e-7, "LSTM layer_norm": 2e-5, "LSTM epsilon": 2e-5}  # these amplify rounding
DTYPES = (np.float32, np.float64)
ENGINES = ["numpy", pytest.param("numba", marks=pytest.mark.skipif(find_spec("numba") is None, reason="no Numba"))]
each_engine = pytest.mark.parametrize("engine", ENGINES)
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "float64"])

OPTIONS = lstm_options(proj_size=5)
COMPILED = ("input_size", "num_layers", "bidirectional", "reverse", "merge", "masked_outputs", "learn_initial_state")
LAYERS = layers_of(I, H, T)
WITHOUT_PADDING = {"Conv1D", "Flatten", "MaxPooling1D", "AveragePooling1D"}
WHOLE_SEQUENCE = {"GRU", "Conv1D", "Step", "FinalState", "RepeatVector", "Flatten"}  # no streams
WHOLE_SEQUENCE |= {
    "MaxPooling1D",
    "AveragePooling1D",
    "LSTM bidirectional",
    "LSTM reverse",
    "LSTM merge",
    "LSTM outputs_in",
}
NAMES = [*(f"LSTM {name}" for name in OPTIONS), *LAYERS]
CASES = [pytest.param(name, ENGINES[0], id=f"{name}-numpy") for name in NAMES]
CASES += [
    pytest.param(name, "numba", marks=ENGINES[1].marks, id=f"{name}-numba") for name in NAMES if name.startswith("LSTM")
]
each_case = pytest.mark.parametrize(("name", "engine"), CASES)


def model_of(name: str, dtype: Any, engine: str | None = None) -> gc.Sequential:
    """Return a model of this kind of layer, with its first weights."""
    if name.startswith("LSTM"):
        options = OPTIONS[name.removeprefix("LSTM ")]
        return gc.Sequential([gc.LSTM(I, H, engine=engine, dtype=dtype, **options)], seed=1)
    layers = LAYERS[name](dtype)
    if not any(hasattr(layer, "parameters") for layer in layers):
        layers.insert(0, gc.Linear(I, I, dtype=dtype))  # something to train
    return gc.Sequential(layers, seed=1)


def inputs(name: str, rng: np.random.Generator, dtype: Any, shape: tuple[int, ...] = (B, T)) -> np.ndarray:
    """Return inputs of the model of this name."""
    if name == "Embedding":
        return rng.integers(0, 11, shape)
    x = rng.normal(size=shape if name == "Unsqueeze" else (*shape, I)).astype(dtype)
    if name == "FeatureEmbedding":
        x[..., 1] = rng.integers(0, 11, shape)
    return x


def lengths_for(name: str, rng: np.random.Generator) -> np.ndarray | None:
    """Return lengths of which one is T, as all tests with neighbours need; None for layers that refuse padding."""
    if name in WITHOUT_PADDING:
        return None
    lengths = rng.integers(1, T + 1, B)
    lengths[0] = T
    return lengths


def passes(model: gc.Sequential, x: np.ndarray, lengths: Any, dy: np.ndarray | None = None) -> list[np.ndarray]:
    """Return the outputs without a tape and with one, the gradient on the inputs, and that on the weights."""
    outputs, _, tape = model.forward(x, lengths=lengths)
    dx, _, gradients = model.backward(tape, np.cos(outputs * 3) if dy is None else dy)
    return [model(x, lengths=lengths), outputs, np.zeros(0) if dx is None else dx, gradients.vector]


def train(model: gc.Sequential, x: np.ndarray, lengths: Any) -> np.ndarray:
    """Make two updates, with dropout; return the weights."""
    optimizer, rng, vector = gc.Adam(0.01), np.random.default_rng(3), model.parameters.vector
    state = optimizer.init_state(vector)
    for _ in range(2):
        outputs, _, tape = model.forward(x, lengths=lengths, rng=rng)
        optimizer.update(vector, model.backward(tape, np.cos(outputs * 3))[2].vector, state)
    return vector


def assert_same_bits(results: Any, expected: Any) -> None:
    for a, b in zip(results, expected, strict=True):
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


def assert_equal_to_rounding(results: Any, expected: Any) -> None:
    for result, reference in zip(results, expected, strict=True):
        bound = ROUNDING_BOUND * (1 if reference.dtype == np.float32 else EPSILON_RATIO)
        assert np.abs(result - reference).max() <= bound * np.abs(reference).max()


def test_every_layer_and_every_option_has_a_case():
    assert {*LAYERS, "LSTM"} == {*MODULES}
    assert {*OPTIONS, "hidden_size"} == {*LSTMConfig.declared}


# 1. The same machine, engine and number of threads: the same bits


@each_case
def test_a_repeated_computation_has_the_same_bits(name, engine, rng):
    """Passes, training and streams, by the same model, by a copy, and by one that computed other sizes before."""
    for dtype in DTYPES:
        model, x, lengths = model_of(name, dtype, engine), inputs(name, rng, dtype), lengths_for(name, rng)
        first, other = passes(model, x, lengths), copy.deepcopy(model)
        model(inputs(name, rng, dtype, (3, T)))
        for again in (model, other):
            assert_same_bits(passes(again, x, lengths), first)
        assert_same_bits([train(other, x, lengths)], [train(model_of(name, dtype, engine), x, lengths)])


@each_case
def test_a_repeated_stream_has_the_same_bits_whatever_its_neighbours_are(name, engine, rng):
    model, x = model_of(name, np.float32, engine), inputs(name, rng, np.float32)
    others = inputs(name, rng, np.float32)
    others[3] = x[3]
    if name in WHOLE_SEQUENCE:
        with pytest.raises(ValueError, match=r"whole sequence|stream"):
            model.stream()
        return
    single, again = model.stream(), model.stream()
    batched, neighbours = model.stream(B), model.stream(B)
    for t in range(T):
        assert_same_bits([single.push(x[3, t])], [again.push(x[3, t])])
        active = None if t % 2 else np.arange(B) % 4 == 3
        assert_same_bits([batched.push(x[:, t], active=active)[3]], [neighbours.push(others[:, t], active=active)[3]])


@each_engine
@pytest.mark.parametrize("ragged", [False, True])
def test_a_repeated_fit_has_the_same_bits(ragged, engine, rng):
    lengths = rng.integers(2, 9, 24) if ragged else np.full(24, 6)
    x, y = [rng.normal(size=(n, 3)).astype(np.float32) for n in lengths], np.arange(24) % 2
    weights = []
    for _ in range(2):
        lstm = gc.LSTM(3, 8, 2, bidirectional=True, dropout=0.2, engine=engine)
        model = gc.Sequential([lstm, FinalState(), Dropout(0.2), gc.Linear(16, 2)])
        gc.fit(model, (x, y), epochs=2, batch_size=8, loss="categorical_cross_entropy", seed=4)
        weights.append(model.parameters.vector)
    assert_same_bits(weights[:1], weights[1:])


# 2. Other sequences of the batch: the same bits; another place in the batch: of the compiled engine


@each_case
def test_a_result_does_not_depend_on_the_other_sequences_of_the_batch(name, engine, rng):
    for dtype in DTYPES:
        model, k = model_of(name, dtype, engine), int(rng.integers(1, B))
        pairs = [[inputs(name, rng, dtype), lengths_for(name, rng)] for _ in range(2)]
        dys = [rng.normal(size=model(pairs[0][0]).shape).astype(dtype) for _ in range(2)]
        pairs[1][0][k], dys[1][k] = pairs[0][0][k], dys[0][k]
        if pairs[0][1] is not None:
            pairs[1][1][k] = pairs[0][1][k]
        results = [passes(model, *pair, dy) for pair, dy in zip(pairs, dys, strict=True)]
        rows = [[outputs[k] for outputs in result[:3] if len(outputs)] for result in results]
        assert_same_bits(*rows)
        assert not np.array_equal(results[0][0], results[1][0])


@each_dtype
@pytest.mark.parametrize("name", COMPILED)
def test_a_result_of_the_compiled_engine_does_not_depend_on_the_place_in_the_batch(name, dtype, rng):
    pytest.importorskip("numba")
    name = f"LSTM {name}"
    model, x, lengths = model_of(name, dtype, "numba"), inputs(name, rng, dtype), lengths_for(name, rng)
    dy, order = rng.normal(size=model(x).shape).astype(dtype), rng.permutation(B)
    results = passes(model, x, lengths, dy)[:3]
    moved = passes(model, x[order], lengths[order], dy[order])[:3]
    assert_same_bits(moved, [result[order] for result in results])


# 3. Another size of the batch, or a place in it: within 5e-7, except where the layer amplifies rounding


@each_case
def test_a_result_depends_on_the_size_of_the_batch_and_the_place_within_a_bound(name, engine, rng):
    for dtype, factor in zip(DTYPES, (1.0, EPSILON_RATIO), strict=True):
        model, x, lengths = model_of(name, dtype, engine), inputs(name, rng, dtype), lengths_for(name, rng)
        outputs = model(x, lengths=lengths)
        bound = OTHER_BOUNDS.get(name, BATCH_SIZE_BOUND) * factor * max(1.0, float(np.abs(outputs).max()))
        single = model(x[0])
        assert np.abs(single - outputs[0]).max() <= bound
        for rows in (slice(0, 2), slice(0, 17), rng.permutation(B)):
            part = model(x[rows], lengths=None if lengths is None else lengths[rows])
            assert np.abs(part - outputs[rows]).max() <= bound


# 4. Another number of threads: the same bits, or to rounding; more in tests/core/test_numba_engine.py


@pytest.fixture
def with_blas_threads():
    """Return a function that calls another one with this number of threads."""
    threadpoolctl = pytest.importorskip("threadpoolctl")

    def call(threads: int, function: Callable[[], Any]) -> Any:
        with threadpoolctl.threadpool_limits(threads, user_api="blas"):
            return function()

    return call


def large_passes(dtype: Any, engine: str) -> list[np.ndarray]:
    """Return the results of passes that BLAS divides among its threads."""
    rng = np.random.default_rng(5)
    model = gc.Sequential([gc.LSTM(30, 64, engine=engine, dtype=dtype), gc.Linear(64, 30, dtype=dtype)], seed=1)
    x, dy = rng.normal(size=(2, 32, 8, 30)).astype(dtype)
    return passes(model, x, None, dy / dy.size)


@each_dtype
def test_the_numpy_engine_has_the_same_numbers_to_rounding_for_any_number_of_threads(dtype, with_blas_threads):
    expected, results = (with_blas_threads(n, lambda: large_passes(dtype, "numpy")) for n in (1, 2))
    assert_equal_to_rounding(results, expected)


@each_engine
def test_a_small_training_has_the_same_bits_for_any_number_of_threads(engine, with_blas_threads, rng):
    """Of the NumPy engine too: up to 2²¹ multiplications per step `fit` uses one thread."""
    x, y = rng.normal(size=(32, 8, 16)), rng.normal(size=(32, 8, 64))

    def fit() -> np.ndarray:
        model = gc.LSTM(16, 64, engine=engine)
        gc.fit(model, (x, y), 3, loss="squared_error", batch_size=32)
        return model.parameters.vector

    weights = [with_blas_threads(threads, fit) for threads in (1, 2)]
    assert_same_bits(weights[:1], weights[1:])


# 5. Another machine: to rounding

OTHER_MACHINE = """if True:
    import sys
    sys.path.insert(0, sys.argv[1])
    import numpy as np
    from test_guarantees import large_passes
    np.savez(sys.argv[2], *large_passes(np.float32, "numpy"), *large_passes(np.float64, "numpy"))
"""


def test_another_processor_has_the_same_numbers_to_rounding(tmp_path):
    """A process whose NumPy and BLAS use the instructions of the oldest processors only."""
    umath = sys.modules["numpy._core._multiarray_umath"]
    features = " ".join(name for name in umath.__cpu_dispatch__ if umath.__cpu_features__.get(name))
    other = {"OPENBLAS_CORETYPE": "Prescott", "NPY_DISABLE_CPU_FEATURES": features}
    command = [sys.executable, "-c", OTHER_MACHINE, str(Path(__file__).parent), str(tmp_path / "results.npz")]
    done = subprocess.run(command, env=os.environ | other, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = [result for dtype in DTYPES for result in large_passes(dtype, "numpy")]
    with np.load(tmp_path / "results.npz") as file:
        assert_equal_to_rounding(file.values(), expected)
